"""The beginning of a run: alone in its working directory, also after one that was killed."""

import logging
import os
import sys
from pathlib import Path
from typing import IO, Any

from dode import locks
from dode.benchmark import scripting, slurm

SLURM_LOGS = Path(".snakemake/slurm_logs")  # is there where jobs have gone to SLURM

log = logging.getLogger(__name__)


def begin(
    *,
    executor: str = "local",
    settings: Any = None,
    shared_folder: bool = True,
    logger: logging.Logger = log,
) -> IO[str]:
    """Hold the working directory for this run, once no job of a killed run works in it any more.

    Both locks are given back by the kernel however a process ends, so that a killed run can simply be started again;
    Snakemake's own (off in profiles/default) would have to be removed by hand, and knows nothing of jobs that go on.
    Jobs that a killed run left to SLURM are cancelled; those of any other executor are waited for while they work.

    Args:
        executor: name of Snakemake's executor plugin: ``"local"``, ``"slurm"``, ``"cluster-generic"``, ...
        settings: the plugin's own settings.
        shared_folder: whether jobs work in this run's folder.
        logger: Snakemake's; only SLURM's jobs need it.

    Returns:
        What must be kept for as long as the run lasts.

    Raises:
        locks.Busy: where another run has the directory.
        OSError: where SLURM cannot be asked.
        ValueError: for an executor whose jobs would not be found by the next run, or a SLURM plugin of another version
            than the one that is mended.
    """

    def say(sentence: str) -> None:
        print(sentence, file=sys.stderr, flush=True)

    if not shared_folder:
        raise ValueError(
            f"executor: '{executor}' is not allowed, because its jobs do not share this folder, whose files they read "
            "and whose lock shows that they are at work; allowed: executors whose jobs do, such as local, slurm or "
            "cluster-generic"
        )
    if executor == "slurm":
        slurm.check(settings)
    lock = locks.hold(scripting.RUN_LOCK, take_over=bool(os.environ.get("DODE_RESUME")))
    os.environ.pop(scripting.RUN, None)
    if executor == "local":  # others have a Snakemake around each job, which removes the files of one that ends early
        os.environ[scripting.RUN] = locks.owner(scripting.RUN_LOCK)
    if executor == "slurm":
        slurm.mend(logger)
        with slurm.ended_by_sigterm():
            slurm.wait_for_controller(logger.warning)
            slurm.cancel_leftovers(Path.cwd(), say)
    elif SLURM_LOGS.is_dir() and slurm.is_here():
        try:
            slurm.cancel_leftovers(Path.cwd(), say)
        except OSError as error:
            say(f"Jobs of an earlier run may still be running, and SLURM cannot be asked: {error}")
    message = "Waiting for a job that a killed run has left behind (end it by hand if it should not continue)"
    locks.wait_for_shared(scripting.JOBS_LOCK, lambda: say(message))
    return lock
