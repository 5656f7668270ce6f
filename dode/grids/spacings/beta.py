"""The grid of quantiles of the beta distribution."""

import numpy as np

from dode.grids.base import check_between, grid, indices_of
from dode.grids.schedules import Schedule
from dode.grids.variables import Variable, beta_space

SHAPES = (0.1, 10.0)  # beyond, neighbouring quantiles are the same number


@grid("beta", source="Lee et al. 2024, arXiv:2407.12173")
def beta(
    *,
    steps: int,
    schedule: Schedule | None = None,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    alpha: float = 0.6,
    beta: float = 0.6,
) -> tuple[np.ndarray, Variable]:
    """Indices (default: of linear betas, 1,000 steps) that are quantiles of Beta(alpha, beta); then the clean image.

    ``index_i = J + q(1 - i/(steps-1)) (I - J)``, i = 0..steps-1, q the quantile function, from the index I of the
    highest level to J, that of ``sigma_min`` (Lee et al. 2024, arXiv 2407.12173). In flow matching that is uniform in
    the quantiles of t, as ``use_beta_sigmas`` of diffusers' flow schedulers. ``alpha`` and ``beta`` are from 0.1 to 10;
    below 1 the levels are dense at both ends.

    >>> from dode.grids.schedules import schedules
    >>> schedules.create("linear").index(beta(steps=3).numpy()).round(6).tolist()
    [999.0, 499.5, 0.0, -1.0]
    """
    schedule, lowest, highest = indices_of("beta", schedule, sigma_min, sigma_max)
    check_between("beta", *SHAPES, alpha=alpha, beta=beta)
    variable = beta_space(schedule, lowest, highest, alpha, beta)
    first = float(schedule.sigma(highest)) if sigma_max is None else sigma_max
    return np.append(variable.between(first, float(schedule.sigma(lowest)), steps), 0.0), variable
