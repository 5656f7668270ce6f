"""What a grid is: the decorator that makes one of a function of noise levels, its registry, and checks of options.

numpy alone is imported here; torch comes with the first grid made.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dode.grids import schedules, shared
from dode.grids.facts import ModelFacts
from dode.grids.schedules import Schedule
from dode.grids.variables import Variable
from dode.registry import FileRegistry, finite

if TYPE_CHECKING:
    from dode.grids.tensor import Grid

grids = FileRegistry("grid", "dode.grids", Path(__file__).parent)

#: A grid as a function of keyword options.
Spacing: TypeAlias = Callable[..., tuple[np.ndarray, Variable]]

MOST_STEPS = 10_000_000  # of a teacher of the finest solver
FILLED = {"steps": "the nfe", "schedule": "the model's card", "model": "the model's card", "prepared": "the workflow"}


def grid(
    name: str,
    *,
    family: bool = True,
    prepare: str | None = None,
    plan: Spacing | None = None,
    recipe: bool = False,
    source: str | None = None,
) -> Callable[[Spacing], Callable[..., Grid]]:
    """Decorator: a function of keyword options that returns (levels, variable) becomes one that returns a Grid.

    That has two options more, unless it is a recipe: ``afs``, whether the first step is made without the network
    (:meth:`dode.solvers.base.Solver.with_afs`), and ``end``, ``"zero"`` or ``"sigma_min"``
    (:func:`dode.grids.shared.at_sigma_min`). A function that has an option ``end`` itself sees to it.

    Args:
        family: whether the grid can be made with another number of steps (its ``remake``).
        prepare: file name of the artefact that the grid is made from, where there is one; its path is the function's
            option ``prepared``.
        plan: what :func:`check` calls instead of the function as long as the artefact is not there: all options but
            ``prepared``, and levels of any number.
        recipe: whether it is a part of the authors' recipe for a solver, which brings more than the grid.
        source: whose grid it is, as for a solver (:func:`dode.solvers.base.solver`); None for levels of one's own.
    """

    def wrap(function):
        ends_itself = "end" in inspect.signature(function).parameters

        def levels(*, steps, afs=False, end="zero", **options):
            if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
                raise ValueError(f"grid '{name}': steps must be an integer of at least 1, not {steps!r}")
            if steps > MOST_STEPS:
                raise ValueError(f"grid '{name}': steps must be at most {MOST_STEPS:,}, not {steps:,}")
            shared.check(name, steps, afs=afs, end=end)
            # In the precision of NumPy's own numbers, such as float32, the levels would be rounded too.
            own = {key: value.item() if isinstance(value, np.generic) else value for key, value in options.items()}
            own |= {"end": end} if ends_itself else {}
            with np.errstate(all="ignore"):  # what overflows is refused
                if end == "zero" or ends_itself:
                    found, variable = function(steps=steps, **own)
                else:
                    found, variable = shared.at_sigma_min(lambda count: function(steps=count, **own), steps)
            check_descent(name, found, steps, own)
            if afs:
                shared.check_first(name, found)
            return found, variable

        @functools.wraps(function)
        def make(*, steps, **options):
            from dode.grids.tensor import Grid

            afs = options.pop("afs", False)
            remake = functools.partial(make, **options) if family else None
            return Grid.of(*levels(steps=steps, afs=afs, **options), remake, afs=afs)

        def planned(*, steps, afs=False, end="zero", **options):
            shared.check(name, steps, afs=afs, end=end)
            return plan(steps=steps, **options, **({"end": end} if ends_itself else {}))

        if not recipe:  # which is more than levels
            make.__signature__ = shared.signature(function)
        make.levels, make.family, make.prepare = levels, family, prepare
        make.plan = levels if plan is None else planned
        make.recipe, make.source = recipe, source
        return grids.register(name)(make)

    return wrap


def check_descent(name: str, levels: np.ndarray, steps: int, options: Mapping[str, Any]) -> None:
    """Refuse levels that are not finite or do not descend, as extreme options make them."""
    wrong = ~(np.diff(levels) < 0) | ~np.isfinite(levels[:-1]) | ~np.isfinite(levels[1:])
    if wrong.any():
        place = int(np.argmax(wrong))
        raise ValueError(
            f"grid '{name}': levels must be finite and descend, but with {_given(steps, options)} level {place} is "
            f"{levels[place]:.17g} and level {place + 1} is {levels[place + 1]:.17g}"
        )


def _given(steps, options):
    """Options in a sentence, those that are long left out."""
    short = {key: value for key, value in options.items() if isinstance(value, bool | int | float | str)}
    return ", ".join(f"{key} {value!r}" for key, value in {"steps": steps, **short}.items())


def check_numbers(name: str, above: float = 0.0, **values: float) -> None:
    """Refuse what is not a finite number above a bound."""
    for option, value in values.items():
        if not finite(value) or not above < value:
            raise ValueError(f"grid '{name}': {option} must be a finite number above {above:g}, not {value!r}")


def check_between(name: str, least: float, most: float, **values: float) -> None:
    """Refuse what is not a number within bounds."""
    for option, value in values.items():
        if not finite(value) or not least <= value <= most:
            raise ValueError(f"grid '{name}': {option} must be a number from {least:g} to {most:g}, not {value!r}")


def check_range(name: str, sigma_min: float, sigma_max: float) -> None:
    """Refuse an invalid range of noise levels."""
    check_numbers(name, sigma_min=sigma_min, sigma_max=sigma_max)
    if not sigma_min < sigma_max:
        raise ValueError(f"grid '{name}': needs sigma_min < sigma_max, not {sigma_min} and {sigma_max}")


def indices_of(
    name: str, schedule: Schedule | None, sigma_min: float | None, sigma_max: float | None
) -> tuple[Schedule, float, float]:
    """(schedule, lowest index, highest index) of a noise range; by default linear betas and their whole range.

    The whole range of a schedule begins at its last index, also where that is pure noise.
    """
    schedule = schedules.schedules.create("linear") if schedule is None else schedule
    sigma_min = schedule.sigma_min if sigma_min is None else sigma_min
    sigma_max = schedule.noisiest if sigma_max is None else sigma_max
    check_range(name, sigma_min, sigma_max)
    if sigma_max > schedule.noisiest * (1 + 1e-9):
        raise ValueError(
            f"grid '{name}': sigma_max must be at most {schedule.noisiest:.6g}, the schedule's largest noise level, "
            f"not {sigma_max}"
        )
    return schedule, max(float(schedule.index(sigma_min)), 0.0), float(schedule.index(sigma_max))


def range_of(
    name: str, schedule: Schedule | None, sigma_min: float | None, sigma_max: float | None
) -> tuple[float, float]:
    """(lowest, highest) noise level, by default those of the schedule from its last index on, or else those of EDM."""
    lowest, highest = (0.002, 80.0) if schedule is None else (schedule.sigma_min, schedule.noisiest)
    found = lowest if sigma_min is None else sigma_min, highest if sigma_max is None else sigma_max
    check_range(name, *found)
    return found


def names() -> list[str]:
    """Names of all grids, sorted."""
    return grids.names()


def families() -> list[str]:
    """Names of the grids that can be made of any number of steps, without a preparation."""
    return [name for name in names() if grids.get(name).family]


def defaults(name: str) -> dict[str, Any]:
    """The options of a grid that a user may choose and need not, with their defaults."""
    own = inspect.signature(grids.get(name)).parameters
    return {
        key: own[key].default for key in own if key not in FILLED and own[key].default is not inspect.Parameter.empty
    }


def refuse_filled(options: Iterable[str]) -> None:
    """Refuse options that are not the user's to choose."""
    for option in options:
        if option in FILLED:
            raise ValueError(f"'{option}' follows from {FILLED[option]}; leave it out")


def filled(name: str, options: Mapping[str, Any], facts: ModelFacts) -> dict[str, Any]:
    """``options`` with what the model fixes: its schedule, or else its smallest and largest noise level."""
    own = inspect.signature(grids.get(name)).parameters
    keys = ("schedule",) if "schedule" in own and facts.schedule is not None else ("sigma_min", "sigma_max")
    known = {key: value for key in keys if key in own and (value := getattr(facts, key)) is not None}
    return {**({"model": facts} if "model" in own else {}), **known, **options}
