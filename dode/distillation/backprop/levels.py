"""Noise levels as free numbers, between a first and a last one that stay."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dode.solvers.formulas import PURE_NOISE, vp_sigma, vp_time

LAST_TIME = 1e-3  # t_eps of the authors' configurations
SMALLEST = 1e-3  # share of the whole range that the smallest step has at first


class VPTime:
    """The time of a VP SDE that runs over given levels (Karras et al. 2022, arXiv 2206.00364, App. C.1).

    ``sigma(t)^2 = exp(beta_d t^2 / 2 + beta_min t) - 1`` with ``sigma(1)`` the highest level and ``sigma(last)`` the
    lowest.

    Attributes:
        last: 0.001, or the linear SDE's time of the lowest level where that is later.
    """

    def __init__(self, highest: float, lowest: float):
        lowest = max(lowest, float(vp_sigma(LAST_TIME)))
        self.last = max(LAST_TIME, float(vp_time(lowest)))
        slope, whole = math.log1p(lowest**2) / self.last, math.log1p(highest**2)
        self.beta_d = 2 * (whole - slope) / (1 - self.last)
        self.beta_min = whole - self.beta_d / 2

    def sigma(self, time: Tensor) -> Tensor:
        """The level at a time above 0."""
        return torch.expm1(self.beta_d * time**2 / 2 + self.beta_min * time).sqrt()

    def of(self, level: float) -> float:
        """The time of a level."""
        exponent = math.log1p(level**2)
        return 2 * exponent / (math.sqrt(self.beta_min**2 + 2 * self.beta_d * exponent) + self.beta_min)


class FlowTime:
    """The time of flow matching, ``sigma / (1 + sigma)``, in units of that of the highest level.

    Attributes:
        last: the time of the lowest level.
    """

    def __init__(self, highest: float, lowest: float):
        self.highest = highest / (1 + highest)
        self.last = self.of(lowest)

    def sigma(self, time: Tensor) -> Tensor:
        """The level at a time above 0; one above 1 is taken as 1."""
        own = self.highest * time.clamp(max=1)
        return own / (1 - own)

    def of(self, level: float) -> float:
        """The time of a level."""
        return level / (1 + level) / self.highest


def time_between(highest: float, lowest: float) -> VPTime | FlowTime:
    """The time in which levels are free: that of a VP SDE, or of flow matching where they begin at pure noise."""
    return FlowTime(highest, lowest) if highest >= PURE_NOISE else VPTime(highest, lowest)


class FreeLevels:
    """``v_i = v_0 + (v_N - v_0) sum_{j<=i} softmax(theta)_j``, i = 0..N, in a variable v of the noise level.

    Descending levels whatever theta (Tong et al. 2025, arXiv 2405.15506, Sec. 4.1).

    Args:
        first, lowest: the levels v_0 and v_N.
        steps: N.
        variable: ``"log-snr"``, the logarithm of the level, which does not begin at pure noise, or ``"time"``
            (:func:`time_between`).
        to_zero: whether the grid ends at 0 in place of ``lowest``, which then is a bound only.
        like: levels to begin at, (N + 1,); uniform in v without.
    """

    def __init__(
        self,
        first: float,
        lowest: float,
        steps: int,
        *,
        variable: str = "log-snr",
        to_zero: bool = False,
        like: Tensor | None = None,
    ):
        self.first, self.lowest, self.to_zero = first, lowest, to_zero
        self.time = time_between(first, lowest) if variable == "time" or first >= PURE_NOISE else None
        self.start = torch.zeros(steps, dtype=torch.float64)
        if like is not None:
            levels = torch.cat([like[:-1], like.new_tensor([lowest])]) if to_zero else like
            shares = -torch.tensor([self._variable(level) for level in levels.tolist()], dtype=torch.float64).diff()
            self.start = (shares / shares.sum()).clamp(min=SMALLEST).log()

    def _variable(self, level):
        return math.log(level) if self.time is None else self.time.of(level)

    def sigmas(self, theta: Tensor) -> Tensor:
        """The levels, (N + 1,)."""
        gone = torch.softmax(theta, 0).cumsum(0)[:-1]
        begin, end = self._variable(self.first), self._variable(self.lowest)
        inner = begin + (end - begin) * gone
        inner = inner.exp() if self.time is None else self.time.sigma(inner)
        last = 0.0 if self.to_zero else self.lowest
        return torch.cat([inner.new_tensor([self.first]), inner, inner.new_tensor([last])])


def offsets(levels: Tensor, deltas: Tensor, share: float) -> Tensor:
    """Told levels: ``log`` of the own ones plus deltas, which stay within a share of the smallest step of the levels.

    Args:
        levels: of the evaluations, (K,); the first is told as it is.
        deltas: (K - 1,).
        share: of the smallest difference of two logarithms, up to 0.5 so that told levels stay in order.
    """
    logs = levels.detach().unique().log()
    most = share * float(logs.diff().min()) if len(logs) > 1 else 0.0
    return torch.cat([levels[:1], levels[1:] * deltas.clamp(-most, most).exp()])


def differentiated(
    values: Callable[[Tensor], tuple[Tensor, ...]], sigmas: Tensor, step: float = 1e-4
) -> tuple[Tensor, ...]:
    """``values(sigmas)``, cheap functions that take numbers alone, so that gradients flow to the levels.

    Derivatives are central differences in the logarithms of the levels between the first and the last, which stay.
    """
    at = sigmas.detach()
    found = [value.clone() for value in values(at)]
    if not sigmas.requires_grad:
        return tuple(found)
    changes = (sigmas[1:-1] / at[1:-1]).log()
    for index in range(1, len(at) - 1):
        ends = []
        for sign in (1, -1):
            moved = at.clone()
            moved[index] *= math.exp(sign * step)
            ends.append(values(moved))
        for number, (above, below) in enumerate(zip(*ends, strict=True)):
            found[number] = found[number] + (above - below) / (2 * step) * changes[index - 1]
    return tuple(found)
