"""Fixtures of the workflow tests: copies of the repository, before a run and after one."""

import re
import shutil

import pytest

import forked_python
import shared
from workspace import Workspace


@pytest.fixture(scope="session")
def once():
    """``once(name, make)``: a workspace that ``make(folder)`` finishes, once for all workers of pytest-xdist."""

    def made(name, make, script="script"):
        return Workspace(shared.once(shared.folder() / name, make), python=forked_python.executable(script))

    return made


@pytest.fixture(scope="session")
def finished(once):
    """The tiny benchmark; leave it as it is. Its report is made by Python itself, which runs nothing else again."""

    def make(folder):
        Workspace.fresh(folder, python=forked_python.executable()).snakemake("--omit-from", "workflow_report")
        assert len(re.findall("^Job .*: ", Workspace(folder).snakemake(), flags=re.M)) == 1

    return once("finished", make)


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
