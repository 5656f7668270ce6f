"""The commands of the README and of the checks."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from workspace import REPOSITORY, TINY


def test_lint_has_no_complaint(fresh):
    assert "Congratulations" in fresh.snakemake("--lint")


def test_snakefmt_has_no_complaint():
    command = shutil.which("snakefmt", path=f"{Path(sys.executable).parent}")
    if command is None:
        pytest.skip("snakefmt is not installed")
    files = ["Snakefile", *sorted(str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("rules/**/*.smk"))]
    subprocess.run([command, "--check", *files], cwd=REPOSITORY, check=True)


def test_dry_run_of_the_default_configuration(shipped):
    text = shipped.snakemake("--dry-run", "--quiet", "rules")
    cells = 0
    config = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
    datasets = [dataset["id"] for dataset in config["datasets"]]
    for entry in config["solvers"]:
        cells += len(entry["nfe"]) * len(entry.get("datasets", datasets))
    jobs = dict(line.split() for line in text.splitlines() if len(line.split()) == 2 and line.split()[1].isdigit())
    assert int(jobs["score"]) == int(jobs["gather"]) == cells + len(datasets)


def test_dry_run_of_the_papers_configuration(shipped):
    """With one NFE of each solver, as all are alike: every kind of job is in it, and as many cells as there are."""
    config = yaml.safe_load((REPOSITORY / "config/paper.yaml").read_text())
    for entry in config["solvers"]:
        del entry["nfe"][1:]
    (shipped.folder / "config/paper.yaml").write_text(yaml.safe_dump(config))
    text = shipped.snakemake("--dry-run", "--quiet", "rules", "--configfile", "config/paper.yaml")
    cells = len(config["datasets"]) + sum(len(entry["nfe"]) * len(entry["datasets"]) for entry in config["solvers"])
    fits = sum(len(entry["nfe"]) * len(entry["datasets"]) for entry in config["solvers"] if "distill" in entry)
    jobs = dict(line.split() for line in text.splitlines() if len(line.split()) == 2 and line.split()[1].isdigit())
    assert {name: int(jobs[name]) for name in ("score", "teacher", "distill")} == {
        "score": cells,
        "teacher": fits,
        "distill": fits,
    }
    models = {path.stem for path in (REPOSITORY / "config/models").glob("*.yaml")}
    used = {dataset["model"] for dataset in config["datasets"]}
    assert used <= models
    assert int(jobs["convert_checkpoint"]) == len(used) + 2  # the classifier and pytorch-fid's network
    assert int(jobs["published_statistics"]) == len(config["datasets"])


def test_configfile_replaces_the_default_configuration(shipped):
    """Were it laid over it, the default's second dataset and further solvers would be there."""
    config = yaml.safe_load(TINY.read_text())
    del config["kid"], config["execution"]
    (shipped.folder / "other.yaml").write_text(yaml.safe_dump(config))
    plan = shipped.plan("--configfile", "other.yaml")
    cells = {"ddim/nfe2", "d-ddim/nfe2", "heun/nfe3", "reference/nfe5"}
    assert {name for name in plan if name.startswith("score ")} == {f"score {cell}" for cell in cells}
    (shipped.folder / "none.yaml").write_text("benchmark: none\n")
    status, output, errors = shipped.attempt("--dry-run", "--configfile", "none.yaml")
    assert status != 0
    assert "the key 'datasets' is missing" in output + errors


def test_checking_the_configuration_imports_no_torch():
    code = (
        "import sys, yaml\n"
        "from dode.benchmark.cells import Benchmark\n"
        "from dode.benchmark.dependencies import Dependencies\n"
        f"bench = Benchmark(yaml.safe_load(open({str(TINY)!r})), {str(REPOSITORY)!r})\n"
        "[Dependencies(bench).cell_code('sample.py', cell) for cell in bench.cells.values()]\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_parsing_the_snakefile_imports_no_torch(fresh):
    """A torch that cannot be imported goes unnoticed."""
    (fresh.folder / "torch.py").write_text("raise RuntimeError('torch is imported as the Snakefile is parsed')\n")
    fresh.plan()
