"""Two records of how something was made, held against each other."""

from collections.abc import Iterator
from typing import Any


def differences(first: Any, second: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """``(key, value, value)`` of the innermost values that differ, keys joined by dots.

    >>> list(differences({"grid": {"rho": 7}, "nfe": 5}, {"grid": {"rho": 5}, "nfe": 5}))
    [('grid.rho', 7, 5)]
    """
    if isinstance(first, dict) and isinstance(second, dict):
        for name in dict.fromkeys([*first, *second]):
            inner = f"{key}.{name}" if key else str(name)
            yield from differences(first.get(name), second.get(name), inner)
    elif first != second:
        yield key, first, second
