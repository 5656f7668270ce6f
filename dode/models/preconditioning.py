"""The preconditionings that Karras et al. 2022 (arXiv 2206.00364, table 1) wrap published networks in, as denoisers.

All predict noise and have ``D(x; sigma) = x + c_out F(c_in x; c_noise)``, ``c_skip = 1``; noise levels are those of the
variance-exploding state, which begins as ``sigma_max`` times a unit normal.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, nn

from dode import calls
from dode.grids.facts import ModelFacts, iddpm_levels, nearest_entry, nearest_level
from dode.models import levels
from dode.models.conditions import Conditions
from dode.models.denoiser import Denoiser
from dode.models.levels import Level
from dode.models.predictions import DataPrediction
from dode.registry import Registry
from dode.solvers.formulas import vp_time

preconditionings = Registry("preconditioning")
preconditionings.register("edm")(DataPrediction)


@preconditionings.register("consistency")
def consistency(network: nn.Module, *, sigma_data: float, **options: Any) -> DataPrediction:
    """A consistency model: ``edm`` with the scalings of :class:`dode.models.boundary.Boundary`.

    Song et al. 2023, arXiv 2303.01469, App. C; arguments as of :class:`dode.models.predictions.DataPrediction`.
    """
    return DataPrediction(network, sigma_data=sigma_data, **options).as_consistency_function()


class Baseline(Denoiser):
    """The algebra that the three share; ``coefficients(sigma)`` gives ``(c_in, c_out, c_noise)``.

    Args:
        network: called as ``network(c_in x, condition=c_noise)``; output channels beyond the image's are ignored.
        sigma_min, sigma_max, round_sigma: as of :class:`dode.grids.facts.ModelFacts`.
        batch_size, classes: as of :class:`dode.models.Denoiser`.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        sigma_min: float,
        sigma_max: float,
        round_sigma: Callable[[Any], np.ndarray] | None = None,
        batch_size: int | None = None,
        classes: int | None = None,
    ):
        facts = ModelFacts("noise", sigma_min=sigma_min, sigma_max=sigma_max, round_sigma=round_sigma, classes=classes)
        super().__init__(network, facts, batch_size=batch_size)

    def denoise(self, x: Tensor, sigma: Level, conditions: Conditions | None = None) -> Tensor:
        """One batch."""
        c_in, c_out, c_noise = self.coefficients(sigma)
        scaled, condition = (x * c_in).to(self.dtype), self._scalar(c_noise)
        output = calls.tensor(self.network(scaled, condition=condition, **self._given(conditions)), x)
        return levels.add(x, output[:, : x.shape[1]].to(x.dtype), c_out)


@preconditionings.register("vp")
class VP(Baseline):
    """DDPM++ of Song et al. 2021 (arXiv 2011.13456), continuous in time.

    ``c_in = 1 / sqrt(1 + sigma^2)``, ``c_out = -sigma``, ``c_noise = (M - 1) t(sigma)`` with
    ``t`` of :func:`dode.solvers.formulas.vp_time`.
    """

    def __init__(
        self, network: nn.Module, *, beta_d: float = 19.9, beta_min: float = 0.1, steps: int = 1000, **options: Any
    ):
        super().__init__(network, **options)
        self.beta_d, self.beta_min, self.steps = beta_d, beta_min, steps

    def coefficients(self, sigma: Level) -> tuple[Level, Level, Level]:
        """``(c_in, c_out, c_noise)``."""
        beta_min, beta_d = self.beta_min, self.beta_d

        def time(at):
            return vp_time(at, beta_min=beta_min, beta_d=beta_d)

        def slope(at):
            return 2 * at / (1 + at**2) / (beta_min + beta_d * time(at))

        return 1 / levels.sqrt(1 + sigma**2), -sigma, (self.steps - 1) * levels.mapped(sigma, time, slope)


@preconditionings.register("ve")
class VE(Baseline):
    """NCSN++ of Song et al. 2021: ``c_in = 1``, ``c_out = sigma``, ``c_noise = ln(sigma / 2)``."""

    def __init__(
        self,
        network: nn.Module,
        *,
        sigma_min: float = 0.02,
        sigma_max: float = 100.0,
        batch_size: int | None = None,
        classes: int | None = None,
    ):
        super().__init__(network, sigma_min=sigma_min, sigma_max=sigma_max, batch_size=batch_size, classes=classes)

    def coefficients(self, sigma: Level) -> tuple[Level, Level, Level]:
        """``(c_in, c_out, c_noise)``."""
        return 1.0, sigma, levels.log(sigma / 2)


@preconditionings.register("iddpm")
class IDDPM(Baseline):
    """Improved DDPM (Nichol & Dhariwal 2021, arXiv 2102.09672) and ADM, discrete in time.

    ``c_in = 1 / sqrt(1 + sigma^2)``, ``c_out = -sigma``, ``c_noise = M - 1 - argmin_j |u_j - sigma|`` with the levels u
    of :func:`dode.grids.facts.iddpm_levels`.
    """

    def __init__(
        self, network: nn.Module, *, floor: float = 0.001, offset: float = 0.008, steps: int = 1000, **options: Any
    ):
        self.levels, self.steps = iddpm_levels(floor=floor, offset=offset, steps=steps), steps
        super().__init__(network, round_sigma=functools.partial(nearest_level, self.levels), **options)

    def coefficients(self, sigma: Level) -> tuple[Level, Level, Level]:
        """``(c_in, c_out, c_noise)``."""

        def index(at):
            return self.steps - 1.0 - nearest_entry(self.levels, at)

        return 1 / levels.sqrt(1 + sigma**2), -sigma, levels.mapped(sigma, index, np.zeros_like)
