"""Killed runs, and two runs at once."""

import os
import signal
import sys
import time

TABLE = "results/tiny/table.csv"


def wait_for(workspace, pattern, process):
    """Until a further file matches ``pattern``, or the run has ended without one."""
    before = set(workspace.folder.glob(pattern))
    while not set(workspace.folder.glob(pattern)) - before:
        assert process.poll() is None, process.communicate()[1][-5000:]
        time.sleep(0.02)


def end(process):
    """Close the pipes of a killed run. (Its jobs may hold them open, so that they are not read to the end.)"""
    process.wait()
    process.stdout.close()
    process.stderr.close()


def remade(workspace, *cells):
    """Take the samples and scores of cells away, and the collections, table and page that would make up for them."""
    collected = workspace.results.glob("*/collected/*.json")
    for path in (workspace.folder / TABLE, workspace.results / "report.html", *collected):
        path.unlink()
    for cell in cells:
        for name in ("samples.npy", "ends.npy", "score.json"):
            (workspace.cell(cell) / name).unlink()


def test_run_killed_again_and_again_ends_in_the_same_table(fresh, request):
    """Every process of the run dies at once, amid sampling and after a score; plain snakemake goes on.

    The second moment is one that the first cannot have seen yet, in whatever order the jobs are run.
    """
    for moment in ("logs/sample/**/*.log", "digits-edm/*/*/score.json"):
        process = fresh.start()
        wait_for(fresh, f"results/tiny/{moment}", process)
        os.killpg(process.pid, signal.SIGKILL)
        end(process)
        assert not (fresh.folder / TABLE).exists()
    fresh.snakemake()
    finished = request.getfixturevalue("finished")
    assert (fresh.folder / TABLE).read_bytes() == (finished.folder / TABLE).read_bytes()
    assert set(fresh.contents("results/**/*.npy")) == set(finished.contents("results/**/*.npy"))
    assert (fresh.results / "report.html").is_file()
    assert fresh.plan() == set()


def test_run_goes_on_after_its_main_process_alone_is_killed(workspace):
    """Its job lives on for a while, beside the new run's for the same cell."""
    table, arrays = (workspace.folder / TABLE).read_bytes(), workspace.contents("results/**/*.npy")
    remade(workspace, "ddim/nfe2")
    forking, workspace.python = workspace.python, sys.executable  # forked jobs are killed with their run
    process = workspace.start(TABLE)
    wait_for(workspace, "results/tiny/digits-edm/*/*/shards", process)
    os.kill(process.pid, signal.SIGKILL)
    end(process)
    workspace.python = forking
    workspace.snakemake(TABLE)
    assert (workspace.folder / TABLE).read_bytes() == table
    assert workspace.contents("results/**/*.npy") == arrays


def test_second_run_is_refused_by_one_message_that_names_the_first(workspace):
    remade(workspace, "ddim/nfe2", "heun/nfe3")
    lock = workspace.folder / ".snakemake/dode.lock"
    before, process = lock.read_text(), workspace.start()
    while lock.read_text() in (before, ""):
        assert process.poll() is None, process.communicate()[1][-5000:]
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGSTOP)  # or it may end before the second has planned
    status, output, errors = workspace.attempt()
    owner = lock.read_text()
    os.killpg(process.pid, signal.SIGKILL)
    end(process)
    assert status != 0
    assert (output + errors).count("another run") == 1
    assert owner.split(" on ")[0] != before.split(" on ")[0]
    assert f"process {owner.split(' on ')[0]} on " in errors
    assert "Traceback" not in errors
    assert "Sampling" not in errors


def test_a_plan_outlives_files_that_another_run_takes_away(workspace):
    """A run's shards go as soon as they are gathered: here each is still seen when a second run looks what is there."""
    remade(workspace, "ddim/nfe2")
    (workspace.folder / "sitecustomize.py").write_text(
        "import os\nexists = os.path.exists\nos.path.exists = lambda path: '/shards/' in str(path) or exists(path)\n"
    )
    status, output, errors = workspace.attempt("--dry-run")
    assert status == 0, errors[-5000:]
    assert "Scoring" in output + errors
