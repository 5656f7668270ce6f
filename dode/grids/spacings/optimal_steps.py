"""The tables of Optimal Stepsize for Diffusion Sampling."""

import numpy as np

from dode.grids.base import check_numbers, grid
from dode.grids.schedules import FlowSchedule, Schedule, level_at_time, time_of_level
from dode.grids.variables import Variable, exponential_space
from dode.solvers.formulas import PURE_NOISE

# Times of flow matching, of 10 and of 20 steps: the authors' in ComfyUI (comfy_extras/nodes_optimalsteps.py), to which
# their own page refers (github.com/bebebe666/OptimalSteps).
TABLES = {
    "flux": (0.9968, 0.9886, 0.9819, 0.975, 0.966, 0.9471, 0.9158, 0.8287, 0.5512, 0.2808, 0.001),
    "wan": (
        *(1.0, 0.997, 0.995, 0.993, 0.991, 0.989, 0.987, 0.985, 0.98, 0.975, 0.973),
        *(0.968, 0.96, 0.946, 0.927, 0.902, 0.864, 0.776, 0.539, 0.208, 0.001),
    ),
}


@grid("optimal-steps", source="Pei et al. 2025, arXiv:2503.21774")
def optimal_steps(
    *,
    steps: int,
    schedule: Schedule | None = None,
    sigma_max: float | None = None,
    table: str = "flux",
) -> tuple[np.ndarray, Variable]:
    """The times that a search has found on a published model (Pei et al. 2025, arXiv 2503.21774), then 0.

    ``table``: of ``"flux"`` (FLUX.1-dev, ten steps) or ``"wan"`` (Wan 2.1, twenty). For other numbers of steps the
    logarithms of the times of flow matching are interpolated linearly in ``i / steps``, as ComfyUI does; for a model
    whose highest level is below the table's first, from there on.

    >>> optimal_steps(steps=10).tolist()[1]
    86.71929...
    """
    if table not in TABLES:
        raise ValueError(f"grid 'optimal-steps': table must be one of {', '.join(map(repr, TABLES))}, not {table!r}")
    if sigma_max is None:
        sigma_max = PURE_NOISE if schedule is None else schedule.noisiest
    times = np.array(TABLES[table])
    lowest = float(level_at_time(times[-1]))
    check_numbers("optimal-steps", above=lowest, sigma_max=sigma_max)
    first = min(times[0], float(time_of_level(sigma_max)))
    logs, places = np.log(times), np.arange(len(times))
    begin = float(np.interp(-np.log(first), -logs, places))
    found = np.exp(np.interp(begin + np.arange(steps + 1) / steps * (places[-1] - begin), places, logs))
    if steps == len(times) - 1 and begin == 0:
        found = times
    levels = np.asarray(level_at_time(found[:-1]))
    levels[0] = min(float(level_at_time(times[0])), sigma_max)
    return np.append(levels, 0.0), exponential_space(FlowSchedule(1000), lowest)
