"""Changes of variable on the noise scale: a grid is uniform in one of them, and its teacher refines it there."""

import dataclasses
import itertools
from collections.abc import Callable
from functools import partial

import numpy as np

from dode.grids.schedules import FlowSchedule, Schedule, level_at_time, time_of_level
from dode.solvers.formulas import BETA_D, BETA_MIN, vp_sigma, vp_time


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

    def between(self, sigma_max: float, sigma_min: float, steps: int) -> np.ndarray:
        """``steps`` levels uniform in u: the first is ``sigma_max``, the last of two or more ``sigma_min``, exactly."""
        high, low = self.forward(sigma_max), self.forward(sigma_min)
        levels = np.array(self.inverse(high + np.arange(steps) / max(steps - 1, 1) * (low - high)))
        if steps > 1:
            levels[-1] = sigma_min
        levels[0] = sigma_max
        return levels

    def refine(self, levels: np.ndarray, substeps: int) -> np.ndarray:
        """Divide each interval of descending ``levels`` into ``substeps``, uniform in u; the levels stay, to the bit.

        Levels between ``sigma_min`` and 0 are left out: no network was trained there.
        """
        refined = [levels[0]]
        for left, right in itertools.pairwise(levels):
            inner = np.linspace(self.forward(left), self.forward(right), substeps + 1)[1:-1]
            refined += [sigma for sigma in self.inverse(inner) if max(right, self.sigma_min) < sigma < refined[-1]]
            refined.append(right)
        return np.array(refined)


def rho_space(rho: float = 7.0, sigma_min: float = 0.002) -> Variable:
    """``u = sigma^(1/rho)``, the variable of the EDM grid."""
    return Variable(partial(_power, 1 / rho), partial(_power, rho), sigma_min)


def log_space(sigma_min: float = 0.002) -> Variable:
    """``u = log sigma``, minus the half log-SNR; noise levels below ``sigma_min`` count as ``sigma_min``."""
    return Variable(partial(_log, sigma_min), np.exp, sigma_min)


def time_space(beta_min: float = BETA_MIN, beta_max: float = BETA_MIN + BETA_D, sigma_min: float = 0.002) -> Variable:
    """``u = t``, the time of the linear VP SDE: :func:`dode.solvers.formulas.vp_time`, beta_d = beta_max - beta_min."""
    own = {"beta_min": beta_min, "beta_d": beta_max - beta_min}
    return Variable(partial(vp_time, **own), partial(vp_sigma, **own), sigma_min)


def index_space(schedule: Schedule, sigma_min: float | None = None, max_steps: int | None = None) -> Variable:
    """``u`` = index of a VP schedule."""
    sigma_min, max_steps = sigma_min or schedule.sigma_min, max_steps or len(schedule)
    return Variable(schedule.index, schedule.sigma, sigma_min, max_steps)


def root_index_space(schedule: Schedule, sigma_min: float | None = None) -> Variable:
    """``u`` = square root of the index of a VP schedule; indices below 0 count as 0."""
    lowest = max(sigma_min or 0.0, schedule.sigma_min)
    return Variable(partial(_root_of_index, schedule), partial(_level_at_root, schedule), lowest)


def flow_space(shift: float = 1.0, sigma_min: float = 0.002, max_steps: int | None = None) -> Variable:
    """``u = t``, the time of flow matching before the shift: ``sigma = shift t / (1 - t)``."""
    return Variable(partial(time_of_level, shift=shift), partial(level_at_time, shift=shift), sigma_min, max_steps)


def rho_time_space(rho: float, sigma_min: float) -> Variable:
    """``u = t^(1/rho)``, t the time of flow matching."""
    return Variable(partial(_power_of_time, 1 / rho), partial(_level_at_power, rho), sigma_min)


def shifted_index_space(schedule: Schedule, shift: float, sigma_min: float) -> Variable:
    """``u`` = index of the level ``sigma / shift``."""
    return Variable(partial(_shifted_index, schedule, shift), partial(_shifted_level, schedule, shift), sigma_min)


def exponential_space(schedule: Schedule | None, sigma_min: float) -> Variable:
    """``u = log t`` in flow matching, ``log sigma`` for other models; below ``sigma_min`` as there."""
    if not isinstance(schedule, FlowSchedule):
        return log_space(sigma_min)
    return Variable(partial(_log_time, sigma_min), _level_at_log_time, sigma_min)


def beta_space(schedule: Schedule, lowest: float, highest: float, alpha: float, beta: float) -> Variable:
    """``u`` = the Beta(alpha, beta) distribution function of the index between ``lowest`` and ``highest``."""
    about = (schedule, lowest, highest, alpha, beta)
    return Variable(partial(_beta_of_level, *about), partial(_level_at_beta, *about), float(schedule.sigma(lowest)))


# Functions of their own, so that a grid can be pickled.
def _power(exponent, u):
    return np.asarray(u) ** exponent


def _log(sigma_min, sigma):
    return np.log(np.maximum(sigma, sigma_min))


def _root_of_index(schedule, sigma):
    return np.sqrt(np.maximum(schedule.index(sigma), 0))


def _level_at_root(schedule, u):
    return schedule.sigma(np.square(u))


def _shifted_index(schedule, shift, sigma):
    return schedule.index(np.asarray(sigma) / shift)


def _shifted_level(schedule, shift, u):
    return shift * schedule.sigma(u)


def _power_of_time(exponent, sigma):
    return time_of_level(sigma) ** exponent


def _level_at_power(exponent, u):
    return level_at_time(np.asarray(u) ** exponent)


def _log_time(sigma_min, sigma):
    return np.log(time_of_level(np.maximum(sigma, sigma_min)))


def _level_at_log_time(u):
    return level_at_time(np.exp(u))


def _beta_of_level(schedule, lowest, highest, alpha, beta, sigma):
    from scipy.special import betainc  # slow to import, and for this alone

    return betainc(alpha, beta, np.clip((schedule.index(sigma) - lowest) / (highest - lowest), 0, 1))


def _level_at_beta(schedule, lowest, highest, alpha, beta, u):
    from scipy.special import betaincinv

    return schedule.sigma(lowest + betaincinv(alpha, beta, u) * (highest - lowest))
