"""Public names that are imported when they are first used: the workflow reads its configuration without torch."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def attributes(package: str, where: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's ``__getattr__`` for the names in ``where``.

    Args:
        package: its name, for the error.
        where: of each name the module that defines it, or ``"="`` and a module that it is.
    """

    def getattribute(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        place = where[name]
        return importlib.import_module(place[1:]) if place[0] == "=" else getattr(importlib.import_module(place), name)

    return getattribute
