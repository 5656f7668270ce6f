"""How measured numbers are printed, in tables, on the page and in comparisons."""

import math
import statistics
from collections.abc import Iterable

MOST_DECIMALS = 4


def decimals(values: Iterable[float | None], errors: Iterable[float | None]) -> int:
    """Decimals that show two digits of the median error, or three of the median value where there is no error.

    The median: with the smallest error a lone stable number would dress all others in meaningless digits. At most
    :data:`MOST_DECIMALS`. What is None, zero or not finite does not count.
    """
    for given, digits in ((errors, 2), (values, 3)):
        sizes = [abs(size) for size in given if size and math.isfinite(size)]
        if sizes:
            exponent = int(f"{statistics.median(sizes):.{digits - 1}e}".partition("e")[2])  # 0.0999… is 0.10
            return min(max(digits - 1 - exponent, 0), MOST_DECIMALS)
    return 0


def fixed(number: float | None, decimals: int, sign: str = "") -> str:
    """A number with so many decimals; empty where it is None or not finite."""
    if number is None or not math.isfinite(number):
        return ""
    # Adding 0.0 turns a -0.0 left by the rounding into 0.0.
    return f"{round(number, decimals) + 0.0:{sign}.{decimals}f}"
