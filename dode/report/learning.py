"""Whether, and by which method, a cell has learnt something before it samples: decided here alone. Imports no torch.

A cell is *distilled* where something had to be learnt from the model before it could sample: by a fit, or by what was
prepared for its solver or its grid (a trained network, statistics, a searched grid). It is *fitted* where it has a file
of fitted coefficients, which is one way of being distilled. What is not distilled is plain.
"""

import functools
from collections.abc import Mapping
from typing import Any

from dode import grids, solvers
from dode.distillation.fit_checks import FITS


@functools.cache
def prepared_files(solver: str, grid: str) -> Mapping[str, str]:
    """The files that a solver and a grid are made from, by name of the part; empty where neither needs one.

    Raises:
        ValueError: for an unknown solver or grid.
    """
    parts = {
        "prepared_solver": solvers.create(solver).method.prepare,
        "prepared_grid": grids.grids.get(grid).prepare,
    }
    return {name: file for name, file in parts.items() if file}


def distilled(solver: str, grid: str, *, fitted: bool) -> bool:
    """Whether a cell of that solver and grid is distilled; ValueError for an unknown solver or grid."""
    return fitted or bool(prepared_files(solver, grid))


def of_record(made: Mapping[str, Any], *, said: bool = False) -> bool:
    """The same of a cell as a benchmark's record has it, with ``run`` and, where it is fitted, ``fit``.

    ``said``: what is said of it elsewhere, which stands where its solver or its grid is unknown here.
    """
    solver, grid = made["run"]["solver"], made["run"].get("grid", {}).get("name")
    known = solver in solvers.names() and grid in grids.names()
    return distilled(solver, grid, fitted="fit" in made) if known else "fit" in made or said


def method(solver: str, fit: str | None) -> str:
    """The method of a cell: its solver, or the method of others by which its solver was fitted."""
    return solver if fit is None or fit in FITS else fit
