"""The grid of EDM in the time of flow matching."""

import numpy as np

from dode.grids.base import check_between, grid, range_of
from dode.grids.schedules import Schedule
from dode.grids.variables import Variable, rho_time_space

RHO = (0.01, 100.0)  # beyond, neighbouring times are the same number


@grid("flow-karras", source="Karras et al. 2022, arXiv:2206.00364, Eq. 5, of t in flow matching as diffusers has it")
def flow_karras(
    *,
    steps: int,
    schedule: Schedule | None = None,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    rho: float = 7.0,
) -> tuple[np.ndarray, Variable]:
    """Uniform in ``t^(1/rho)``, ``t = sigma / (1 + sigma)``, from pure noise, or the model's highest level; then 0.

    ``karras`` with t in the place of sigma, as ``use_karras_sigmas`` of diffusers' ``FlowMatchEulerDiscreteScheduler``.
    ``rho`` is from 0.01 to 100; the larger it is, the nearer is the grid to one that is uniform in log t.

    >>> from dode.grids.schedules import schedules
    >>> levels = flow_karras(steps=3, schedule=schedules.create("flow"), rho=1.0).numpy()
    >>> (levels / (1 + levels)).round(6).tolist()
    [1.0, 0.5005, 0.001, 0.0]
    """
    lowest, highest = range_of("flow-karras", schedule, sigma_min, sigma_max)
    check_between("flow-karras", *RHO, rho=rho)
    variable = rho_time_space(rho, lowest)
    return np.append(variable.between(highest, lowest, steps), 0.0), variable
