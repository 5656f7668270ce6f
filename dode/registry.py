"""Named parts with checked options: solvers, grids, schedules, networks, feature extractors, guidances.

Also public names that are imported on first use. Nothing here imports torch: the configuration is checked
each time that Snakemake parses the Snakefile, in every job.
"""

import difflib
import functools
import importlib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable)


def nearest(word: object, known: Iterable[object]) -> str:
    """The known name nearest to ``word``, as ``" (did you mean 'x'?)"``, or an empty string."""
    matches = difflib.get_close_matches(str(word), [str(name) for name in known], n=1, cutoff=0.5)
    return f" (did you mean '{matches[0]}'?)" if matches else ""


def unknown(kind: str, name: object, known: Iterable[object]) -> str:
    """The sentence with which every unknown name is refused."""
    listing = ", ".join(sorted(str(k) for k in known)) or "none"
    return f"unknown {kind} '{name}'{nearest(name, known)}; known: {listing}"


class Registry:
    """Functions by name, called with keyword options that are checked against their signature."""

    def __init__(self, kind: str):
        self.kind = kind
        self._functions: dict[str, Callable] = {}

    def register(self, name: str) -> Callable:
        """Decorator: make a function available under ``name``. Its keyword-only arguments are its options."""

        def add(function):
            if name in self._functions:
                raise ValueError(f"{self.kind} '{name}' is registered twice")
            self._functions[name] = function
            return function

        return add

    def names(self) -> list[str]:
        """The registered names, sorted."""
        return sorted(self._functions)

    def get(self, name: str) -> Any:
        """The function called ``name``; ValueError that lists the known names."""
        if name not in self._functions:
            raise ValueError(unknown(self.kind, name, self._functions))
        return self._functions[name]

    def check_options(self, name: str, options: Mapping[str, Any]) -> None:
        """Refuse an option that ``name`` does not have, or a missing one without a default."""
        check_options(self.kind, name, self.get(name), options)

    def create(self, name: str, **options: Any) -> Any:
        """Call the function ``name`` with ``options``; an unknown option is a ValueError that lists the known."""
        self.check_options(name, options)
        return self.get(name)(**options)


class FileRegistry(Registry):
    """A registry with one file per part, which is found by the part's name and imported when the part is first needed.

    The part ``adm-unet`` is registered in a file ``adm_unet.py`` somewhere below the registry's folder. So a new part
    needs a new file and no edit elsewhere, and a result depends only on the file of its own part.

    Args:
        kind: what the parts are, for messages.
        package: the package that is searched, with all below it: ``dode.models``.
        folder: of that package.
    """

    def __init__(self, kind: str, package: str, folder: str | Path):
        super().__init__(kind)
        self.package, self.folder = package, Path(folder)

    @functools.cached_property
    def modules(self) -> dict[str, str]:
        """The dotted name of the module of each part; nothing is imported."""
        found: dict[str, str] = {}
        for path in sorted(self.folder.rglob("*.py")):
            name = path.stem.replace("_", "-")
            if re.search(rf'^@[\w.]+\(\s*"{re.escape(name)}"', path.read_text(encoding="utf-8"), flags=re.MULTILINE):
                if name in found:
                    raise ValueError(f"{self.kind} '{name}' is in two files below {self.folder}: {found[name]}, {path}")
                found[name] = ".".join([self.package, *path.relative_to(self.folder).with_suffix("").parts])
        return found

    def names(self) -> list[str]:
        """The names of all parts, sorted."""
        return sorted({*self.modules, *self._functions})

    def module_of(self, name: str) -> str:
        """The dotted name of the module of a part, which is not imported; ValueError that lists the known names."""
        if name not in self.modules:
            raise ValueError(unknown(self.kind, name, self.names()))
        return self.modules[name]

    def get(self, name: str) -> Any:
        """The part called ``name``; ValueError that lists the known names."""
        if name not in self._functions:
            importlib.import_module(self.module_of(name))
        return super().get(name)


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


@functools.cache  # a large configuration asks for each some thousand times
def keyword_only(function: Callable) -> Mapping[str, inspect.Parameter]:
    """The keyword-only parameters of a registered function, which are its options."""
    parameters = inspect.signature(function).parameters
    return {key: found for key, found in parameters.items() if found.kind is inspect.Parameter.KEYWORD_ONLY}


def check_options(kind: str, name: str, function: Callable, options: Mapping[str, Any]) -> None:
    """Refuse options that are not keyword-only arguments of ``function``, or required ones that are missing."""
    parameters = keyword_only(function)
    for option in options:
        if option not in parameters:
            raise ValueError(f"{kind} '{name}': {unknown('option', option, set(parameters) - {'steps'})}")
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in options:
            raise ValueError(f"{kind} '{name}' needs the option '{key}'")
        # A whole default may stand for any number, other types of default for several types, and None for no number.
        number = isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)
        if number and options.get(key) is not None and not finite(options[key]):
            raise ValueError(
                f"{kind} '{name}': option '{key}' must be a finite number, not {options[key]!r}{written(options[key])}"
            )
        # Text such as "no" would be taken for true.
        if isinstance(parameter.default, bool) and not isinstance(options.get(key, True), bool):
            raise ValueError(f"{kind} '{name}': option '{key}' must be true or false, not {options[key]!r}")


def written(value: Any, *, fraction: bool = True) -> str:
    """How a number is written that YAML 1.1 reads as something else, for the end of a sentence that refuses it.

    It takes ``1e5`` for text, and ``1.0e+5`` for no integer. Empty where there is nothing to say.

    >>> written("1e5", fraction=False), written("2e-7")
    ('; write 100000', '; write 2.0e-07')
    """
    if not isinstance(value, str | float):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    if number.is_integer() and abs(number) < 2**53:
        return f"; write {int(number)}"
    text = repr(number)
    return f"; write {text if '.' in text else text.replace('e', '.0e')}" if fraction and math.isfinite(number) else ""


def finite(value: Any) -> bool:
    """Whether a value is a number that float64 holds; NumPy's are numbers, booleans are none."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False
