"""Pipelines in the workflow without their weights: the shipped example before any job, and a decoder that overflows."""

import re

import pytest
import torch
import yaml

import forked_python
from dode.benchmark.cells import Benchmark
from dode.images import prompts
from workspace import REPOSITORY, Workspace

EXAMPLE = REPOSITORY / "config/pipelines.yaml"


def test_the_example_is_planned_without_weights_and_network(shipped):
    """Guidance is two passes of the network for Stable Diffusion, and one for FLUX, whose scale is an input."""
    text = shipped.snakemake("--dry-run", "--quiet", "rules", "--configfile", "config/pipelines.yaml")
    jobs = dict(line.split() for line in text.splitlines() if len(line.split()) == 2 and line.split()[1].isdigit())
    names = ("fetch_pipeline", "encode", "sample", "gather_latents", "decode", "distill")
    assert {name: int(jobs[name]) for name in names} == {
        "fetch_pipeline": 2,
        "encode": 4,  # of each dataset the prompts of scored images, and those of the fitting set
        **dict.fromkeys(("sample", "gather_latents", "decode"), 2 * (5 * 3 + 1)),
        "distill": 2 * 3,
    }
    said = shipped.command("plan", "config/pipelines.yaml")
    rows = {line.split("|")[1].strip(): line.split("|")[2:] for line in said.splitlines() if "|" in line}
    found = {name: [int(cell.replace(",", "")) for cell in rows[name][3:5]] for name in ("sd15", "flux")}
    sd, flux = found["sd15"], found["flux"]
    assert sd[0] - flux[0] == (2 * 200 + 200) * (79 - 59)  # the fine solutions of scored and of fitting images
    assert flux[0] > 2 * 200 * 5 * (5 + 8 + 12) + 3 * 40000 + 600 * 59  # what is sampled, and the budgets of the fits
    assert (sd[1], flux[1]) == (2 * sd[0], flux[0])
    assert "Besides, 800 prompts are encoded and 12,800 latents decoded." in said


def test_the_examples_prompts_are_as_many_as_it_needs_and_all_different(shipped, monkeypatch):
    monkeypatch.chdir(shipped.folder)
    bench = Benchmark(yaml.safe_load(EXAMPLE.read_text(encoding="utf-8")), shipped.folder)
    rows = prompts.read(**bench.datasets["sd15"]["prompts"])
    assert len(set(rows)) == len(rows) == 400


def test_a_decoder_that_overflows_in_half_precision_says_which_images_and_what_to_change(folder):
    """Its activations are beyond float16's largest number before they are normalized, and right in float32.

    The prompts are encoded by Python itself: what forks have imported, they need not find.
    """
    pytest.importorskip("transformers", reason="pipelines need the extra `pipelines`")
    import pipeline_workspaces as tiny

    workspace = Workspace.fresh(folder)
    tiny.prepare(workspace)
    pipe = tiny.pipeline()
    with torch.no_grad():
        pipe.vae.decoder.conv_in.weight.mul_(2e5)
    pipe.vae.register_to_config(force_upcast=False)
    pipe.vae.save_pretrained(folder / "config/models/tiny-sd3/vae")
    path = folder / "config/models/tiny-sd3.yaml"
    card = {**tiny.CARD, "precision": {"decoder": "float16"}}
    path.write_text(yaml.safe_dump(card), encoding="utf-8")
    target = "results/tiny/digits-edm/ddim/nfe2/samples.npy"
    workspace.snakemake("results/tiny/digits-edm/conditions/sample-20.safetensors")
    workspace.python = forked_python.executable("pipelines")
    status, output, errors = workspace.attempt(target)
    assert status != 0
    said = re.search(r"^decode/digits-edm/ddim/2: ValueError: (.*) \(see .*\)$", output + errors, re.MULTILINE)
    assert said is not None, output + errors
    assert said[1] == (
        "images 1 to 10: the decoder of the pipeline makes NaN or infinity in float16; decode in "
        "float32, with precision: {decoder: float32} in the model's card"
    )
    path.write_text(yaml.safe_dump(tiny.CARD), encoding="utf-8")
    assert set(workspace.plan(target)) == {"decode ddim/nfe2"}
    workspace.snakemake(target)
