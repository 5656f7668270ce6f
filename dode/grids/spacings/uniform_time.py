"""The grid uniform in the time of the linear VP SDE."""

import numpy as np

from dode.grids.base import check_between, check_numbers, check_range, grid
from dode.grids.variables import Variable, time_space

MOST_BETA = 1e6  # far above what any model has, and far below what overflows


@grid("uniform-time", source="Song et al. 2021, arXiv:2011.13456, the time of its linear VP SDE")
def uniform_time(
    *, steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, beta_min: float = 0.1, beta_max: float = 20.0
) -> tuple[np.ndarray, Variable]:
    """Uniform in the time of the linear VP SDE (Song et al. 2021, arXiv 2011.13456), then 0.

    ``t_i = t(sigma_max) + i/(steps-1) (t(sigma_min) - t(sigma_max))``, i = 0..steps-1, with ``t(sigma)`` of
    :func:`dode.grids.variables.time_space`. The time is a variable on the noise scale, whatever the model's own
    schedule: a model whose largest noise level is above the SDE's (152 at t = 1) begins beyond t = 1.

    >>> uniform_time(steps=2, sigma_max=80.0).tolist()
    [80.0, 0.002, 0.0]
    """
    check_range("uniform-time", sigma_min, sigma_max)
    check_numbers("uniform-time", beta_min=beta_min)
    check_numbers("uniform-time", above=beta_min, beta_max=beta_max)
    check_between("uniform-time", 0, MOST_BETA, beta_min=beta_min, beta_max=beta_max)
    variable = time_space(beta_min, beta_max, sigma_min)
    return np.append(variable.between(sigma_max, sigma_min, steps), 0.0), variable
