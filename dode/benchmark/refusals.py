"""Jobs that have refused a damaged input: they are not tried again, and what to do is the last that a run says.

A job sets a damaged input aside (:func:`dode.benchmark.records.check`). Another attempt would not find it; a Snakemake
on a node then makes nothing, calls that a success, and the run waits for the file system.
"""

import atexit
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dode import texts
from dode.benchmark import records


def set_aside(paths: Iterable[str]) -> list[str]:
    """Those of ``paths`` that are gone, and lie damaged beside their place."""
    return [path for path in paths if not _is_there(path) and _is_there(f"{path}{records.DAMAGED}")]


def _is_there(path: str) -> bool:
    """Opened, as a network's file system may remember for a while what another machine has renamed."""
    try:
        Path(path).open("rb").close()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def say_last(paths: Iterable[str]) -> None:
    """Tell the terminal as this process ends, after all that Snakemake says."""
    atexit.register(print, texts.shown(sentence(paths)), file=sys.stderr)


def sentence(paths: Iterable[str]) -> str:
    """What was found and what to do."""
    paths = list(paths)
    what = f"{', '.join(paths)}: not what was written; set aside ({records.DAMAGED})"
    return f"{what}. No job that needs it was tried again: {records.remaking(paths)}"


def end_at_once(job_class: Any, group_class: Any) -> dict[str, None]:
    """Have Snakemake restart no job (classes ``Job`` and ``GroupJob``) whose input was set aside.

    Returns:
        What was set aside, which grows with the run.
    """
    if hasattr(job_class, "refused"):
        return job_class.refused
    job_class.refused = refused = {}
    times, of_group = job_class.restart_times, group_class.restart_times

    def restart_times(job: Any) -> int:
        found = set_aside(map(str, job.input))
        refused.update(dict.fromkeys(found))
        return 0 if found else times.fget(job)

    def restart_times_of_group(group: Any) -> int:
        found = [path for job in group.jobs for path in set_aside(map(str, job.input))]
        refused.update(dict.fromkeys(found))
        return 0 if found else of_group.fget(group)

    job_class.restart_times, group_class.restart_times = property(restart_times), property(restart_times_of_group)
    return refused
