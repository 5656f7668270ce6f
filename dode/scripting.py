"""What every script of the workflow shares: its log, its threads, and an error that names the cell."""

import logging
import os
import sys
import traceback
from pathlib import Path

from dode import storage

RUN_LOCK, JOBS_LOCK = ".snakemake/dode.lock", ".snakemake/dode.jobs.lock"


def begin_run():
    """Hold the working directory for this run, and wait for jobs that a killed run has left working in it.

    Both locks are given back by the kernel however a process ends, so that a killed run can simply be started again;
    Snakemake's own (off in profiles/default) would have to be removed by hand, and knows nothing of jobs that go on.
    Returns what must be kept for as long as the run lasts.
    """
    lock = storage.hold_lock(RUN_LOCK)
    message = "Waiting for a job that a killed run has left behind (end it by hand if it should not go on)"
    storage.wait_for_shared(JOBS_LOCK, lambda: print(message, file=sys.stderr, flush=True))
    return lock


def prepare_environment(root):
    """Set, for all jobs of a run, what has to be set before they start.

    Idle OpenMP threads spin by default, and two jobs on two cores then take ten times as long. The library that jobs
    import is that of the checkout ``root``, whatever the environment holds.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in ("", str(root))]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root), *others])


def run(main, snakemake):
    """Call ``main(snakemake)`` with logging (and progress bars) into the rule's log.

    An exception is written to the log in full and to the terminal in one line that names the rule and its cell.
    """
    held = storage.share_lock(JOBS_LOCK)  # noqa: F841 - the lock is given back when this process ends
    log = Path(snakemake.log[0])
    log.parent.mkdir(parents=True, exist_ok=True)
    terminal = sys.stderr
    with log.open("w", buffering=1) as stream:
        sys.stderr = stream
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=stream)
        _set_threads(snakemake.threads)
        try:
            main(snakemake)
        except Exception as error:
            traceback.print_exc(file=stream)
            name = "/".join([snakemake.rule, *(str(value) for value in snakemake.wildcards)])
            print(f"{name}: {type(error).__name__}: {error} (see {log})", file=terminal)
            raise SystemExit(1) from None
        finally:
            sys.stderr = terminal


def _set_threads(threads):
    """Tell torch how many threads the rule was given; a job that does not use torch does not import it."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def execution(snakemake):
    """The settings ``execution`` of the configuration, as they are for the dataset of the job."""
    settings = snakemake.config["execution"]
    return {**settings, **settings["datasets"].get(snakemake.wildcards.get("dataset"), {})}


def device(name):
    """A torch device from the ``device`` setting; ``auto`` is CUDA where there is one, else the CPU."""
    import torch

    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
