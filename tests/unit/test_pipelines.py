"""Pipelines of diffusers as models, against what the pipelines make themselves of the same noise and prompts.

Where a scheduler of diffusers does something else than the method that it is named after, the test undoes it or takes
it into account; each place says what.
"""

import functools
import math

import numpy as np
import pytest
import torch
from diffusers import schedulers

import dode
from dode import grids, solvers
from dode.fetching import card_grids
from dode.pipelines import described, model
from dode.pipelines import family as families

pytest.importorskip("transformers", reason="pipelines need the extra `pipelines`")
import tiny_pipelines as tiny

WITHOUT_LENGTH = ("stable_diffusion", "stable_diffusion_xl", "dit")
LEADING = {"name": "timesteps", "spacing": "leading"}
OFFSET = {**LEADING, "steps_offset": 1}
HIGHEST = {"name": "timesteps"}
WITHOUT_LOWEST = {"name": "timesteps", "leave_lowest": True}
TRAILING = {"name": "timesteps", "spacing": "trailing"}
DDIM = {"clip_sample": False, "set_alpha_to_one": True}  # not cut to [-1, 1], and down to the clean image
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
SHIFTED = {"name": "flow-linear", "shift": 3.0}
STEPS = 6


def ve(sigma):
    """Euler's and Heun's schedulers with linspace or trailing begin at sigma n, ours all at sqrt(1 + sigma^2) n."""
    return sigma / math.sqrt(1 + sigma**2)


def family_of(name, **build):
    return families.of(getattr(tiny, name)(**build), length=None if name in WITHOUT_LENGTH else 16)


def size_of(name):
    return {"sana": (32, 64), "dit": (16, 16)}.get(name, (16, 24))  # Sana's pipeline asks for multiples of 32


def noise_of(family, name, count=2):
    return torch.randn(count, *family.latent_shape(*size_of(name)), generator=torch.Generator().manual_seed(0))


def conditions_of(family, name, **how):
    return [1, 2] if name == "dit" else family.encode(tiny.PROMPTS, **how)


def theirs(family, name, noise, steps=STEPS, **call):
    """(latents, images in [0, 1]) of the pipeline itself."""
    pipe, height, width = family.pipe, *size_of(name)
    if name == "dit":  # it takes a generator for the noise, and gives no latents
        seen, decode = [], pipe.vae.decode
        pipe.vae.decode = lambda latents: seen.append(latents) or decode(latents)
        generator = torch.Generator().manual_seed(0)
        images = pipe([1, 2], generator=generator, num_inference_steps=steps, output_type="np", **call).images
        pipe.vae.decode = decode
        return seen[0] * pipe.vae.config.scaling_factor, torch.from_numpy(images).movedim(-1, 1)
    own = {"num_inference_steps": steps, "height": height, "width": width, **call}
    if name not in WITHOUT_LENGTH:
        own["max_sequence_length"] = 16
    if name in ("pixart", "pixart_alpha", "sana"):
        own |= {"use_resolution_binning": False, "clean_caption": False}
    if name == "flux":
        noise = pipe._pack_latents(noise, *noise.shape)
    latents = pipe(tiny.PROMPTS, latents=noise.clone(), output_type="latent", **own).images
    images = pipe(tiny.PROMPTS, latents=noise.clone(), output_type="pt", **own).images
    if name == "flux":
        latents = pipe._unpack_latents(latents, height, width, pipe.vae_scale_factor)
    return latents, images


def ours(family, conditions, noise, solver, grid, steps=STEPS, begin=None, end=0.0, **guidance):
    """The latents of a solver on a grid of this project."""
    denoise = model.denoiser(family)
    guided = model.guided(family, denoise, conditions, **guidance)
    options = {key: value for key, value in grid.items() if key != "name"}
    levels = grids.for_model(denoise, grid["name"], steps, **options).tolist()
    levels[-1] = end
    factor = 1.0 if begin is None else begin(levels[0])
    name, own = solver if isinstance(solver, tuple) else (solver, {})
    found = dode.sample(solvers.create(name, **own), guided, noise * factor, levels)
    return found / math.sqrt(1 + end**2)


def check(family, found, expected, relative=3e-6):
    """Latents to float32's rounding of their size, and images."""
    latents, images = expected
    torch.testing.assert_close(found, latents, rtol=0, atol=relative * float(latents.abs().max()))
    torch.testing.assert_close(
        family.decode(found).clamp(-1, 1) / 2 + 0.5, images, rtol=0, atol=max(1e-5, 2 * relative)
    )


def untruncated(scheduler):
    """A scheduler that tells the network its level, not the integer part of its thousandfold."""
    original = scheduler.set_timesteps

    @functools.wraps(original)
    def set_timesteps(*args, **options):
        original(*args, **options)
        scheduler.timesteps = scheduler.sigmas[:-1] * scheduler.config.num_train_timesteps

    scheduler.set_timesteps = set_timesteps
    return scheduler


TWO_M, UNIPC = ("dpm-solver++", {"variant": "2M"}), ("unipc", {"order": 2})
LINSPACE, SPACED = {"timestep_spacing": "linspace"}, {"timestep_spacing": "trailing"}
LATENT = [  # on a VP schedule: scheduler, its options, solver, grid, where it begins
    ("DDIMScheduler", DDIM, "ddim", OFFSET, None),
    ("EulerDiscreteScheduler", {"timestep_spacing": "leading"}, "ddim", OFFSET, None),
    ("EulerDiscreteScheduler", LINSPACE, "ddim", HIGHEST, ve),
    ("EulerDiscreteScheduler", SPACED, "ddim", TRAILING, ve),
    ("EulerDiscreteScheduler", {**LINSPACE, "use_karras_sigmas": True}, "ddim", {"name": "karras"}, ve),
    ("HeunDiscreteScheduler", LINSPACE, "heun", HIGHEST, ve),
    # Both take their last step by Euler's method here as there: towards sigma = 0 their own is singular.
    ("DPMSolverMultistepScheduler", LINSPACE, TWO_M, WITHOUT_LOWEST, None),
    ("DPMSolverMultistepScheduler", {"timestep_spacing": "leading"}, TWO_M, {**OFFSET, "leave_lowest": True}, None),
    ("DPMSolverMultistepScheduler", SPACED, TWO_M, TRAILING, None),
    ("UniPCMultistepScheduler", LINSPACE, UNIPC, WITHOUT_LOWEST, None),
]
T5_ONLY = [  # PixArt and DiT, whose schedulers have no offset
    ("DDIMScheduler", DDIM, "ddim", LEADING, None),
    ("EulerDiscreteScheduler", LINSPACE, "ddim", HIGHEST, ve),
    *[
        case
        for case in LATENT
        if case[1] is LINSPACE and case[0] not in ("EulerDiscreteScheduler", "HeunDiscreteScheduler")
    ],
]
FLOWING = [
    ("FlowMatchEulerDiscreteScheduler", {}, "ddim", SHIFTED, None),
    ("FlowMatchHeunDiscreteScheduler", {}, "flow-heun", SHIFTED, None),
    ("DPMSolverMultistepScheduler", FLOW, TWO_M, {**SHIFTED, "spacing": "trailing", "sigma_max": 3.0 * 999}, None),
    ("UniPCMultistepScheduler", FLOW, UNIPC, {"name": "sgm-uniform", "shift": 3.0}, None),
]
CASES = [
    *[("stable_diffusion", *case) for case in LATENT],
    *[("stable_diffusion_xl", *case) for case in LATENT],
    *[(name, *case) for name in ("pixart", "pixart_alpha") for case in T5_ONLY],
    *[("dit", *case) for case in T5_ONLY if case[0] != "EulerDiscreteScheduler"],  # it does not scale its noise
    *[(name, *case) for name in ("stable_diffusion_3", "sana") for case in FLOWING],
]


@pytest.mark.parametrize(("name", "scheduler", "options", "solver", "grid", "begin"), CASES)
def test_a_plain_solver_is_the_pipelines_own_scheduler(name, scheduler, options, solver, grid, begin):
    family = family_of(name)
    made = getattr(schedulers, scheduler).from_config(family.pipe.scheduler.config, **options)
    family.pipe.scheduler = untruncated(made) if "use_flow_sigmas" in options else made
    noise = noise_of(family, name)
    expected = theirs(family, name, noise, guidance_scale=4.0)
    found = ours(family, conditions_of(family, name), noise, solver, grid, begin=begin, scale=4.0)
    # UniPC's scheduler begins flow matching at t = 1 - 1e-6, which in its float32 has a digit or two.
    coarse = options is FLOW and solver is UNIPC
    check(family, found, expected, 5e-5 if coarse else 1e-5 if "heun" in solver else 3e-6)


def test_stable_diffusions_ddim_ends_at_the_level_of_index_0():
    """With ``set_alpha_to_one: false``, as in its files: what is left of the noise is taken for the image."""
    family = family_of("stable_diffusion")
    noise, conditions = noise_of(family, "stable_diffusion"), conditions_of(family, "stable_diffusion")
    expected = theirs(family, "stable_diffusion", noise, guidance_scale=7.5)
    end = float(model.denoiser(family).facts.schedule.sigma(0))
    check(family, ours(family, conditions, noise, "ddim", OFFSET, end=end, scale=7.5), expected)


@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_velocities_from_pure_noise_with_rescaled_guidance(rescale):
    """Stable Diffusion 2.1 with zero terminal SNR; five steps, as diffusers' DDIM rounds others elsewhere."""
    own = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    family = family_of("stable_diffusion", **own, set_alpha_to_one=True)
    noise, conditions = noise_of(family, "stable_diffusion"), conditions_of(family, "stable_diffusion")
    call = {"steps": 5, "guidance_scale": 7.5, "guidance_rescale": rescale}
    expected = theirs(family, "stable_diffusion", noise, **call)
    check(family, ours(family, conditions, noise, "ddim", TRAILING, steps=5, scale=7.5, rescale=rescale), expected)


@pytest.mark.parametrize(
    "name", ["stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "pixart", "sana", "dit"]
)
def test_without_guidance_the_network_runs_once(name):
    family = family_of(name)
    flow = name in ("stable_diffusion_3", "sana")
    if not flow:
        family.pipe.scheduler = schedulers.DDIMScheduler.from_config(family.pipe.scheduler.config, **DDIM)
    offset = family.pipe.scheduler.config.get("steps_offset", 0)
    noise = noise_of(family, name)
    expected = theirs(family, name, noise, guidance_scale=1.0)
    grid = SHIFTED if flow else {**LEADING, "steps_offset": offset}
    check(family, ours(family, conditions_of(family, name), noise, "ddim", grid, scale=1.0), expected)


@pytest.mark.parametrize(("guidance_embeds", "scale"), [(True, 3.5), (True, 1.0), (False, None)])
def test_flux_with_the_shift_of_the_images_size(guidance_embeds, scale):
    """dev with its scale and dynamic shift, schnell with neither."""
    family = family_of("flux", guidance_embeds=guidance_embeds)
    noise, conditions = noise_of(family, "flux"), conditions_of(family, "flux")
    expected = theirs(family, "flux", noise, guidance_scale=scale or 0.0)
    shift = family.shift(*size_of("flux"))
    assert (shift == 1) is not guidance_embeds
    grid = {"name": "flow-linear", "shift": shift, "spacing": "trailing"}
    check(family, ours(family, conditions, noise, "ddim", grid, scale=scale), expected)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 24)])
def test_stable_diffusion_3_with_the_shift_of_the_images_size(height, width):
    """As forks of 3.5 have it; of a transformer with 64 and 96 tokens, between 48 and 128."""
    family = family_of("stable_diffusion_3")
    dynamic = {"use_dynamic_shifting": True, "base_image_seq_len": 48, "max_image_seq_len": 128, "max_shift": 1.5}
    pipe, latent = family.pipe, family.latent_shape(height, width)
    pipe.scheduler = schedulers.FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config, **dynamic)
    noise = torch.randn(2, *latent, generator=torch.Generator().manual_seed(0))
    call = {"num_inference_steps": STEPS, "height": height, "width": width, "max_sequence_length": 16}
    expected = pipe(tiny.PROMPTS, latents=noise.clone(), output_type="latent", guidance_scale=4.0, **call).images
    card = {"pipeline": {"class": "StableDiffusion3Pipeline"}, "latent_shape": [*latent]}
    files = {
        described.SCHEDULER: {**pipe.scheduler.config, "_class_name": "FlowMatchEulerDiscreteScheduler"},
        described.CONFIGS["transformer"]: dict(pipe.transformer.config),
    }
    grid = card_grids.of(card, files)
    assert grid["options"]["shift"] == family.shift(height, width)
    levels = grids.for_model(model.denoiser(family), grid["name"], STEPS, **grid["options"]).numpy()
    np.testing.assert_allclose(1000 * levels[:-1] / (1 + levels[:-1]), pipe.scheduler.timesteps, atol=1e-4)
    found = ours(family, conditions_of(family, ""), noise, "ddim", {"name": grid["name"], **grid["options"]}, scale=4.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-6 * float(expected.abs().max()))


@pytest.mark.parametrize(("guidance_embeds", "scale"), [(True, 3.5), (False, None)])
@pytest.mark.parametrize("negative", ["", "the dark sky"])
def test_flux_is_guided_by_a_negative_prompt_besides(guidance_embeds, scale, negative):
    """diffusers' ``true_cfg_scale``; of dev the scale that is an input stays what it is on both sides."""
    family = family_of("flux", guidance_embeds=guidance_embeds)
    noise, conditions = noise_of(family, "flux"), conditions_of(family, "flux", negative=negative, without=True)
    call = {"guidance_scale": scale or 0.0, "true_cfg_scale": 2.5, "negative_prompt": [negative] * 2}
    expected = theirs(family, "flux", noise, **call)
    grid = {"name": "flow-linear", "shift": family.shift(*size_of("flux")), "spacing": "trailing"}
    found = ours(family, conditions, noise, "ddim", grid, scale=scale, true_cfg_scale=2.5)
    check(family, found, expected)
    without = ours(family, conditions, noise, "ddim", grid, scale=scale)
    assert float((found - without).abs().max()) > 1e-3
    guided = model.guided(family, model.denoiser(family), conditions, scale=scale, true_cfg_scale=2.5)
    assert guided.passes(1.0) == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_fluxs_network_is_told_the_time_that_diffusers_rounds(monkeypatch, dtype):
    """To the bit, of 20 steps; rounded only once, 5 of them are other ones in bfloat16 and 3 in float16."""
    pipe = tiny.flux().to(dtype)
    family, told = families.of(pipe, length=16), []
    network, noise = pipe.transformer.time_text_embed.forward, noise_of(family, "flux")

    def seen(time, guidance, pooled):
        told.append((time.dtype, time.tolist(), guidance.tolist()))
        return network(time, guidance, pooled)

    monkeypatch.setattr(pipe.transformer.time_text_embed, "forward", seen)
    latents, _ = theirs(family, "flux", noise.to(dtype), steps=20, guidance_scale=3.3)
    expected, images = told[:20], told[20:]
    assert expected == images
    told.clear()
    grid = {"name": "flow-linear", "shift": family.shift(*size_of("flux")), "spacing": "trailing"}
    found = ours(family, conditions_of(family, "flux"), noise, "ddim", grid, steps=20, scale=3.3)
    assert told == expected
    # The pipeline's state is in half precision too, a solver's in double.
    size = 3e-2 if dtype == torch.bfloat16 else 4e-3
    torch.testing.assert_close(found, latents.float(), rtol=0, atol=size * float(latents.abs().max()))


@pytest.mark.parametrize("negative", [None, "", "the dark sky"])
@pytest.mark.parametrize("name", ["stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "pixart", "sana"])
def test_negative_prompts_are_the_pipelines(name, negative):
    """None is what the pipeline does by itself: SDXL has zeros then, and not its empty prompt."""
    family = family_of(name)
    flow = name in ("stable_diffusion_3", "sana")
    if not flow:
        family.pipe.scheduler = schedulers.DDIMScheduler.from_config(family.pipe.scheduler.config, **DDIM)
    offset = family.pipe.scheduler.config.get("steps_offset", 0)
    noise, call = noise_of(family, name), {} if negative is None else {"negative_prompt": negative}
    if call and name in ("stable_diffusion", "pixart", "sana"):
        call = {"negative_prompt": [negative] * 2}
    expected = theirs(family, name, noise, guidance_scale=4.0, **call)
    grid = SHIFTED if flow else {**LEADING, "steps_offset": offset}
    conditions = conditions_of(family, name, negative=negative)
    check(family, ours(family, conditions, noise, "ddim", grid, scale=4.0), expected)
    others = family.encode(tiny.PROMPTS, negative="a car").without["words"]
    assert not conditions.without["words"].equal(others)
    if name == "stable_diffusion_xl":
        assert bool((conditions.without["words"] == 0).all()) is (negative is None)


def test_sdxl_decodes_latents_with_a_mean_and_deviation_of_their_own():
    family = family_of("stable_diffusion_xl")
    family.pipe.vae.register_to_config(latents_mean=[0.5, -1, 0, 2], latents_std=[2, 1, 3, 0.5])
    noise = noise_of(family, "stable_diffusion_xl")
    expected = theirs(family, "stable_diffusion_xl", noise, guidance_scale=4.0)
    conditions = conditions_of(family, "stable_diffusion_xl")
    check(family, ours(family, conditions, noise, "ddim", OFFSET, scale=4.0), expected)
