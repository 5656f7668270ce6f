"""A folder that all processes of a run of the tests share."""

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

NAME = "DODE_TESTS"  # variable of the environment, which pytest-xdist's workers have from the process that starts them


def folder():
    """Removed as the process ends that asked first."""
    if NAME not in os.environ:
        os.environ[NAME] = tempfile.mkdtemp(prefix="dode-")
        # The last process that forks may have removed it, where it was left empty.
        atexit.register(shutil.rmtree, os.environ[NAME], ignore_errors=True)
    return Path(os.environ[NAME])


def once(path, make):
    """``path``, which ``make(path)`` makes where it is not finished: once, whoever asks, however often."""
    done = path.with_name(f"{path.name}.done")
    with _alone(path.with_name(f"{path.name}.lock")):
        if not done.exists():
            shutil.rmtree(path, ignore_errors=True)
            make(path)
            done.touch()
    return path


@contextlib.contextmanager
def _alone(path):
    """One process at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
