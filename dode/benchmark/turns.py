"""When Snakemake's scheduler looks at the jobs that are ready: as something has happened, and not without end.

Snakemake limits how many jobs begin in a span of time (``--max-jobs-per-timespan``, by default 100 in a second), and so
looks again at all jobs a span after each look, whether or not the limit has held a job back. Each job that ends is one
more look, which is then repeated every second as long as any job is ready: after some hundred jobs a core does nothing
else (Snakemake 9.27; its pull request 3744 reports the same looks). ``benchmarks/turns.py`` measures it.
"""

import threading
from typing import Any


def look_again_where_held_back(scheduler_class: Any) -> None:
    """Have Snakemake (its class ``JobScheduler``) look again only where its limit holds jobs back, once in a span."""
    own = getattr(scheduler_class, "_schedule_reevalutation", None)  # Snakemake's spelling
    if own is None or hasattr(own, "where_held_back"):
        return

    def again(scheduler: Any, delay: float) -> None:
        limiter = scheduler.job_rate_limiter
        if limiter is None or delay != limiter.timespan:  # it waits for something else
            own(scheduler, delay)
        elif limiter.get_free_jobs() == 0 and not getattr(scheduler, "looks_again", False):
            scheduler.looks_again = True

            def look() -> None:
                scheduler.looks_again = False
                scheduler._open_jobs.release()

            threading.Timer(delay, look).start()

    again.where_held_back = True  # type: ignore[attr-defined]
    scheduler_class._schedule_reevalutation = again
