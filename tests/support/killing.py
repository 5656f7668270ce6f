"""Methods that learn are killed without a process: an exception where a job would die."""

import itertools

from dode.distillation import task


class Killed(Exception):
    """Where a job would be killed."""


def after_calls(denoise, limit):
    """The model, which lets so many calls pass and no more."""
    calls = itertools.count(1)

    def killing(x, sigma):
        if next(calls) > limit:
            raise Killed
        return denoise(x, sigma)

    return killing


def after_writes(monkeypatch, writes):
    """Whoever writes a checkpoint dies once, after so many writes of all that come."""
    keep, count = task.Checkpoint.write, itertools.count(1)

    def write(self, state):
        keep(self, state)
        if next(count) == writes:
            raise Killed

    monkeypatch.setattr(task.Checkpoint, "write", write)
