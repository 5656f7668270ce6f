"""The exponential grid of diffusers' schedulers."""

import numpy as np

from dode.grids.base import grid, range_of
from dode.grids.schedules import FlowSchedule, Schedule
from dode.grids.variables import Variable, exponential_space


@grid("exponential", source="Lu et al. 2022, arXiv:2206.00927, Sec. 3.4; of t in flow matching as diffusers has it")
def exponential(
    *, steps: int, schedule: Schedule | None = None, sigma_min: float | None = None, sigma_max: float | None = None
) -> tuple[np.ndarray, Variable]:
    """Uniform in the logarithm of what diffusers' schedulers call sigma (``use_exponential_sigmas``); then 0.

    That is the time ``t = sigma / (1 + sigma)`` in flow matching, from pure noise, and the noise level in other models,
    where the grid is ``log-snr``.

    >>> from dode.grids.schedules import schedules
    >>> levels = exponential(steps=3, schedule=schedules.create("flow"), sigma_min=1 / 99, sigma_max=99.0).numpy()
    >>> (levels / (1 + levels)).round(6).tolist()
    [0.99, 0.099499, 0.01, 0.0]
    """
    if sigma_max is None and schedule is not None and not isinstance(schedule, FlowSchedule):
        sigma_max = schedule.sigma_max
    lowest, highest = range_of("exponential", schedule, sigma_min, sigma_max)
    variable = exponential_space(schedule, lowest)
    return np.append(variable.between(highest, lowest, steps), 0.0), variable
