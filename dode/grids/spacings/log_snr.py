"""The grid uniform in the half log-SNR."""

import numpy as np

from dode.grids.base import check_range, grid
from dode.grids.variables import Variable, log_space


@grid("log-snr", source="Lu et al. 2022, arXiv:2206.00927, Sec. 3.4")
def log_snr(*, steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0) -> tuple[np.ndarray, Variable]:
    """Uniform in the half log-SNR ``-log sigma`` (Lu et al. 2022, arXiv 2206.00927, Sec. 3.4), then 0.

    ``sigma_i = sigma_max (sigma_min / sigma_max)^(i/(steps-1))``, i = 0..steps-1.

    >>> [round(sigma, 6) for sigma in log_snr(steps=3, sigma_min=0.01, sigma_max=100.0).tolist()]
    [100.0, 1.0, 0.01, 0.0]
    """
    check_range("log-snr", sigma_min, sigma_max)
    variable = log_space(sigma_min)
    return np.append(variable.between(sigma_max, sigma_min, steps), 0.0), variable
