"""The losses of student networks against their authors' code, on a network of 272 weights.

The numbers were made by running the public code once: openai/consistency_models (cm/karras_diffusion.py of e32b69e),
locuslab/ect (training/loss.py of 4311059), google-research's diffusion_distillation (dpm.py, in devzhk's copy cfffd04)
and zju-pi/diff-sampler (sfd-main of 68d5ce4), in float64.
"""

import math

import pytest
import torch
from torch import nn

import dode
from dode import grids, solvers
from dode.distillation.preparations import consistency_distillation, ect, progressive_distillation, sfd
from dode.distillation.task import Task
from dode.grids.facts import ModelFacts
from dode.models.boundary import Boundary
from dode.models.predictions import DataPrediction

IMAGES = torch.sin(torch.arange(80.0, dtype=torch.float64)).view(5, 1, 4, 4)
NOISE = 1.3 * torch.cos(1.7 * torch.arange(80.0, dtype=torch.float64)).view(5, 1, 4, 4)


class Tiny(nn.Module):
    """``tanh(W x + b c)``, 16 pixels."""

    def __init__(self, shift=0.0):
        super().__init__()
        self.weight = nn.Parameter(0.3 * torch.sin(torch.arange(256.0, dtype=torch.float64) + shift).view(16, 16))
        self.bias = nn.Parameter(torch.cos(torch.arange(16.0, dtype=torch.float64) + shift))

    def forward(self, x, condition):
        out = x.flatten(1) @ self.weight.T + self.bias * condition.reshape(-1, 1)
        return torch.tanh(out).view(x.shape)


def behind_edm(network):
    """A denoiser of EDM's preconditioning, sigma_data 0.5, as a plain function with gradients to the weights."""

    def denoise(x, sigma):
        sigma = torch.as_tensor(sigma, dtype=torch.float64).expand(len(x), 1, 1, 1)
        variance = sigma**2 + 0.25
        output = network(x / variance.sqrt(), sigma.log() / 4)
        return 0.25 / variance * x + sigma * 0.5 / variance.sqrt() * output

    return denoise


def behind_boundary(network):
    return lambda x, sigma: Boundary(0.002, 0.5)(x, sigma, behind_edm(network)(x, sigma))


def column(values):
    return torch.as_tensor(values, dtype=torch.float64).view(-1, 1, 1, 1)


def rho_levels(*places, sigma_min=0.002):
    """Levels of EDM's grid at shares of the way from 80 to ``sigma_min``."""
    shares = column(places)
    return (80 ** (1 / 7) + shares * (sigma_min ** (1 / 7) - 80 ** (1 / 7))) ** 7


def compare(network, loss, expected, gradient, first):
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    assert network.weight.grad.norm().item() == pytest.approx(gradient, rel=1e-8)
    assert network.bias.grad[:3].tolist() == pytest.approx(first, rel=1e-6)


def test_consistency_distillation_is_the_authors():
    which = torch.tensor([29, 15, 14, 3, 25])
    sigma, sigma_next = rho_levels(*which.double() / 39), rho_levels(*(which + 1).double() / 39)
    student, target, teacher = Tiny(0.0), Tiny(0.4), Tiny(0.9)
    loss = consistency_distillation.loss_of(
        behind_boundary(student),
        behind_boundary(target),
        behind_edm(teacher),
        IMAGES + sigma * NOISE,
        sigma,
        sigma_next,
    )
    first = [0.000874004117373344, 0.0019888940711222216, 0.0008850138123118274]
    compare(student, loss, 0.012145442591961531, 0.02101402209764608, first)
    assert target.weight.grad is None
    assert teacher.weight.grad is None


@pytest.mark.parametrize(
    ("q", "stage", "expected", "gradient", "last"),
    [
        (2, 0, 3.491784979938457, 0.31600192959078055, 7.43984532862532),
        (2, 3, 3.146173622705232, 1.2639399552162986, 13.949745925341892),
        (256, 0, 3.0530237061407144, 20.118412564032784, 14.821607612402145),
    ],
)
def test_easy_consistency_tuning_is_the_authors(q, stage, expected, gradient, last):
    t = (2 * column([-1.2, -0.3, 0.1, 0.8, 1.9]) - 1.1).exp()
    r, student = ect.nearer(t, q, stage), Tiny()
    assert float(r[-1]) == pytest.approx(last)
    assert bool((r == 0).any()) == (stage == 0 and q == 2)
    loss = ect.loss_of(behind_edm(student), IMAGES, NOISE, t, r)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    assert student.weight.grad.norm().item() == pytest.approx(gradient, rel=1e-8)


def on_vp(kind, network):
    """A network that is called with ``x / sqrt(1 + sigma^2)`` and predicts ``kind``."""

    def denoise(x, sigma):
        scale = (1 + sigma**2).sqrt()
        output = network(x / scale, sigma.log() / 4)
        if kind == "image":
            return output
        return x - sigma * output if kind == "noise" else x / scale**2 - sigma / scale * output

    return denoise


@pytest.mark.parametrize(
    ("kind", "expected", "gradient", "first"),
    [
        ("image", 1.229529252447251, 0.7615527849269027, [0.0010417985166574714, 0.027057505084483666]),
        ("noise", 41795650.80052778, 60902258.44788256, [37758.9437210001, 14078103.380885577]),
        ("v", 0.3429225653169449, 0.24260302527425767, [0.0023213830549524404, 0.018838632711349893]),
    ],
)
def test_progressive_distillation_is_the_authors_whatever_the_network_predicts(kind, expected, gradient, first):
    """Four steps on the cosine schedule, whose last one ends at 0."""
    most = math.atan(math.exp(10)) - math.atan(math.exp(-10))
    index = column([0, 3, 1, 2, 0])
    sigma, middle, sigma_next = ((most * (index + part) / 4 + math.atan(math.exp(-10))).tan() for part in (1, 0.5, 0))
    sigma_next = torch.where(index == 0, 0.0, sigma_next)
    student, scale = Tiny(), (1 + sigma**2).sqrt()
    # The authors' states are x / scale.
    x = scale * (IMAGES / scale + sigma / scale * NOISE)
    loss = progressive_distillation.loss_of(on_vp(kind, student), on_vp(kind, Tiny(0.9)), x, sigma, middle, sigma_next)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert student.weight.grad.norm().item() == pytest.approx(gradient, rel=1e-6)
    assert student.bias.grad[:2].tolist() == pytest.approx(first, rel=1e-5)


def test_progressive_distillation_is_that_of_the_consistency_models_code_too():
    """Under EDM's preconditioning, on its grid from 80 to 0.002."""
    which = torch.tensor([0, 3, 1, 0, 3])
    sigma, middle, sigma_next = (rho_levels(*(which + part) / 4) for part in (0, 0.5, 1))
    student = Tiny()
    loss = progressive_distillation.loss_of(
        behind_edm(student), behind_edm(Tiny(0.9)), IMAGES + sigma * NOISE, sigma, middle, sigma_next
    )
    first = [0.0032186762126326304, 0.008542088386334053, 0.0016255314907346104]
    compare(student, loss, 0.2922071884325801, 0.18369934826111473, first)


@pytest.mark.parametrize("iterations", [1, 2])
def test_simple_and_fast_distillation_takes_the_authors_steps(monkeypatch, iterations):
    """Two iterations of three steps of Adam each, towards DPM-Solver++(3M) with four substeps on EDM's grid.

    With ``lower_order_final=False``, for on a grid that ends above 0 DPM-Solver++ keeps its order here, and without the
    thresholding of images, whose values the model's are beyond.
    """
    from dode.distillation import students

    sigmas = grids.karras(steps=3, sigma_min=0.006, end="sigma_min")
    denoise = DataPrediction(Tiny(), sigma_data=0.5, sigma_min=0.006)
    drawn = iter([NOISE, 1.1 * NOISE])
    monkeypatch.setattr(students.Training, "noise", lambda self, *shape: next(drawn))
    monkeypatch.setattr(sfd, "LATER", 1.0)
    task = Task(solvers.create("sfd"), denoise, NOISE, sigmas)
    weights = sfd.sfd(task, iterations=iterations, batch=5, rate=1e-2)
    norm, first = {
        1: (3.424377474336361, [0.9795861656266316, 0.5129873271143476, -0.3917176047014136]),
        2: (3.4356581222647793, [0.9585716796098971, 0.4955004451963886, -0.3752769945393143]),
    }[iterations]
    assert ModelFacts.of(task.denoise).sigma_min == 0.006
    assert weights["weight"].norm().item() == pytest.approx(norm, rel=1e-6)
    assert weights["bias"][:3].tolist() == pytest.approx(first, rel=1e-5)


def test_multistep_consistency_sampling_is_the_authors(monkeypatch):
    """Their ``stochastic_iterative_sampler`` with ts 0, 22, 30, 39 of 40 steps, and another noise."""
    monkeypatch.setattr(
        "dode.solvers.consistency.further_noise", lambda start: lambda step: NOISE / 2 + 0.1 * (step + 1)
    )
    sigmas = rho_levels(*[place / 39 for place in (0, 22, 30, 39)]).flatten()
    end = dode.sample(solvers.create("consistency"), behind_boundary(Tiny()), NOISE, sigmas).detach()
    expected = [0.21391199350517662, -0.03277880659919536, 0.00032449583682167825, -0.11431534232354527]
    # Theirs adds noise in the last step too, by the rounding of its level.
    assert end.flatten()[:4].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-10)
    assert end.norm().item() == pytest.approx(2.20981018142594, rel=1e-9)
