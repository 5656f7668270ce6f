"""Time grids: where on the noise scale a solver steps.

Every grid is a function with keyword options that returns a :class:`dode.grids.tensor.Grid`: noise levels as a float64
tensor of shape (steps + 1,), descending, ending in 0. It is called by its name, ``dode.grids.karras(steps=5)``, and is
a file in ``spacings/``. A grid is uniform in a variable of its own (:mod:`dode.grids.variables`); the teacher of a
distillation divides the student's intervals uniformly in that variable. numpy alone is imported here; torch comes with
the first grid made.

What a model fixes of a grid (``schedule``, ``sigma_min``, ``sigma_max``) is filled in by :func:`for_model`.
"""

from typing import Any

from dode.grids.base import FILLED, defaults, families, grids, names, refuse_filled
from dode.grids.of_model import check, complete, for_facts, for_model
from dode.grids.shared import SHARED, ends_at, intervals, placed
from dode.grids.variables import Variable, index_space, log_space, rho_space, root_index_space, time_space

__all__ = [
    "FILLED",
    "SHARED",
    "Variable",
    "check",
    "complete",
    "defaults",
    "ends_at",
    "families",
    "for_facts",
    "for_model",
    "grids",
    "index_space",
    "intervals",
    "log_space",
    "names",
    "placed",
    "refuse_filled",
    "rho_space",
    "root_index_space",
    "time_space",
]


def __getattr__(name: str) -> Any:
    if name.replace("_", "-") in grids.modules:
        return grids.get(name.replace("_", "-"))
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
