"""The grid whose steps minimise a bound of the error of multistep solvers."""

import functools
import math
from collections.abc import Sequence

import numpy as np

from dode.grids.base import check_range, grid
from dode.grids.spacings.karras import karras
from dode.grids.spacings.log_snr import log_snr
from dode.grids.spacings.uniform_time import uniform_time
from dode.grids.variables import Variable, log_space

STARTS = {"log-snr": log_snr, "uniform-time": uniform_time, "karras": karras}
MOST = 21  # steps, one more for an end at sigma_min: the optimisation of so many takes some ten seconds
ALONE = 3  # first steps whose terms are bounded each by itself, for the minimum to be a stable one
DIGITS = 6  # of the half log-SNRs
NEAREST = 1e-3  # that two of them come


def _start(*, steps, sigma_min, sigma_max, power, start):
    """Refuse bad options; the levels that the optimisation begins with."""
    check_range("dmn", sigma_min, sigma_max)
    if power not in (1, 2):
        raise ValueError(f"grid 'dmn': power must be 1 or 2, not {power!r}")
    if start not in STARTS:
        raise ValueError(f"grid 'dmn': start must be one of {', '.join(map(repr, STARTS))}, not {start!r}")
    if steps > MOST:
        raise ValueError(f"grid 'dmn': at most {MOST} steps, not {steps}")
    levels, _ = STARTS[start].levels(steps=steps, sigma_min=sigma_min, sigma_max=sigma_max)
    return levels, log_space(sigma_min)


@grid("dmn", family=False, plan=_start, source="Xue et al. 2024, arXiv:2402.17376, Eq. 20")
def dmn(
    *, steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, power: int = 1, start: str = "log-snr"
) -> tuple[np.ndarray, Variable]:
    """The levels from ``sigma_max`` to ``sigma_min`` with the least bound of the error of UniPC-3, then 0.

    Xue et al. 2024, arXiv 2402.17376, Eq. 20: the end state of a multistep method is a weighted sum of the outputs,
    whose errors are taken to be of the size ``e(sigma)``; the sum of weight times error is minimised over the levels,
    from the schedule alone. ``e = s^power / alpha`` with ``alpha = 1 / sqrt(1 + sigma^2)``, ``s = alpha sigma``:
    ``power`` 2 is the authors' for latents, 1 the one that their code advises for images. ``start``: the grid from
    which the optimisation goes to the nearest minimum, ``"log-snr"`` (images), ``"uniform-time"`` (latents) or
    ``"karras"``. ``end="sigma_min"`` is the authors' use; the step to 0 is one more.
    """
    levels, variable = _start(steps=steps, sigma_min=sigma_min, sigma_max=sigma_max, power=power, start=start)
    found = np.exp(-_best(tuple((-np.log(levels[:-1])).tolist()), power))
    found[0] = sigma_max
    if steps > 1:
        found[-1] = sigma_min
    return np.append(found, 0.0), variable


@functools.lru_cache(maxsize=256)
def _best(log_snr: tuple[float, ...], power: int) -> np.ndarray:
    """The half log-SNRs, ascending, whose first and last stay as they are and whose others minimise the bound.

    The bound has corners, where sums of weights are 0. So it is minimised as the sum of bounds of those sums from both
    sides, which is smooth (the authors' minimiser wanders around the corners from eight steps on).
    """
    from scipy.optimize import minimize  # slow to import, and for this alone

    begin, end, inner = log_snr[0], log_snr[-1], len(log_snr) - 2
    if inner < 1:
        return np.array(log_snr)

    def parts(z):
        return error_parts([begin, *z[:inner].tolist(), end], power)

    def gaps(z):
        return np.diff([begin, *z[:inner], end]) - NEAREST

    def sides(z):
        sums, bounds = np.array(parts(z)[1]), z[inner:]
        return np.concatenate([bounds - sums, bounds + sums])

    start = np.array(log_snr[1:-1])
    start = np.concatenate([start, np.abs(parts(start)[1])])
    constraints = [{"type": "ineq", "fun": function} for function in (gaps, sides)]
    best = minimize(
        lambda z: parts(z)[0] + z[inner:].sum(),
        start,
        method="SLSQP",
        constraints=constraints,
        options={"maxiter": 500, "ftol": 1e-10},
    )
    # Rounded, so that machines that compute differently agree.
    return np.array([begin, *np.round(best.x[:inner], DIGITS), end])


def error_parts(log_snr: Sequence[float], power: int) -> tuple[float, list[float]]:
    """The bound of the error for the half log-SNRs of N steps, N + 1 of them, ascending: ``total + sum(|sums|)``.

    Step s has order 1, 2, 3, ..., 3, 2, 1 and weights on the last outputs, the integrals of ``exp(lambda)`` with their
    Lagrange polynomials. Those of the first three steps, of the last and of the first are bounded each by itself
    (``total``), the others are added up over the steps, one of the N ``sums`` an output.
    """
    steps = len(log_snr) - 1
    # s^power / alpha of each level
    errors = [math.exp(-power * u) * math.hypot(1, math.exp(-u)) ** (1 - power) for u in log_snr]
    total, sums = 0.0, [0.0] * steps
    for step in range(steps):
        order = 1 if step in (0, steps - 1) else 2 if step in (1, steps - 2) else 3
        first = step - order + 1
        weights = _weights(log_snr[first : step + 1], log_snr[step + 1])
        terms = [error * weight for error, weight in zip(errors[first:], weights, strict=False)]
        if step >= ALONE and order > 1:
            for place, term in enumerate(terms, first):
                sums[place] += term
        else:
            total += math.hypot(*terms)
    return total, sums


def _weights(nodes: Sequence[float], end: float) -> list[float]:
    """``int exp(u) L_j(u) du`` from the last of one to three ``nodes`` to ``end``, of each Lagrange polynomial."""
    begin = nodes[-1]
    h, scale = end - begin, math.exp(begin)
    zeroth = math.expm1(h)  # int_0^h exp(v) v^p dv, p = 0, 1, 2
    if len(nodes) == 1:
        return [scale * zeroth]
    first = math.exp(h) * h - zeroth
    if len(nodes) == 2:
        older = first / (nodes[0] - begin)
        return [scale * older, scale * (zeroth - older)]
    second = math.exp(h) * h * h - 2 * first
    a, b = nodes[0] - begin, nodes[1] - begin
    oldest, older = (second - b * first) / (a * (a - b)), (second - a * first) / (b * (b - a))
    return [scale * oldest, scale * older, scale * (zeroth - oldest - older)]
