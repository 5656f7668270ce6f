"""The grid of EDM."""

import numpy as np

from dode.grids.base import check_between, check_range, grid
from dode.grids.variables import Variable, rho_space

RHO = (0.01, 1e6)  # Above, the levels lose digits: at the bound they have ten. Below, they overflow.


@grid("karras", source="Karras et al. 2022, arXiv:2206.00364, Eq. 5")
def karras(
    *, steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> tuple[np.ndarray, Variable]:
    """The EDM grid (Karras et al. 2022, arXiv 2206.00364, Eq. 5), then 0.

    ``sigma_i = (sigma_max^(1/rho) + i/(steps-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho``, i = 0..steps-1.
    ``rho`` is from 0.01 to 1e6; the larger it is, the nearer is the grid to one that is uniform in log sigma.

    >>> karras(steps=3, sigma_min=0.002, sigma_max=80.0, rho=7.0).tolist()
    [80.0, 2.5152..., 0.002, 0.0]
    """
    check_range("karras", sigma_min, sigma_max)
    check_between("karras", *RHO, rho=rho)
    variable = rho_space(rho, sigma_min)
    return np.append(variable.between(sigma_max, sigma_min, steps), 0.0), variable
