"""Noise levels that differ by image, and gradients with respect to states and levels: models, guidance, the driver."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest
import torch
from torch import nn

import dode
from dode import calls, driver, models, sampling, solvers
from dode.directions import Directions, History
from dode.grids import schedules
from dode.models import levels, mixture
from dode.models.guidance import Autoguidance, Classifier, ClassifierFree
from dode.models.loading import ON_A_SCHEDULE
from dode.models.networks import networks
from dode.models.preconditioning import preconditionings
from dode.models.predictions import DataPrediction, FlowPrediction
from dode.solvers.base import Method, Proposal, Solver

LINEAR, FLOW = schedules.schedules.create("linear"), schedules.schedules.create("flow")
SIGMAS = torch.tensor([30.0, 3.3, 0.71, 0.031], dtype=torch.float64).view(-1, 1, 1, 1)
RANGE = {"sigma_min": 0.01, "sigma_max": 80.0}


def states(*shape, dtype=torch.float32):
    noise = np.random.default_rng(3).standard_normal((len(SIGMAS), *shape))
    return (0.5 + SIGMAS * torch.from_numpy(noise)).to(dtype)


class Smooth(nn.Module):
    """A network that is smooth in the image and in what it is told of the level, whatever that is."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
        self.conditions = []

    def forward(self, x, condition, labels=None):
        self.conditions.append(condition)
        told = condition.reshape(-1, 1, 1, 1)
        shift = 0.0 if labels is None else 0.3 * labels.view(-1, 1, 1, 1)
        return torch.tanh(self.gain * x + shift) + torch.sin(0.01 * told) * x.mean((1, 2, 3), keepdim=True)


def denoisers(**options):
    """One of each family around a :class:`Smooth` network."""
    found = {"edm": DataPrediction(Smooth(), sigma_data=0.5, **options)}
    for name in ("vp", "ve", "iddpm"):
        found[name] = preconditionings.get(name)(Smooth(), **RANGE, **options)
    for name, kind in ON_A_SCHEDULE.items():
        found[name] = kind(Smooth(), schedule=LINEAR, **options)
    return {**found, "flow": FlowPrediction(Smooth(), schedule=FLOW, **options)}


FAMILIES = tuple(denoisers())


def one_by_one(denoise, x, sigma=SIGMAS):
    parts = [models.for_images(denoise, at, at + 1)(x[at : at + 1], sigma[at].reshape(())) for at in range(len(x))]
    return torch.cat(parts)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_levels_of_a_batch_are_those_of_its_images_one_by_one(family, batch_size):
    denoise, x = denoisers(batch_size=batch_size)[family], states(1, 4, 4, dtype=torch.float64)
    close(denoise(x, SIGMAS), one_by_one(denoise, x))
    assert denoise.network.conditions[0].shape == (batch_size or len(x),)
    single = denoise(x.float(), SIGMAS)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, one_by_one(denoise, x.float()), rtol=1e-5, atol=1e-5)


def test_a_model_of_whole_times_takes_the_nearest_for_each_image():
    denoise = denoisers()["iddpm"]
    denoise(states(1, 4, 4), SIGMAS)
    each = [float(denoise.coefficients(float(sigma))[2]) for sigma in SIGMAS]
    assert denoise.network.conditions[0].tolist() == each
    assert all(condition.is_integer() for condition in each)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_to_states_and_levels_are_central_differences(family):
    denoise = denoisers()[family].differentiable()
    x = states(1, 2, 2, dtype=torch.float64).requires_grad_(True)
    assert torch.autograd.gradcheck(denoise, (x, SIGMAS.clone().requires_grad_(True)))
    shared = torch.tensor(2.2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(denoise, (x, shared))


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_flow_only_where_they_are_asked_for_and_change_no_number(family):
    denoise, x = denoisers()[family], states(1, 4, 4).requires_grad_(True)
    for sigma in (torch.tensor(2.2, dtype=torch.float64), SIGMAS):
        plain, with_gradients = denoise(x, sigma), denoise.differentiable()(x, sigma)
        assert not plain.requires_grad
        assert with_gradients.requires_grad
        assert torch.equal(plain, with_gradients)
        with torch.no_grad():
            assert not denoise.differentiable()(x, sigma).requires_grad
    assert not denoise.network.gain.requires_grad


def test_activations_that_are_computed_again_give_the_same_gradients_from_another_pass():
    x, found, calls = states(1, 4, 4, dtype=torch.float64).requires_grad_(True), [], []
    for recompute in (False, True):
        denoise = denoisers()["edm"].differentiable(recompute=recompute)
        found.append(torch.autograd.grad(denoise(x, SIGMAS).square().sum(), x)[0])
        calls.append(len(denoise.network.conditions))
    assert torch.equal(*found)
    assert calls == [1, 2]


@pytest.mark.parametrize("schedule", [LINEAR, FLOW, schedules.schedules.create("cosine")])
def test_the_slope_of_the_index_is_its_derivative(schedule):
    sigma = np.array([0.0123, 0.4, 3.3, 41.0])
    step = 1e-7 * sigma
    difference = (schedule.timestep(sigma + step) - schedule.timestep(sigma - step)) / (2 * step)
    np.testing.assert_allclose(schedule.slope(sigma), difference, rtol=1e-6)
    assert isinstance(schedule.timestep(3.3), float)


def test_the_slope_of_the_index_is_zero_where_the_network_is_told_the_same():
    assert LINEAR.slope(np.array([LINEAR.sigma_min / 2, 2 * LINEAR.sigma_max])).tolist() == [0, 0]
    assert FLOW.slope(2.0**24) == 0


def test_a_level_of_another_shape_is_refused():
    denoise, x = denoisers()["edm"], states(1, 4, 4)
    for shape in ((4,), (3, 1, 1, 1), (4, 1, 4, 4)):
        with pytest.raises(ValueError, match=r"sigma must be a 0-d tensor, or of shape \(4, 1, 1, 1\)"):
            denoise(x, torch.ones(shape))
    assert levels.level_of(torch.ones(1, 1, 1, 1), x[:1]) == 1.0


SMALL = {"image_size": 8, "multipliers": [1, 2], "attention_resolutions": [4], "channels": 32, "blocks": 1}
EDM = {
    "image_shape": (3, 8, 8),
    "model_channels": 16,
    "channel_mult": (1, 2),
    "num_blocks": 1,
    "attn_resolutions": (4,),
}
NETWORKS = {
    "residual-mlp": {"image_shape": (3, 8, 8), "width": 32, "blocks": 2},
    "residual-mlp-velocity": {"image_shape": (3, 8, 8), "schedule": {"name": "linear"}, "width": 32, "blocks": 2},
    "ddpm-unet": SMALL,
    "adm-unet": SMALL,
    "edm-song-unet": EDM,
    "edm-song-unet ncsnpp": EDM | {"embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual"},
    "edm-dhariwal-unet": EDM | {"head_width": 16},
    "edm2-unet": EDM | {"head_width": 16},
    "score-sde-ncsnpp": {
        "image_shape": (3, 8, 8),
        "nf": 16,
        "ch_mult": (1, 2),
        "num_res_blocks": 1,
        "attn_resolutions": (4,),
    },
    "score-sde-ddpm": {
        "image_shape": (3, 8, 8),
        "nf": 32,
        "ch_mult": (1, 2),
        "num_res_blocks": 1,
        "attn_resolutions": (4,),
        "scale_by_sigma": True,
    },
    "diffusers-unet2d": {
        "config": {
            "sample_size": 8,
            "block_out_channels": [32, 32],
            "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
            "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
        }
    },
}
SINGLE = ("adm-unet", "edm2-unet")  # that compute in single precision
# As many learned embeddings of whole times.
LEARNED = {"time_embedding_type": "learned", "num_train_timesteps": 1000}


def network(name, **more):
    """One of random weights, none of which is zero."""
    torch.manual_seed(0)
    options = dict(NETWORKS[name])
    options.update({key: options[key] | value for key, value in more.items()})
    found = networks.create(name.split()[0], **options)
    for parameter in found.parameters():
        nn.init.normal_(parameter, std=0.1)
    return found


def around(name, built):
    """The denoiser that a network of this name has, in double precision where the network has it."""
    built = built if name in SINGLE else built.double()
    if name.startswith("score"):
        return preconditionings.get("ve")(built)
    if name.startswith("edm") or name == "residual-mlp":
        return DataPrediction(built, sigma_data=0.5)
    return ON_A_SCHEDULE["noise"](built, schedule=LINEAR)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_takes_a_level_for_each_image(name):
    denoise, x = around(name, network(name)), states(3, 8, 8, dtype=torch.float64)
    close = 1e-6 if denoise.dtype == torch.float64 else 1e-5
    torch.testing.assert_close(denoise(x, SIGMAS), one_by_one(denoise, x), rtol=close, atol=close * 30)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_gradients_to_state_and_level(name):
    """Along the state in double precision; along the level in single, in which most networks embed it."""
    denoise, x = around(name, network(name)).differentiable(), states(3, 8, 8, dtype=torch.float64)[1:3]
    sigma, direction = SIGMAS[1:3], torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).double()
    at, level = x.clone().requires_grad_(True), sigma.clone().requires_grad_(True)
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).double()
    to_state, to_level = torch.autograd.grad((weights * denoise(at, level)).sum(), (at, level))

    def difference(step_x, step_sigma):
        ahead, behind = (denoise(x + s * step_x, sigma + s * step_sigma) for s in (1, -1))
        return float((weights * (ahead - behind)).sum() / 2)

    step, rough = (1e-2, 1e-2) if name in SINGLE else (1e-5, 1e-5)
    assert float((to_state * direction).sum()) == pytest.approx(difference(step * direction, 0) / step, rel=rough)
    for image in range(2):
        step = torch.zeros_like(sigma)
        step[image] = (1e-3 if name in SINGLE else 2e-4) * sigma[image]
        expected = difference(0, step) / float(step[image])
        near = {"rel": 0.05 if name in SINGLE else 0.01, "abs": 5e-3 * float(to_level.abs().max())}
        assert float(to_level[image]) == pytest.approx(expected, **near)


def test_learned_embeddings_of_whole_times_are_taken_by_the_nearest_of_each_image():
    denoise = around("diffusers-unet2d", network("diffusers-unet2d", config=LEARNED))
    x = states(3, 8, 8)
    torch.testing.assert_close(denoise(x, SIGMAS), one_by_one(denoise, x), rtol=1e-4, atol=1e-4)


def labelled(kind=ON_A_SCHEDULE["noise"]):
    return kind(Smooth(), schedule=LINEAR, classes=3)


def guided():
    """Every kind of guidance."""
    torch.manual_seed(0)
    adm = networks.create("adm-classifier", **SMALL, in_channels=1, classes=3, head_channels=32)
    for parameter in adm.parameters():
        nn.init.normal_(parameter, std=0.2)
    return {
        "classifier-free": ClassifierFree(labelled(), scale=2.0),
        "interval": ClassifierFree(labelled(), scale=2.0, interval=(0.5, 5.0)),
        "rescaled": ClassifierFree(labelled(), scale=2.0, rescale=0.7),
        "autoguidance": Autoguidance(labelled(), scale=1.5, guide=labelled(ON_A_SCHEDULE["v"])),
        "classifier": Classifier(labelled(), scale=0.5, classifier=adm.eval().requires_grad_(False)),
    }


@pytest.mark.parametrize("kind", guided())
def test_guidance_takes_a_level_for_each_image(kind):
    denoise = guided()[kind].conditioned([0, 1, 2, 1])
    x = states(1, 8, 8, dtype=torch.float64)
    # The classifier's logarithms are single precision.
    torch.testing.assert_close(denoise(x, SIGMAS), one_by_one(denoise, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", guided())
def test_guidance_has_gradients_to_state_and_level(kind):
    denoise = guided()[kind].conditioned([0, 1, 2, 1])
    x = states(1, 8, 8, dtype=torch.float64)
    assert not denoise(x.clone().requires_grad_(True), SIGMAS).requires_grad
    denoise, at, level = denoise.differentiable(), x.clone().requires_grad_(True), SIGMAS.clone().requires_grad_(True)
    to_state, to_level = torch.autograd.grad(denoise(at, level).sin().sum(), (at, level))
    along, rough = torch.sin(torch.arange(x.numel())).view(x.shape).double(), kind == "classifier"
    step = 1e-3 if rough else 1e-5
    for found, moved in (((to_state * along).sum(), (along, 0 * SIGMAS)), ((to_level * SIGMAS).sum(), (0 * x, SIGMAS))):
        ahead, behind = (denoise(x + s * step * moved[0], SIGMAS + s * step * moved[1]).sin().sum() for s in (1, -1))
        assert found.item() == pytest.approx((ahead - behind).item() / (2 * step), rel=5e-3 if rough else 1e-6)


def test_the_exact_toy_takes_a_level_for_each_image_and_has_gradients():
    x = mixture.latents(4, 0) * SIGMAS
    close(mixture.denoise(x, SIGMAS), one_by_one(mixture.denoise, x))
    assert torch.autograd.gradcheck(mixture.denoise, (x.requires_grad_(True), SIGMAS.clone().requires_grad_(True)))


def midpoint(denoise, x, sigmas, *, shares):
    """The midpoint method whose middle is, by image, at another share of each step in log sigma."""
    for sigma, sigma_next in itertools.pairwise(sigmas):
        middle = sigma * (sigma_next / sigma) ** torch.tensor(shares, dtype=torch.float64).view(-1, 1, 1, 1)
        denoised = denoise(x, sigma)
        inner = yield Proposal(x + (middle - sigma) * (x - denoised) / sigma, middle, denoised, stage=True)
        denoised = denoise(inner, middle)
        x = yield Proposal(x + (sigma_next - sigma) * (inner - denoised) / middle, sigma_next, denoised)


def per_image(*shares):
    method = Method(
        name="midpoint",
        function=midpoint,
        order=lambda **_: 2,
        evaluations=lambda steps, **_: 2 * steps,
        evaluations_above=lambda steps, **_: 2 * steps,
        teacher=lambda **_: "heun",
        per_image=True,
    )
    return Solver(method, {"shares": list(shares)})


def test_a_solver_may_choose_its_levels_by_image():
    sigmas, shares, noise, seen = (
        dode.grids.karras(steps=4, sigma_max=10.0)[:-1],
        (0.3, 0.5, 0.7),
        mixture.latents(3, 1),
        [],
    )
    together = dode.sample(
        per_image(*shares), mixture.denoise, noise, sigmas, watch=lambda sigma, x: seen.append(sigma)
    )
    alone = [dode.sample(per_image(share), mixture.denoise, noise[i : i + 1], sigmas) for i, share in enumerate(shares)]
    close(together, torch.cat(alone))
    assert [float(sigma) for sigma in seen] == pytest.approx(sigmas.tolist())  # between steps, images share them


def test_steps_and_directions_have_a_level_for_each_image():
    history, found = History(Directions(1, drift=True, outputs="noise")), []
    run = driver.steps(per_image(0.3, 0.6), mixture.denoise, mixture.latents(2, 1), [10.0, 3.0])
    for step in run:
        found.append((step, history.at(step)))
    (first, _), (second, directions) = found
    assert first.proposal.sigma.shape == first.h.shape == second.sigma.shape == (2, 1, 1, 1)
    assert second.h == -7.0
    slopes = [(step.x - step.proposal.denoised) / step.sigma for step in (first, second)]
    close(directions[0], slopes[1] - slopes[0])
    close(directions[1], -7.0 * slopes[1])


@pytest.mark.parametrize(
    "use",
    [
        lambda solver, sigmas: sampling.Student(solver, sigmas).evaluated_levels(),
        lambda solver, sigmas: next(sampling.evaluations(solver, mixture.latents(2, 1), sigmas)),
        lambda solver, sigmas: dode.distill(solver, mixture.denoise, mixture.latents(32, 1), sigmas),
        lambda solver, sigmas: dode.distill(
            solver, mixture.denoise, mixture.latents(32, 1), sigmas, fit="greedy", alignment="local"
        ),
    ],
)
def test_what_needs_a_list_of_levels_refuses_such_a_solver(use):
    with pytest.raises(ValueError, match=r"solver 'midpoint' chooses its noise levels by image, so it has no list"):
        use(per_image(0.3, 0.6), dode.grids.karras(steps=2))


def test_such_a_solver_is_no_teacher(monkeypatch):
    method = dataclasses.replace(per_image(0.5).method, function=functools.partial(midpoint, shares=[0.5]))
    monkeypatch.setitem(solvers.base._methods, "midpoint", method)
    with pytest.raises(ValueError, match="'midpoint' cannot be a teacher: its noise levels depend on the image"):
        solvers.create_teacher("midpoint")


def test_a_network_that_breaks_down_names_the_range_of_levels():
    def broken(x, sigma):
        return x / 0 if sigma.ndim else x / (1 + sigma**2)

    with pytest.raises(calls.NonFiniteError, match=r"evaluation 2 of 2 \(noise levels 4\.85593 to 6\.96845\)"):
        dode.sample(per_image(0.3, 0.6), broken, mixture.latents(2, 1), [10.0, 3.0])
