"""Named parts with checked options: solvers, grids, schedules, networks, feature extractors.

Nothing here imports torch: the configuration is checked each time that Snakemake parses the Snakefile, in every job.
"""

import difflib
import inspect
import math


def nearest(word, known):
    """The known name most like ``word``, as ``" (did you mean 'x'?)"``, or an empty string."""
    matches = difflib.get_close_matches(str(word), [str(name) for name in known], n=1, cutoff=0.5)
    return f" (did you mean '{matches[0]}'?)" if matches else ""


def unknown(kind, name, known):
    """The sentence that every unknown name is refused with."""
    listing = ", ".join(sorted(str(k) for k in known)) or "none"
    return f"unknown {kind} '{name}'{nearest(name, known)}; known: {listing}"


class Registry:
    """Functions by name, called with keyword options that are checked against their signature."""

    def __init__(self, kind):
        self.kind = kind
        self._functions = {}

    def register(self, name):
        """Decorator: make a function available under ``name``. Its keyword-only arguments are its options."""

        def add(function):
            if name in self._functions:
                raise ValueError(f"{self.kind} '{name}' is registered twice")
            self._functions[name] = function
            return function

        return add

    def names(self):
        """The registered names, sorted."""
        return sorted(self._functions)

    def get(self, name):
        """The function called ``name``; ValueError that lists the known names."""
        if name not in self._functions:
            raise ValueError(unknown(self.kind, name, self._functions))
        return self._functions[name]

    def check_options(self, name, options):
        """Refuse an option that ``name`` does not have, or a missing one without a default."""
        check_options(self.kind, name, self.get(name), options)

    def create(self, name, **options):
        """Call the function ``name`` with ``options``; an unknown option is a ValueError that lists the known."""
        self.check_options(name, options)
        return self.get(name)(**options)


def check_options(kind, name, function, options):
    """Refuse options that are not keyword-only arguments of ``function``, or required ones that are missing."""
    parameters = {
        key: parameter
        for key, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for option in options:
        if option not in parameters:
            raise ValueError(f"{kind} '{name}': {unknown('option', option, set(parameters) - {'steps'})}")
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in options:
            raise ValueError(f"{kind} '{name}' needs the option '{key}'")
        # A whole default may stand for any number, other types of default for several types, and None for no number.
        number = isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)
        if number and options.get(key) is not None and not _is_number(options[key]):
            raise ValueError(f"{kind} '{name}': option '{key}' must be a finite number, not {options[key]!r}")


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
