"""What to cite for a solver: the method that fitted it, and the sources of solver and grid. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from dode import grids, solvers
from dode.distillation import learned
from dode.distillation.fit_checks import FITS
from dode.grids.shared import AFS_SOURCE
from dode.solvers.non_stationary import NAME, SOURCE

D_ODE = "Kim, Tang & Yu, Distilling ODE Solvers of Diffusion Models into Smaller Steps, CVPR 2024, arXiv:2309.16421"


def sources(solver: str, grid: str, *, fit: str | None, general: bool, afs: bool) -> list[str]:
    """What to cite, one source a line; what is not known here, as of an archive, is left out.

    Args:
        solver, grid: their names, which a ``general`` form has left behind.
        fit: how it was fitted; None for a plain solver.
        general: whether the solver is the general linear form.
        afs: whether its first step needs no network.
    """
    found: dict[str, str | None] = {}
    if fit is not None and fit not in FITS:
        found[f"fit {fit}"] = learned.fits.get(fit).source if fit in learned.fits.names() else None
    if general:
        found[f"solver {NAME}"] = SOURCE
    else:
        found[f"solver {solver}"] = solvers.create(solver).method.source if solver in solvers.names() else None
        found[f"grid {grid}"] = grids.grids.get(grid).source if grid in grids.names() else None
    if afs:
        found["analytic first step"] = AFS_SOURCE
    own = [D_ODE] if fit in FITS else []
    return [*own, *(f"{part}: {source}" for part, source in found.items() if source)]


def of_cell(made: Mapping[str, Any], values: Mapping[str, Any] | None) -> list[str]:
    """The same of a cell.

    Args:
        made: its record, with ``run`` and, where it is fitted, ``fit``.
        values: ``lambdas`` and ``coefficients`` of the file of its fit; None without one.
    """
    run, values = made["run"], values or {}
    grid = run.get("grid", {"name": ""})
    general, fit = bool(values.get("coefficients")), made.get("fit", {}).get("fit")
    if fit in FITS and not general and not values.get("lambdas"):
        fit = None  # a joint fit that kept the plain solver
    afs = bool(grid.get("options", {}).get("afs")) and not general
    return sources(run["solver"], grid["name"], fit=fit, general=general, afs=afs)
