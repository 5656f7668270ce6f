"""What every script of the workflow shares: its log, its threads, and an error that names the cell."""

import contextlib
import errno
import logging
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from dode import locks, storage, texts
from dode.benchmark import records, reruns
from dode.fetching import places

RUN_LOCK = ".snakemake/dode.lock"  # held by a run
JOBS_LOCK = ".snakemake/dode.jobs.lock"  # held by every job for as long as it lasts
RUN = "DODE_RUN"  # in the environment of a run's jobs: the owner of its lock
DISK_WAIT, DISK_FREE = 600, 2**28  # seconds that a job waits for so many bytes before it fails on a full disk


def prepare_environment(root: str | Path) -> None:
    """Set, for all jobs of a run, what has to be set before they start.

    Idle OpenMP threads spin by default, and two jobs on two cores then take ten times as long. The library that jobs
    import is that of the checkout ``root``, whatever the environment holds.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if places.is_installed(root):
        return  # of which the library is a part
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in ("", str(root))]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root), *others])


def execute(main: Callable[[Any], object], snakemake: Any) -> None:
    """Call ``main(snakemake)`` with logging (and progress bars) into the rule's log, and record what its files are made
    of.

    An exception is written to the log in full and to the terminal in one line that names the rule and its cell.
    """
    start = _age()
    held = locks.share(JOBS_LOCK)  # noqa: F841 - the lock is given back when this process ends
    if _is_left_behind():
        raise SystemExit(1)
    log = Path(snakemake.log[0])
    log.parent.mkdir(parents=True, exist_ok=True)
    for path in (log, _taken(log)):
        path.unlink(missing_ok=True)  # written anew: what a link at its place leads to is left alone
    terminal = sys.stderr
    with log.open("w", buffering=1, encoding="utf-8", errors="backslashreplace") as stream:
        sys.stderr = stream
        _log_into(stream)
        _set_threads(snakemake.threads)
        try:
            begun = time.monotonic()
            records.check(snakemake.input)
            for path in snakemake.output:
                records.forget(path)
            main(snakemake)
            made = None if reruns.is_laid_there(snakemake.rule) else reruns.made(snakemake)
            for path in snakemake.output:
                records.write(path, made)
            taken = {"seconds": time.monotonic() - begun, "start": start, "memory": _peak_memory()}
            storage.write_json(_taken(log), {name: value for name, value in taken.items() if value is not None})
        except Exception as error:
            with contextlib.suppress(OSError):  # on a full disk there may be no place for this either
                stream.write(texts.shown(traceback.format_exc(), lines=True))
            name = "/".join([snakemake.rule, *(str(value) for value in snakemake.wildcards)])
            print(texts.shown(f"{name}: {type(error).__name__}: {error} (see {log})"), file=terminal)
            if _is_full(error):
                _wait_for_space(log.parent)
            raise SystemExit(1) from None
        finally:
            sys.stderr = terminal


class _Shown(logging.Formatter):
    """A log that a terminal shows without obeying what others wrote in it."""

    def format(self, record: logging.LogRecord) -> str:
        return texts.shown(super().format(record), lines=True)


def _log_into(stream: TextIO) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Shown("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def announce(text: str) -> None:
    """Say something on the terminal too, which the log has replaced as standard error."""
    for stream in (sys.stderr, sys.__stderr__):
        print(texts.shown(text, lines=True), file=stream)


def _is_left_behind() -> bool:
    """Whether the run that started this job was killed, and another one has not waited for it.

    The next run waits for jobs that hold their lock, and this one may have been starting then. That run has said
    before that the folder is its own.
    """
    own = os.environ.get(RUN)
    return own is not None and locks.owner(RUN_LOCK) not in (own, "")


def _taken(log: Path) -> Path:
    """The file beside a job's log that says what it took.

    ``seconds`` are without those of its ``start``, which are Python's and its imports'; ``memory`` is in MB.
    Snakemake's ``benchmark:`` tells them not apart, and looks at the memory only every half minute. What the
    system does not say is left out.
    """
    return Path(log).with_suffix(".json")


def _age() -> float | None:
    """Seconds since this process began, in hundredths."""
    try:
        begun = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except OSError:  # not Linux
        return None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - begun / os.sysconf("SC_CLK_TCK")


def _peak_memory() -> float | None:
    """The most resident memory in MB that this process has had, without its children and what is on a GPU.

    What ``getrusage`` says begins with the memory of the process that started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)


def _is_full(error: Exception) -> bool:
    """Whether a disk or a quota is full; safetensors says so in its words alone."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or f"os error {errno.ENOSPC}" in str(error)


def _wait_for_space(folder: Path) -> None:
    """So that the next attempt, which follows at once, finds some."""
    until = time.monotonic() + DISK_WAIT
    while time.monotonic() < until and shutil.disk_usage(folder).free < DISK_FREE:
        time.sleep(5)


def _set_threads(threads: int) -> None:
    """Tell torch how many threads the rule was given; a job that does not use torch does not import it."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
