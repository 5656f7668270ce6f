"""Noise schedules of models, in the coordinates of the project: variance-preserving ones, and that of flow matching.

A variance-preserving one is a table of cumulative products ``abar[i] = prod_{j<=i} (1 - beta_j)``, i = 0..T-1 (Ho et
al. 2020, arXiv 2006.11239). Dividing a state by ``sqrt(abar)`` gives the variance-exploding noise level
``sigma = sqrt((1 - abar) / abar)`` in which every solver works. Between integer indices ``log abar`` is interpolated
linearly; index -1 is the clean image, ``abar = 1``, ``sigma = 0``. Flow matching: :class:`FlowSchedule`.

Where a model begins at pure noise, sigma is infinite there. :data:`dode.solvers.formulas.PURE_NOISE` stands for it.
"""

import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dode.grids import spellings
from dode.registry import Registry, finite
from dode.solvers.formulas import PURE_NOISE


class Schedules(Registry):
    """Schedules by name; the names and options of diffusers are taken too (:mod:`dode.grids.spellings`)."""

    def create(self, name: str, **options: Any) -> Any:
        """:meth:`dode.registry.Registry.create`."""
        return super().create(**spellings.schedule({"name": name, **options}))


schedules = Schedules("schedule")
MAX_STEPS = 100_000  # published models have up to 4,000; of more a mistyped number is likelier than a model


class Schedule:
    """The map between an index (fractional, -1 to T-1) and a noise level sigma, both ways, in float64.

    Args:
        betas: (T,), T from 2 to :data:`MAX_STEPS`, all between 0 and 1; ValueError for others.
        zero_snr: whether the last index is made pure noise (:func:`rescaled`).

    Attributes:
        zero_snr: whether the last index is pure noise.
    """

    zero_snr = False

    def __init__(self, betas: ArrayLike, *, zero_snr: bool = False):
        betas = np.asarray(betas, dtype=np.float64)
        if betas.ndim != 1 or len(betas) < 2 or not ((betas > 0) & (betas < 1)).all():
            raise ValueError("a schedule needs two betas or more, all above 0 and below 1")
        check_steps(len(betas))
        self.alphas_cumprod, self.zero_snr = np.cumprod(1 - betas), zero_snr
        if zero_snr:
            self.alphas_cumprod = rescaled(self.alphas_cumprod)
        self._indices = np.arange(-1, len(self.alphas_cumprod))
        self._log_abar = np.concatenate([[0.0], np.log(self.alphas_cumprod)])

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def first(self, steps: int) -> "Schedule":
        """The schedule of the first ``steps`` indices."""
        cut = copy.copy(self)
        cut.alphas_cumprod = self.alphas_cumprod[:steps]
        cut._indices, cut._log_abar = self._indices[: steps + 1], self._log_abar[: steps + 1]
        return cut

    @property
    def sigma_min(self) -> float:
        """Noise level of index 0, the smallest one that the network was trained on."""
        return float(self.sigma(0))

    @property
    def sigma_max(self) -> float:
        """Noise level of the last index, T-1, or of the one before where the last is pure noise."""
        return float(self.sigma(len(self) - 1 - self.zero_snr))

    @property
    def noisiest(self) -> float:
        """Noise level of index T-1, the largest one; that of pure noise stands for infinity."""
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

    def timestep(self, sigma: ArrayLike) -> Any:
        """What the network is called with for a noise level, or for each of an array: the index, one below 0 as 0."""
        index = np.maximum(self.index(sigma), 0.0)
        return index if np.ndim(index) else float(index)

    def slope(self, sigma: ArrayLike) -> np.ndarray:
        """The derivative of :meth:`timestep` by the noise level, from above at a whole index; 0 below that of index 0.

        ``(d index / d log abar) (d log abar / d sigma)``, the second factor ``-2 sigma / (1 + sigma^2)``.
        """
        sigma = np.asarray(sigma, dtype=np.float64)
        log_abar = -np.log1p(np.square(sigma))
        interval = np.clip(np.searchsorted(-self._log_abar, -log_abar, side="right") - 1, 0, len(self) - 1)
        inside = (log_abar < self._log_abar[1]) & (log_abar > self._log_abar[-1])
        return np.where(inside, 2 * sigma / (1 + np.square(sigma)) / -np.diff(self._log_abar)[interval], 0.0)


def rescaled(alphas_cumprod: np.ndarray) -> np.ndarray:
    """``abar`` with pure noise at the last index (Lin et al. 2024, arXiv 2305.08891, Alg. 1).

    ``sqrt(abar)`` is shifted so that the last one is 0 and scaled so that the first one stays. In place of 0 it is
    2^-24, the share of the image at :data:`dode.solvers.formulas.PURE_NOISE`.
    """
    roots = np.sqrt(alphas_cumprod)
    roots = (roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))
    return np.append(np.square(roots[:-1]), (1 + PURE_NOISE) ** -2)


class FlowSchedule(Schedule):
    """The schedule of flow matching, ``x_t = (1 - t) x_0 + t n`` (Lipman et al. 2023, arXiv 2210.02747).

    Here ``x = x_t / (1 - t)`` and ``sigma = t / (1 - t)``. The index is ``T t - 1``, any number from -1, the clean
    image, to T - 1, pure noise; the network is called at ``T t``. :attr:`sigma_min` is at t = 1/T, :attr:`sigma_max` at
    t = 1 - 1/T.

    Args:
        steps: T, what the network's time is a multiple of (``num_train_timesteps`` of diffusers).
    """

    def __init__(self, steps: int):
        check_steps(steps)
        self.steps, self.zero_snr = steps, True

    def __len__(self) -> int:
        return self.steps

    def sigma(self, index: ArrayLike) -> Any:
        """``t / (1 - t)`` at an index; the level that stands for infinity at T - 1."""
        return level_at_time((np.asarray(index, dtype=np.float64) + 1) / self.steps)

    def index(self, sigma: ArrayLike) -> np.ndarray:
        """The index of a noise level: the inverse of :meth:`sigma`."""
        return snapped(self.times(sigma) - 1)

    def times(self, sigma: ArrayLike) -> np.ndarray:
        """``T t = T sigma / (1 + sigma)`` of noise levels, T at pure noise."""
        return self.steps * time_of_level(sigma)

    def timestep(self, sigma: ArrayLike) -> Any:
        """What the network is called with for a noise level, :meth:`times`; any number, so that it is not rounded."""
        times = self.times(sigma)
        return times if np.ndim(times) else float(times)

    def slope(self, sigma: ArrayLike) -> np.ndarray:
        """The derivative of :meth:`timestep`, ``T / (1 + sigma)^2``; 0 at pure noise."""
        sigma = np.asarray(sigma, dtype=np.float64)
        return np.where(sigma >= PURE_NOISE, 0.0, self.steps / np.square(1 + sigma))


def time_of_level(sigma: ArrayLike, shift: float = 1.0) -> Any:
    """``t = sigma / (shift + sigma)``, the time of noise levels before a shift of the grid; 1 at pure noise."""
    sigma = np.asarray(sigma, dtype=np.float64)
    return np.where(sigma >= PURE_NOISE, 1.0, sigma / (shift + sigma))


def level_at_time(time: ArrayLike, shift: float = 1.0) -> Any:
    """``sigma = shift t / (1 - t)``, inverse of :func:`time_of_level`; the level that stands for infinity at t = 1."""
    time = np.asarray(time, dtype=np.float64)
    return np.minimum(shift * time / np.maximum(1 - time, 1e-16), PURE_NOISE)


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


def _check(steps, zero_snr, **numbers):
    """Refuse steps that no model has, and options that are no truth values, or not numbers from 0 to 1e6."""
    check_steps(steps)
    if not isinstance(zero_snr, bool):
        raise ValueError(f"rescale_betas_zero_snr of a schedule must be true or false, not {repr(zero_snr)[:50]}")
    for option, value in numbers.items():
        if not finite(value) or not 0 <= value <= 1e6:
            raise ValueError(f"{option} of a schedule must be a finite number from 0 to 1e6, not {repr(value)[:50]}")


BETAS = (1e-4, 0.02)  # of Ho et al. 2020, over 1,000 steps


def _ends(name: str, steps: int, beta_min: float | None, beta_max: float | None, zero_snr: bool) -> tuple[float, float]:
    """The first and the last beta, by default those of Ho et al. over 1,000 steps; over others there is no default."""
    _check(
        steps,
        zero_snr,
        **{key: beta for key, beta in (("beta_min", beta_min), ("beta_max", beta_max)) if beta is not None},
    )
    if steps != 1000 and None in (beta_min, beta_max):
        text = f"schedule '{name}' of {steps} steps needs beta_min and beta_max, whose defaults are of 1000 steps"
        if name == "linear":
            low, high = (beta * 1000 / steps for beta in BETAS)
            text += (
                f"; OpenAI's code scales them by 1000 / steps, to beta_min: {low} and beta_max: {high}, others do not"
            )
        raise ValueError(text)
    low, high = BETAS[0] if beta_min is None else beta_min, BETAS[1] if beta_max is None else beta_max
    if low > high:
        raise ValueError(f"beta_min of a schedule must be at most beta_max, not {low} and {high}")
    return low, high


@schedules.register("linear")
def linear(
    *,
    steps: int = 1000,
    beta_min: float | None = None,
    beta_max: float | None = None,
    rescale_betas_zero_snr: bool = False,
) -> Schedule:
    """Betas linear in the index (Ho et al. 2020): 1e-4 to 0.02 over 1,000 steps for the DDPM family.

    Of another number of steps ``beta_min`` and ``beta_max`` must be given. OpenAI's "linear" has the betas above times
    1000 / steps (Nichol & Dhariwal 2021): 2.5e-5 to 0.005 over 4,000.
    """
    low, high = _ends("linear", steps, beta_min, beta_max, rescale_betas_zero_snr)
    return Schedule(np.linspace(low, high, steps), zero_snr=rescale_betas_zero_snr)


@schedules.register("scaled_linear")
def scaled_linear(
    *,
    steps: int = 1000,
    beta_min: float | None = None,
    beta_max: float | None = None,
    rescale_betas_zero_snr: bool = False,
) -> Schedule:
    """Square roots of the betas linear in the index (Rombach et al. 2022, arXiv 2112.10752; the name is diffusers').

    Stable Diffusion has 0.00085 to 0.012; the defaults, 1e-4 to 0.02 over 1,000 steps, are those of diffusers.
    """
    low, high = _ends("scaled_linear", steps, beta_min, beta_max, rescale_betas_zero_snr)
    return Schedule(np.linspace(low**0.5, high**0.5, steps) ** 2, zero_snr=rescale_betas_zero_snr)


@schedules.register("sigmoid")
def sigmoid(
    *,
    steps: int = 1000,
    beta_min: float | None = None,
    beta_max: float | None = None,
    rescale_betas_zero_snr: bool = False,
) -> Schedule:
    """``beta_i = beta_min + (beta_max - beta_min) / (1 + exp(-u_i))``, u from -6 to 6 (Xu et al. 2022, 2203.02923).

    As in diffusers, whose defaults these are.
    """
    low, high = _ends("sigmoid", steps, beta_min, beta_max, rescale_betas_zero_snr)
    betas = low + (high - low) / (1 + np.exp(-np.linspace(-6, 6, steps)))
    return Schedule(betas, zero_snr=rescale_betas_zero_snr)


@schedules.register("cosine")
def cosine(
    *, steps: int = 4000, offset: float = 0.008, beta_max: float = 0.999, rescale_betas_zero_snr: bool = False
) -> Schedule:
    """``abar = cos^2((t + s) / (1 + s) pi / 2)``, betas clipped (Nichol & Dhariwal 2021, arXiv 2102.09672)."""
    _check(steps, rescale_betas_zero_snr, offset=offset, beta_max=beta_max)
    times = np.arange(steps + 1) / steps
    abar = np.cos((times + offset) / (1 + offset) * np.pi / 2) ** 2
    return Schedule(np.minimum(1 - abar[1:] / abar[:-1], beta_max), zero_snr=rescale_betas_zero_snr)


@schedules.register("flow")
def flow(*, steps: int = 1000) -> Schedule:
    """:class:`FlowSchedule`, the network called with a time from 0 to ``steps``."""
    return FlowSchedule(steps)
