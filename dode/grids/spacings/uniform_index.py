"""The grid uniform in the index of a VP schedule."""

import numpy as np

from dode.grids.base import grid, indices_of
from dode.grids.schedules import Schedule
from dode.grids.variables import Variable, index_space


@grid(
    "uniform-index",
    source="Ho, Jain & Abbeel 2020, arXiv:2006.11239; its spacings as Lin et al. 2024, arXiv:2305.08891, name them",
)
def uniform_index(
    *,
    steps: int,
    schedule: Schedule | None = None,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    spacing: str = "trailing",
) -> tuple[np.ndarray, Variable]:
    """Uniform in the index of a VP schedule (default: linear betas, 1,000 steps), then the clean image.

    With ``T - 1`` the index of ``sigma_max`` (by default the schedule's last; a fraction on another model's range):
    ``spacing`` "trailing": indices ``T (1 - k/steps) - 1``, k = 0..steps: from the noisiest index straight to the clean
    image (fractional where they fall so). "leading": the released D-ODE and DDIM code's, integer parts of
    ``linspace(0, T, steps + 1)[:-1]`` in float32, descending, then clean: the first index is below T - 1.

    A data-prediction model has no schedule: the grid is then uniform in the index of the linear one, restricted to the
    model's range of noise. ``sigma_min`` (default: the schedule's) is the end of a refinement and bounds the steps.

    >>> uniform_index(steps=4, spacing="leading").shape
    torch.Size([5])
    """
    schedule, lowest, highest = indices_of("uniform-index", schedule, sigma_min, sigma_max)
    total = highest + 1
    limit = int(total / (lowest + 1))
    if steps > limit:
        raise ValueError(f"grid 'uniform-index': at most {limit} steps on this schedule, not {steps}")
    if spacing == "trailing":
        indices = total * (1 - np.arange(steps) / steps) - 1
    elif spacing == "leading":
        indices = _linspace_float32(total, steps)[::-1].astype(np.int64)
    else:
        raise ValueError(f"grid 'uniform-index': spacing must be 'trailing' or 'leading', not '{spacing}'")
    levels = schedule.sigma(indices)
    if spacing == "trailing" and sigma_max is not None:
        levels[0] = sigma_max
    return np.append(levels, 0.0), index_space(schedule, sigma_min, limit)


def _linspace_float32(total, steps):
    """torch.linspace(0, total, steps + 1)[:-1] in float32 by torch's algorithm: from both ends to the middle.

    Its rounding is part of the released definition: numpy's, and exact division, round some entries to another integer.
    """
    step, k = np.float32(total) / np.float32(steps), np.arange(steps)
    ascending, descending = step * k.astype(np.float32), np.float32(total) - step * (steps - k).astype(np.float32)
    return np.where(k < (steps + 1) // 2, ascending, descending)
