"""Fixtures of the workflow tests: copies of the repository, before a run and after one."""

import contextlib
import fcntl
import os
import shutil

import pytest

from workspace import Workspace


@contextlib.contextmanager
def _alone(path):
    """One process at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The tiny benchmark, run once for all workers of pytest-xdist; leave it as it is."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = base / "finished", base / "finished.done"
    with _alone(base / "finished.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            Workspace.fresh(folder).snakemake()
            done.touch()
    return Workspace(folder)


@pytest.fixture
def folder(tmp_path):
    """A folder for a workspace that is removed after the test."""
    yield tmp_path / "repository"
    shutil.rmtree(tmp_path / "repository", ignore_errors=True)


@pytest.fixture
def fresh(folder):
    """A copy of the repository with the tiny configuration; nothing has run."""
    return Workspace.fresh(folder)


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
