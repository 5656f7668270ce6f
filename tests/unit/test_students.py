"""Networks that are trained in the place of a model's: what they become, and that a killed training ends the same."""

import dataclasses
import itertools

import pytest
import torch
from torch import nn

import dode
import killing
from dode import grids, sampling, solvers
from dode.distillation import learned, students
from dode.distillation.task import Checkpoint, Task
from dode.grids.facts import ModelFacts
from dode.models import mixture
from dode.models.guidance import guidances
from dode.models.predictions import DataPrediction, FlowPrediction, ImagePrediction, NoisePrediction, VelocityPrediction
from inside_out import driven

SPREAD = 0.7  # standard deviation of the Gaussian's data
FEW = {
    "progressive-distillation": {"start": 16, "iterations": 3, "batch": 8},
    "consistency-distillation": {"iterations": 7, "batch": 8},
    "ect": {"iterations": 7, "batch": 8, "stages": 2, "q": 2.0},
    "sfd": {"iterations": 5, "batch": 8},
}
every_method = pytest.mark.parametrize("name", FEW)


class Shrink(nn.Module):
    """``a(c) x``, a function of the level by 30 bumps; enough for a Gaussian, whose every map is a factor."""

    def __init__(self):
        super().__init__()
        self.register_buffer("places", torch.linspace(-1.7, 1.3, 30))
        self.weight = nn.Parameter(torch.zeros(30))

    def bumps(self, condition):
        return torch.exp(-((condition.reshape(-1, 1) - self.places) ** 2) / (2 * 0.12**2))

    def forward(self, x, condition, labels=None):
        return (self.bumps(condition) @ self.weight).view(-1, 1, 1, 1) * x


def gaussian():
    """The denoiser ``s^2 / (s^2 + sigma^2) x`` of data N(0, s^2) behind EDM's preconditioning of another sigma_data."""
    network = Shrink()
    condition = torch.linspace(-1.6, 1.15, 400, dtype=torch.float64)
    level = (4 * condition).exp()
    skip, out = 0.25 / (level**2 + 0.25), 0.5 * level / (level**2 + 0.25)
    wanted = (SPREAD**2 / (SPREAD**2 + level**2) - skip) / out
    bumps = network.double().bumps(condition)
    network.weight.data = torch.linalg.lstsq(bumps, wanted[:, None]).solution[:, 0]
    return DataPrediction(network.float(), sigma_data=0.5)


def above(steps):
    """EDM's grid of so many steps that ends at 0.002."""
    return grids.karras(steps=steps, end="sigma_min")


def images(count=64, seed=0):
    return SPREAD * mixture.latents(count, seed)


def task_of(name, denoise, *, nfe=2, sigmas=None, checkpoint=None, count=64, seed=0):
    kwargs = {} if checkpoint is None else {"checkpoint": checkpoint}
    latents = mixture.latents(count, seed)
    own = above(nfe) if sigmas is None else sigmas
    return Task(solvers.create(name), denoise, latents, own, ends=images(count, seed), seed=5, **kwargs)


def trained(name, denoise, weights):
    """The model with the weights, as a cell of the solver ``name`` has it."""
    student = denoise.trainable()
    student.network.load_state_dict(weights)
    return student.as_consistency_function() if solvers.create(name).method.network == "consistency" else student


@every_method
def test_a_training_that_is_killed_and_started_again_ends_with_the_same_weights(name, tmp_path, monkeypatch):
    monkeypatch.setattr("dode.distillation.task.EVERY", 0.0)
    denoise, method = gaussian(), learned.preparations.get(name)
    whole = task_of(name, denoise)
    expected = method(whole, **FEW[name])
    descend, steps = students.Training.descend, []

    def killed(self, *arguments, **options):
        steps.append(1)
        if len(steps) in (4, 9):
            raise killing.Killed
        descend(self, *arguments, **options)

    monkeypatch.setattr(students.Training, "descend", killed)
    for attempt in range(3):
        task = task_of(name, denoise, checkpoint=Checkpoint(tmp_path / "training", "made"))
        try:
            found = method(task, **FEW[name])
            break
        except killing.Killed:
            assert attempt < 2
    assert attempt == (2 if len(steps) >= 9 else 1)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert not torch.equal(found["weight"], denoise.network.weight)


@every_method
@pytest.mark.parametrize("nfe", [1, 2, 3])
def test_a_training_costs_what_it_said(name, nfe):
    method, task = learned.preparations.get(name), task_of(name, gaussian(), nfe=nfe)
    method(task, **FEW[name])
    cost = method.expense(64, nfe, **FEW[name])
    assert task.meter.gradients == cost.gradients
    if name == "sfd":  # on a grid with an analytic first step its teacher has an interval more
        assert cost.evaluations - task.meter.evaluations == 4 * 5 * 8
    else:
        assert task.meter.evaluations == cost.evaluations


@every_method
def test_the_model_itself_is_left_alone(name):
    denoise = gaussian()
    before = denoise.network.weight.clone()
    learned.preparations.get(name)(task_of(name, denoise), **FEW[name])
    assert torch.equal(denoise.network.weight, before)
    assert not denoise.network.weight.requires_grad
    assert not denoise(torch.ones(1, 1, 4, 4), torch.tensor(1.0)).requires_grad


RUNS = {  # NFE, options, error in units of the data's standard deviation
    "progressive-distillation": (2, {"iterations": 150, "batch": 32, "rate": 0.02}, 0.041),
    "consistency-distillation": (
        1,
        {"scales": 12, "iterations": 1200, "batch": 64, "rate": 0.05, "target": 0.5, "average": 0.99},
        0.02,
    ),
    "ect": (1, {"iterations": 1000, "batch": 64, "rate": 0.05, "average": 0.99, "q": 16.0}, 0.15),
    "sfd": (2, {"iterations": 150, "batch": 16, "rate": 0.005, "substeps": 16}, 0.01),
}


@every_method
def test_a_student_of_a_gaussian_learns_the_exact_map(name):
    """The trajectory from sigma to 0 is the factor ``s / sqrt(s^2 + sigma^2)``: the student's images against it.

    DDIM of 64 steps, which the progressively distilled one learns from, has an error of 0.0392.
    """
    nfe, options, bound = RUNS[name]
    denoise, sigmas = gaussian(), above(nfe) if solvers.create(name).method.network == "own" else [80.0, 0.0]
    weights = learned.preparations.get(name)(task_of(name, denoise, sigmas=torch.as_tensor(sigmas)), **options)
    latents = mixture.latents(32, 7)
    exact = 80 * latents * SPREAD / (SPREAD**2 + 80**2) ** 0.5

    def error(model):
        found = dode.sample(solvers.create(name), model, latents.float(), sigmas).double()
        return mixture.rmse(found, exact) / SPREAD

    assert error(trained(name, denoise, weights)) < bound
    assert error(denoise) > 5 * bound


PREDICTIONS = [
    ("noise", lambda network, schedule: NoisePrediction(network, schedule=schedule)),
    ("v", lambda network, schedule: VelocityPrediction(network, schedule=schedule)),
    ("image", lambda network, schedule: ImagePrediction(network, schedule=schedule)),
]


class Called(nn.Module):
    """A network on a schedule."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.3))

    def forward(self, x, index):
        return torch.sin(
            self.weight * x + index.reshape(-1, 1, 1, 1) / 500 if index.ndim else self.weight * x + index / 500
        )


def denoisers():
    yield "data", gaussian()
    for kind, make in PREDICTIONS:
        yield kind, make(Called(), grids.schedules.schedules.create("linear", steps=1000))
    yield "flow", FlowPrediction(Called(), schedule=grids.schedules.schedules.create("flow"))


@pytest.mark.parametrize(("kind", "denoise"), list(denoisers()))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_consistency_function_is_the_identity_at_the_lowest_level(kind, denoise, dtype):
    function, x = denoise.as_consistency_function(), mixture.latents(3, 0).to(dtype)
    lowest = torch.tensor(denoise.sigma_min, dtype=torch.float64)
    assert torch.equal(function(x, lowest), x)
    assert not torch.equal(denoise(x, lowest), x)
    # Far above, it is the denoiser.
    high = torch.tensor(float(denoise.sigma_max), dtype=torch.float64)
    torch.testing.assert_close(function(high * x, high), denoise(high * x, high), rtol=0.02, atol=0.02)


def test_the_scalings_are_those_of_the_paper():
    """``c_skip x + c_out F`` with F of EDM's preconditioning (arXiv 2303.01469, App. C)."""
    denoise, x = gaussian(), mixture.latents(3, 0)
    for level in (0.002, 0.01, 0.5, 80.0):
        network = denoise.network((x / (level**2 + 0.25) ** 0.5).float(), torch.tensor(level).log() / 4).double()
        skip = 0.25 / ((level - 0.002) ** 2 + 0.25)
        out = (level - 0.002) * 0.5 / (level**2 + 0.25) ** 0.5
        found = denoise.as_consistency_function()(level * x, torch.tensor(level, dtype=torch.float64))
        torch.testing.assert_close(found, skip * level * x + out * level * network / 1.0, rtol=1e-5, atol=1e-5)


def test_levels_per_image_are_those_of_each():
    function, x = gaussian().as_consistency_function(), mixture.latents(3, 0)
    level = torch.tensor([0.002, 1.0, 40.0], dtype=torch.float64)
    together = function(x, level.view(3, 1, 1, 1))
    apart = torch.cat([function(x[i : i + 1], level[i]) for i in range(3)])
    torch.testing.assert_close(together, apart, rtol=1e-6, atol=1e-6)


def test_a_trainable_copy_computes_the_same_in_single_precision():
    class Half(Shrink):
        def lower(self, dtype):
            return self.to(dtype)

        def forward(self, x, condition, labels=None):
            return super().forward(x.to(self.weight.dtype), condition.to(self.weight.dtype))

    network = Half()
    network.weight.data.fill_(0.25)
    denoise = DataPrediction(network.lower(torch.float16), sigma_data=0.5)
    student = denoise.trainable()
    assert denoise.network.weight.dtype == torch.float16
    assert student.network.weight.dtype == student.dtype == torch.float32
    assert not student.network.training
    x = torch.ones(2, 1, 4, 4)
    loss = student(x, torch.tensor(1.0)).square().mean()
    loss.backward()
    assert student.network.weight.grad.abs().sum() > 0
    assert network.weight.grad is None
    torch.testing.assert_close(student(x, torch.tensor(1.0)).detach(), denoise(x, torch.tensor(1.0)), rtol=2e-3, atol=0)


def test_a_student_of_a_guided_model_is_not_guided_and_learns_what_guidance_does():
    base = DataPrediction(gaussian().network, sigma_data=0.5, classes=3)
    labels = torch.tensor([0, 1, 2, -1])

    class Shifted(nn.Module):
        """The guided model's network: without a class it shrinks more."""

        def __init__(self):
            super().__init__()
            self.inner = base.network

        def forward(self, x, condition, labels):
            return self.inner(x, condition) + 0.1 * (labels >= 0).to(x.dtype).view(-1, 1, 1, 1)

    model = DataPrediction(Shifted(), sigma_data=0.5, classes=3)
    guided = guidances.get("classifier-free")(model, scale=3.0).conditioned(labels)
    student = guided.trainable()
    assert isinstance(student, DataPrediction)
    assert student.passes(1.0) == 1
    assert guided.of_rows(torch.tensor([2, 0, 0])).labels.tolist() == [2, 0, 0]
    assert student.of_rows(torch.tensor([3, 1])).labels.tolist() == [-1, 1]
    task = Task(solvers.create("sfd"), guided, mixture.latents(4, 0), above(1), seed=1)
    learned.preparations.get("sfd")(task, iterations=2, batch=3)
    assert task.meter.gradients == 2 * 3


def test_a_plain_function_has_no_network_to_train():
    task = task_of("sfd", mixture.denoise)
    with pytest.raises(ValueError, match="a plain function has no network that could be trained"):
        learned.preparations.get("sfd")(task)


def test_the_steps_of_every_halving_are_halves_of_those_before_and_end_on_the_cells_levels():
    grid = above(3)
    task = task_of("progressive-distillation", gaussian(), sigmas=grid)
    found = students.two_in_one(task, 3)
    assert [len(steps) for steps in found] == [12, 6, 3]
    assert found[-1][:, 0].tolist() == grid[:-1].tolist()
    for finer, steps in itertools.pairwise(found):
        own = finer[:, 0].tolist()
        assert set(steps[:, :2].flatten().tolist()) == set(own)
    for steps in found:
        assert bool((steps[:, 0] > steps[:, 1]).all())
        assert steps[1:, 0].tolist() == steps[:-1, 2].tolist()
    place = grid.variable.forward(found[-1].numpy())
    assert place[:, 1] == pytest.approx(place[:, [0, 2]].mean(axis=1))


def test_where_a_model_knows_no_level_between_a_teacher_takes_one_step():
    """A discrete model of few levels, and the last interval of EDM's grid, below which nothing was trained."""
    task = task_of("progressive-distillation", gaussian(), sigmas=grids.karras(steps=3))
    steps = students.two_in_one(task, 1)[0]
    assert steps[-1].tolist() == [0.002, 0.002, 0.0]
    assert bool((steps[:-1, 1] < steps[:-1, 0]).all())
    known = torch.tensor([80.0, 10.0, 1.0, 0.1], dtype=torch.float64)

    def nearest(levels):
        return known[(torch.as_tensor(levels)[..., None] - known).abs().argmin(-1)].numpy()

    denoise = gaussian()
    denoise.facts = dataclasses.replace(denoise.facts, round_sigma=nearest)
    task = task_of("progressive-distillation", denoise, sigmas=torch.tensor([80.0, 10.0, 0.1], dtype=torch.float64))
    assert students.two_in_one(task, 1)[0].tolist() == [[80.0, 80.0, 10.0], [10.0, 1.0, 0.1]]


@pytest.mark.parametrize("name", ["progressive-distillation", "sfd"])
@pytest.mark.parametrize("end", ["zero", "sigma_min"])
def test_an_analytic_first_step_is_not_trained(name, end):
    """It is the same for every network, and the two that are left are those of the cell's evaluations."""
    sigmas, denoise = grids.karras(steps=3, afs=True, end=end), gaussian()
    task, cost = task_of(name, denoise, sigmas=sigmas), learned.preparations.get(name).expense(64, 2, **FEW[name])
    assert task.nfe == 2
    weights = learned.preparations.get(name)(task, **FEW[name])
    assert task.meter.gradients == cost.gradients
    assert task.meter.evaluations <= cost.evaluations
    assert students.two_in_one(task, 1)[0][:, 0].tolist() == sigmas[1:3].tolist()
    ends = dode.sample(solvers.create(name), trained(name, denoise, weights), mixture.latents(2, 0).float(), sigmas)
    assert ends.isfinite().all()


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("progressive-distillation", {"start": 2}, "start: 2 steps are none that could be halved to 2"),
        ("progressive-distillation", {"batch": 0}, "iterations and batch must be at least 1"),
        ("consistency-distillation", {"scales": 1}, "scales: 1 noise levels have no neighbours; allowed: at least 2"),
        ("consistency-distillation", {"target": 1.0}, "target: 1.0 is no decay of an average"),
        ("ect", {"q": 1.0}, "q: 1.0 brings the points no nearer; allowed: above 1"),
        ("ect", {"stages": 5, "iterations": 4}, "iterations at least stages"),
        ("ect", {"average": -0.1}, "average: -0.1 is no decay"),
        ("sfd", {"substeps": 1}, "substeps: 1 makes a trajectory no finer"),
        ("sfd", {"teacher": "heun"}, "teacher: must be a solver"),
        ("sfd", {"teacher": {"name": "hen"}}, "unknown solver 'hen' (did you mean 'heun'?)"),
        ("sfd", {"teacher": {"name": "heun", "options": {"ordr": 2}}}, "unknown option 'ordr'"),
        ("sfd", {"teacher": {"name": "ect"}}, "cannot be a teacher: it adds noise on its way"),
        ("sfd", {"teacher": {"name": "sfd"}}, "must be prepared itself"),
    ],
)
def test_what_could_not_be_learnt_is_refused_in_a_sentence(name, options, said):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the sentence is compared below
        learned.preparations.get(name).check(100, 2, **options)
    assert said in str(error.value)


def test_progressive_distillation_begins_at_a_power_of_two_times_the_nfe():
    from dode.distillation.preparations.progressive_distillation import halvings

    assert [nfe * 2 ** halvings(nfe, 64) for nfe in (1, 2, 3, 4, 5, 8, 10)] == [64, 64, 96, 64, 80, 64, 80]


def test_a_solver_that_adds_noise_is_not_fitted():
    latents = mixture.latents(8, 0)
    for fit in ("greedy", "joint"):
        with pytest.raises(ValueError, match="adds noise on its way, so that no fit corrects it"):
            dode.distill(solvers.create("consistency"), mixture.denoise, latents, [80.0, 1.0, 0.0], fit=fit)


def test_consistency_sampling_turned_inside_out_is_the_same_to_the_bit():
    denoise, latents = gaussian().as_consistency_function(), mixture.latents(5, 3)
    sigmas, solver = [80.0, 3.0, 0.5, 0.0], solvers.create("consistency")
    end, _ = driven(sampling.evaluations(solver, latents, sigmas, sigma_min=denoise.sigma_min), denoise)
    assert torch.equal(end, dode.sample(solver, denoise, latents, sigmas))
    assert not torch.equal(end, dode.sample(solvers.create("consistency", sigma_min=0.3), denoise, latents, sigmas))


@pytest.mark.parametrize(("end", "levels"), [("sigma_min", 3), ("zero", 3), ("sigma_min", 1)])
def test_consistency_sampling_leaves_no_noise_whatever_the_models_lowest_level(end, levels):
    def gray(x, sigma):
        return torch.zeros_like(x)

    gray.facts = ModelFacts(sigma_min=0.01, sigma_max=20.0)
    for model in (gray, lambda x, sigma: gray(x, sigma)):
        for option in (None, 0.002, 0.0):
            sigmas = grids.karras(steps=levels, sigma_min=0.01, sigma_max=20.0, end=end)
            solver = solvers.create("consistency", sigma_min=option)
            assert not dode.sample(solver, model, mixture.latents(4, 1), sigmas).any()


def test_the_noise_of_consistency_sampling_is_that_above_the_models_lowest_level():
    def gray(x, sigma):
        seen.append(x)
        return torch.zeros_like(x)

    gray.facts = ModelFacts(sigma_min=0.3, sigma_max=80.0)
    for solver, std in ((solvers.create("consistency"), 0.4), (solvers.create("consistency", sigma_min=0.0), 0.5)):
        seen = []
        dode.sample(solver, gray, mixture.latents(2000, 1), [80.0, 0.5, 0.0])
        assert float(seen[1].std()) == pytest.approx(std, rel=0.02)
