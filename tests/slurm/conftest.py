"""Fixtures of the tests on a real SLURM; ``pytest tests/slurm -m cluster`` runs them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cluster import DAEMON_PATH, Cluster
from workspace import Workspace

PROGRAMS = ["munged", "slurmctld", "slurmd", "sbatch"]
PACKAGES = ["slurm-wlm", "munge"]
ACCOUNTING_PROGRAMS = ["slurmdbd", "mariadbd"]
ACCOUNTING_PACKAGES = ["slurmdbd", "mariadb-server"]
POLICY = Path("/usr/sbin/policy-rc.d")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("cluster")


def _missing(programs):
    return [program for program in programs if shutil.which(program, path=DAEMON_PATH) is None]


def _install(packages):
    """Debian's packages, without the services that they would start."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    own = not POLICY.exists()
    if own:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True)
            if done.returncode != 0:
                return f"apt-get {command[0]}: {done.stderr.strip()[-500:]}"
    finally:
        if own:
            POLICY.unlink()
    return None


def _provide(programs, packages):
    missing = _missing(programs)
    if not missing:
        return
    if os.geteuid() != 0:
        pytest.skip(f"{', '.join(missing)} not installed, and only root can install {' '.join(packages)}")
    if shutil.which("apt-get") is None:
        pytest.skip(f"{', '.join(missing)} not installed, and there is no apt-get")
    failure = _install(packages)
    if failure or _missing(programs):
        pytest.skip(f"{' '.join(packages)} cannot be installed: {failure}")


@pytest.fixture(scope="session")
def slurm():
    """SLURM's programs are installed."""
    _provide(PROGRAMS, PACKAGES)


@pytest.fixture(scope="session")
def slurm_accounting():
    """SLURM's programs are installed, those of the accounting too."""
    _provide([*PROGRAMS, *ACCOUNTING_PROGRAMS], [*PACKAGES, *ACCOUNTING_PACKAGES])


@pytest.fixture(scope="module")
def cluster(slurm):
    """A cluster without accounting, for all tests of a file; leave its daemons running and its nodes idle."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def accounting_cluster(slurm_accounting):
    """A cluster with accounting, for all tests of a file; leave its daemons running and its nodes idle."""
    with Cluster(accounting=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def local(tmp_path_factory):
    """The tiny benchmark, run without SLURM; leave it as it is."""
    workspace = Workspace.fresh(tmp_path_factory.mktemp("local") / "repository")
    workspace.snakemake()
    return workspace
