"""The tables of Align Your Steps."""

import numpy as np

from dode.grids.base import grid
from dode.grids.variables import Variable, log_space

# Of ten steps, from the authors' page (research.nvidia.com/labs/toronto-ai/AlignYourSteps/howto.html). diffusers has
# the same as AysSchedules, with 0 in the place of the last ones. Those serve for the interpolation alone.
TABLES = {
    "stable-diffusion": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "stable-diffusion-xl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
    "stable-video-diffusion": (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}


@grid("align-your-steps", source="Sabour, Fidler & Kreis 2024, arXiv:2404.14507")
def align_your_steps(*, steps: int, table: str = "stable-diffusion") -> tuple[np.ndarray, Variable]:
    """The optimised levels of a published model (Sabour, Fidler & Kreis 2024, arXiv 2404.14507); then 0.

    ``table``: of ``"stable-diffusion"`` (1.5), ``"stable-diffusion-xl"`` or ``"stable-video-diffusion"``. For other
    numbers than ten steps, their logarithms are interpolated linearly in ``i / steps``, as the authors do. The levels
    are these whatever the range of the model.

    >>> align_your_steps(steps=10).tolist()[:3]
    [14.615, 6.475, 3.861]
    """
    if table not in TABLES:
        raise ValueError(f"grid 'align-your-steps': table must be one of {', '.join(map(repr, TABLES))}, not {table!r}")
    own = np.array(TABLES[table])
    places = np.arange(steps) / steps * (len(own) - 1)
    levels = np.exp(np.interp(places, np.arange(len(own)), np.log(own)))
    if steps == len(own) - 1:
        levels = own[:-1]
    return np.append(levels, 0.0), log_space(float(own[-1]))
