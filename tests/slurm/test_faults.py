"""What goes wrong on a cluster, one thing at a time: each run ends in the table of an undisturbed one."""

import contextlib
import os
import shutil
import signal
import subprocess
import time

import psutil
import pytest

import watch
from held import CELL, SAMPLE, TABLE, HeldRun
from site_files import COMMAND, GROUPED, ONE_JOB_A_RULE, adapt

pytestmark = pytest.mark.fault


@pytest.fixture
def unfinished(local, tmp_path):
    """``unfinished(cluster, **execution)``: the benchmark with one cell missing, to be run on ``cluster``."""

    def made(cluster, **execution):
        workspace = adapt(local.copy(tmp_path / "repository"), cluster, **{**ONE_JOB_A_RULE, **execution})
        for path in (workspace.folder / TABLE, *workspace.results.glob("*/collected/*.json")):
            path.unlink()
        for name in ("samples.npy", "ends.npy", "score.json"):
            (workspace.cell(CELL) / name).unlink()
        return workspace

    yield made
    shutil.rmtree(tmp_path / "repository", ignore_errors=True)


@pytest.fixture
def cost(request, capsys):
    """``cost(run)`` prints what the run took."""

    def printed(run, what=""):
        with capsys.disabled():
            print(f"\n{request.node.name} {what}: {run.seconds:.0f} s, {len(run.jobs())} jobs")

    return printed


def test_undisturbed(cluster, unfinished, local, cost):
    """What the costs of the others are to be compared with."""
    with HeldRun(unfinished(cluster), cluster) as run:
        run.held()
        run.release()
        assert run.end() == 0, run.said[-5000:]
    run.check(local)
    cost(run)


@pytest.mark.parametrize("kind", [pytest.param("cluster", marks=pytest.mark.common), "accounting_cluster"])
def test_job_that_is_cancelled_is_run_again(kind, request, unfinished, local, cost):
    """The accounting says by whom: CANCELLED by 0."""
    cluster = request.getfixturevalue(kind)
    with HeldRun(unfinished(cluster), cluster) as run:
        job = run.held()
        cluster.cancel(job)
        assert run.ended(job) == "CANCELLED"
        run.release()
        assert run.end() == 0, run.said[-5000:]
    assert "CANCELLED" in run.said
    run.check(local)
    cost(run)


def asked(cluster, job, name):
    """What a job was given, by its name in ``scontrol show job``."""
    shown = cluster.command("scontrol", "show", "job", "--oneliner", job["id"])
    return dict(word.split("=", 1) for word in shown.split() if "=" in word)[name]


def attempts(run, cluster, name):
    """What each attempt of the rule's job was given."""
    sampling = [job for job in run.jobs() if job["comment"].startswith("rule_sample")]
    return [asked(cluster, job, name) for job in sorted(sampling, key=lambda job: int(job["id"]))]


def test_job_over_its_walltime_is_given_more(cluster, unfinished, local, cost):
    with HeldRun(unfinished(cluster, runtime=1), cluster) as run:
        assert run.ended(run.held()) == "TIMEOUT"
        run.release()
        assert run.end() == 0, run.said[-5000:]
    assert attempts(run, cluster, "TimeLimit") == ["00:01:00", "00:02:00"]
    run.check(local)
    cost(run)


def test_job_over_its_memory_is_given_more(cluster, unfinished, local, cost):
    with HeldRun(unfinished(cluster), cluster, do="take_memory", bytes=1_500_000_000) as run:
        assert run.end() == 0, run.said[-5000:]
    assert [state for state in attempts(run, cluster, "JobState") if state != "COMPLETED"]
    assert [entry.split("mem=")[1].split(",")[0] for entry in attempts(run, cluster, "TRES")] == ["700M", "1050M"]
    run.check(local)
    cost(run)


def test_job_whose_node_is_lost_is_run_again(cluster, unfinished, local, cost):
    with HeldRun(unfinished(cluster), cluster) as run:
        job = run.held()
        node = cluster.job(job)["node"]
        cluster.kill(f"slurmd-{node}")
        kill_steps(cluster, job)
        try:
            assert run.ended(job) in {"PENDING", "NODE_FAIL"}
            run.release()
            assert run.end() == 0, run.said[-5000:]
        finally:
            cluster.start(f"slurmd-{node}")
            cluster.wait_until(lambda: cluster.nodes()[node] == "idle")
    run.check(local)
    cost(run)


def kill_steps(cluster, job):
    """All processes of a job at once, and the daemon above them before it can report their end."""
    found = set()
    for process in cluster.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.environ().get("SLURM_JOB_ID") == job:
                found |= {process, *(above for above in process.parents() if above.name() == "slurmstepd")}
    for process in found:
        process.suspend()
    for process in found:
        process.kill()


@pytest.mark.parametrize(
    ("kind", "mode", "state"),
    [
        ("cluster", "CANCEL", "PREEMPTED"),
        ("accounting_cluster", "CANCEL", "PREEMPTED"),
        ("accounting_cluster", "REQUEUE", "PENDING"),
    ],
)
def test_job_that_is_preempted_is_run_again(kind, mode, state, request, unfinished, local, cost):
    """SLURM cancels it, and it is submitted again; or SLURM puts it back into the queue."""
    cluster = request.getfixturevalue(kind)
    cluster.command("scontrol", "update", "PartitionName=gpu", f"PreemptMode={mode}")
    with HeldRun(unfinished(cluster), cluster) as run:
        job = run.held()
        urgent = ["--partition=urgent", f"--nodelist={cluster.job(job)['node']}", "--exclusive"]
        done = run.folder / "urgent-is-done"
        cluster.submit(f"while [ ! -e {done} ]; do sleep 0.2; done", *urgent, "--chdir=/", "--output=/dev/null")
        assert run.ended(job) == state
        done.touch()
        run.release()
        assert run.end() == 0, run.said[-5000:]
    assert len(attempts(run, cluster, "JobId")) == (2 if mode == "CANCEL" else 1)
    assert run.said.count(f"does not restart job {job} again") == (mode == "CANCEL")
    run.check(local)
    cost(run)


def test_drained_node_gets_no_further_job(cluster, unfinished, local, cost):
    with HeldRun(unfinished(cluster), cluster) as run:
        job = run.held()
        node = cluster.job(job)["node"]
        cluster.drain(node)
        run.release()
        try:
            assert run.end() == 0, run.said[-5000:]
        finally:
            cluster.resume(node)
    assert node not in {other["node"] for other in run.jobs() if int(other["id"]) > int(job)}
    run.check(local)
    cost(run)


def go_on_without_a_controller(run, cluster, *, says):
    """The held job goes on while the controller is down, until the run says so; it outlives that, to a good end."""
    run.held()
    cluster.stop("slurmctld")
    run.release()
    run.until_said(says)
    cluster.start("slurmctld")
    assert run.end() == 0, run.said[-5000:]


@pytest.mark.common
def test_run_waits_for_a_controller_that_is_down(cluster, unfinished, local, cost):
    with HeldRun(unfinished(cluster), cluster) as run:
        go_on_without_a_controller(run, cluster, says="SLURM has not reported on its jobs for")
    run.check(local)
    assert len(run.jobs()) == 3
    cost(run)


def held_before_a_submission(workspace, cluster):
    """A run that submits its first job only when the checkpoint is there, which is fetched on this machine."""
    next((workspace.folder / "resources" / "checkpoints" / "digits-edm").glob("*.safetensors")).unlink()
    return HeldRun(workspace, cluster, script="fetch_checkpoint/digits-edm", open="digits-edm.safetensors")


def test_submission_waits_for_a_controller_that_is_down(cluster, unfinished, local, cost):
    with held_before_a_submission(unfinished(cluster), cluster) as run:
        go_on_without_a_controller(run, cluster, says="controller has not answered for")
    run.check(local)
    assert {job["state"] for job in run.jobs()} == {"COMPLETED"}
    cost(run)


@pytest.mark.parametrize("when", ["at the start", "at a submission"])
def test_run_that_waits_for_a_controller_can_be_ended(when, cluster, unfinished, local, cost):
    workspace = unfinished(cluster)
    if when == "at the start":
        run = HeldRun(workspace, cluster)
        cluster.stop("slurmctld")
        end = signal.SIGTERM
    else:
        run, end = held_before_a_submission(workspace, cluster), signal.SIGINT
    try:
        with run:
            if when != "at the start":
                run.held()
                cluster.stop("slurmctld")
                run.release()
            run.until_said("controller has not answered for")
            run.process.send_signal(end)
            assert run.end() != 0
    finally:
        cluster.start("slurmctld")
    assert not run.jobs()
    workspace.snakemake(TABLE, *COMMAND)
    run.check(local)


def test_status_is_known_without_the_accounting_daemon(accounting_cluster, unfinished, local, cost):
    cluster = accounting_cluster
    with HeldRun(unfinished(cluster), cluster) as run:
        run.held()
        cluster.stop("slurmdbd")
        run.release()
        try:
            assert run.end() == 0, run.said[-5000:]
        finally:
            cluster.start("slurmdbd")
    run.check(local)
    cost(run)


def test_interrupt_cancels_the_jobs(cluster, unfinished, local, cost):
    with HeldRun(unfinished(cluster), cluster) as run:
        job = run.held()
        run.process.send_signal(signal.SIGINT)
        assert run.end() != 0
        assert run.ended(job) == "CANCELLED"
        assert "Traceback" not in run.said
        run.release()
        run.start()
        assert run.end() == 0, run.said[-5000:]
    run.check(local)
    cost(run)


def test_sigterm_waits_for_the_jobs(cluster, unfinished, local, cost):
    with HeldRun(unfinished(cluster), cluster) as run:
        job = run.held()
        run.process.terminate()
        run.until_said("Will exit after finishing currently running jobs")
        run.release()
        assert run.end() != 0
        assert run.state(job) == "COMPLETED"
        assert len(run.jobs()) == 1
        run.start()
        assert run.end() == 0, run.said[-5000:]
    assert len(attempts(run, cluster, "JobState")) == 1
    run.check(local)
    cost(run)


@pytest.mark.common
def test_killed_run_is_started_again_and_cancels_what_it_left(cluster, unfinished, local, cost):
    with HeldRun(unfinished(cluster), cluster) as run:
        job = run.held()
        run.process.kill()
        run.process.communicate()
        assert run.state(job) == "RUNNING"
        run.start()
        assert run.ended(job) == "CANCELLED"
        run.release()
        assert run.end() == 0, run.said[-5000:]
    assert f"Cancelling 1 jobs that a killed run has left behind: {job}" in run.said
    run.check(local)
    cost(run)


def test_job_that_ends_after_its_run_was_killed_is_not_made_again(cluster, unfinished, local, cost):
    with HeldRun(unfinished(cluster), cluster) as run:
        job = run.held()
        run.process.kill()
        run.process.communicate()
        run.release()
        assert run.ended(job) == "COMPLETED"
        run.start()
        assert run.end() == 0, run.said[-5000:]
    assert len(attempts(run, cluster, "JobId")) == 1
    run.check(local)
    cost(run)


def test_group_whose_member_fails_runs_again_as_a_whole(cluster, unfinished, local, cost):
    with HeldRun(unfinished(cluster, **GROUPED), cluster, script=f"score/digits-edm/{CELL}", open="score.json") as run:
        job = run.held()
        cluster.cancel(job)
        run.ended(job)
        run.release()
        assert run.end() == 0, run.said[-5000:]
    run.check(local)
    assert len(run.jobs()) == 2
    ran = [script["log"].split("/")[0] for script in watch.journal(run.folder) if script["SLURM_JOB_ID"]]
    cost(run, f"scripts {ran}")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no small file system can be mounted: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path):
    """Until the disk is full to the last byte."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"0" * 2**16)


def test_full_disk_is_waited_for(cluster, unfinished, local, small_disk, cost):
    workspace = unfinished(cluster)
    shutil.move(workspace.folder / "results", small_disk / "results")
    (workspace.folder / "results").symlink_to(small_disk / "results")
    filler = small_disk / "filler"
    with HeldRun(workspace, cluster, open=".npy") as run:
        job = run.held()
        fill(filler)
        run.release()
        logs = run.folder / ".snakemake" / "slurm_logs"  # on the other disk; the job waits once it has said so there
        run.until(lambda: any("No space left" in path.read_text() for path in logs.rglob("*.log")))
        assert run.state(job) == "RUNNING"
        filler.unlink()
        assert run.ended(job) == "FAILED"
        assert run.end() == 0, run.said[-5000:]
    assert "No space left" in run.said
    run.check(local)
    cost(run)


def truncate(path):
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size // 2)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(("damage", "said"), [(truncate, "bytes, "), (flip, "has other contents than those written")])
def test_damaged_shard_is_noticed_and_made_again(damage, said, cluster, unfinished, local, cost):
    with HeldRun(unfinished(cluster, shards=2), cluster, script=f"{SAMPLE}/1-of-2") as run:
        run.held()
        shard = run.workspace.cell(CELL) / "shards" / "0-of-2.npy"
        run.until(lambda: shard.exists() and (shard.parent / "made" / f"{shard.name}.json").exists())
        damage(shard)
        run.release()
        assert run.end() != 0
        assert said in run.said
        assert [job["state"] for job in run.jobs() if job["comment"].startswith("rule_gather")] == ["FAILED"]
        path = shard.relative_to(run.folder)
        assert run.said.splitlines()[-1].endswith(
            f"before anything else, make it again: the command of the run, and after it -- {path}"
        )
        aside = shard.with_name(f"{shard.name}.damaged")
        assert aside.is_file()
        run.start()
        assert run.end() == 0, run.said[-5000:]
    assert not aside.exists(), "it goes with the shards"
    run.check(local)
    cost(run)


def test_shard_dated_in_the_future_is_taken(cluster, unfinished, local, cost):
    """By the clock of another machine, as far as this one can tell."""
    with HeldRun(unfinished(cluster, shards=2), cluster, script=f"{SAMPLE}/1-of-2") as run:
        run.held()
        shard = run.workspace.cell(CELL) / "shards" / "0-of-2.npy"
        run.until(lambda: shard.exists() and (shard.parent / "made" / f"{shard.name}.json").exists())
        tomorrow = time.time() + 86400
        os.utime(shard, (tomorrow, tomorrow))
        run.release()
        assert run.end() == 0, run.said[-5000:]
    assert {job["state"] for job in run.jobs()} == {"COMPLETED"}
    run.check(local)
    cost(run)


def test_of_a_job_that_is_killed_slurm_tells_why(cluster, unfinished, local, cost):
    """As it is where memory is short; its own log is empty."""
    with HeldRun(unfinished(cluster), cluster) as run:
        job = run.held()
        (script,) = [script for script in watch.journal(run.folder) if script["SLURM_JOB_ID"] == job]
        os.kill(script["process"], signal.SIGKILL)
        assert run.ended(job) == "FAILED"
        run.release()
        assert run.end() == 0, run.said[-5000:]
    header, *lines = run.said.split("The end of SLURM's log (")[1].splitlines()
    assert f"{job}.log" in header
    assert any("SIGKILL" in line for line in lines), lines
    run.check(local)
    cost(run)


def test_partition_that_is_drained_for_a_while_is_waited_for(cluster, unfinished, local, cost):
    with held_before_a_submission(unfinished(cluster), cluster) as run:
        run.held()
        cluster.command("scontrol", "update", "PartitionName=gpu", "State=DRAIN")
        try:
            run.release()
            run.until_said("SLURM refuses a job for now (Batch job submission failed: Required partition not available")
        finally:
            cluster.command("scontrol", "update", "PartitionName=gpu", "State=UP")
        assert run.end() == 0, run.said[-5000:]
    assert run.said.count("SLURM refuses a job for now") == 1
    assert {job["state"] for job in run.jobs()} == {"COMPLETED"}
    run.check(local)
    cost(run)


def test_request_that_no_partition_can_meet_is_refused_in_words(cluster, unfinished):
    workspace = unfinished(cluster, mem_mb=100_000)
    status, output, errors = workspace.attempt(TABLE, "--retries", "0", *COMMAND)
    assert status != 0
    assert "Memory specification can not be satisfied" in output + errors or "not available" in output + errors
