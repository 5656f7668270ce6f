"""The beginning of a run: alone in its working directory, also after one that was killed."""

import os
import sys
from pathlib import Path

from dode import storage
from dode.benchmark import scripting, slurm

LOCK = ".snakemake/dode.lock"
SLURM_LOGS = Path(".snakemake/slurm_logs")  # is there where jobs have gone to SLURM


def begin(logger=None, executor=None):
    """Hold the working directory for this run, once no job of a killed run works in it any more.

    Both locks are given back by the kernel however a process ends, so that a killed run can simply be started again;
    Snakemake's own (off in profiles/default) would have to be removed by hand, and knows nothing of jobs that go on.
    Jobs that a killed run left to SLURM are cancelled, others are waited for.

    Args:
        logger: Snakemake's, where this run's jobs go to SLURM.
        executor: the settings of Snakemake's executor plugin.

    Returns:
        What must be kept for as long as the run lasts.

    Raises:
        storage.Busy: where another run has the directory.
        OSError: where SLURM cannot be asked.
        ValueError: where jobs would have names by which the next run would not find them.
    """

    def say(sentence):
        print(sentence, file=sys.stderr, flush=True)

    prefix = getattr(executor, "jobname_prefix", slurm.PREFIX)
    if logger is not None and prefix != slurm.PREFIX:
        raise ValueError(f"slurm-jobname-prefix: '{prefix}' is not allowed; allowed: {slurm.PREFIX}")
    lock = storage.hold_lock(LOCK, take_over=bool(os.environ.get("DODE_RESUME")))
    if logger is not None:
        slurm.mend(logger)
        with slurm.ended_by_sigterm():
            slurm.wait_for_controller(logger.warning)
            slurm.cancel_leftovers(Path.cwd(), say)
    elif SLURM_LOGS.is_dir() and slurm.is_here():
        try:
            slurm.cancel_leftovers(Path.cwd(), say)
        except OSError as error:
            say(f"Jobs of an earlier run may still be at work, SLURM cannot be asked: {error}")
    message = "Waiting for a job that a killed run has left behind (end it by hand if it should not go on)"
    storage.wait_for_shared(scripting.JOBS_LOCK, lambda: say(message))
    return lock
