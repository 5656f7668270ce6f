"""The solvers, one file per method family. A new file here is found automatically (docs/adding-a-solver.md)."""

import importlib
import pkgutil

from dode.solvers.base import Method, Proposal, Solver, create, create_teacher, names, solver

__all__ = ["Method", "Proposal", "Solver", "create", "create_teacher", "module_of", "names", "solver"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def module_of(name: str) -> str:
    """The module that defines the solver ``name`` (its source is what a cell of that solver depends on)."""
    return create(name).method.function.__module__
