"""The workflow on a real SLURM by the executor plugin."""

import csv
import json

import pytest

from workspace import Workspace

# What profiles/slurm sets, and what this small cluster needs.
SLURM = ["--executor=slurm", "--jobs=20", "--retries=1", "--slurm-init-seconds-before-status-checks=3"]
SLURM += [
    "--slurm-status-command=squeue",
    "--slurm-jobname-prefix=dode",
    "--default-resources",
    "mem_mb=1000",
    "runtime=10",
]


@pytest.fixture(scope="session")
def local(tmp_path_factory):
    """The tiny benchmark, run without SLURM."""
    workspace = Workspace.fresh(tmp_path_factory.mktemp("local") / "repository")
    workspace.snakemake()
    return workspace


def scores(workspace):
    """Content of every score.json by its path below results."""
    paths = sorted(workspace.results.rglob("score.json"))
    return {str(path.relative_to(workspace.results)): json.loads(path.read_text()) for path in paths}


def test_run_on_slurm_ends_in_the_scores_and_the_table_of_a_local_run(cluster, local, tmp_path):
    workspace = Workspace.fresh(tmp_path / "repository", environment=cluster.environment)
    workspace.snakemake(*SLURM)
    with (workspace.results / "table.csv").open() as ours, (local.results / "table.csv").open() as theirs:
        assert list(csv.reader(ours)) == list(csv.reader(theirs))
    assert scores(workspace) == scores(local)
    assert len(scores(local)) == 4
    jobs = cluster.jobs()
    assert {job["state"] for job in jobs} == {"COMPLETED"}
    assert {job["workdir"] for job in jobs} == {str(workspace.folder)}
    assert all(job["name"].startswith("dode_") for job in jobs)
