"""The continuous-time schedule of the released iPNDM and DEIS recipes, and their DEIS coefficients.

Both come with the DEIS code that the released D-ODE code builds on. They differ from the project's own in what is
interpolated (abar instead of its logarithm) and in the quadrature, so they are kept here, out of the registries.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dode.grids.schedules import Schedule, snapped
from dode.solvers.base import Method, Solver
from dode.solvers.formulas import multistep

CLIP = 1e-7  # abar stays this far from 0 and from 1
POINTS = 10_000  # of the Riemann sum


class LinearAbar(Schedule):
    """A schedule with abar itself linear between integer indices, clipped to [1e-7, 1 - 1e-7]; it begins at index 0."""

    def __init__(self, schedule: Schedule):
        self.alphas_cumprod = schedule.alphas_cumprod

    def abar(self, index: float | np.ndarray) -> np.ndarray:
        """abar at fractional indices."""
        return self.abar_and_slope(index)[0]

    def abar_and_slope(self, index: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """abar and its derivative by the index: the right-hand one at an integer index, 0 where abar is clipped."""
        left = np.clip(np.floor(index), 0, len(self) - 2).astype(np.int64)
        slope = np.diff(self.alphas_cumprod)[left]
        abar = self.alphas_cumprod[left] + (index - left) * slope
        inside = (abar > CLIP) & (abar < 1 - CLIP)
        return np.clip(abar, CLIP, 1 - CLIP), np.where(inside, slope, 0.0)

    def log_abar(self, index: Any) -> Any:
        """``log abar`` at a fractional index."""
        return np.log(self.abar(index))

    def index(self, sigma: ArrayLike) -> np.ndarray:
        """The fractional index of a noise level; the last one for a level at the lower clip of abar."""
        abar = 1 / (1 + np.square(np.asarray(sigma, dtype=np.float64)))
        index = snapped(np.interp(-abar, -self.alphas_cumprod, np.arange(len(self))))
        return np.where(abar <= CLIP * (1 + 1e-9), len(self) - 1, index)


def coefficients(schedule: LinearAbar, times: Sequence[float] | np.ndarray, end: float) -> np.ndarray:
    """``C_j`` of ``x' = sqrt(abar(end) / abar(t_0)) x + sum_j C_j eps_j`` in VP coordinates, newest first.

    ``C_j = int_{t_0}^{end} sqrt(abar(end) / abar(t)) (-1/2 d ln abar / dt) / sqrt(1 - abar(t)) L_j(t) dt``,
    ``L_j(t) = prod_{k != j} (t - t_k) / (t_j - t_k)`` over the ``times`` t_0, t_1, ... of the last noise estimates
    (Zhang & Chen 2023, arXiv 2204.13902, Eq. 15), as a left Riemann sum of 10,000 points: its error is part of the
    recipe.
    """
    width = (end - times[0]) / POINTS
    t = times[0] + width * np.arange(POINTS)
    abar, slope = schedule.abar_and_slope(t)
    masses = np.sqrt(schedule.abar(end) / abar) * (-0.5 * slope / abar) / np.sqrt(1 - abar) * width
    found = []
    for j, own in enumerate(times):
        others = [time for k, time in enumerate(times) if k != j]
        found.append(np.sum(masses * np.prod([(t - other) / (own - other) for other in others], axis=0)))
    return np.array(found)


def _deis(denoise, x, sigmas, *, order, schedule):
    """Released DEIS-tAB: the effective noise estimate is ``(sum_j C_j eps_j) / c``, with c the coefficient of DDIM."""

    def weights(levels, sigma_next, left):
        times, end = schedule.index(np.array(levels)), schedule.index(sigma_next)
        abar, abar_next = schedule.abar(times[0]), schedule.abar(end)
        ddim = np.sqrt(1 - abar_next) - np.sqrt(abar_next / abar) * np.sqrt(1 - abar)
        # The sum is not exact for a constant either, so the weights do not quite add up to 1: neither do the code's.
        return list(coefficients(schedule, times, end) / ddim)

    return multistep(denoise, x, sigmas, weights, length=order + 1, noise=True)


_METHOD = Method(
    name="released deis",
    function=_deis,
    order=lambda order, **_: order + 1,
    evaluations=lambda steps, **_: steps,
    evaluations_above=lambda steps, **_: steps,
    teacher=lambda **_: None,
    choices={},
)


class Deis(Solver):
    """The released DEIS of this order (degree of the polynomial, 1 to 3) on a :class:`LinearAbar`."""

    def __init__(self, order: int, schedule: LinearAbar):
        super().__init__(_METHOD, {"order": order, "schedule": schedule})

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Deis, tuple(self.options.values())
