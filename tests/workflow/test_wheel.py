"""The package as it is installed from a wheel, without the repository: in a virtual environment of its own."""

import os
import shutil
import site
import subprocess
import sys
import venv

import pytest

import forked_python
from workspace import PARTS, REPOSITORY, TINY, Workspace

SCORE = "results/tiny/digits-edm/d-ddim/nfe2/score.json"


class Installed:
    """A folder in which there is nothing, and the Python of an environment with the wheel."""

    def __init__(self, python, folder):
        self.python, self.folder = python, folder
        folder.mkdir()

    def run(self, *arguments, status=0):
        """What a command prints."""
        environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
        done = subprocess.run(
            [self.python, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    def snakemake(self, command, *arguments, status=0):
        """What ``python -m dode run`` or ``demo`` prints."""
        return self.run("-m", "dode", command, *arguments, status=status)


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Python of an environment with the wheel of this repository and, behind it, the packages that run these tests."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for part in [*PARTS, "pyproject.toml", "setup.py", "README.md", "LICENSE"]:
        there = REPOSITORY / part
        if there.is_dir() and not there.is_symlink():
            shutil.copytree(there, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(there, source / part, follow_symlinks=False)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    alone = ["--no-deps", "--no-index"]
    subprocess.run([*pip, "wheel", source, *alone, "--no-build-isolation", "-w", folder], check=True)
    shutil.rmtree(source)
    venv.create(folder / "venv", with_pip=False)
    made = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "--python", made, "install", *alone, wheel], check=True)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    # Added to the path alone, so that what is installed there for development is not found.
    (packages / "others.pth").write_text("".join(f"import sys; sys.path.append({path!r})\n" for path in _packages()))
    return made


def _packages():
    return [path for path in [*site.getsitepackages(), *sys.path] if path.endswith("-packages")]


@pytest.fixture
def installed(python, tmp_path):
    return Installed(python, tmp_path / "empty")


def test_from_an_empty_folder_the_demo_is_planned_and_what_is_made_is_what_a_checkout_makes(installed, tmp_path):
    """In one folder, where what a run has read of the code is kept for the next one."""
    plan = installed.snakemake("demo", "--dry-run")
    assert "workflow specific profile" in plan
    assert "total                     159" in plan
    assert "results/digits/index.html" in plan
    assert "real_images" in installed.snakemake("run", "--dry-run")  # without a configuration it is the same
    assert "encode" in installed.snakemake("run", "text-to-digit", "--dry-run")  # whose prompts are in the package
    shutil.copy(TINY, installed.folder / "mine.yaml")
    installed.snakemake("run", "mine.yaml", "--cores", "1", "--", SCORE)
    assert (installed.folder / SCORE).is_file()
    assert "Nothing to be done" in installed.snakemake("run", "mine.yaml", "--dry-run", "--", SCORE)
    checkout = Workspace.fresh(tmp_path / "checkout", python=forked_python.executable())
    for folder in ("results", "resources"):
        shutil.copytree(installed.folder / folder, checkout.folder / folder, symlinks=True)
    assert checkout.plan("--", SCORE) == set()


def test_cards_of_the_working_directory_are_found(installed):
    models = installed.folder / "config" / "models"
    models.mkdir(parents=True)
    shutil.copy(REPOSITORY / "config" / "models" / "digits-edm.yaml", models / "mine.yaml")
    shutil.copy(REPOSITORY / "config" / "models" / "digits-edm.safetensors", models)
    assert "Right: the card agrees" in installed.run("-m", "dode", "check-model", "mine", "--images", "16")
    assert "known: " in installed.run("-m", "dode", "check-model", "min", status=1)
    (models / "mine.yaml").rename(models / "digits-edm.yaml")
    said = installed.run("-m", "dode", "check-model", "digits-edm", status=1)
    assert "dode has a card of this name; give yours another one" in said


def test_what_needs_the_repository_says_so(installed):
    said = installed.run("-m", "dode", "new-solver", "mine", status=1)
    assert "without its repository" in said
    said = installed.snakemake("demo", "--dry-run", "--sdm", "conda", status=1)
    assert "run snakemake in a copy of the repository" in said
    said = installed.snakemake("run", "mnits", status=1)
    assert "there is no file 'mnits' (did you mean 'mnist'?)" in said
