"""Snakemake's own scheduler looks again at its jobs where its limit holds some back, and else as something happens."""

import pytest
from snakemake.scheduling.job_scheduler import JobRateLimiter, JobScheduler
from snakemake.settings.types import MaxJobsPerTimespan

from dode.benchmark import turns


class Looks(JobScheduler):
    """The scheduler with its limit alone; it counts the looks that it is told to take."""

    def __init__(self, limit):
        self.job_rate_limiter = limit and JobRateLimiter(MaxJobsPerTimespan.parse_choice(limit))
        self.looks, self._open_jobs = 0, self

    def release(self):
        self.looks += 1


turns.look_again_where_held_back(Looks)


@pytest.fixture
def timers(monkeypatch):
    """The delays of the timers that were started, which end at once."""
    started = []

    class Timer:
        def __init__(self, delay, function):
            self.delay, self.function = delay, function

        def start(self):
            started.append(self)

    monkeypatch.setattr("threading.Timer", Timer)
    return started


def test_no_look_is_repeated_where_nothing_is_held_back(timers):
    scheduler = Looks("100/1s")
    scheduler.job_rate_limiter.register_jobs(99)
    for _ in range(5):
        scheduler._schedule_reevalutation(1.0)
    assert not timers


def test_jobs_that_are_held_back_are_looked_at_once_a_span(timers):
    scheduler = Looks("2/1h")
    scheduler.job_rate_limiter.register_jobs(2)
    for _ in range(5):
        scheduler._schedule_reevalutation(3600.0)
    assert [timer.delay for timer in timers] == [3600.0]
    timers[0].function()
    assert scheduler.looks == 1
    scheduler._schedule_reevalutation(3600.0)
    assert len(timers) == 2


@pytest.mark.parametrize("limit", ["100/1s", None])
def test_a_wait_for_anything_else_is_snakemakes_own(timers, limit):
    scheduler = Looks(limit)
    scheduler._schedule_reevalutation(10)
    (timer,) = timers
    assert timer.delay == 10
    timer.function()
    assert scheduler.looks == 1


def test_the_patch_is_made_once():
    own = Looks._schedule_reevalutation
    turns.look_again_where_held_back(Looks)
    assert Looks._schedule_reevalutation is own
    assert "where_held_back" not in vars(JobScheduler._schedule_reevalutation)
