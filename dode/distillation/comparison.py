"""Whether one solver is better than another, by the errors of both on the same images."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch

TINY = 1e-300
NEGLIGIBLE = 1e-4  # a relative gain below this is not worth another solver, however certain it is
BREAKDOWN = 20.0  # what counts as the change of a logarithm where one of two solvers breaks down


class Comparison(NamedTuple):
    """Two solvers on the same held-out images, by the squared errors of these.

    Attributes:
        gain, gain_error: by how much the mean is lower than before, relative to it, and the standard error of that. A
            few images that end as other images make most of it.
        change, change_error: the mean change of the logarithm of an image's error, and its standard error.
    """

    gain: float
    gain_error: float
    change: float
    change_error: float

    @classmethod
    def of(cls, before: torch.Tensor, after: torch.Tensor) -> Self:
        """From the errors of the images, (B,) each."""
        if not bool(after.isfinite().all()) or not bool(before.isfinite().all()):  # a breakdown loses to none
            sign = 1 if bool(after.isfinite().all()) else -1
            return cls(sign * 1.0, 0.0, -sign * BREAKDOWN, 0.0)
        changes = after.clamp(min=TINY).log() - before.clamp(min=TINY).log()
        gains = (before - after) / max(float(before.mean()), TINY)
        count = max(len(gains) - 1, 1) ** 0.5
        found = ((float(values.mean()), float(values.std(correction=0)) / count) for values in (gains, changes))
        return cls(*next(found), *next(found))

    @property
    def evidence(self) -> tuple[float, float]:
        """How many standard errors speak for the second solver, in the mean and in the logarithm."""
        return self.gain / max(self.gain_error, TINY), -self.change / max(self.change_error, TINY)

    @property
    def better(self) -> bool:
        """Whether both together are better beyond their error, neither is worse beyond its own, and it is no trifle."""
        worthwhile = max(self.gain, -self.change) > NEGLIGIBLE
        return worthwhile and sum(self.evidence) > 2**0.5 and min(self.evidence) > -1

    @property
    def worse(self) -> bool:
        """Whether the mean, which is what is minimised, is worse beyond its error."""
        return self.evidence[0] < -1
