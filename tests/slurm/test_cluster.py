"""The cluster that the tests of this folder start."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import cluster_files
from cluster import ENDED, Cluster


def ended(cluster, *identifiers):
    """Their jobs, once all have ended."""

    def states():
        jobs = [cluster.job(identifier) for identifier in identifiers]
        return jobs if all(job["state"] in ENDED for job in jobs) else None

    return cluster.wait_until(states)


def until(path):
    """A shell's wait for a file."""
    return f"while [ ! -e {path} ]; do sleep 0.2; done"


def test_job_runs_on_the_default_partition_and_is_listed(cluster, tmp_path):
    out = tmp_path / "out.txt"
    identifier = cluster.submit("pwd", f"--output={out}", "--comment=why", "--job-name=what", f"--chdir={tmp_path}")
    expected = {"id": identifier, "name": "what", "state": "COMPLETED", "node": "n3", "comment": "why"}
    assert ended(cluster, identifier) == [{**expected, "workdir": str(tmp_path), "reason": "None"}]
    assert out.read_text() == f"{tmp_path}\n"


def test_job_that_fails_is_failed(cluster):
    assert ended(cluster, cluster.submit("exit 3", "--output=/dev/null"))[0]["state"] == "FAILED"


def test_job_that_takes_more_memory_than_it_asked_for_is_ended(cluster):
    taking = "python3 -c \"import time; x = b'1' * 400_000_000; time.sleep(3600)\""
    identifier = cluster.submit(taking, "--mem=50", "--output=/dev/null")
    assert ended(cluster, identifier)[0]["state"] in {"FAILED", "OUT_OF_MEMORY", "CANCELLED"}


@pytest.mark.parametrize("request_", ["--gpus=1", "--gres=gpu:1"])
def test_four_jobs_at_once_have_a_gpu_each(cluster, tmp_path, request_):
    """All wait for each other, so that all four run at one time."""
    together = "touch $SLURM_JOB_ID; while [ $(ls | wc -l) -lt 4 ]; do sleep 0.2; done"
    script = f"{together}; echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"
    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir(), out.mkdir()
    options = ["--partition=gpu", request_, "--mem=100", f"--chdir={work}", f"--output={out}/%j"]
    identifiers = [cluster.submit(script, *options) for _ in range(4)]
    assert {job["state"] for job in ended(cluster, *identifiers)} == {"COMPLETED"}
    assert sorted(path.read_text().split() for path in out.iterdir()) == [
        ["n1", "0"],
        ["n1", "1"],
        ["n2", "0"],
        ["n2", "1"],
    ]


def test_job_without_a_gpu_sees_none(cluster, tmp_path):
    identifier = cluster.submit("echo ${CUDA_VISIBLE_DEVICES-none}", f"--output={tmp_path}/out")
    ended(cluster, identifier)
    assert (tmp_path / "out").read_text() in {"none\n", "NoDevFiles\n"}


def test_commands_in_a_job_need_no_variables_of_slurm(cluster, tmp_path):
    script = (
        "job=$SLURM_JOB_ID; unset ${!SLURM_*}; export SLURM_JOB_ID=$job; srun --ntasks=1 hostname; squeue --noheader"
    )
    identifier = cluster.command(
        "sbatch", "--parsable", f"--output={tmp_path}/out", "--wrap", f"bash -c '{script}'"
    ).strip()
    assert ended(cluster, identifier)[0]["state"] == "COMPLETED"
    assert (tmp_path / "out").read_text().splitlines()[0] == socket.gethostname()


def listening(cluster):
    """Addresses at which processes of the cluster listen."""
    return {
        connection.laddr
        for process in cluster.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


def check_loopback_only(cluster):
    identifier = cluster.submit("srun sleep 3600", "--output=/dev/null")
    cluster.wait_until(lambda: "srun" in {process.name() for process in cluster.processes()})
    addresses = listening(cluster)
    cluster.cancel(identifier)
    ended(cluster, identifier)
    assert {address.ip for address in addresses} == {"127.0.0.1"}
    ports = {daemon.ready for daemon in cluster.daemons.values() if isinstance(daemon.ready, int)}
    assert ports < {address.port for address in addresses}


def test_nothing_listens_beyond_the_loopback_address(cluster):
    check_loopback_only(cluster)


def test_nothing_of_the_accounting_listens_beyond_the_loopback_address(accounting_cluster):
    assert {"slurmdbd", "mariadbd"} < set(accounting_cluster.daemons)
    check_loopback_only(accounting_cluster)


def test_accounting_knows_how_jobs_ended(accounting_cluster):
    cluster = accounting_cluster
    good, bad = cluster.submit("true", "--output=/dev/null"), cluster.submit("sleep 3600", "--output=/dev/null")
    cluster.wait_until(lambda: cluster.job(bad)["state"] == "RUNNING")
    cluster.cancel(bad)
    ended(cluster, good, bad)

    def accounted():
        lines = cluster.command("sacct", "-X", "--noheader", "--parsable2", "--format=JobIDRaw,State").splitlines()
        states = dict(line.split("|") for line in lines)
        return (states[good], states[bad].split()[0]) == ("COMPLETED", "CANCELLED")

    cluster.wait_until(accounted)


def test_drained_node_takes_no_job_until_it_is_resumed(cluster):
    cluster.drain("n3")
    identifier = cluster.submit("true", "--output=/dev/null")
    cluster.wait_until(lambda: "DRAINED" in cluster.job(identifier)["reason"])
    assert cluster.job(identifier)["state"] == "PENDING"
    cluster.resume("n3")
    assert ended(cluster, identifier)[0]["state"] == "COMPLETED"


@pytest.mark.fault
def test_job_goes_on_while_the_daemon_of_its_node_is_killed_and_started(cluster, tmp_path):
    identifier = cluster.submit(f"{until(tmp_path / 'go')}; echo done", f"--output={tmp_path}/out")
    cluster.wait_until(lambda: cluster.job(identifier)["state"] == "RUNNING")
    cluster.kill("slurmd-n3")
    cluster.start("slurmd-n3")
    (tmp_path / "go").touch()
    assert ended(cluster, identifier)[0]["state"] == "COMPLETED"
    assert (tmp_path / "out").read_text() == "done\n"


@pytest.mark.fault
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_controller_knows_its_jobs_after_a_new_start(cluster, tmp_path, end):
    identifier = cluster.submit(until(tmp_path / "go"), "--output=/dev/null")
    cluster.wait_until(lambda: cluster.job(identifier)["state"] == "RUNNING")
    # The controller writes its state every few seconds, and knows nothing newer after SIGKILL.
    running, state = time.time(), cluster.folder / "state" / "job_state"
    cluster.wait_until(lambda: end == "stop" or (state.exists() and state.stat().st_mtime > running))
    getattr(cluster, end)("slurmctld")
    with pytest.raises(subprocess.CalledProcessError):
        cluster.jobs()
    cluster.start("slurmctld")
    (tmp_path / "go").touch()
    assert ended(cluster, identifier)[0]["state"] == "COMPLETED"


@pytest.mark.fault
def test_what_ends_without_slurmdbd_is_accounted_once_it_is_back(accounting_cluster):
    cluster = accounting_cluster
    cluster.stop("slurmdbd")
    identifier = cluster.submit("true", "--output=/dev/null")
    ended(cluster, identifier)
    cluster.start("slurmdbd")
    accounted = ["sacct", "-X", "--noheader", "--parsable2", "--format=State", f"--jobs={identifier}"]
    cluster.wait_until(lambda: cluster.command(*accounted) == "COMPLETED\n")


def test_nothing_is_left_when_it_ends_amid_jobs(slurm, tmp_path):
    with Cluster() as cluster:
        stubborn = "trap '' TERM; echo $$ > pid; while true; do sleep 0.5; done"
        cluster.submit(stubborn, "--output=/dev/null", f"--chdir={tmp_path}")
        cluster.wait_until((tmp_path / "pid").exists)
        addresses = listening(cluster)
        assert len(addresses) >= 1 + len(cluster_files.NODES)
    check_gone(cluster)
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
    for address in addresses:
        with socket.socket() as connection:
            assert connection.connect_ex(address) != 0


def check_gone(cluster):
    assert cluster.processes() == []
    assert not any(daemon.running() for daemon in cluster.daemons.values())
    assert not cluster.folder.exists()


@pytest.mark.parametrize("broken", [{"n3": "Nonsense=1"}, {"n3": "Gres=gpu:fake:7"}])
def test_nothing_is_left_after_a_start_that_failed(slurm, monkeypatch, broken):
    monkeypatch.setattr(Cluster, "START_SECONDS", 3)
    for node, text in broken.items():
        monkeypatch.setitem(cluster_files.NODES, node, text)
    cluster = Cluster()
    with pytest.raises((RuntimeError, TimeoutError)), cluster:
        pass
    assert cluster.daemons
    check_gone(cluster)


AS_NOBODY = """
import os, pwd
from cluster import Cluster  # this Python may lie where only root can read it
user = pwd.getpwnam("nobody")
os.setgroups([])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
with Cluster() as cluster:
    job = cluster.submit("true", "--partition=gpu", "--gpus=1", "--output=/dev/null", "--chdir=/")
    cluster.wait_until(lambda: cluster.job(job)["state"] == "COMPLETED")
assert not cluster.folder.exists()
"""


def test_ordinary_user_has_one_too(slurm):
    if os.geteuid() != 0:
        pytest.skip("an ordinary user runs all of these tests")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-c", AS_NOBODY], cwd="/", env=environment, check=True)
