"""The options that every grid has: a first step without the network, and an end above 0. Imports no torch."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dode.grids.variables import Variable
from dode.solvers.base import Solver

#: The options with their defaults.
SHARED: dict[str, Any] = {"afs": False, "end": "zero"}
AFS_SOURCE = "Dockhorn, Vahdat & Kreis 2022, arXiv:2210.05475, App. C.1"
ENDS = ("zero", "sigma_min")
LOWEST = 1.0  # of a first level for an analytic first step: below, noise does not outweigh the image
SAME = 1e-6  # relative; closer levels are one


def check(name: str, steps: int, *, afs: bool, end: str) -> None:
    """Refuse values that the options of the grid ``name`` cannot have.

    Raises:
        ValueError: naming option, value and what is allowed.
    """
    if not isinstance(afs, bool):
        raise ValueError(f"grid '{name}': afs must be true or false, not {afs!r}")
    if end not in ENDS:
        raise ValueError(f"grid '{name}': end must be one of {', '.join(map(repr, ENDS))}, not {end!r}")
    if afs and steps < 2:
        raise ValueError(
            f"grid '{name}': afs needs at least 2 steps, because the first is made without the network, not {steps}"
        )


def check_first(name: str, levels: np.ndarray) -> None:
    """Refuse an analytic first step from a level at which its slope is far from any model's."""
    if levels[0] < LOWEST:
        raise ValueError(
            f"grid '{name}': afs needs a first noise level of at least {LOWEST:g}, where noise outweighs the image, "
            f"not {float(levels[0]):.6g}"
        )


def at_sigma_min(levels: Callable[[int], tuple[np.ndarray, Variable]], steps: int) -> tuple[np.ndarray, Variable]:
    """``steps`` steps of a grid to the smallest level of its family (``variable.sigma_min``) instead of 0.

    ``levels(steps)`` is the grid that ends in 0. Where its last level before that is the smallest one, as that of
    ``karras`` is, it is one step longer without the 0; else the smallest takes the place of the 0, as diffusers'
    ``final_sigmas_type="sigma_min"`` has it.
    """
    found, variable = levels(steps)
    if found[-2] > variable.sigma_min * (1 + SAME):
        return np.append(found[:-1], variable.sigma_min), variable
    longer, variable = levels(steps + 1)
    return longer[:-1], variable


def signature(function: Callable[..., Any]) -> inspect.Signature:
    """Of a grid's function, with the options of every grid as the last ones."""
    own = inspect.signature(function)
    shared = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=type(default))
        for key, default in SHARED.items()
        if key not in own.parameters
    ]
    return own.replace(parameters=[*own.parameters.values(), *shared])


def placed(solver: Solver, options: Mapping[str, Any]) -> Solver:
    """The solver as it runs on a grid with these options."""
    return solver.with_afs() if options.get("afs") else solver


def ends_at(options: Mapping[str, Any]) -> float:
    """Where a grid with these options ends: 0, or a number above it that stands for any."""
    return 1.0 if options.get("end") == "sigma_min" else 0.0


def intervals(solver: Solver, nfe: int, options: Mapping[str, Any]) -> int:
    """Number of grid intervals with which the solver makes ``nfe`` evaluations on a grid with these options.

    Raises:
        ValueError: as :meth:`dode.solvers.base.Solver.steps`.
    """
    return placed(solver, options).steps(nfe, end=ends_at(options))
