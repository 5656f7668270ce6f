"""Fixtures of the workflow tests: copies of the repository, before a run and after one."""

import contextlib
import fcntl
import os
import shutil

import pytest

import forked_python
from workspace import Workspace


@contextlib.contextmanager
def _alone(path):
    """One process at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """``once(name, make)``: a workspace that ``make(folder)`` finishes, once for all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def made(name, make):
        folder, done = base / name, base / f"{name}.done"
        with _alone(base / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                make(folder)
                done.touch()
        return Workspace(folder, python=forked_python.executable())

    return made


@pytest.fixture(scope="session")
def finished(once):
    """The tiny benchmark, run by Python itself; leave it as it is."""
    return once("finished", lambda folder: Workspace.fresh(folder).snakemake())


@pytest.fixture
def folder(tmp_path):
    """A folder for a workspace that is removed after the test."""
    yield tmp_path / "repository"
    shutil.rmtree(tmp_path / "repository", ignore_errors=True)


@pytest.fixture
def fresh(folder):
    """A copy of the repository with the tiny configuration; nothing has run."""
    return Workspace.fresh(folder, python=forked_python.executable())


@pytest.fixture
def shipped(folder):
    """A copy of the repository with its own configurations; nothing has run."""
    return Workspace.fresh(folder, config=None, python=forked_python.executable())


@pytest.fixture
def workspace(finished, folder):
    """The finished tiny benchmark, to do anything with."""
    return finished.copy(folder)


@pytest.fixture
def plan_after(workspace):
    """What a run would make after these changes of the configuration: ``plan_after({"seed": 1})``."""

    def plan(changes):
        workspace.config(changes)
        return workspace.plan()

    return plan
