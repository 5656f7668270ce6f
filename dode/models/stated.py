"""Values of a card against those that a file states."""

import math
from typing import Any


def same(value: Any, stated: Any) -> bool:
    """Whether they mean the same: numbers but for rounding, lists and tuples by their entries, truth only as truth."""
    if isinstance(value, list | tuple) and isinstance(stated, list | tuple):
        return list(value) == list(stated)
    if type(value) is bool or type(stated) is bool:
        return value is stated
    if isinstance(value, float | int) and isinstance(stated, float | int) and float in (type(value), type(stated)):
        return math.isclose(value, stated, rel_tol=1e-6)
    return value == stated
