"""Mean and spread of numbers of any size: their squares may be beyond float64, or vanish in it, where they are not.

The numbers are divided by a power of two before they are summed or squared, and the result is multiplied by it. Neither
rounds, so that for numbers of ordinary size the results are numpy's to the bit.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def mean(values: ArrayLike) -> float:
    """Of numbers (n,), also of the largest."""
    scaled, exponent = _scaled(values, None)
    return float(np.ldexp(scaled.mean(), exponent.item()))


def standard_deviation(values: ArrayLike, axis: int | None = None) -> Any:
    """With n - 1 in the denominator; NaN where a number is not finite or there are fewer than two.

    Args:
        values: numbers (n, ...).
        axis: along which; None for all.

    Returns:
        A number, or an array without ``axis``.
    """
    scaled, exponent = _scaled(values, axis)
    if (scaled.size if axis is None else scaled.shape[axis]) < 2:
        return np.full(exponent.shape, np.nan).squeeze(axis)[()]
    with np.errstate(invalid="ignore", over="ignore"):
        return np.ldexp(scaled.std(axis=axis, ddof=1), np.squeeze(exponent, axis=axis))


def _scaled(values, axis):
    """The numbers divided by ``2^exponent``, so that the largest along ``axis`` is below 1; and the exponent."""
    values = np.asarray(values, np.float64)
    exponent = np.frexp(np.abs(values).max(axis=axis, keepdims=True, initial=0))[1]
    return np.ldexp(values, -exponent), exponent
