"""The examples of the documentation do what the documentation says."""

import json
import re
from pathlib import Path

import pytest
import yaml

import dode
from dode import grids, solvers
from dode.benchmark import digests
from dode.models import mixture
from dode.solvers import base

ROOT = Path(__file__).parents[2]


def blocks(path, language):
    """The fenced code blocks of a Markdown file."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / path).read_text(), flags=re.S)


def test_the_readmes_example_runs_as_pasted():
    names = {}
    exec(compile(blocks("README.md", "python")[0], "README.md", "exec"), names)
    assert names["x"].shape == (16, 3, 8, 8)
    assert names["fit"].lambdas.shape == (5, 1)


def test_a_result_is_used_as_documented(tmp_path, monkeypatch):
    """On one's own function, in a pipeline, and by a program that calls its network itself."""
    import test_diffusers_scheduler as pipelines

    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.json").write_text(json.dumps(pipelines.record("dpm-solver", {"order": 3}, 7)))
    pipelines.tiny_pipeline().save_pretrained(tmp_path / "folder-or-name")
    function, pipeline, own_loop = blocks("docs/using-a-result.md", "python")
    names = {}
    exec(compile(function, "using-a-result.md", "exec"), names)
    assert names["images"].shape == (16, 3, 8, 8)
    exec(compile(own_loop, "using-a-result.md", "exec"), names)
    assert names["images"].shape == (16, 3, 8, 8)
    exec(compile(pipeline, "using-a-result.md", "exec"), names)
    assert len(names["images"]) == 4


EXAMPLES = {"midpoint": 0, "ab2": 1}


@pytest.fixture(params=EXAMPLES)
def documented(request, monkeypatch):
    """A solver of docs/adding-a-solver.md, registered as its file would be."""
    monkeypatch.setattr(base, "_methods", dict(base._methods))
    source = blocks("docs/adding-a-solver.md", "python")[EXAMPLES[request.param]]
    exec(compile(source, f"{request.param}.py", "exec"), {"__name__": request.param})
    return solvers.create(request.param)


def test_a_documented_solver_is_of_the_order_that_it_claims_and_gains_by_distillation(documented):
    exact = mixture.exact(64, 7)
    noise = mixture.latents(64, 7)
    errors = []
    for steps in (320, 640):
        sigmas = grids.karras(steps=steps, sigma_min=1e-5)
        errors.append(mixture.rmse(dode.sample(documented, mixture.denoise, noise, sigmas), exact))
    assert errors[0] / errors[1] == pytest.approx(2**documented.order, rel=0.15)
    sigmas = grids.karras(steps=documented.steps(nfe=9))
    fit = dode.distill(documented, mixture.denoise, mixture.latents(64, 1), sigmas)
    distilled, plain = (dode.sample(documented, mixture.denoise, noise, sigmas, lambdas=x) for x in (fit, None))
    assert mixture.rmse(distilled, exact) < mixture.rmse(plain, exact)


@pytest.mark.parametrize("path", ["docs/adding-a-solver.md", "docs/adding-a-model.md"])
def test_the_documented_entries_are_valid_yaml(path):
    assert all(yaml.safe_load(block) for block in blocks(path, "yaml"))


def test_every_room_of_the_architecture_exists_and_every_module_has_a_room():
    text = (ROOT / "docs/architecture.md").read_text()
    table = "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
    for module in digests.PACKAGE.glob("*.py"):
        assert module.name == "__init__.py" or module.name in table, (
            f"{module.name} has no room in docs/architecture.md"
        )
    for room in re.findall(r"`([\w/.]+/)`", table):
        assert (ROOT / room).is_dir(), f"{room} of docs/architecture.md does not exist"
