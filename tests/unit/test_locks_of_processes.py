"""Locks between processes: who holds them, and that they end with their process."""

import os
import socket
import subprocess
import sys

import pytest

from dode import locks
from processes import killed, started

HOLDS = """
import sys
from dode import locks
lock = locks.hold(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""


def test_the_lock_refuses_a_second_process_and_ends_with_the_first_one(tmp_path):
    path = tmp_path / ".snakemake" / "dode.lock"
    holder = started(HOLDS, path)
    try:
        with pytest.raises(locks.Busy, match=f"process {holder.pid}.*{path.parent}"):
            locks.hold(path)
    finally:
        killed(holder)
    with locks.hold(path) as lock:
        lock.seek(0)
        assert lock.read() == f"{os.getpid()} on {socket.gethostname()}"


def test_a_lock_that_another_machine_has_not_given_back_must_be_taken_over(tmp_path):
    """Locks do not reach from machine to machine on every file system."""
    path = tmp_path / "lock"
    path.write_text("17 on elsewhere")
    with pytest.raises(locks.Busy, match=r"process 17 on elsewhere.*`make resume` takes over"):
        locks.hold(path)
    assert path.read_text() == "17 on elsewhere"
    locks.hold(path, take_over=True).close()
    locks.hold(path).close()


def test_a_lock_says_that_it_is_free_once_its_process_has_ended(tmp_path):
    code = "import sys; from dode import locks; lock = locks.hold(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, tmp_path / "lock"], check=True)
    assert (tmp_path / "lock").read_text() == ""


def test_a_refused_process_does_not_disturb_the_lock(tmp_path):
    with locks.hold(tmp_path / "lock"):
        for _ in range(2):
            with pytest.raises(locks.Busy, match=f"process {os.getpid()}"):
                locks.hold(tmp_path / "lock")
    locks.hold(tmp_path / "lock").close()


def test_a_program_started_by_the_holder_does_not_keep_the_lock(tmp_path):
    lock = locks.hold(tmp_path / "lock")
    child = started("import sys; print('ready', flush=True); sys.stdin.read()")
    try:
        lock.close()
        locks.hold(tmp_path / "lock").close()
    finally:
        killed(child)


SHARES = """
import sys
from dode import locks
lock = locks.share(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""


def test_jobs_share_a_lock_and_a_run_waits_for_all_of_them(tmp_path):
    path, noticed = tmp_path / "jobs.lock", []
    first, second = started(SHARES, path), started(SHARES, path)
    killed(first)

    def notice():
        noticed.append(locks.attempt(path))
        killed(second)

    locks.wait_for_shared(path, notice)
    assert noticed == [None]


def test_where_a_file_system_has_no_locks_nobody_else_is_said_to_hold_one(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(locks.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", no_locks)
    locks.hold(tmp_path / "lock").close()
    assert locks.share(tmp_path / "jobs.lock") is not None
    with locks.exclusive(tmp_path / "file"):
        pass
