"""The same formulas in another library: diffusers' schedulers on the same noise and the same noise levels.

diffusers works on ``alpha x``, keeps its tables in float32 and, for the multistep schedulers, rounds levels to integer
indices. Each is given the exact toy by the noise level that it believes in, so that what is compared is the formula.
"""

import math

import numpy as np
import pytest
import torch
from diffusers import schedulers

import dode
from dode import models, solvers
from dode.grids.schedules import schedules
from dode.models import mixture
from dode.models.networks import networks
from noise_mixture import NoiseMixture

STEPS = [1, 2, 3, 5, 10]
CLOSE = {"rtol": 0, "atol": 1e-5}
every_step_count = pytest.mark.parametrize("steps", STEPS)


def noise_estimate(x, sigma):
    """eps of the toy for x in VP coordinates at noise level sigma of the VE ones."""
    scaled = x * math.sqrt(1 + sigma**2)
    return (scaled - mixture.denoise(scaled, torch.tensor(sigma).double())) / sigma


def by_sigmas(scheduler, steps):
    """Run a scheduler that holds ``sigmas``; (levels, end state in VE coordinates)."""
    scheduler.set_timesteps(steps)
    scheduler.sigmas = scheduler.sigmas.double()
    levels = scheduler.sigmas.tolist()
    x = mixture.latents(8, 1)
    for index, timestep in enumerate(scheduler.timesteps):
        x = scheduler.step(noise_estimate(x, levels[index]), timestep, x).prev_sample
    return levels, x * math.sqrt(1 + levels[-1] ** 2)


def ours(name, levels, **options):
    return dode.sample(solvers.create(name, **options), NoiseMixture(), mixture.latents(8, 1), levels)


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_ddim(steps):
    """Where the steps divide the 1,000 indices; else diffusers steps to another index than it evaluates at next."""
    scheduler = schedulers.DDIMScheduler(timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.set_timesteps(steps)
    levels = [math.sqrt(1 / float(scheduler.alphas_cumprod[t]) - 1) for t in scheduler.timesteps] + [0.0]
    x = mixture.latents(8, 1)
    for level, timestep in zip(levels, scheduler.timesteps, strict=False):
        x = scheduler.step(noise_estimate(x, level), timestep, x).prev_sample
    torch.testing.assert_close(ours("ddim", levels), x, **CLOSE)


SCHEDULES = [
    ({"name": "linear", "steps": 200, "beta_min": 1e-4, "beta_max": 0.1}, "linear"),
    ({"name": "scaled_linear", "beta_min": 0.00085, "beta_max": 0.012}, "scaled_linear"),
    ({"name": "scaled_linear"}, "scaled_linear"),
    ({"name": "sigmoid"}, "sigmoid"),
    ({"name": "sigmoid", "steps": 100, "beta_min": 1e-7, "beta_max": 0.2}, "sigmoid"),
    ({"name": "cosine", "steps": 1000}, "squaredcos_cap_v2"),
]
PREDICTIONS = {"noise": "epsilon", "v": "v_prediction", "image": "sample"}


def theirs(schedule, name, **options):
    """diffusers' scheduler of a card's schedule; its DDIM has no sigmoid betas, but its DDPM has."""
    sizes = {"num_train_timesteps": schedule.get("steps", 1000)}
    betas = {
        f"beta_{end}": schedule[f"beta_{key}"]
        for end, key in (("start", "min"), ("end", "max"))
        if "beta_min" in schedule
    }
    made = schedulers.DDPMScheduler(**sizes, **betas, beta_schedule=name)
    return schedulers.DDIMScheduler(**sizes, trained_betas=made.betas.tolist(), **options)


@pytest.mark.parametrize(("schedule", "name"), SCHEDULES)
def test_schedules(schedule, name):
    """diffusers has float32."""
    options = dict(schedule)
    own = schedules.create(options.pop("name"), **options)
    np.testing.assert_allclose(own.alphas_cumprod, theirs(schedule, name).alphas_cumprod.double(), rtol=2e-5)


@pytest.mark.parametrize(("schedule", "name"), SCHEDULES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_what_a_network_predicts(prediction, schedule, name):
    """The same weights under each kind of prediction and schedule of a card; DDIM from the last index to the image."""
    torch.manual_seed(0)
    config = {
        "sample_size": 8,
        "in_channels": 1,
        "out_channels": 1,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "block_out_channels": [8],
        "down_block_types": ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"],
    }
    network = networks.create("diffusers-unet2d", config=config).double()
    denoise = models.of_card({"prediction": prediction, "schedule": schedule}, network)
    scheduler = theirs(
        schedule, name, prediction_type=PREDICTIONS[prediction], clip_sample=False, timestep_spacing="trailing"
    )
    scheduler.alphas_cumprod = torch.from_numpy(denoise.schedule.alphas_cumprod)
    scheduler.set_timesteps(5)
    noise = x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for timestep in scheduler.timesteps:
        x = scheduler.step(network(x, timestep.double()), timestep, x).prev_sample
    sigmas = dode.grids.for_model(denoise, "uniform-index", 5)
    own = dode.sample(solvers.create("ddim"), denoise, noise, sigmas)
    torch.testing.assert_close(own, x, rtol=1e-10, atol=1e-10)


@every_step_count
@pytest.mark.parametrize(("variant", "order"), [("2M", 2), ("3M", 3)])
def test_dpm_solver_pp_multistep(variant, order, steps):
    """Ours takes lower orders before sigma = 0 at any number of steps, diffusers below 15."""
    scheduler = schedulers.DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver++", solver_order=order, final_sigmas_type="zero", timestep_spacing="linspace"
    )
    levels, x = by_sigmas(scheduler, steps)
    torch.testing.assert_close(ours("dpm-solver++", levels, variant=variant), x, **CLOSE)


@pytest.mark.parametrize("steps", [3, 5, 10])
@pytest.mark.parametrize("order", [2, 3])
def test_dpm_solver_multistep(order, steps):
    """For noise estimates diffusers ends above sigma = 0, where ours does not lower the order.

    Its state is float32; in one or two steps from sigma = 157 to 0.01 that alone makes 2e-5.
    """
    scheduler = schedulers.DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver", solver_order=order, final_sigmas_type="sigma_min", lower_order_final=False
    )
    levels, x = by_sigmas(scheduler, steps)
    torch.testing.assert_close(ours("dpm-solver-multistep", levels, order=order), x, **CLOSE)


@pytest.mark.parametrize("steps", [3, 5, 10])
@pytest.mark.parametrize(("variant", "end"), [("bh1", "sigma_min"), ("bh2", "sigma_min"), ("bh2", "zero")])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc(order, variant, end, steps):
    """With bh1 a step to sigma = 0 is NaN in diffusers, and Euler's here."""
    scheduler = schedulers.UniPCMultistepScheduler(
        solver_order=order,
        solver_type=variant,
        final_sigmas_type=end,
        lower_order_final=end == "zero",
        timestep_spacing="linspace",
    )
    levels, x = by_sigmas(scheduler, steps)
    torch.testing.assert_close(ours("unipc", levels, order=order, variant=variant), x, **CLOSE)


@every_step_count
@pytest.mark.parametrize("degree", [1, 2])
def test_deis(degree, steps):
    """diffusers' order is the number of noise estimates, ours the degree of the polynomial, as in the paper.

    Its polynomial is in log sigma; the highest that it has is of degree 2. Its grid ends above sigma = 0.
    """
    scheduler = schedulers.DEISMultistepScheduler(
        solver_order=degree + 1, lower_order_final=False, timestep_spacing="linspace"
    )
    levels, x = by_sigmas(scheduler, steps)
    torch.testing.assert_close(ours("deis", levels, order=degree, variable="log-sigma"), x, **CLOSE)


def pndm_schedule(steps, sigma_max=20.0):
    """abar of a schedule whose sigma is linear in the index, so that the middle index is the middle sigma."""
    train = 12 * steps
    sigmas = np.linspace(sigma_max / train, sigma_max, train)
    return torch.from_numpy(1 / (1 + sigmas**2)), sigmas


@pytest.mark.parametrize("steps", [4, 5, 10])
def test_pndm(steps):
    """diffusers takes the middle index for the middle level, and four timesteps for each of the first three steps."""
    abar, sigmas = pndm_schedule(steps)
    scheduler = schedulers.PNDMScheduler(
        num_train_timesteps=len(abar), skip_prk_steps=False, set_alpha_to_one=True, timestep_spacing="leading"
    )
    scheduler.alphas_cumprod = abar
    scheduler.set_timesteps(steps)
    x = mixture.latents(8, 1)
    for timestep in scheduler.timesteps.tolist():
        x = scheduler.step(noise_estimate(x, sigmas[timestep]), timestep, x).prev_sample
    stride = len(abar) // steps
    levels = [*sigmas[np.arange(steps)[::-1] * stride], 0.0]
    torch.testing.assert_close(ours("pndm", levels), x, **CLOSE)


@every_step_count
def test_plms(steps):
    """The same without the Runge-Kutta start, as Stable Diffusion's files have it; one evaluation more than steps."""
    if steps == 1:
        return  # diffusers evaluates at a timestep below 0 then
    abar, sigmas = pndm_schedule(steps)
    scheduler = schedulers.PNDMScheduler(
        num_train_timesteps=len(abar), skip_prk_steps=True, set_alpha_to_one=True, timestep_spacing="leading"
    )
    scheduler.alphas_cumprod = abar
    scheduler.set_timesteps(steps)
    x = mixture.latents(8, 1)
    for timestep in scheduler.timesteps.tolist():
        x = scheduler.step(noise_estimate(x, sigmas[timestep]), timestep, x).prev_sample
    assert len(scheduler.timesteps) == solvers.create("plms").nfe(steps)
    stride = len(abar) // steps
    levels = [*sigmas[np.arange(steps)[::-1] * stride], 0.0]
    torch.testing.assert_close(ours("plms", levels), x, **CLOSE)


@every_step_count
def test_ipndm(steps):
    """diffusers' has a trigonometric schedule of its own and a network that predicts v = alpha eps - sigma x_0.

    Its last level is not sigma = 0 but alpha = 1 after it, and its first alpha is 0: the second level begins here.
    """
    scheduler = schedulers.IPNDMScheduler()
    scheduler.set_timesteps(steps + 1)
    scheduler.betas, scheduler.alphas = scheduler.betas.double(), scheduler.alphas.double()
    first = scheduler.timesteps[1:]
    levels = (scheduler.betas / scheduler.alphas)[1:].tolist()
    scheduler._step_index, x = 1, mixture.latents(8, 1)
    for index, timestep in enumerate(first):
        alpha, beta = float(scheduler.alphas[index + 1]), float(scheduler.betas[index + 1])
        velocity = (noise_estimate(x, levels[index]) - beta * x) / alpha
        x = scheduler.step(velocity, timestep, x).prev_sample
    torch.testing.assert_close(ours("ipndm", levels, order=4), x, **CLOSE)


@every_step_count
def test_heun(steps):
    """diffusers works in VE coordinates here."""
    scheduler = schedulers.HeunDiscreteScheduler(use_karras_sigmas=True, timestep_spacing="linspace")
    scheduler.set_timesteps(steps)
    levels = scheduler.sigmas.double()
    x = mixture.latents(8, 1) * levels[0]
    for index, timestep in enumerate(scheduler.timesteps):
        eps = (x - mixture.denoise(x, levels[index])) / levels[index]
        x = scheduler.step(eps, timestep, x).prev_sample
    distinct = [*dict.fromkeys(levels.tolist())]
    result = dode.sample(solvers.create("heun"), mixture.denoise, mixture.latents(8, 1), distinct)
    torch.testing.assert_close(result, x, **CLOSE)


@pytest.mark.parametrize("steps", [3, 5, 9])
def test_dpm_solver_singlestep(steps):
    """diffusers puts the inner levels on the grid, as ``stages="grid"`` does, and ends above sigma = 0.

    With an even number of evaluations its last two are of first order wherever it ends, ours only before sigma = 0. Its
    third order is not compared: the second inner stage is a midpoint step there, not Lu et al.'s.
    """
    scheduler = schedulers.DPMSolverSinglestepScheduler(
        algorithm_type="dpmsolver", solver_order=2, final_sigmas_type="sigma_min", lower_order_final=True
    )
    levels, x = by_sigmas(scheduler, steps)
    torch.testing.assert_close(ours("dpm-solver", levels, order=2, stages="grid"), x, **CLOSE)


@pytest.mark.parametrize("steps", [3, 5, 9])
def test_dpm_solver_pp_singlestep(steps):
    """On a grid uniform in log-SNR diffusers' inner levels, those of the grid, are halfway like ours."""
    scheduler = schedulers.DPMSolverSinglestepScheduler(
        algorithm_type="dpmsolver++", solver_order=2, final_sigmas_type="sigma_min", lower_order_final=True
    )
    scheduler.set_timesteps(steps)
    scheduler.sigmas = torch.logspace(2, -2, steps + 1).double()
    levels, x = scheduler.sigmas.tolist(), mixture.latents(8, 1)
    for index, timestep in enumerate(scheduler.timesteps):
        x = scheduler.step(noise_estimate(x, levels[index]), timestep, x).prev_sample
    torch.testing.assert_close(ours("dpm-solver++", levels, variant="2S"), x * math.sqrt(1 + levels[-1] ** 2), **CLOSE)
