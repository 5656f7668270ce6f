"""``python -m dode new-solver NAME``: the solver that it writes passes the tests of every solver."""

import argparse
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

import forked_python
from dode.__main__ import main
from dode.commands import new_solver
from dode.fetching import places
from workspace import REPOSITORY, Workspace


@pytest.fixture
def solvers_folder(tmp_path, monkeypatch):
    """A folder in the place of the package's, with the files of its solvers by name alone."""
    (tmp_path / "solvers").mkdir()
    for path in (REPOSITORY / "dode" / "solvers").glob("*.py"):
        (tmp_path / "solvers" / path.name).touch()
    monkeypatch.setattr(places, "PACKAGE", tmp_path)
    monkeypatch.setattr(places, "workflow", lambda: REPOSITORY)
    return tmp_path / "solvers"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ddim", "there is a solver 'ddim' already"),
        ("dpm-solver", "there is a solver 'dpm-solver' already"),
        ("base", "there is a file base.py"),
        ("formulas", "there is a file formulas.py"),
        ("dpm-solver-pp", "there is a file dpm_solver_pp.py"),
        ("My-Solver", "is not allowed; allowed: up to 40 small letters"),
        ("my_solver", "is not allowed"),
        ("../mine", "is not allowed"),
        ("", "is not allowed"),
        ("2nd", "is not allowed"),
        ("a--b", "is not allowed"),
        ("mine-", "is not allowed"),
        ("mine\n", "is not allowed"),
        ("é", "is not allowed"),
        ("a" * 41, "is not allowed"),
        ("class", "'class' means something else"),
        ("pairwise", "'pairwise' means something else"),
    ],
)
def test_a_name_that_cannot_be_is_refused_in_one_sentence(capsys, solvers_folder, name, says):
    before = sorted(solvers_folder.iterdir())
    assert main(["new-solver", name]) == 1
    captured = capsys.readouterr().err
    assert says in captured
    assert captured.count("\n") == 1
    assert sorted(solvers_folder.iterdir()) == before


def test_a_checkout_elsewhere_is_left_alone(capsys, solvers_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["new-solver", "mine"]) == 1
    assert f"imported from {REPOSITORY}; run this command there" in capsys.readouterr().err
    assert not (solvers_folder / "mine.py").exists()


def test_an_installed_package_says_that_it_needs_the_repository(monkeypatch):
    monkeypatch.setattr(places, "workflow", lambda: places.INSTALLED)
    # Not by main, which imports all commands: they would keep this folder for the tests that follow.
    with pytest.raises(ValueError, match="without its repository"):
        new_solver.run(argparse.Namespace(name="mine"))


def test_what_is_written_passes_the_tests_of_solvers_and_the_printed_entry_is_one(tmp_path):
    workspace = Workspace.fresh(tmp_path / "copy")
    environment = {**os.environ, "PYTHONPATH": str(workspace.folder)}
    how = {"cwd": workspace.folder, "env": environment, "capture_output": True, "text": True, "check": False}
    made = subprocess.run([sys.executable, "-m", "dode", "new-solver", "my-own"], **how)
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("dode/solvers/my_own.py is a working solver")
    for folder in ("unit", "support"):
        shutil.copytree(REPOSITORY / "tests" / folder, workspace.folder / "tests" / folder)
    for name in ("pyproject.toml", "conftest.py"):
        shutil.copy(REPOSITORY / name, workspace.folder)
    (command,) = re.findall(r"python -m (pytest .*)", made.stdout)
    python = forked_python.executable()
    tested = subprocess.run([python, "-m", *command.split(), "-q", "-p", "no:cacheprovider"], **how)
    assert tested.returncode == 0, tested.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", tested.stdout)[1]) > 20
    again = subprocess.run([sys.executable, "-m", "dode", "new-solver", "my-own"], **how)
    assert "there is a solver 'my-own' already" in again.stderr
    entries = yaml.safe_load("\n".join(re.findall(r"^  - .*", made.stdout, flags=re.MULTILINE)))
    config = yaml.safe_load((REPOSITORY / "config" / "config.yaml").read_text(encoding="utf-8"))
    config["solvers"] += entries
    script = "import sys, yaml; from dode.benchmark.cells import Benchmark; Benchmark(yaml.safe_load(sys.stdin), '.')"
    checked = subprocess.run([sys.executable, "-c", script], input=yaml.safe_dump(config), **how)
    assert checked.returncode == 0, checked.stderr


def test_the_file_is_as_this_project_writes_them(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(new_solver.TEMPLATE.format(name="mine", function="mine", label="Mine"), encoding="utf-8")
    ruff = shutil.which("ruff", path=os.path.dirname(sys.executable))
    if ruff is None:
        pytest.skip("ruff is not installed")
    for words in (["check"], ["format", "--check"]):
        done = subprocess.run([ruff, *words, "--config", REPOSITORY / "pyproject.toml", path], capture_output=True)
        assert done.returncode == 0, done.stdout
