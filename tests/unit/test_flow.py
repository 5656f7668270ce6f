"""Flow matching, and other models that begin at pure noise: the same figures as in the coordinate of all solvers."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import schedulers
from torch import nn

import dode
import variants
from dode import driver, grids, models, solvers
from dode.grids.facts import ModelFacts, flow_prior, vp_prior
from dode.grids.schedules import FlowSchedule, schedules
from dode.models import mixture
from dode.models.networks import networks
from dode.models.predictions import FlowPrediction
from dode.portable import Sampler
from dode.sampling import Student
from dode.solvers.formulas import PURE_NOISE
from inside_out import driven

FLOW = {"prediction": "flow", "schedule": {"name": "flow"}}
SCHEDULE = FlowSchedule(1000)
every_variant = pytest.mark.parametrize("variant", variants.ALL, ids=variants.label)


class Velocity(nn.Linear):
    """The toy as a flow-matching network: ``v(x_t, 1000 t)``, exact at t = 1 too."""

    def __init__(self):
        super().__init__(1, 1, dtype=torch.float64)
        self.times = []

    def forward(self, x, time):
        self.times.append(float(time))
        t = float(time) / 1000
        if t == 1:  # of pure noise the best estimate is the mean of the images
            return x - mixture.MEANS.mean(0).view(1, 1, 4, 4)
        return (x - mixture.denoise(x / (1 - t), t / (1 - t))) / t


class InSigma:
    """The toy as a function of x and sigma that says no more than its prior."""

    prior_std = staticmethod(flow_prior)
    prediction = "noise"

    def __call__(self, x, sigma):
        return mixture.denoise(x, sigma)


def flow(network=None):
    return models.of_card(FLOW, Velocity() if network is None else network)


def time_of(t):
    """As the network is given it."""
    return torch.tensor(1000 * t, dtype=torch.float64)


def euler_in_time(network, noise, times):
    """Flow matching as its papers have it: ``x_t' = x_t + (t' - t) v``."""
    x = noise
    for t, t_next in pairwise(times):
        x = x + (t_next - t) * network(x, time_of(t))
    return x


def test_eulers_method_in_time_is_ddim_in_sigma():
    network, noise = Velocity(), mixture.latents(16, 1)
    times = [0.97, 0.8, 0.55, 0.3, 0.1, 0.0]
    ours = dode.sample(solvers.create("ddim"), flow(network), noise, [t / (1 - t) for t in times])
    torch.testing.assert_close(ours, euler_in_time(network, noise, times), rtol=0, atol=1e-12)


def test_from_pure_noise_ddim_is_eulers_method_from_the_time_1():
    network, noise = Velocity(), mixture.latents(16, 1)
    times = [1.0, 0.75, 0.5, 0.25, 0.0]
    sigmas = grids.for_model(flow(network), "uniform-index", 4)
    assert sigmas.tolist() == pytest.approx([PURE_NOISE, 3.0, 1.0, 1 / 3, 0.0], rel=1e-12)
    ours = dode.sample(solvers.create("ddim"), flow(network), noise, sigmas)
    assert network.times == pytest.approx([1000.0, 750.0, 500.0, 250.0], abs=1e-9)
    assert network.times[0] == 1000
    torch.testing.assert_close(ours, euler_in_time(network, noise, times), rtol=0, atol=3e-7)


@pytest.mark.parametrize("sigma", [999.0, 3.0, 0.02])
def test_the_denoiser_is_the_published_algebra(sigma):
    noise, network = mixture.latents(5, 3), Velocity()
    denoise, x = flow(network), (1 + sigma) * noise
    t = sigma / (1 + sigma)
    expected = noise - t * network(noise, time_of(t))
    torch.testing.assert_close(denoise(x, torch.tensor(sigma, dtype=torch.float64)), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(expected, mixture.denoise(x, sigma), rtol=0, atol=1e-9)
    assert torch.equal(x, (1 + sigma) * noise)
    assert denoise.facts.said()["prior_std at sigma = 1"] == 2.0
    assert models.prior_std(denoise, sigma) == 1 + sigma


def test_at_pure_noise_the_network_is_given_the_noise_itself():
    class Seen(nn.Linear):
        def forward(self, x, time):
            self.x, self.time = x.clone(), float(time)
            return torch.zeros_like(x)

    network = Seen(1, 1)
    noise = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    dode.sample(solvers.create("ddim"), flow(network), noise, [PURE_NOISE, 0.0])
    assert torch.equal(network.x, noise)
    assert network.time == 1000


@every_variant
@pytest.mark.parametrize("grid", ["karras", "flow-linear", "uniform-index"])
def test_every_solver_has_the_same_figures_as_in_sigma(variant, grid):
    name, options = variant
    solver, denoise, noise = solvers.create(name, **options), flow(), mixture.latents(8, 2)
    sigmas = grids.for_model(denoise, grid, 4, **({"sigma_max": 99.0} if grid != "karras" else {}))
    ours = dode.sample(solver, denoise, noise, sigmas)
    expected = dode.sample(solver, InSigma(), noise, sigmas)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-8)


@pytest.fixture(scope="module")
def fine():
    """The fine solution from pure noise of 32 images."""
    sigmas = grids.for_model(flow(), "uniform-index", 500)
    return dode.sample(solvers.create("flow-heun"), flow(), mixture.latents(32, 7), sigmas)


@every_variant
def test_every_solver_serves_pure_noise(variant, fine):
    """It converges to what a fine solution has, and is no worse than it is from a finite level."""
    name, options = variant
    solver, denoise, noise = solvers.create(name, **options), flow(), mixture.latents(32, 7)
    # Images near the border between two modes may end in either.
    for nfe, bound in ((6, 0.5), (40, 0.15)):
        steps = max(steps for steps in range(1, nfe + 1) if solver.nfe(steps) <= nfe)
        sigmas = grids.for_model(denoise, "uniform-index", steps)
        found = dode.sample(solver, denoise, noise, sigmas)
        assert float((found - fine).flatten(1).square().mean(1).sqrt().median()) < bound


@pytest.mark.parametrize("fit", ["greedy", "refined", "joint"])
def test_fits_have_the_same_figures_as_in_sigma(fit):
    solver, denoise, noise, fresh = solvers.create("ddim"), flow(), mixture.latents(64, 1), mixture.latents(64, 2)
    sigmas = grids.for_model(denoise, "karras", 4, sigma_max=80.0)
    ends, options = [], {"budget": 4000} if fit == "joint" else {"directions": 2}
    for model in (denoise, InSigma()):
        fitted = dode.distill(solver, model, noise, sigmas.clone() if fit == "joint" else sigmas, fit=fit, **options)
        ends.append(dode.sample(solver, model, fresh, fitted.given, lambdas=fitted))
    plain = dode.sample(solver, denoise, fresh, sigmas)
    fine = dode.sample(solvers.create("heun"), denoise, fresh, grids.for_model(denoise, "karras", 200, sigma_max=80.0))
    assert mixture.rmse(ends[0], ends[1]) < (0.3 if fit == "joint" else 1e-4) * mixture.rmse(ends[0], fine)
    assert mixture.rmse(ends[0], fine) < 0.7 * mixture.rmse(plain, fine)


@pytest.mark.parametrize("fit", ["greedy", "joint"])
@pytest.mark.parametrize("name", ["ddim", "flow-ab"])
def test_fits_from_pure_noise_help(name, fit):
    solver, denoise, noise, fresh = solvers.create(name), flow(), mixture.latents(64, 1), mixture.latents(128, 2)
    sigmas = grids.for_model(denoise, "flow-linear", solver.steps(5))
    fitted = dode.distill(solver, denoise, noise, sigmas, fit=fit, **({"budget": 8000} if fit == "joint" else {}))
    fine = dode.sample(solvers.create("flow-heun"), denoise, fresh, grids.for_model(denoise, "uniform-index", 300))
    distilled, plain = (dode.sample(solver, denoise, fresh, sigmas, lambdas=x) for x in (fitted, None))
    assert mixture.rmse(distilled, fine) < 0.8 * mixture.rmse(plain, fine)


def test_a_result_of_a_flow_model_is_loaded_and_samples():
    denoise, noise = flow(), mixture.latents(4, 3)
    sigmas = grids.for_model(denoise, "flow-linear", 5, shift=3.0)
    model = {"card": "toy", "sha256": None, "image_shape": [1, 4, 4], **FLOW}
    record = {
        **{"format": "dode sampler", "version": 3, "nfe": 5, "sigmas": sigmas.tolist(), "model": model},
        **{"solver": {"name": "flow-ab", "options": {}}, "grid": {"name": "flow-linear", "options": {"shift": 3.0}}},
        **{"lambdas": None, "directions": None, "software": {}, "citation": []},
    }
    loaded = dode.load(record)
    assert isinstance(loaded, Sampler)
    expected = dode.sample(solvers.create("flow-ab"), denoise, noise, sigmas)
    assert torch.equal(loaded.sample(denoise, noise), expected)
    assert torch.equal(loaded.sample(mixture_of_noise, noise), dode.sample(loaded.solver, InSigma(), noise, sigmas))
    end, points = driven(loaded.evaluations(noise), denoise)
    assert len(points) == 5
    assert torch.equal(end, expected)
    with pytest.raises(ValueError, match="prediction 'flow' needs a schedule"):
        dode.load({**record, "model": {key: value for key, value in model.items() if key != "schedule"}})


def mixture_of_noise(x, sigma):
    """A plain function, which is taken for the result's model."""
    return mixture.denoise(x, sigma)


CAPS = (0.99, 0.999, 0.9999)


def test_the_error_of_a_cap_is_proportional_to_what_it_leaves_out():
    """The table of docs/method.md: the end states of fine solutions that begin at t below 1, with the noise as x_t."""
    denoise, noise = flow(), mixture.latents(256, 11)

    def end(*first):
        times = np.array([*first, *np.arange(999, 0, -1) / 1000])
        times = times[(times <= first[0])]
        levels = [PURE_NOISE if t == 1 else t / (1 - t) for t in dict.fromkeys(times.tolist())] + [0.0]
        return dode.sample(solvers.create("flow-heun"), denoise, noise, levels)

    exact = end(1.0)
    errors = [(end(cap) - exact).flatten(1).square().mean(1).sqrt() / (1 - cap) for cap in CAPS]
    for cap, error in zip(CAPS, errors, strict=True):
        print(
            f"t = {cap}: {error.quantile(0.5):.2f}, {error.quantile(0.9):.2f}, {error.quantile(0.99):.2f} times 1 - t"
        )
    assert all(0.2 < float(error.quantile(0.5)) < 0.4 for error in errors)
    assert all(float(error.quantile(0.9)) < 1.0 for error in errors)


def small_network(seed=0):
    """A tiny U-Net of diffusers."""
    torch.manual_seed(seed)
    config = {
        **{"sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "norm_num_groups": 4},
        **{"block_out_channels": [8], "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"]},
    }
    return networks.create("diffusers-unet2d", config=config)


def in_diffusers(scheduler, network, noise):
    """The end state of a pipeline's loop."""
    x = noise
    with torch.no_grad():
        for timestep in scheduler.timesteps:
            x = scheduler.step(network(x, timestep), timestep, x, return_dict=False)[0]
    return x


def some_noise():
    return torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 2, 5, 12])
def test_flow_match_euler_of_diffusers(steps, shift):
    network, noise = small_network(), some_noise()
    scheduler = schedulers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    sigmas = grids.for_model(flow(network), "flow-linear", steps, shift=shift)
    own = dode.sample(solvers.create("ddim"), flow(network), noise, sigmas)
    torch.testing.assert_close(own, in_diffusers(scheduler, network, noise), rtol=0, atol=2e-6)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 2, 5, 12])
def test_flow_match_heun_of_diffusers(steps, shift):
    """In float64, as diffusers divides a difference by t, 0.001 in the last step; its levels stay in float32."""
    network, noise = small_network().double(), some_noise().double()
    scheduler = schedulers.FlowMatchHeunDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    sigmas = grids.for_model(flow(network), "flow-linear", steps, shift=shift)
    own = dode.sample(solvers.create("flow-heun"), flow(network), noise, sigmas)
    torch.testing.assert_close(own, in_diffusers(scheduler, network, noise), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "sigmoid", "cosine"])
def test_zero_terminal_snr_is_that_of_diffusers(name):
    plain, own = (schedules.create(name, steps=1000, rescale_betas_zero_snr=zero) for zero in (False, True))
    theirs = {"cosine": "squaredcos_cap_v2"}.get(name, name)
    betas = schedulers.DDPMScheduler(beta_schedule=theirs).betas.tolist()
    scheduler = schedulers.DDIMScheduler(trained_betas=betas, rescale_betas_zero_snr=True)
    np.testing.assert_allclose(own.alphas_cumprod, scheduler.alphas_cumprod, rtol=2e-4, atol=1e-7)
    assert own.alphas_cumprod[0] == pytest.approx(plain.alphas_cumprod[0], rel=1e-12)
    assert own.noisiest >= PURE_NOISE > own.sigma_max
    assert own.index([own.noisiest, own.sigma_max]).tolist() == [999, 998]
    assert plain.noisiest == plain.sigma_max


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_zero_terminal_snr_is_sampled_as_diffusers_ddim_does(steps):
    """There ``abar`` is 0 at the first step, where the network says v = -x_0."""
    network, noise = small_network().double(), some_noise().double()
    card = {"prediction": "v", "schedule": {"name": "scaled_linear", "rescale_betas_zero_snr": True}}
    denoise = models.of_card(card, network)
    options = {"prediction_type": "v_prediction", "clip_sample": False, "timestep_spacing": "trailing"}
    scheduler = schedulers.DDIMScheduler(beta_schedule="scaled_linear", rescale_betas_zero_snr=True, **options)
    abar = denoise.schedule.alphas_cumprod.copy()
    abar[-1] = 0
    scheduler.alphas_cumprod = torch.from_numpy(abar)
    scheduler.set_timesteps(steps)
    x = noise
    for timestep in scheduler.timesteps:
        x = scheduler.step(network(x, timestep.double()), timestep, x).prev_sample
    own = dode.sample(solvers.create("ddim"), denoise, noise, grids.for_model(denoise, "uniform-index", steps))
    torch.testing.assert_close(own, x, rtol=0, atol=5e-7)


@pytest.mark.parametrize("option", ["yes", 1, None])
def test_rescaling_is_true_or_false(option):
    with pytest.raises(ValueError, match=r"rescale_betas_zero_snr. must be true or false, not"):
        schedules.create("linear", rescale_betas_zero_snr=option)


def test_heun_from_pure_noise_is_heun_in_time_for_that_step():
    denoise, noise, sigmas = flow(), mixture.latents(4, 5), [PURE_NOISE, 2.0, 0.5]
    first = [dode.sample(solvers.create(name), denoise, noise, sigmas[:2]) for name in ("heun", "flow-heun")]
    torch.testing.assert_close(*first, rtol=0, atol=1e-12)
    second = [dode.sample(solvers.create(name), denoise, noise, sigmas[1:]) for name in ("heun", "flow-heun")]
    assert mixture.rmse(*second) > 1e-4


def test_a_step_of_adams_bashforth_in_time_is_the_textbooks():
    """Two equal steps in t, of orders 1 and 2: ``x'' = x' + h (3 v' - v) / 2``."""
    network, noise = Velocity(), mixture.latents(4, 5)
    times = (0.9, 0.6, 0.3)
    v = network(noise, time_of(0.9))
    x = noise - 0.3 * v
    x = x - 0.3 * (1.5 * network(x, time_of(0.6)) - 0.5 * v)
    stepper = driver.steps(solvers.create("flow-ab"), flow(network), noise, [t / (1 - t) for t in times])
    torch.testing.assert_close(driver.drive(stepper) * 0.7, x, rtol=0, atol=1e-12)


def test_guidance_and_labels_are_those_of_other_models():
    class Labelled(Velocity):
        def forward(self, x, time, labels):
            return super().forward(x, time) + 0.1 * labels.view(-1, 1, 1, 1)

    denoise = models.of_card({**FLOW, "classes": 3}, Labelled(), classes=3)
    assert isinstance(denoise, FlowPrediction)
    bound = denoise.conditioned([0, 2])
    x = mixture.latents(2, 1)
    one, both = denoise.conditioned([2])(x[1:], torch.tensor(1.0)), bound(x, torch.tensor(1.0))
    torch.testing.assert_close(both[1:], one)
    torch.testing.assert_close(both[:1], flow()(x[:1], torch.tensor(1.0)))


def test_priors_are_three_kinds():
    assert [
        ModelFacts.of_card(card).prior_std for card in (FLOW, {"prediction": "v", "schedule": {"name": "linear"}})
    ] == [
        flow_prior,
        vp_prior,
    ]
    student = Student(solvers.create("ddim"), [3.0, 0.0])
    noise = mixture.latents(2, 1)
    assert torch.equal(student.run(InSigma(), noise), mixture.denoise(4 * noise, 3.0))
