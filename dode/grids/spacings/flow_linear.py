"""The grid uniform in the time of flow matching, with its shift."""

import numpy as np

from dode.grids.base import check_numbers, grid, range_of
from dode.grids.schedules import Schedule
from dode.grids.variables import Variable, flow_space


@grid("flow-linear", source="Esser et al. 2024, arXiv:2403.03206, Sec. 5.3.2 with its shift as Eq. 23")
def flow_linear(
    *,
    steps: int,
    schedule: Schedule | None = None,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    shift: float = 1.0,
    spacing: str = "linspace",
) -> tuple[np.ndarray, Variable]:
    """Uniform in t, ``sigma = shift t / (1 - t)``, from pure noise (t = 1), or the model's highest level; then 0.

    ``shift`` is that of SD3 (Esser et al. 2024, arXiv 2403.03206) on ``t / (1 - t)``; FLUX's dynamic shift of mu is
    ``exp(mu)``. With T the time from which the grid begins, 1 for flow matching, ``spacing``:

    - "linspace": from T to the time of ``shift^2 sigma_min``, as ``FlowMatchEulerDiscreteScheduler`` of diffusers does
      by itself: its end is shifted twice;
    - "trailing": ``T (1 - k/steps)``, k = 0..steps-1, as FLUX's pipeline asks of it.

    >>> from dode.grids.schedules import schedules
    >>> levels = flow_linear(steps=4, schedule=schedules.create("flow"), shift=3.0, spacing="trailing")
    >>> [round(float(level), 12) for level in levels]
    [16777215.0, 9.0, 3.0, 1.0, 0.0]
    """
    lowest, highest = range_of("flow-linear", schedule, sigma_min, sigma_max)
    check_numbers("flow-linear", shift=shift)
    if spacing == "linspace":
        last = shift**2 * lowest
        variable = flow_space(shift, min(lowest, last))
        return np.append(variable.between(highest, last, steps), 0.0), variable
    if spacing != "trailing":
        raise ValueError(f"grid 'flow-linear': spacing must be 'linspace' or 'trailing', not {spacing!r}")
    variable = flow_space(shift, lowest)
    first = float(variable.forward(highest))
    limit = int(first / float(variable.forward(lowest)) * (1 + 1e-9))
    if steps > limit:
        raise ValueError(f"grid 'flow-linear': at most {limit} steps above sigma_min = {lowest:.6g}, not {steps}")
    levels = variable.inverse(first * (1 - np.arange(steps) / steps))
    return np.array([highest, *levels[1:], 0.0]), flow_space(shift, lowest, limit)
