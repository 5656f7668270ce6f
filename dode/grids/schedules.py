"""Variance-preserving noise schedules of discrete-time models, in the coordinates of the project.

A schedule is a table of cumulative products ``abar[i] = prod_{j<=i} (1 - beta_j)``, i = 0..T-1 (Ho et al. 2020,
arXiv 2006.11239). Dividing a state by ``sqrt(abar)`` gives the variance-exploding noise level
``sigma = sqrt((1 - abar) / abar)`` in which every solver works. Between integer indices ``log abar`` is interpolated
linearly; index -1 is the clean image, ``abar = 1``, ``sigma = 0``.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dode.registry import Registry

schedules = Registry("schedule")
MAX_STEPS = 100_000  # published models have up to 4,000; of more a mistyped number is likelier than a model


class Schedule:
    """The map between an index (fractional, -1 to T-1) and a noise level sigma, both ways, in float64.

    Args:
        betas: (T,), T from 2 to :data:`MAX_STEPS`, all between 0 and 1; ValueError for others.
    """

    def __init__(self, betas: ArrayLike):
        betas = np.asarray(betas, dtype=np.float64)
        if betas.ndim != 1 or len(betas) < 2 or not ((betas > 0) & (betas < 1)).all():
            raise ValueError("a schedule needs two betas or more, all above 0 and below 1")
        check_steps(len(betas))
        self.alphas_cumprod = np.cumprod(1 - betas)
        self._indices = np.arange(-1, len(self.alphas_cumprod))
        self._log_abar = np.concatenate([[0.0], np.log(self.alphas_cumprod)])

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    @property
    def sigma_min(self) -> float:
        """Noise level of index 0, the smallest one that the network was trained on."""
        return float(self.sigma(0))

    @property
    def sigma_max(self) -> float:
        """Noise level of index T-1, the largest one."""
        return float(self.sigma(len(self) - 1))

    def log_abar(self, index: ArrayLike) -> Any:
        """``log abar`` at a fractional index."""
        return np.interp(np.asarray(index), self._indices, self._log_abar)

    def sigma(self, index: ArrayLike) -> Any:
        """``sqrt(1/abar - 1)`` at a fractional index; 0 at index -1."""
        return np.sqrt(np.expm1(-self.log_abar(index)))

    def index(self, sigma: ArrayLike) -> np.ndarray:
        """The fractional index of a noise level: the inverse of :meth:`sigma`.

        An index within 1e-6 of an integer is that integer, so that a network with a table of embeddings is called at
        the very index that a grid was made of.
        """
        log_abar = -np.log1p(np.square(np.asarray(sigma, dtype=np.float64)))
        return snapped(np.interp(-log_abar, -self._log_abar, self._indices))


def snapped(index: ArrayLike) -> np.ndarray:
    """``index``, or the integer that it is within 1e-6 of."""
    nearest = np.rint(index)
    return np.where(np.abs(index - nearest) < 1e-6, nearest, index)


def check_steps(steps: Any) -> None:
    """Raise ValueError for what is not a number of steps that a model may have, 2 to :data:`MAX_STEPS`."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
        raise ValueError(f"steps of a schedule must be an integer of at least 2, not {steps!r}")
    if steps > MAX_STEPS:
        raise ValueError(f"steps of a schedule must be at most {MAX_STEPS}{f', not {steps}' if steps < 2**64 else ''}")


def _check(steps, **numbers):
    """Refuse steps that no model has, and options that are not numbers from 0 to 1e6."""
    check_steps(steps)
    for option, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e6:
            raise ValueError(f"{option} of a schedule must be a finite number from 0 to 1e6, not {repr(value)[:50]}")


@schedules.register("linear")
def linear(*, steps: int = 1000, beta_min: float = 1e-4, beta_max: float = 0.02) -> Schedule:
    """Betas linear in the index (Ho et al. 2020): 1e-4 to 0.02 over 1,000 steps for the DDPM family."""
    _check(steps, beta_min=beta_min, beta_max=beta_max)
    return Schedule(np.linspace(beta_min, beta_max, steps))


@schedules.register("cosine")
def cosine(*, steps: int = 4000, offset: float = 0.008, beta_max: float = 0.999) -> Schedule:
    """``abar = cos^2((t + s) / (1 + s) pi / 2)``, betas clipped (Nichol & Dhariwal 2021, arXiv 2102.09672)."""
    _check(steps, offset=offset, beta_max=beta_max)
    times = np.arange(steps + 1) / steps
    abar = np.cos((times + offset) / (1 + offset) * np.pi / 2) ** 2
    return Schedule(np.minimum(1 - abar[1:] / abar[:-1], beta_max))
