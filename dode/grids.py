"""Time grids: where on the noise scale a solver steps.

Every grid is a function with keyword options that returns a :class:`Grid`: noise levels as a float64 tensor of shape
(steps + 1,), descending, ending in 0. A grid is uniform in a variable of its own; the teacher of a distillation divides
the student's intervals uniformly in that variable. numpy alone is imported here; torch comes with the first grid made.
"""

import dataclasses
import functools
import inspect
import itertools
from collections.abc import Callable

import numpy as np

from dode import schedules
from dode.registry import Registry

grids = Registry("grid")


@dataclasses.dataclass(frozen=True)
class Variable:
    """A monotone change of variable u(sigma) in which a grid is uniform.

    Attributes:
        forward: sigma to u; inverse: u to sigma (both for arrays).
        sigma_min: the smallest noise level, other than 0, that the grid's family reaches.
        max_steps: the largest number of steps that the family has, where there is one.
    """

    forward: Callable
    inverse: Callable
    sigma_min: float
    max_steps: int | None = None

    def refine(self, levels, substeps):
        """Divide each interval of descending ``levels`` into ``substeps``, uniform in u; the levels stay, to the bit.

        Levels between ``sigma_min`` and 0 are left out: no network was trained there.
        """
        refined = [levels[0]]
        for left, right in itertools.pairwise(levels):
            inner = np.linspace(self.forward(left), self.forward(right), substeps + 1)[1:-1]
            refined += [sigma for sigma in self.inverse(inner) if max(right, self.sigma_min) < sigma < refined[-1]]
            refined.append(right)
        return np.array(refined)


def rho_space(rho=7.0, sigma_min=0.002):
    """``u = sigma^(1/rho)``, the variable of the EDM grid."""
    return Variable(lambda sigma: np.asarray(sigma) ** (1 / rho), lambda u: np.asarray(u) ** rho, sigma_min)


def index_space(schedule):
    """``u`` = index of a VP schedule."""
    return Variable(schedule.index, schedule.sigma, schedule.sigma_min, len(schedule))


def _grid(name):
    """Decorator: a function of keyword options that returns (levels, variable) becomes one that returns a Grid."""

    def wrap(function):
        def levels(*, steps, **options):
            if not isinstance(steps, int | np.integer) or steps < 1:
                raise ValueError(f"grid '{name}': steps must be an integer of at least 1, not {steps!r}")
            return function(steps=steps, **options)

        @functools.wraps(function)
        def make(*, steps, **options):
            from dode.grid_tensor import Grid

            return Grid.of(*levels(steps=steps, **options), functools.partial(make, **options))

        make.levels = levels
        return grids.register(name)(make)

    return wrap


@_grid("karras")
def karras(*, steps, sigma_min=0.002, sigma_max=80.0, rho=7.0):
    """The EDM grid (Karras et al. 2022, Eq. 5), then 0.

    ``sigma_i = (sigma_max^(1/rho) + i/(steps-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho``, i = 0..steps-1.

    >>> karras(steps=3, sigma_min=0.002, sigma_max=80.0, rho=7.0).tolist()
    [80.0, 2.5152..., 0.002, 0.0]
    """
    for option, value in (("sigma_min", sigma_min), ("sigma_max", sigma_max), ("rho", rho)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < np.inf:
            raise ValueError(f"grid 'karras': {option} must be a finite number above 0, not {value!r}")
    if not sigma_min < sigma_max:
        raise ValueError(f"grid 'karras': needs sigma_min < sigma_max, not {sigma_min} and {sigma_max}")
    fractions = np.arange(steps) / max(steps - 1, 1)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    levels = (high + fractions * (low - high)) ** rho
    levels[0] = sigma_max
    if steps > 1:
        levels[-1] = sigma_min
    return np.append(levels, 0.0), rho_space(rho, sigma_min)


@_grid("uniform-index")
def uniform_index(*, steps, schedule=None, spacing="trailing"):
    """Uniform in the index of a VP schedule (default: linear betas, 1,000 steps), then the clean image.

    ``spacing`` "trailing": indices ``T (1 - k/steps) - 1``, k = 0..steps: from the noisiest index straight to the clean
    image (fractional where they fall so). "leading": the released D-ODE and DDIM code's, integer parts of
    ``linspace(0, T, steps + 1)[:-1]`` in float32, descending, then clean: the first index is below T - 1.

    >>> uniform_index(steps=4, spacing="leading").shape
    torch.Size([5])
    """
    schedule = schedules.schedules.create("linear") if schedule is None else schedule
    total = len(schedule)
    if steps > total:
        raise ValueError(f"grid 'uniform-index': at most {total} steps on this schedule, not {steps}")
    if spacing == "trailing":
        indices = total * (1 - np.arange(steps) / steps) - 1
    elif spacing == "leading":
        indices = _linspace_float32(total, steps)[::-1].astype(np.int64)
    else:
        raise ValueError(f"grid 'uniform-index': spacing must be 'trailing' or 'leading', not '{spacing}'")
    return np.append(schedule.sigma(indices), 0.0), index_space(schedule)


def _linspace_float32(total, steps):
    """torch.linspace(0, total, steps + 1)[:-1] in float32 by torch's algorithm: from both ends to the middle.

    Its rounding is part of the released definition: numpy's, and exact division, round some entries to another integer.
    """
    step, k = np.float32(total) / np.float32(steps), np.arange(steps)
    ascending, descending = step * k.astype(np.float32), np.float32(total) - step * (steps - k).astype(np.float32)
    return np.where(k < (steps + 1) // 2, ascending, descending)


def names():
    """Names of all grids, sorted."""
    return grids.names()


def _filled(name, options, facts):
    """``options`` with what the model fixes: its schedule, or its smallest and largest noise level."""
    own = inspect.signature(grids.get(name)).parameters
    for key in ("schedule", "sigma_min", "sigma_max"):
        if key in own and facts(key) is not None:
            options.setdefault(key, facts(key))
    if "schedule" in own and "schedule" not in options:
        raise ValueError(f"grid '{name}' needs a noise schedule, which a data-prediction model has not; take karras")
    return options


def check(name, steps, card, **options):
    """Refuse, without torch, a grid that cannot be made with these options for the model of this card (a dict)."""
    grids.check_options(name, {"steps": steps, **options})
    facts = dict(card)
    if "schedule" in card:
        schedule = schedules.schedules.create(**card["schedule"])
        facts |= {"schedule": schedule, "sigma_min": schedule.sigma_min, "sigma_max": schedule.sigma_max}
    levels, _ = grids.get(name).levels(steps=steps, **_filled(name, options, facts.get))
    if not np.isfinite(levels).all() or not (np.diff(levels) < 0).all():
        raise ValueError(f"grid '{name}' with {options} has levels that are not finite and descending")


def for_model(denoise, name, steps, **options):
    """The grid ``name`` for a model (:class:`dode.models.denoiser.Denoiser`), on its schedule or noise range."""
    return grids.create(name, steps=steps, **_filled(name, options, lambda key: getattr(denoise, key, None)))
