"""Noise levels as they are given."""

from collections.abc import Sequence

import numpy as np

from dode.grids.base import check_numbers, grid
from dode.grids.variables import Variable, rho_space


@grid("explicit", family=False)
def explicit(
    *,
    steps: int,
    sigmas: Sequence[float],
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    end: str = "zero",
) -> tuple[np.ndarray, Variable]:
    """The noise levels ``sigmas`` as they are, one per step, then 0 (which may stand at their end).

    With ``end="sigma_min"`` there is one level more, and no 0: the last one is where the solver ends. They must be
    finite, descending and, where these are given, between ``sigma_min`` and ``sigma_max``. A refinement is uniform in
    rho-space with rho = 7.

    >>> explicit(steps=2, sigmas=[80, 1.5]).tolist()
    [80.0, 1.5, 0.0]
    """
    if not isinstance(sigmas, list | tuple):
        raise ValueError(f"grid 'explicit': sigmas must be a list of noise levels, not {sigmas!r}")
    to_zero = end == "zero"
    zero = to_zero and len(sigmas) and sigmas[-1] == 0 and sigmas[-1] is not False
    levels = list(sigmas[:-1]) if zero else list(sigmas)
    if not to_zero and len(levels) != steps + 1:
        raise ValueError(
            f"grid 'explicit': with end 'sigma_min', {len(levels)} noise levels make {len(levels) - 1} steps, not "
            f"{steps}"
        )
    if to_zero and len(levels) != steps:
        raise ValueError(f"grid 'explicit': {len(levels)} noise levels above 0 make {len(levels)} steps, not {steps}")
    for place, level in enumerate(levels):
        check_numbers("explicit", **{f"sigmas[{place}]": level})
        if place and not level < levels[place - 1]:
            raise ValueError(
                f"grid 'explicit': sigmas must descend, but sigmas[{place}] = {level} follows {levels[place - 1]}"
            )
    for level, bound, sign, word in ((levels[0], sigma_max, 1, "above"), (levels[-1], sigma_min, -1, "below")):
        if bound is not None and sign * (level - bound) > 1e-6 * bound:
            raise ValueError(f"grid 'explicit': sigma = {level} is {word} the model's range, which ends at {bound}")
    found = np.array([*levels, *([0.0] if to_zero else [])], dtype=np.float64)
    return found, rho_space(sigma_min=min(sigma_min or np.inf, levels[-1]))
