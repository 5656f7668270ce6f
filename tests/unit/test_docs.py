"""The examples of the documentation do what the documentation says."""

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

import dode
from dode import grids, report, solvers
from dode.__main__ import main
from dode.benchmark import digests, precision_rule, precisions
from dode.benchmark.cells import Benchmark
from dode.distillation import by_method, fine_solution, fit_checks, greedy, learned, task
from dode.grids import base as base_of_grids
from dode.metrics import distances, extrapolation, features
from dode.metrics.catalogue import METRICS
from dode.metrics.extractors import extractors
from dode.models import loading, mixture
from dode.models.networks import networks
from dode.report import tables, verdicts
from dode.report.figures import style
from dode.solvers import base

ROOT = Path(__file__).parents[2]


def blocks(path, language):
    """The fenced code blocks of a Markdown file."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / path).read_text(), flags=re.S)


def test_the_readmes_example_runs_as_pasted():
    names = {}
    exec(compile(blocks("README.md", "python")[0], "README.md", "exec"), names)
    assert names["x"].shape == (16, 3, 8, 8)
    assert names["fit"].student.nfe == 5


def test_a_result_is_used_as_documented(tmp_path, monkeypatch):
    """On one's own function, in a pipeline, and by a program that calls its network itself."""
    import test_diffusers_scheduler as pipelines

    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.json").write_text(json.dumps(pipelines.record("dpm-solver", {"order": 3}, 7)))
    pipelines.tiny_pipeline().save_pretrained(tmp_path / "folder-or-name")
    function, pipeline, own_loop = blocks("docs/using-a-result.md", "python")
    names = {}
    exec(compile(function, "using-a-result.md", "exec"), names)
    assert names["images"].shape == (16, 1, 8, 8)
    exec(compile(own_loop, "using-a-result.md", "exec"), names)
    assert names["images"].shape == (16, 1, 8, 8)
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
    fit = dode.distill(documented, mixture.denoise, mixture.latents(64, 1), sigmas, fit="greedy")
    distilled, plain = (dode.sample(documented, mixture.denoise, noise, sigmas, lambdas=x) for x in (fit, None))
    assert mixture.rmse(distilled, exact) < mixture.rmse(plain, exact)


ENTRY = yaml.safe_load(blocks("docs/adding-a-solver.md", "yaml")[0])["solvers"]


@pytest.mark.parametrize("documented", ["midpoint"], indirect=True)
def test_the_documented_entry_runs_and_its_distilled_version_is_the_papers(documented):
    dataset = {"id": "d", "model": "digits-edm", "data": "digits", "features": "digits-classifier"}
    found = Benchmark({"benchmark": "b", "datasets": [{**dataset, "grid": {"name": "karras"}}], "solvers": ENTRY}, ROOT)
    assert {str(cell) for cell in found.distilled()} == {"d/d-midpoint/nfe5", "d/d-midpoint/nfe9"}
    for cell in found.distilled():
        own = cell.entry["distill"]
        sigmas = grids.karras(steps=documented.steps(nfe=cell.nfe))
        fit = dode.distill(
            documented,
            mixture.denoise,
            mixture.latents(16, 1),
            sigmas,
            fit=own["fit"],
            directions=own["directions"],
        )
        assert fit.student.lambdas.shape == (cell.nfe, 1)
        assert torch.equal(torch.as_tensor(fit.student.sigmas), torch.as_tensor(sigmas))


def entries():
    """The solvers of all configurations, and of those in documents."""
    texts = [path.read_text() for path in (ROOT / "config").glob("*.yaml")]
    texts += [block for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")] for block in blocks(path, "yaml")]
    loaded = [found for text in texts if isinstance(found := yaml.safe_load(text), dict)]
    return [entry for found in loaded for entry in found.get("solvers") or [] if isinstance(entry, dict)]


def test_what_is_labelled_as_the_papers_fit_is_one():
    labelled = [entry for entry in entries() if re.match("D-", entry.get("label", ""))]
    assert len(labelled) > 20
    assert [entry["label"] for entry in labelled if entry["distill"].get("fit") not in ("greedy", "refined")] == []


def headings(path):
    """The headings of a Markdown file outside of code, as links to them are formed."""
    return re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", path.read_text(), flags=re.S), flags=re.M)


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/*.md")), ids=lambda path: path.name)
def test_no_two_sections_have_one_name(path):
    found = [heading.lower() for heading in headings(path)]
    assert sorted({heading for heading in found if found.count(heading) > 1}) == []


def test_the_audit_that_a_document_shows_is_what_the_command_prints(capsys, tmp_path, monkeypatch):
    """But for how many images are the same to the byte, which depends on the machine."""
    monkeypatch.chdir(tmp_path)  # where the checkpoint has not been fetched
    text = (ROOT / "docs" / "sharing.md").read_text()
    command, shown = re.search(r"```bash\npython -m dode (audit .*)\n```\n\n```\n(.*?)```", text, flags=re.S).groups()
    (seed,) = re.findall(r"--seed (\d+)", shown)
    name, archive, cell = command.split()
    assert main([name, str(ROOT / archive), cell, "--seed", seed]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("The others differ")]
    assert [re.sub(r"\d+ the same", "n the same", line) for line in said] == [
        re.sub(r"\d+ the same", "n the same", line) for line in shown.splitlines()
    ]


@pytest.mark.parametrize("path", ["docs/adding-a-solver.md", "docs/adding-a-model.md"])
def test_the_documented_entries_are_valid_yaml(path):
    assert all(yaml.safe_load(block) for block in blocks(path, "yaml"))


SCHEMA = yaml.safe_load((ROOT / "config/schemas/config.schema.yaml").read_text())["properties"]
DATASET = SCHEMA["datasets"]["items"]["properties"]
NEIGHBOURS, SEARCH = SCHEMA["neighbours"]["properties"], grids.defaults("searched")
WIDTH = inspect.signature(tables.write_latex).parameters["width"].default
#: A document, the words around a number in it, and that number in the code.
STATED = [
    ("method.md", r"rho = ([\d.]+) by default", grids.defaults("karras")["rho"]),
    ("method.md", r"`candidates` of them \(default (\d+)\)", SEARCH["candidates"]),
    ("method.md", r"for `images` images \(default (\d+)\)", SEARCH["images"]),
    ("method.md", r"`coefficient` is gamma \(default ([\d.]+)\)", SEARCH["coefficient"]),
    ("method.md", r"a relative ridge of (\S+) is added", greedy.RIDGE),
    ("method.md", r"shorter than (\S+) of the output of its kind", greedy.ROUNDING),
    ("method.md", r"\(`substeps`, default (\d+)\)", fit_checks.DEFAULTS["greedy"]["substeps"]),
    ("method.md", r"on the EDM grid with (\d+) evaluations", DATASET["reference"]["default"]["nfe"]),
    ("scores.md", r"In addition ([\d,]+) features of each set", distances.KEPT_FEATURES),
    ("scores.md", r"an asymmetry of (\S+)\)", distances.TOLERANCE),
    ("scores.md", r"1904\.06991\), k = (\d+)\)", NEIGHBOURS["precision_recall"]["default"]),
    ("scores.md", r"2002\.09797\), k = (\d+)\)", NEIGHBOURS["density_coverage"]["default"]),
    ("scores.md", r"outside the (\d+) % confidence", 100 * verdicts.CONFIDENCE),
    ("scores.md", r"through the FIDs of (\d+) random subsets", extrapolation.SIZES),
    ("scores.md", r"only scores of equally many images; ([\d,]+) is", DATASET["images"]["default"]),
    ("figures.md", r"only with more than (\d+) solvers", report.CROWD),
    ("figures.md", r"With more than (\d+) solvers", report.CROWD),
    ("figures.md", r"A panel is ([\d.]+) inches wide", style.PANEL[0]),
    ("figures.md", r"a line of `article` \((\d+) pt\)", WIDTH),
    ("architecture.md", r"on (\d+) images of the fitting noise", precisions.IMAGES),
    ("architecture.md", r"where that does not decide, up to ([\d,]+)", precisions.MOST),
    ("architecture.md", r"2 standard errors <= ([\d.]+) s`", precision_rule.SHARE),
    ("method.md", r"what it costs to sample ([\d,]+) images", fit_checks.BUDGET),
]


@pytest.mark.parametrize(("path", "words", "value"), STATED, ids=[f"{path}: {words}" for path, words, _ in STATED])
def test_a_number_in_a_document_is_that_of_the_code(path, words, value):
    text = " ".join((ROOT / "docs" / path).read_text().split())
    (stated,) = re.findall(words, text)
    assert float(stated.replace(",", "")) == pytest.approx(value)


def test_the_documented_options_of_a_searched_grid_are_its_defaults():
    (entry,) = yaml.safe_load(blocks("docs/adding-a-solver.md", "yaml")[-1])["solvers"]
    assert entry["grid"]["name"] == "searched"
    assert {**grids.SHARED, **entry["grid"]["options"]} == SEARCH


def test_the_table_of_metrics_is_that_of_the_catalogue():
    rows = re.findall(r"^\| (`.*`) \| (.*) \| (lower|higher) \| .*\|$", (ROOT / "docs/scores.md").read_text(), re.M)
    stated = {name: row[1:] for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert stated == {
        name: (", ".join(filter(None, (metric.range, metric.unit))), metric.direction.split()[0])
        for name, metric in METRICS.items()
    }


def test_every_room_of_the_architecture_exists_and_every_module_has_a_room():
    text = (ROOT / "docs/architecture.md").read_text()
    table = "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
    for module in digests.PACKAGE.glob("*.py"):
        assert module.name == "__init__.py" or module.name in table, (
            f"{module.name} has no room in docs/architecture.md"
        )
    for room in re.findall(r"`([\w/.]+/)`", table):
        assert (ROOT / room).is_dir(), f"{room} of docs/architecture.md does not exist"


@pytest.fixture
def registered(monkeypatch):
    """Run the code of a document as its file would; what it registers is forgotten afterwards."""

    def run(registry, path, index):
        monkeypatch.setattr(registry, "_functions", dict(registry._functions))
        names = {"__name__": "documented"}
        exec(compile(blocks(path, "python")[index], path, "exec"), names)

    return run


def test_a_documented_grid_is_made_for_a_model_and_refined_for_a_teacher(registered):
    registered(base_of_grids.grids, "docs/adding-a-solver.md", 2)
    sigmas = grids.for_model(mixture.denoise, "uniform-sigma", 4, sigma_min=1.0, sigma_max=10.0)
    assert sigmas.tolist() == pytest.approx([10, 7, 4, 1, 0])
    fit = dode.distill(solvers.create("ddim"), mixture.denoise, mixture.latents(64, 1), sigmas, fit="greedy")
    assert fit.lambdas.shape == (4, 1)


@pytest.mark.parametrize("killed", [False, True], ids=["whole", "killed"])
def test_a_documented_fit_learns_and_goes_on_after_a_kill(registered, monkeypatch, tmp_path, killed):
    monkeypatch.setitem(learned.fits.modules, "weighted-steps", "documented")
    registered(learned.fits, "docs/adding-a-solver.md", -1)
    ddim, sigmas, latents = solvers.create("ddim"), grids.karras(steps=5), mixture.latents(64, 1)
    options = {"iterations": 60, "batch": 16}
    given = (ddim, mixture.denoise, latents, sigmas)
    fit = dode.distill(*given, fit="weighted-steps", options=options)
    assert learned.fits.get("weighted-steps").expense(64, 5, **options) == (fit.cost.evaluations, fit.cost.gradients)
    fresh, exact = mixture.latents(512, 7), mixture.exact(512, 7)
    errors = [
        mixture.rmse(dode.sample(ddim, mixture.denoise, fresh, sigmas, lambdas=own), exact) for own in (None, fit)
    ]
    assert errors[1] < 0.7 * errors[0]
    if killed:
        monkeypatch.setattr(task, "EVERY", 0.0)  # a record after every iteration
        own = task.Checkpoint(tmp_path / "kept")
        how = {"options": options, "ends": fine_solution.fine_ends(*given[1:])}
        seen = []

        def killing(x, sigma):
            seen.append(sigma)
            if len(seen) == 150:
                raise KeyboardInterrupt
            return mixture.denoise(x, sigma)

        with pytest.raises(KeyboardInterrupt):
            by_method.fit_by_method("weighted-steps", ddim, killing, *given[2:], checkpoint=own, **how)
        again = by_method.fit_by_method("weighted-steps", *given, checkpoint=task.Checkpoint(tmp_path / "kept"), **how)
        assert torch.equal(again.student.lambdas, fit.student.lambdas)
    with pytest.raises(ValueError, match="batch must be at most the 64 images, not 65"):
        dode.distill(*given, fit="weighted-steps", options={"batch": 65})
    with pytest.raises(ValueError, match="is of solver 'ddim', not of 'heun'"):
        dode.distill(solvers.create("heun"), *given[1:], fit="weighted-steps")


def test_a_documented_network_runs_with_its_card(registered, tmp_path):
    registered(networks, "docs/adding-a-model.md", 0)
    card = yaml.safe_load(blocks("docs/adding-a-model.md", "yaml")[0])
    card["network"] = {"name": "small-cnn", "options": {"image_shape": [1, 8, 8], "width": 64}}
    save_file(networks.create("small-cnn", **card["network"]["options"]).state_dict(), tmp_path / "small.safetensors")
    denoise = loading.load(card, tmp_path / "small.safetensors")
    sigmas = grids.for_model(denoise, "karras", 5)
    assert dode.sample(solvers.create("heun"), denoise, torch.randn(3, 1, 8, 8), sigmas).isfinite().all()


def test_a_documented_extractor_makes_features_of_bytes(registered, tmp_path):
    registered(extractors, "docs/adding-a-model.md", 3)
    (card,) = (yaml.safe_load(text) for text in blocks("docs/adding-a-model.md", "yaml") if "role: features" in text)
    save_file({"0.weight": torch.randn(16, 1, 3, 3), "0.bias": torch.zeros(16)}, tmp_path / "small.safetensors")
    extract = features.create(card, tmp_path / "small.safetensors")
    assert extract(np.full((3, 1, 8, 8), 128, dtype=np.uint8)).shape == (3, 256)
