"""A pipeline in memory gets a scheduler that is fitted to it; with one, every family makes what the library makes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import dode
from dode import grids, portable, sampling, solvers
from dode.diffusers_scheduler import DodeScheduler
from dode.distillation import fine_solution, fitted
from dode.pipelines import family as families
from dode.pipelines import fit, model

pytest.importorskip("transformers", reason="pipelines need the extra `pipelines`")
import tiny_pipelines as tiny

PROMPTS = [
    f"a {color} {what} on the {where}" for color in ("red", "blue") for what in ("cat", "dog") for where in "abcd"
]
# What a call of each family's pipeline is given besides.
SMALL = {"height": 16, "width": 16}
CALLS = {
    "stable_diffusion": SMALL,
    "stable_diffusion_xl": SMALL,
    "stable_diffusion_3": SMALL,
    "flux": SMALL,
    "pixart": {**SMALL, "use_resolution_binning": False, "clean_caption": False},
    "sana": {"height": 32, "width": 32, "use_resolution_binning": False, "clean_caption": False},
}
FAST = {"steps": 2, "images": 16, "budget": 200}


@pytest.fixture
def quick(monkeypatch):
    """A fine solution of few steps."""
    monkeypatch.setattr(fine_solution, "STEPS", 3)


def drawn(shape, count=2):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(5))


def record(pipe, shape):
    """A distilled result for a pipeline, with coefficients that nobody fitted, from the noisiest level on."""
    denoise = model.denoiser(families.of(pipe))
    solver = solvers.create("ipndm")
    sigmas = grids.for_model(denoise, "flow-linear" if denoise.facts.prediction == "flow" else "uniform-index", 3)
    student = sampling.Student(solver, sigmas, torch.full((3, 1), 0.01).double(), dode.directions.Directions())
    student.lambdas[0] = 0
    own = {"base": solver, "given": sigmas, "facts": denoise.facts.said(), "image_shape": shape}
    nothing = torch.full((3,), torch.nan)
    made = fitted.Fit(student, **own, sigmas=nothing, rms_before=nothing, rms_after=nothing, family="lambda")
    told = {"card": "tiny", "sha256": None, **model.trained(pipe)}
    return portable.of_fit(made, grid={"name": "karras", "options": {}}, model=told, made={}, conditions={})


def called(pipe, latents, name, steps, **options):
    """The pipeline's latents for its own prompts."""
    given = pipe._pack_latents(latents, *latents.shape) if name == "flux" else latents.clone()
    options = {**CALLS[name], "num_inference_steps": steps, "output_type": "latent", **options}
    found = pipe(tiny.PROMPTS, latents=given, **options).images
    return (
        pipe._unpack_latents(found, options["height"], options["width"], pipe.vae_scale_factor)
        if name == "flux"
        else found
    )


def own_way(pipe, sampler, latents, conditions, scale):
    """What the library makes of the same network, noise, prompts and guidance."""
    family = families.of(pipe)
    of_images = family.encode(conditions) if family.classes is None else conditions
    return sampler.sample(model.guided(family, model.denoiser(family), of_images, scale=scale), latents)


@pytest.mark.parametrize("name", CALLS)
def test_the_pipelines_latents_are_the_librarys(name, tmp_path):
    """Also with a callback at every step, and again after it was saved and loaded."""
    pipe = getattr(tiny, name)()
    sizes = {key: CALLS[name][key] for key in ("height", "width")}
    shape = families.of(pipe).latent_shape(**sizes)
    pipe.scheduler = DodeScheduler.from_config(pipe.scheduler.config, result=record(pipe, shape))
    expected = own_way(pipe, pipe.scheduler.sampler, drawn(shape), tiny.PROMPTS, 2.0)
    close = {"rtol": 0, "atol": 1e-4 * max(1.0, float(expected.abs().max()))}
    seen = []

    def look(pipe, step, timestep, values):
        seen.append((step, float(timestep), values["latents"].shape))
        return {}

    if name != "pixart":  # which has another kind of callback
        found = called(pipe, drawn(shape), name, 3, guidance_scale=2.0, callback_on_step_end=look)
        assert [(step, time) for step, time, _ in seen] == list(enumerate(pipe.scheduler.timesteps.tolist()))
    else:
        found = called(pipe, drawn(shape), name, 3, guidance_scale=2.0)
    torch.testing.assert_close(found, expected, **close)
    with pytest.raises(ValueError, match="num_inference_steps: the result has 3 network evaluations, not 7"):
        called(pipe, drawn(shape), name, 7)
    pipe.save_pretrained(tmp_path)
    again = tiny.quiet(type(pipe).from_pretrained(tmp_path))
    assert isinstance(again.scheduler, DodeScheduler)
    torch.testing.assert_close(called(again, drawn(shape), name, 3, guidance_scale=2.0), expected, **close)


def test_a_pipeline_of_classes(monkeypatch):
    """DiT's goes on with what it gave to its network, and draws its noise itself."""
    pipe, kept = tiny.dit(), []
    shape = families.of(pipe).latent_shape()
    pipe.scheduler = DodeScheduler.from_config(pipe.scheduler.config, result=record(pipe, shape))
    monkeypatch.setattr("diffusers.pipelines.dit.pipeline_dit.randn_tensor", lambda **options: drawn(shape))
    decode = pipe.vae.decode
    monkeypatch.setattr(pipe.vae, "decode", lambda latents: kept.append(latents) or decode(latents))
    pipe([3, 5], num_inference_steps=3, guidance_scale=2.0, output_type="pt")
    expected = own_way(pipe, pipe.scheduler.sampler, drawn(shape), [3, 5], 2.0)
    found = kept[0] * pipe.vae.config.scaling_factor
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


FRESH = """
import torch
import dode.diffusers_scheduler  # before diffusers
from diffusers import StableDiffusion3Pipeline
pipe = StableDiffusion3Pipeline.from_pretrained("saved")
latents = torch.load("latents.pt")
images = pipe(["a red cat", "a blue dog"], latents=latents, num_inference_steps=2, height=16, width=16,
              guidance_scale=2.0, output_type="latent").images
torch.save(images, "images.pt")
"""


def test_a_fitted_scheduler_is_the_pipelines_in_a_fresh_process_too(quick, tmp_path):
    """Fit, take its place, save, load elsewhere; and its file is a result like any other."""
    pipe = tiny.stable_diffusion_3()
    before = pipe.scheduler
    fitted = dode.distill_pipeline(pipe, PROMPTS, **FAST, **SMALL, guidance_scale=2.0)
    assert pipe.scheduler is before
    made = fitted.sampler.record
    assert made["model"]["image_shape"] == [4, 8, 8]
    assert made["fit"]["images"] == 16
    assert made["conditions"]["guidance_scale"] == 2
    assert [rung["family"] for rung in made["fit"]["rungs"]] == ["plain", "levels", "general"]
    fitted.sampler.save(tmp_path / "my.json")
    again = dode.load(tmp_path / "my.json")
    assert again.record == made
    pipe.scheduler = DodeScheduler.from_config(before.config, result=str(tmp_path / "my.json"))
    assert pipe.scheduler.config["result"] == made
    latents = drawn((4, 8, 8))
    expected = own_way(pipe, again, latents, tiny.PROMPTS, 2.0)
    torch.save(latents, tmp_path / "latents.pt")
    pipe.save_pretrained(tmp_path / "saved")
    subprocess.run([sys.executable, "-c", FRESH], cwd=tmp_path, check=True, env=environment())
    torch.testing.assert_close(torch.load(tmp_path / "images.pt"), expected, rtol=0, atol=1e-4)
    # A pipeline that has such a scheduler already can be fitted again.
    assert dode.distill_pipeline(pipe, PROMPTS, **FAST | {"steps": 3}, **SMALL).sampler.nfe == 3


def environment():
    """Of a process that finds the package wherever it runs."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.mark.parametrize("name", ["stable_diffusion", "flux", "dit"])
def test_a_fit_of_every_kind_of_condition(quick, name):
    """Classifier-free and embedded guidance of prompts, and classes; the default scale is the pipeline's."""
    pipe = getattr(tiny, name)()
    given = {"classes": range(16)} if name == "dit" else {"prompts": PROMPTS, **SMALL}
    fitted = dode.distill_pipeline(pipe, **given, **FAST)
    made = fitted.sampler.record
    assert made["conditions"]["guidance_scale"] == {"stable_diffusion": 7.5, "flux": 3.5, "dit": 4.0}[name]
    assert made["model"].get("classes") == (1000 if name == "dit" else None)
    shape = tuple(made["model"]["image_shape"])
    latents = drawn(shape)
    if name != "dit":
        pipe.scheduler = fitted
        expected = own_way(pipe, fitted.sampler, latents, tiny.PROMPTS, made["conditions"]["guidance_scale"])
        close = {"rtol": 0, "atol": 1e-4 * max(1.0, float(expected.abs().max()))}
        torch.testing.assert_close(called(pipe, latents, name, 2), expected, **close)


def test_flux_with_a_negative_prompt_is_fitted_as_the_pipeline_is_called(quick):
    pipe = tiny.flux()
    how = {"guidance_scale": 3.0, "true_cfg_scale": 2.0, "negative_prompt": "dog"}
    fitted = dode.distill_pipeline(pipe, PROMPTS, **FAST, **SMALL, **how)
    assert fitted.sampler.record["conditions"] == {**how, "max_sequence_length": None}
    pipe.scheduler, family = fitted, families.of(pipe)
    conditions = family.encode(tiny.PROMPTS, "dog", without=True)
    own = {"scale": 3.0, "true_cfg_scale": 2.0}
    latents = drawn(tuple(fitted.sampler.record["model"]["image_shape"]))
    expected = fitted.sampler.sample(model.guided(family, model.denoiser(family), conditions, **own), latents)
    found = called(pipe, latents, "flux", 2, **{**how, "negative_prompt": ["dog"] * 2})
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_fitted_in(quick, dtype):
    pipe, size = tiny.stable_diffusion_3().to(dtype), {"height": 32, "width": 32}
    fitted = dode.distill_pipeline(pipe, PROMPTS, **FAST, **size, guidance_scale=2.0)
    assert pipe.transformer.dtype == dtype
    pipe.scheduler = fitted
    latents = drawn((4, 16, 16)).to(dtype)
    found = called(pipe, latents, "stable_diffusion_3", 2, guidance_scale=2.0, **size)
    assert found.dtype == dtype
    expected = own_way(pipe, fitted.sampler, latents.float(), tiny.PROMPTS, 2.0)
    assert (found.float() - expected).square().mean().sqrt() < 0.02 * expected.square().mean().sqrt()


@pytest.mark.parametrize("broken", [False, True])
def test_the_pipeline_is_left_as_it_was(quick, monkeypatch, broken):
    pipe = tiny.stable_diffusion_3()
    pipe.transformer.train()
    pipe.transformer.pos_embed.eval()
    weight = next(pipe.transformer.parameters())
    weight.requires_grad_(False)

    def state():
        parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
        modules = [(module.training, module.__class__) for part in parts for module in part.modules()]
        return modules, [(w.requires_grad, w.dtype, w.device) for part in parts for w in part.parameters()]

    before, scheduler = state(), pipe.scheduler
    if broken:
        monkeypatch.setattr(type(pipe.transformer), "forward", lambda *args, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            dode.distill_pipeline(pipe, PROMPTS, **FAST, **SMALL)
    else:
        random = torch.get_rng_state()
        dode.distill_pipeline(pipe, PROMPTS, **FAST, **SMALL)
        assert torch.equal(torch.get_rng_state(), random)
    assert state() == before
    assert pipe.scheduler is scheduler


def test_a_seed_makes_the_same_fit_and_another_one_another(quick):
    pipe = tiny.stable_diffusion_3()
    fits = [dode.distill_pipeline(pipe, PROMPTS, **FAST, **SMALL, seed=seed).sampler.record for seed in (0, 0, 1)]
    assert fits[0] == fits[1]
    assert fits[0]["fit"]["rungs"] != fits[2]["fit"]["rungs"]


def test_out_of_memory_halves_the_batch(quick, monkeypatch, caplog):
    pipe = tiny.stable_diffusion_3()
    forward, sizes = pipe.transformer.forward, []

    def small(hidden_states, **options):
        sizes.append(len(hidden_states))
        if len(hidden_states) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(hidden_states=hidden_states, **options)

    monkeypatch.setattr(pipe.transformer, "forward", small)
    dode.distill_pipeline(pipe, PROMPTS, **FAST, **SMALL)
    assert sizes[:3] == [8, 4, 2]
    assert max(sizes[2:]) == 2
    assert "out of memory with 8 images at once; continuing with 4" in caplog.text


def test_out_of_memory_halves_the_prompts_of_the_encoders(quick, monkeypatch):
    pipe = tiny.stable_diffusion_3()
    forward, sizes = pipe.text_encoder_3.forward, []

    def small(ids, **options):
        sizes.append(len(ids))
        if len(ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(ids, **options)

    monkeypatch.setattr(pipe.text_encoder_3, "forward", small)
    dode.distill_pipeline(pipe, PROMPTS, **FAST, **SMALL)
    assert sizes[:3] == [8, 4, 2]
    assert max(sizes[2:]) == 2


def test_as_many_images_as_the_largest_family_needs():
    """32 of 4 steps carry its 19 numbers, 45 of 6 its 34 and 70 of 8 its 53, a quarter of them held out."""
    assert [fit.least_images(steps) for steps in (2, 4, 6, 8)] == [32, 32, 45, 70]
    assert fit.usual_budget(6, 45) == 3 * 45 * 34 * 6
    assert fit.usual_budget(12, 137) == 18_000 * 12


class Unknown:
    pass


REFUSED = {
    "steps": ({"steps": 1}, "steps must be an integer of at least 2, not 1"),
    "steps as text": ({"steps": "6"}, "steps must be an integer of at least 2, not '6'"),
    "few prompts": ({"prompts": PROMPTS[:9]}, r"prompts: 9 are too few for 16 fitting images, .*; give 16$"),
    "fewer prompts": ({"prompts": PROMPTS[:9], "images": 20}, "20 fitting images, .*; give 20, or 16 with images=16$"),
    "some prompts": ({"prompts": PROMPTS, "images": 20}, "prompts: 16 are too few .*; give 20, or images=16$"),
    "one text": ({"prompts": "a cat"}, "prompts: a list of texts is needed, one for each fitting image, not one text"),
    "empty": ({"prompts": [*PROMPTS[:3], " ", *PROMPTS]}, "prompts: entry 3 is ' '; allowed: text that is not empty"),
    "no text": ({"prompts": [*PROMPTS, 7]}, "prompts: entry 16 is 7; allowed: text"),
    "none": ({"prompts": None}, "prompts: StableDiffusion3Pipeline needs them; give a list of texts"),
    "classes": ({"prompts": None, "classes": [1]}, "classes: StableDiffusion3Pipeline takes prompts, not classes"),
    "length": ({"max_sequence_length": -3}, "max_sequence_length: -3 is not allowed for .*; allowed: .* from 0 to 512"),
    "long": ({"max_sequence_length": 513}, "max_sequence_length: 513 is not allowed for .*; allowed: .* from 0 to 512"),
    "few images": (
        {"images": 8},
        "images: 8 is not allowed; allowed: an integer of at least 16 for 2 steps, each with a",
    ),
    "few for steps": ({"steps": 8}, "images: 16 is not allowed; allowed: an integer of at least 42 for 8 steps"),
    "images as text": ({"images": "32"}, "images: '32' is not allowed; allowed: an integer of at least 16"),
    "seed": ({"seed": -1}, "seed: -1 is not allowed; allowed: an integer from 0 to 9223372036854775807"),
    "batch": ({"batch_size": 0}, "batch_size: 0 is not allowed; allowed: an integer of at least 1, or None for all"),
    "budget": ({"budget": 10}, "budget must be an integer of at least 96"),
    "scale": ({"guidance_scale": -1}, "guidance_scale: -1 is not allowed; allowed: a number of at least 0"),
    "negative": ({"negative_prompt": "dog", "guidance_scale": 1}, "negative_prompt: it has no effect without"),
    "height": ({"height": 17}, "height: 17 is not a multiple of 2"),
    "height as text": ({"height": "16"}, "height: '16' is not allowed; allowed: an integer, in pixels"),
    "solver": ({"solver": "eular"}, "unknown solver 'eular'"),
    "noisy": ({"solver": "consistency"}, "solver 'consistency' adds noise on its way, so that no fit corrects it"),
    "prepared": ({"solver": "dpm-solver-v3"}, "solver: 'dpm-solver-v3' needs what is prepared for a model"),
    "network": ({"solver": "sfd", "steps": 6}, "solver: 'sfd' needs what is prepared for a model"),
    "by image": ({"solver": "amed", "steps": 6}, "solver 'amed' chooses its noise levels by image"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_fitted_is_refused_before_any_work(case, monkeypatch):
    pipe = tiny.stable_diffusion_3()
    options, said = REFUSED[case]
    _refused(pipe, {"prompts": PROMPTS, **FAST, **SMALL, **options}, said, monkeypatch)


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (Unknown, {}, "pipeline: Unknown is of no known family; known: DiTPipeline, FluxPipeline"),
        (
            lambda: tiny.flux(guidance_embeds=False),
            {"guidance_scale": 3.5},
            "guidance_scale: 3.5 is not allowed, as the",
        ),
        (tiny.flux, {"negative_prompt": "dog"}, "negative_prompt: it has no effect without classifier-free guidance"),
        (tiny.flux, {"negative_prompt": "dog", "true_cfg_scale": 1}, "negative_prompt: it has no effect without class"),
        (tiny.flux, {"true_cfg_scale": 2}, "true_cfg_scale: 2 is not allowed without negative_prompt, .*; give one"),
        (tiny.flux, {"true_cfg_scale": "2"}, "true_cfg_scale: '2' is not allowed; allowed: a number of at least 0"),
        (tiny.stable_diffusion_3, {"true_cfg_scale": 2}, "true_cfg_scale: StableDiffusion3Pipeline has no such scale"),
        (tiny.dit, {}, "classes: DiTPipeline takes classes, 0 to 999, not prompts"),
        (
            tiny.dit,
            {"prompts": None, "classes": [1000]},
            "classes: 1000 is not allowed; allowed: integers from 0 to 999",
        ),
        (tiny.dit, {"prompts": None, "classes": [1] * 9}, "classes: 9 are too few for 16 fitting images"),
        (
            tiny.dit,
            {"prompts": None, "classes": range(16), "height": 16},
            "height: DiTPipeline makes images of one size",
        ),
    ],
)
def test_what_a_pipeline_does_not_have_is_refused(make, options, said, monkeypatch):
    _refused(make(), {"prompts": PROMPTS, **FAST, **options}, said, monkeypatch)


def test_a_pipeline_without_encoders_or_weights_is_refused(monkeypatch):
    pipe = tiny.stable_diffusion_3()
    pipe.text_encoder_2 = None
    said = "pipeline: StableDiffusion3Pipeline has no text_encoder_2, which is needed for prompts"
    _refused(pipe, {"prompts": PROMPTS, **FAST}, said, monkeypatch)
    pipe = tiny.stable_diffusion_3()
    pipe.transformer.to("meta")
    _refused(pipe, {"prompts": PROMPTS, **FAST}, "pipeline: the weights of its network are not in memory", monkeypatch)


def _refused(pipe, options, said, monkeypatch):
    """One sentence, and no part of the pipeline has run."""
    if not isinstance(pipe, Unknown):
        monkeypatch.setattr(torch.nn.Module, "__call__", lambda *args, **options: pytest.fail("a part was called"))
    with pytest.raises(ValueError, match=said) as caught:
        dode.distill_pipeline(pipe, **options)
    assert "\n" not in str(caught.value)
