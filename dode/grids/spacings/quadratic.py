"""The quadratic grid of DDIM."""

import numpy as np

from dode.grids.base import grid, indices_of
from dode.grids.schedules import Schedule
from dode.grids.variables import Variable, root_index_space


@grid("quadratic", source="Song, Meng & Ermon 2021, arXiv:2010.02502, App. D.2")
def quadratic(
    *, steps: int, schedule: Schedule | None = None, sigma_min: float | None = None, sigma_max: float | None = None
) -> tuple[np.ndarray, Variable]:
    """Uniform in the square root of the index of a VP schedule (default: linear betas), then the clean image.

    ``index_i = (sqrt(I) + i/(steps-1) (sqrt(J) - sqrt(I)))^2``, i = 0..steps-1, from the index ``I`` of ``sigma_max``
    to ``J``, that of ``sigma_min`` or 0 where it is below: the quadratic spacing of DDIM (Song et al. 2021, arXiv
    2010.02502, App. D.2), which has J = 0, from the noisiest index. The linear schedule serves a model without one.

    >>> from dode.grids.schedules import schedules
    >>> schedules.create("linear").index(quadratic(steps=3).numpy()).round(6).tolist()
    [999.0, 249.75, 0.0, -1.0]
    """
    schedule, lowest, highest = indices_of("quadratic", schedule, sigma_min, sigma_max)
    variable = root_index_space(schedule, sigma_min)
    first = float(schedule.sigma(highest)) if sigma_max is None else sigma_max
    return np.append(variable.between(first, float(schedule.sigma(lowest)), steps), 0.0), variable
