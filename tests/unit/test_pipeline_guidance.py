"""Guidance of pipelines besides their own way: a negative prompt for a distilled network, a worse pipeline as guide."""

import json

import numpy as np
import pytest
import torch
import yaml

from checkouts import Checkout
from dode.benchmark import jobs, pipeline_ends, pipeline_jobs
from dode.benchmark.cells import Benchmark
from dode.benchmark.dependencies import Dependencies
from dode.benchmark.files import Files
from dode.fetching import pipelines
from dode.models.guidance import Autoguidance
from dode.validation import ConfigError
from pipeline_folders import ENOUGH, card, configured, make

PLACE = "datasets[0]."
FREE = {"name": "classifier-free", "scale": 2.0}
NEGATIVE = {f"{PLACE}negative_prompt": "blurred"}


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
    """``benchmark(family, guidance, changes)``, with cards ``worse`` and ``large``, and ``other`` of another class."""
    monkeypatch.chdir(tmp_path)

    def benchmark(family, guidance, changes=None):
        checkout = Checkout(tmp_path)
        config = configured(checkout, family, {**ENOUGH, f"{PLACE}guidance": guidance, **(changes or {})})
        shape = {"image_shape": [3, 16, 16]}
        for name, own, size in (("worse", family, shape), ("large", family, {"image_shape": [3, 32, 32]})):
            make(checkout.folder / name, own)
            (checkout.folder / f"{name}.yaml").write_text(yaml.safe_dump({**card(f"file:{name}"), **size}))
        make(checkout.folder / "other", "sana")
        (checkout.folder / "other.yaml").write_text(yaml.safe_dump(card("file:other")))
        return Benchmark(config, checkout.root)

    return benchmark


@pytest.mark.parametrize(
    ("family", "guidance", "changes", "says"),
    [
        ("flux", {**FREE, "embedded": 3.5}, NEGATIVE, None),
        ("schnell", FREE, NEGATIVE, None),
        ("flux", {"name": "autoguidance", "scale": 1.5, "guide": "worse", "embedded": 3.5}, {}, None),
        ("sd3", {"name": "autoguidance", "scale": 1.5, "guide": "worse"}, {}, None),
        (
            "flux",
            FREE,
            NEGATIVE,
            "guidance.embedded: the key is missing; the network of 'mine' takes a scale as an input",
        ),
        (
            "flux",
            {**FREE, "embedded": 3.5},
            {},
            "distilled for guidance and takes its scale as an input; allowed: 'embedded'",
        ),
        (
            "flux",
            {**FREE, "scale": 1, "embedded": 3.5},
            NEGATIVE,
            "guidance.scale: 1 is no guidance; allowed: more than 1",
        ),
        (
            "schnell",
            {**FREE, "embedded": 3.5},
            NEGATIVE,
            "guidance.embedded: the network of 'mine' takes no scale as an",
        ),
        ("sd3", {**FREE, "embedded": 3.5}, {}, "guidance.embedded: the network of 'mine' takes no scale as an input"),
        ("flux", {"name": "embedded", "scale": 3.5}, NEGATIVE, "negative_prompt: without classifier-free guidance"),
        (
            "flux",
            {"name": "embedded", "scale": 3.5, "embedded": 3.5},
            {},
            "guidance.embedded: 'embedded' guidance uses no embedded; leave the key out",
        ),
        ("sd3", {"name": "autoguidance", "scale": 1.5}, {}, "guidance.guide: the key is missing"),
        (
            "sd3",
            {"name": "autoguidance", "scale": 1.5, "guide": "digits-edm"},
            {},
            "guidance.guide: it is no pipeline, but the model is; take a card of the class StableDiffusion3Pipeline",
        ),
        (
            "sd3",
            {"name": "autoguidance", "scale": 1.5, "guide": "other"},
            {},
            "its pipeline.class is SanaPipeline, but the model's StableDiffusion3Pipeline; they must be the same",
        ),
        (
            "sd3",
            {"name": "autoguidance", "scale": 1.5, "guide": "large"},
            {},
            "guidance.guide: its latents are [4, 16, 16], but the model's [4, 8, 8]",
        ),
        (
            "sd3",
            {"name": "autoguidance", "scale": 1.5, "guide": "worse"},
            {f"{PLACE}model": "digits-edm", f"{PLACE}data": "digits"},
            "guidance.guide: 'worse' is a pipeline, which cannot be a guide; take another card",
        ),
        (
            "sd3",
            {**FREE, "embedded": 3.5},
            {f"{PLACE}model": "digits-edm", f"{PLACE}data": "digits"},
            "guidance.embedded: 'digits-edm' is no pipeline, which alone may have it; leave the key out",
        ),
    ],
)
def test_what_may_guide_besides_is_checked_before_any_job(benchmark, family, guidance, changes, says):
    if says is None:
        assert benchmark(family, guidance, changes).datasets["digits-edm"]["guidance"] == guidance
        return
    with pytest.raises(ConfigError) as caught:
        benchmark(family, guidance, changes)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_stands_for_no_prompt_is_encoded_where_a_distilled_network_is_guided_by_it(benchmark):
    guided = Dependencies(benchmark("schnell", FREE, NEGATIVE)).encoding("digits-edm", "sample", 30)
    assert (guided["negative_prompt"], guided["without"]) == ("blurred", True)


def test_other_pipelines_are_encoded_as_ever(benchmark):
    assert "without" not in Dependencies(benchmark("sd3", FREE)).encoding("digits-edm", "sample", 30)


def test_a_guide_is_fetched_and_decides_the_samples(benchmark):
    made = benchmark("sd3", {"name": "autoguidance", "scale": 1.5, "guide": "worse"})
    cell = made.cells_of("digits-edm")[0]
    assert Files(made).prepared(cell)["guide"] == "resources/pipelines/worse.json"
    assert Dependencies(made).trajectory(cell).guidance["guide"]["pipeline"] == {"class": "StableDiffusion3Pipeline"}


@pytest.fixture
def job(tmp_path):
    """``job(pipes, card, guidance)``: of pipelines in memory by name, fetched as in the workflow, with two prompts."""
    tiny = pytest.importorskip("tiny_pipelines", reason="pipelines need the extra `pipelines`")

    def job(pipes, of_card, guidance, without=False):
        manifests = {}
        for name, pipe in pipes.items():
            pipe.save_pretrained(tmp_path / name)
            manifests[name] = str(tmp_path / f"{name}-fetched.json")
            own = {"pipeline": {"source": f"file:{name}"}, "licence": "none"}
            pipelines.obtain(name, own, manifests[name], root=tmp_path, folder=tmp_path)
        encoded = tmp_path / "encoded.safetensors"
        encoders = pipeline_jobs.part(manifests["model"], "encoders", "float32", torch.device("cpu"), 16)
        pipeline_ends.write_conditions(encoded, encoders, tiny.PROMPTS, "the sky", 1, {}, without=without)
        execution = {"device": "cpu", "batch_size": 2}
        inputs = {"conditions": str(encoded), **({"guide": manifests["guide"]} if "guide" in pipes else {})}
        grid = {"name": "flow-linear", "options": {}}
        own = {
            "solver": "ddim",
            "options": {},
            "grid": grid,
            "nfe": 2,
            "seed": 0,
            "model": of_card,
            "guidance": guidance,
        }
        return jobs.of_cell(own, manifests["model"], execution, inputs)

    return job


def known(cls, shape, latents):
    return {
        **{"prediction": "flow", "schedule": {"name": "flow"}, "image_shape": shape, "latent_shape": latents},
        **{"pipeline": {"class": cls}, "precision": {"dtype": "float32"}},
    }


def test_a_job_has_a_pipeline_and_its_guide(job):
    import tiny_pipelines as tiny

    model, guide, own = (
        tiny.stable_diffusion_3(),
        tiny.stable_diffusion_3(),
        known("StableDiffusion3Pipeline", [3, 16, 16], [4, 8, 8]),
    )
    with torch.no_grad():
        for weight in guide.transformer.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    made = job({"model": model, "guide": guide}, own, {"name": "autoguidance", "scale": 1.5, "guide": own})
    x, sigma = 2 * made.latents([0, 1]).double(), torch.tensor(1.0, dtype=torch.float64)
    found = made.denoise_for([0, 1])(x, sigma)
    conditions = made.conditions([0, 1])
    alone = [each.conditioned(conditions)(x, sigma) for each in (made.denoise.model, made.denoise.guide)]
    assert isinstance(made.denoise, Autoguidance)
    assert float((alone[0] - alone[1]).abs().max()) > 1e-3
    torch.testing.assert_close(found, alone[1] + 1.5 * (alone[0] - alone[1]))
    assert made.denoise.passes(1.0) == 2
    np.testing.assert_array_equal(made.kept(x), x.float().numpy())


def test_a_job_guides_flux_by_a_negative_prompt_at_the_scale_that_is_its_input(job):
    import tiny_pipelines as tiny
    from dode.pipelines import family as families
    from dode.pipelines import model as models

    pipe = tiny.flux()
    guidance = {"name": "classifier-free", "scale": 2.5, "embedded": 3.5}
    made = job({"model": pipe}, known("FluxPipeline", [3, 16, 16], [4, 8, 8]), guidance, without=True)
    x, sigma = 2 * made.latents([0, 1]).double(), torch.tensor(1.0, dtype=torch.float64)
    family = families.of(pipe, length=16)
    conditions = family.encode(tiny.PROMPTS, "the sky", without=True)
    expected = models.guided(family, models.denoiser(family), conditions, scale=3.5, true_cfg_scale=2.5)
    torch.testing.assert_close(made.denoise_for([0, 1])(x, sigma), expected(x, sigma), rtol=0, atol=1e-5)
    assert json.loads(json.dumps(guidance)) == made.trajectory.guidance
