"""The grid of the authors' recipes."""

import numpy as np

from dode.grids.base import grid, grids
from dode.grids.schedules import Schedule
from dode.grids.variables import Variable, index_space


def _released_plan(*, steps, schedule=None, sigma_min=0.002, sigma_max=80.0):
    if schedule is None:
        return grids.get("karras").levels(steps=steps, sigma_min=sigma_min, sigma_max=sigma_max)
    if steps > len(schedule):
        raise ValueError(f"grid 'released': at most {len(schedule)} steps on this schedule, not {steps}")
    indices = (len(schedule) - 1) * np.arange(steps, -1, -1) / steps
    return schedule.sigma(indices), index_space(schedule, schedule.sigma_min, len(schedule))


@grid(
    "released",
    family=False,
    plan=_released_plan,
    recipe=True,
    source="Kim, Tang & Yu 2024, arXiv:2309.16421, the authors' code at commit 6dc5a1c",
)
def released(
    *, steps: int, schedule: Schedule | None = None, sigma_min: float = 0.002, sigma_max: float = 80.0
) -> tuple[np.ndarray, Variable]:
    """The grid of the authors' recipe for a solver, which belongs to it with its schedule: :mod:`dode.released`.

    The workflow makes the whole recipe of a cell with this grid, plain or distilled with ``alignment: released``.
    """
    raise ValueError("grid 'released' is part of the authors' recipe for a solver; dode.released.recipe makes it")
