"""Grids of a model: on its schedule or its range of noise levels."""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from dode.grids.base import check_descent, defaults, filled, grids
from dode.grids.facts import ModelFacts
from dode.solvers.base import Denoise

if TYPE_CHECKING:
    from dode.grids.tensor import Grid

# Evenly spaced levels from this on are timesteps: as noise levels they would leave out all that matters.
EVEN = 100.0
# As are whole numbers from there on, however spaced, which leave out all below this but one.
WHOLE = 10.0


def complete(name: str, facts: ModelFacts, **options: Any) -> dict[str, Any]:
    """``options`` of a grid with its defaults and with what the model fixes, without torch."""
    return {**defaults(name), **filled(name, options, facts)}


def check(name: str, steps: int, facts: ModelFacts, **options: Any) -> None:
    """Refuse, without torch, a grid that cannot be made with these options for the model.

    Raises:
        ValueError: naming the option, or the two levels that do not descend: where the model knows some levels alone,
            two may be the same after rounding.
    """
    grids.check_options(name, {"steps": steps, **options})
    levels, _ = grids.get(name).plan(steps=steps, **complete(name, facts, **options))
    check_descent(name, levels, steps, options)
    check_levels(levels, facts)
    if facts.round_sigma is not None:
        rounded = facts.round_sigma(levels)
        if not (np.diff(rounded) < 0).all():
            place = int(np.argmin(np.diff(rounded) < 0))
            raise ValueError(
                f"grid '{name}': of the model's noise levels, {rounded[place]:.6g} is the nearest to both "
                f"{levels[place]:.6g} and {levels[place + 1]:.6g}; take fewer than {steps} steps, or a larger sigma_min"
            )


def check_levels(levels: np.ndarray, facts: ModelFacts | None = None, name: str = "sigmas") -> None:
    """Raise ValueError for times in the place of noise levels, and for levels above those that a model knows.

    Args:
        levels: descending.
        facts: of the model.
        name: of the levels, for the message.
    """
    first, parts = float(levels[0]), (levels, levels[levels > 0])
    why = None
    if first >= EVEN and any(len(part) > 2 and np.ptp(np.diff(part)) <= 2 for part in parts):
        why = "evenly spaced"
    elif first >= EVEN and len(parts[1]) > 3 and parts[1][-2] > WHOLE and (levels == np.rint(levels)).all():
        why = f"whole numbers, nearly all above {WHOLE:g}"
    if why:
        raise ValueError(
            f"{name}: {listed(levels)} are timesteps and not noise levels, as they are {why}; a schedule's "
            "sigma(index) turns one into the other (dode.grids.schedules)"
        )
    if facts is not None and facts.prediction == "flow" and first <= 1:
        raise ValueError(
            f"{name}: the first, {first:.6g}, is no noise level to begin with; of the times t of flow matching, from 1 "
            "to 0, the noise levels are t / (1 - t)"
        )
    if facts is None or facts.sigma_max is None:
        return
    highest = facts.sigma_max
    if facts.schedule is not None and facts.schedule.zero_snr:
        highest = facts.schedule.noisiest
    rounded = highest if facts.round_sigma is None else float(facts.round_sigma(np.array(highest)))
    if first > max(highest, rounded) * 1.01:
        raise ValueError(
            f"{name}: the first, {first:.6g}, is above {highest:.6g}, the highest noise level that the model "
            "knows; timesteps are no noise levels"
        )


def listed(levels: Any) -> str:
    """Noise levels in words; of many, the first and the last."""
    found = [f"{float(level):.6g}" for level in levels]
    return ", ".join(found if len(found) <= 12 else [*found[:3], "...", *found[-2:]])


def for_model(denoise: Denoise, name: str, steps: int, **options: Any) -> "Grid":
    """The grid ``name`` for a model (:class:`dode.models.denoiser.Denoiser`), on its schedule or noise range.

    A model that knows some noise levels alone (``round_sigma``) gets the nearest of them.
    """
    return for_facts(ModelFacts.of(denoise), name, steps, **options)


def for_facts(facts: ModelFacts, name: str, steps: int, **options: Any) -> "Grid":
    """:func:`for_model` of what the model says of itself, without the model."""
    grid = grids.create(name, steps=steps, **filled(name, options, facts))
    return grid if facts.round_sigma is None else _rounded(grid, facts.round_sigma)


def _rounded(grid, rounded):
    """The grid, and those it is remade as, with its levels at the nearest that a discrete model has."""
    from dode.grids.tensor import Grid

    remake = None if grid.remake is None else functools.partial(_remade, grid.remake, rounded)
    return Grid.of(rounded(np.asarray(grid)), grid.variable, remake, grid.afs)


def _remade(remake, rounded, **options):
    return _rounded(remake(**options), rounded)
