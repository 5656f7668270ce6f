"""The grid of the timesteps that diffusers' schedulers choose by themselves."""

import numpy as np

from dode.grids.base import grid, indices_of
from dode.grids.schedules import Schedule
from dode.grids.variables import Variable, index_space


@grid("timesteps", source="diffusers' timestep_spacing; its names as Lin et al. 2024, arXiv:2305.08891, Table 2")
def timesteps(
    *,
    steps: int,
    schedule: Schedule | None = None,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    spacing: str = "linspace",
    steps_offset: int = 0,
    leave_lowest: bool = False,
) -> tuple[np.ndarray, Variable]:
    """Indices of a VP schedule (default: linear betas, 1,000 steps) as schedulers space them, then the clean image.

    With T indices in the range of noise and N the number of steps, from the index of ``sigma_min``, which counts as 0:

    - "linspace": ``(T - 1) (1 - k/(N-1))``, k = 0..N-1, fractions too;
    - "leading": ``k floor(T/N) + steps_offset``, k = N-1..0, so that the first is below T - 1 by nearly a step;
    - "trailing": ``T (1 - k/N) - 1`` rounded, k = 0..N-1.

    With ``leave_lowest`` N is one more, and the lowest of "linspace" and "leading" is left out, the others rounded, as
    DPM-Solver and UniPC do it. docs/solvers.md says which scheduler does what by default.

    >>> from dode.grids.schedules import schedules
    >>> levels = timesteps(steps=4, spacing="leading", steps_offset=1)
    >>> schedules.create("linear").index(levels.numpy()).tolist()
    [751.0, 501.0, 251.0, 1.0, -1.0]
    """
    schedule, lowest, highest = indices_of("timesteps", schedule, sigma_min, sigma_max)
    if isinstance(steps_offset, bool) or not isinstance(steps_offset, int) or steps_offset < 0:
        raise ValueError(f"grid 'timesteps': steps_offset must be an integer of at least 0, not {steps_offset!r}")
    if not isinstance(leave_lowest, bool):
        raise ValueError(f"grid 'timesteps': leave_lowest must be true or false, not {leave_lowest!r}")
    total, count, k = highest - lowest + 1, steps + leave_lowest, np.arange(steps)
    limit = int(total + 1e-6) - leave_lowest
    if steps > limit:
        raise ValueError(f"grid 'timesteps': at most {limit} steps on this schedule, not {steps}")
    if spacing == "leading":
        most = int(total - 1 - (count - 1) * ((total + 1e-6) // count) + 1e-6)
        if steps_offset > most:
            raise ValueError(
                f"grid 'timesteps': steps_offset must be at most {most} with {steps} steps, not {steps_offset}"
            )
        indices = (count - 1 - k) * ((total + 1e-6) // count) + steps_offset
    elif spacing == "linspace":
        indices = (total - 1) * (1 - k / max(count - 1, 1))
        if leave_lowest:  # of NumPy's own numbers, as these decide where a half is rounded to
            indices = np.rint(np.linspace(0, total - 1, count))[:0:-1]
    elif spacing == "trailing":
        whole = round(total) if abs(total - round(total)) < 1e-6 else total
        indices = np.rint(np.arange(whole, 0, -whole / steps)[:steps]) - 1  # NumPy's own numbers here, too
    else:
        raise ValueError(f"grid 'timesteps': spacing must be 'linspace', 'leading' or 'trailing', not {spacing!r}")
    levels = schedule.sigma(lowest + indices)
    if spacing != "leading" and sigma_max is not None:
        levels[0] = sigma_max
    return np.append(levels, 0.0), index_space(schedule, sigma_min, limit)
