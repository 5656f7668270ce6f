"""Locks between processes, by the kernel's ``flock``: given back however a process ends, so that none must be cleared.

The package filelock does not serve. Its locks are exclusive, and the jobs of a run share one; and where a file system
has no ``flock`` it falls back to a file that a killed process leaves behind. Here a lock is then as one that nobody
else holds (Lustre without the option, some NFS).
"""

import atexit
import contextlib
import errno
import fcntl
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

LOCKLESS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


class Busy(RuntimeError):
    """Another run holds the lock."""


def _take(file: IO[str], how: int, held: Callable[[], None] | None = None) -> bool:
    """Lock an open file; whether this process has it now.

    Args:
        file: to be locked, for as long as it is open.
        how: ``fcntl.LOCK_EX`` or ``LOCK_SH``.
        held: called where another process holds it, which is then waited for; None: do not wait.
    """
    try:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if held is None:
                return False
            held()
            fcntl.flock(file, how)
    except OSError as error:
        if error.errno not in LOCKLESS:
            raise
        log.warning("%s: this file system has no locks, so other processes may do the same work", file.name)
    return True


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock of the file at ``path``, made where it is not there; wait while another process holds it.

    The file may be replaced by whoever holds the lock. Raises OSError where it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a", encoding="utf-8") as file:
            _take(file, fcntl.LOCK_EX, lambda: log.info("waiting for another job that holds %s", path))
            try:
                current = os.path.samestat(os.fstat(file.fileno()), path.stat())
            except FileNotFoundError:
                current = False
            if current:  # and not the one that was replaced while this process waited
                yield
                return


def attempt(path: str | Path) -> IO[str] | None:
    """An exclusive lock for the life of this process, as an open file: keep it. None where another process has it."""
    try:
        file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115 - it stays open as long as the process
        return file if _take(file, fcntl.LOCK_EX) else None
    except OSError:
        return None


def share(path: str | Path) -> IO[str] | None:
    """Hold a lock together with others of the same kind for the life of this process (a job of a run).

    Returns the open file, or None where there is no such folder.
    """
    try:
        file = Path(path).open("a+", encoding="utf-8")  # noqa: SIM115 - it stays open as long as the process; NFS wants it readable
        _take(file, fcntl.LOCK_SH, lambda: None)
    except OSError:
        return None
    return file


def wait_for_shared(path: str | Path, notice: Callable[[], None]) -> None:
    """Wait until nobody holds the shared lock at ``path``; call ``notice()`` once where that takes time."""
    with Path(path).open("a+", encoding="utf-8") as file:
        _take(file, fcntl.LOCK_EX, notice)


def hold(path: str | Path, *, take_over: bool = False) -> IO[str]:
    """Take the lock of a run, which says in its file who has it.

    Returns the open file: keep it. Raises :class:`Busy` where another process holds the lock, and where one on another
    machine took it and has not said that it ended, unless ``take_over``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")
    if not _take(file, fcntl.LOCK_EX):
        file.close()
        raise Busy(f"another run (process {owner(path) or 'unknown'}) is working in {path.parent.resolve()}")
    host, before = socket.gethostname(), owner(path)
    if not take_over and " on " in before and before.split(" on ")[1] != host:
        file.close()
        # Locks do not reach from machine to machine on every file system.
        raise Busy(
            f"a run (process {before}) has not released {path.parent.resolve()}, and this machine is {host}. If that "
            "run has ended, `make resume` takes over"
        )
    file.truncate(0)
    file.write(f"{os.getpid()} on {host}")
    file.flush()
    atexit.register(_give_back, file, os.getpid())
    return file


def owner(path: str | Path) -> str:
    """Who has taken the lock of a run at ``path`` and not given it back; empty where nobody has."""
    with contextlib.suppress(FileNotFoundError):
        return Path(path).read_text(encoding="utf-8").strip()
    return ""


def _give_back(file: IO[str], process: int) -> None:
    """Say in the lock's file that it is free, unless this is a child of the process that took it."""
    if os.getpid() == process and not file.closed:
        file.truncate(0)
