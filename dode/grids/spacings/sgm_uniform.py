"""The grid uniform in the index whose last level is left out."""

import numpy as np

from dode.grids.base import check_numbers, grid, indices_of
from dode.grids.schedules import Schedule
from dode.grids.variables import Variable, shifted_index_space


@grid("sgm-uniform", source="Podell et al. 2024, arXiv:2307.01952, in their code, generative-models")
def sgm_uniform(
    *,
    steps: int,
    schedule: Schedule | None = None,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    shift: float = 1.0,
) -> tuple[np.ndarray, Variable]:
    """Uniform in the index (default: linear betas, 1,000 steps): the first ``steps`` of ``steps + 1`` levels; then 0.

    Indices ``I + k/steps (J - I)``, k = 0..steps-1, from that of the highest level to that of ``sigma_min``, which is
    left out. In flow matching they are ``T t - 1``. ``shift`` is a factor on the noise levels, as of ``flow-linear``;
    the first level stays.

    >>> from dode.grids.schedules import schedules
    >>> schedules.create("linear").index(sgm_uniform(steps=3).numpy()).round(6).tolist()
    [999.0, 666.0, 333.0, -1.0]
    """
    schedule, lowest, highest = indices_of("sgm-uniform", schedule, sigma_min, sigma_max)
    check_numbers("sgm-uniform", shift=shift)
    first = float(schedule.sigma(highest)) if sigma_max is None else sigma_max
    last = float(schedule.sigma(lowest))
    variable = shifted_index_space(schedule, shift, last)
    return np.append(variable.between(first, shift * last, steps + 1)[:-1], 0.0), variable
