"""Executors besides Snakemake's own and SLURM's: their jobs hold the lock of the jobs, as local ones do."""

import importlib.util
import json

import pytest

import background_executor
import watch
from test_interruptions import TABLE, end, remade, wait_for

CELL = "ddim/nfe2"
SUBMIT = """#!/bin/sh
setsid sh "$1" >"$1.out" 2>&1 </dev/null &
echo $!
"""


def background(folder):
    """The plugin of these tests."""
    background_executor.install(folder)
    return ["--executor", "background"]


def cluster_generic(folder):
    """Snakemake's plugin for any scheduler that has a command to submit a script."""
    if importlib.util.find_spec("snakemake_executor_plugin_cluster_generic") is None:
        pytest.skip("snakemake-executor-plugin-cluster-generic is not installed")
    submit = folder / "submit.sh"
    submit.write_text(SUBMIT)
    submit.chmod(0o755)
    return ["--executor", "cluster-generic", "--cluster-generic-submit-cmd", str(submit)]


@pytest.mark.parametrize("executor", [background, cluster_generic])
def test_a_killed_run_of_another_executor_is_waited_for_and_ends_in_the_same_table(executor, workspace):
    """Its job is held as it writes; the next run says that it waits, and makes nothing until that job has ended."""
    table, arrays = (workspace.folder / TABLE).read_bytes(), workspace.contents("results/**/*.npy")
    remade(workspace, CELL)
    watch.install(workspace.folder)
    command = [TABLE, *executor(workspace.folder), "--jobs", "2", "--seconds-between-status-checks", "1"]
    fault = workspace.folder / watch.FAULT
    fault.write_text(json.dumps({"script": f"sample/digits-edm/{CELL}", "open": ".ends.npy", "do": "hold"}))
    try:
        first = workspace.start(*command)
        wait_for(workspace, watch.HELD, first)
        first.kill()
        end(first)
        second = workspace.start(*command)
        said = next((line for line in second.stderr if "a job that a killed run has left behind" in line), None)
        assert said, "the second run has not waited"
        ran = watch.journal(workspace.folder)
    finally:
        fault.unlink()
    _, errors = second.communicate()
    assert second.returncode == 0, errors[-5000:]
    assert [script["ended"] for script in ran] == [None]
    (left, again) = [script for script in watch.journal(workspace.folder) if script["log"] == ran[0]["log"]]
    assert left["ended"] <= again["began"]
    assert (workspace.folder / TABLE).read_bytes() == table
    assert workspace.contents("results/**/*.npy") == arrays
