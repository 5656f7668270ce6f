"""Denoisers by what their networks predict: data, noise, v, the clean image, or the velocity of flow matching."""

import copy
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from dode import calls
from dode.grids.facts import ModelFacts, Prediction, flow_prior, vp_prior
from dode.grids.schedules import Schedule
from dode.models import levels
from dode.models.conditions import Conditions
from dode.models.denoiser import Denoiser
from dode.models.levels import Level
from dode.solvers.formulas import flow_time


class DataPrediction(Denoiser):
    """A network under EDM preconditioning (Karras et al. 2022, arXiv 2206.00364, Table 1).

    ``D(x; sigma) = c_skip x + c_out F(c_in x; ln(sigma) / 4)`` with ``v = sigma^2 + sigma_data^2``,
    ``c_skip = sigma_data^2 / v``, ``c_out = sigma sigma_data / sqrt(v)``, ``c_in = 1 / sqrt(v)``.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        sigma_data: float,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        batch_size: int | None = None,
        classes: int | None = None,
    ):
        facts = ModelFacts("data", sigma_min=sigma_min, sigma_max=sigma_max, classes=classes)
        super().__init__(network, facts, batch_size=batch_size)
        self.sigma_data = sigma_data

    def denoise(self, x: Tensor, sigma: Level, conditions: Conditions | None = None) -> Tensor:
        """One batch."""
        variance = sigma**2 + self.sigma_data**2
        scaled, condition = (x / levels.sqrt(variance)).to(self.dtype), self._scalar(levels.log(sigma) / 4)
        output = calls.tensor(self.network(scaled, condition=condition, **self._given(conditions)), x)
        denoised = x * (self.sigma_data**2 / variance)
        return levels.add_to(denoised, output, sigma * self.sigma_data / levels.sqrt(variance))


class VariancePreserving(Denoiser):
    """A network on a discrete VP schedule, called as ``network(sqrt(abar) x, index)``, ``abar = 1 / (1 + sigma^2)``.

    ``index`` is the (fractional) index of the noise level; one below that of index 0 is given as index 0. A subclass
    says what the output is: ``prediction`` and :meth:`estimate`.

    Args:
        schedule: the :class:`dode.grids.schedules.Schedule` that the network was trained on.
        index_scale: what the network multiplies the index by before it embeds it; only the authors' recipes ask.
        round_sigma: as of :class:`dode.grids.facts.ModelFacts`.
        batch_size, classes: as of :class:`Denoiser`.
    """

    prediction: Prediction

    def __init__(
        self,
        network: nn.Module,
        *,
        schedule: Schedule,
        round_sigma: Callable[[Any], np.ndarray] | None = None,
        index_scale: float = 1.0,
        batch_size: int | None = None,
        classes: int | None = None,
    ):
        known: Any = {"round_sigma": round_sigma, "index_scale": index_scale, "classes": classes}
        facts = ModelFacts(self.prediction, schedule=schedule, prior_std=vp_prior, **known)
        super().__init__(network, facts, batch_size=batch_size)

    def at(self, schedule: Schedule, shift: float, time: float | None = None) -> Self:
        """This denoiser called at another index: :meth:`dode.grids.facts.ModelFacts.at`."""
        other = copy.copy(self)
        other.facts = self.facts.at(schedule, shift, time)
        return other

    def denoise(self, x: Tensor, sigma: Level, conditions: Conditions | None = None) -> Tensor:
        """One batch."""
        scaled, index = (x / levels.sqrt(1 + sigma**2)).to(self.dtype), self._index(sigma)
        output = calls.tensor(self.network(scaled, index, **self._given(conditions)), x)
        return self.estimate(x, sigma, output.to(x.dtype))

    def output(self, x: Tensor, sigma: Level, denoised: Tensor) -> Tensor:
        """:meth:`Denoiser.output`."""
        zero, one = x.new_zeros(()), x.new_ones(())
        return (denoised - self.estimate(x, sigma, torch.zeros_like(x))) / self.estimate(zero, sigma, one)

    def estimated(self, x: Tensor, sigma: Level, output: Tensor) -> Tensor:
        """:meth:`Denoiser.estimated`."""
        return self.estimate(x, sigma, output)

    @staticmethod
    def estimate(x: Tensor, sigma: Level, output: Tensor) -> Tensor:
        """The clean image from the network's output at x (not scaled), both (B, C, H, W)."""
        raise NotImplementedError


class NoisePrediction(VariancePreserving):
    """A network that predicts noise: ``D(x; sigma) = x - sigma eps``."""

    prediction = "noise"

    @staticmethod
    def estimate(x: Tensor, sigma: Level, output: Tensor) -> Tensor:
        """:meth:`VariancePreserving.estimate`."""
        return levels.add(x, output, -sigma)


class VelocityPrediction(VariancePreserving):
    """A network that predicts ``v = sqrt(abar) eps - sqrt(1 - abar) x_0`` (Salimans & Ho 2022, arXiv 2202.00512).

    ``D(x; sigma) = x / (1 + sigma^2) - sigma / sqrt(1 + sigma^2) v``.
    """

    prediction = "v"

    @staticmethod
    def estimate(x: Tensor, sigma: Level, output: Tensor) -> Tensor:
        """:meth:`VariancePreserving.estimate`."""
        return levels.add(x / (1 + sigma**2), output, -sigma / levels.sqrt(1 + sigma**2))


class ImagePrediction(VariancePreserving):
    """A network that predicts the clean image: ``D(x; sigma)`` is its output."""

    prediction = "image"

    @staticmethod
    def estimate(x: Tensor, sigma: Level, output: Tensor) -> Tensor:
        """:meth:`VariancePreserving.estimate`."""
        return output.clone()  # the network may write to its own again


class FlowPrediction(Denoiser):
    """A network of flow matching, called as ``network(x_t, T t)``, that predicts ``v = n - x_0``.

    ``x_t = (1 - t) x_0 + t n`` (Lipman et al. 2023, arXiv 2210.02747; Liu et al. 2023, arXiv 2209.03003). Here ``t =
    sigma / (1 + sigma)``, ``x_t = x / (1 + sigma)`` and ``D(x; sigma) = x_t - t v``.

    Args:
        schedule: a :class:`dode.grids.schedules.FlowSchedule`, which has T.
        batch_size, classes: as of :class:`Denoiser`.
    """

    prediction: Prediction = "flow"

    def __init__(
        self, network: nn.Module, *, schedule: Schedule, batch_size: int | None = None, classes: int | None = None
    ):
        facts = ModelFacts(self.prediction, schedule=schedule, prior_std=flow_prior, classes=classes)
        super().__init__(network, facts, batch_size=batch_size)

    def denoise(self, x: Tensor, sigma: Level, conditions: Conditions | None = None) -> Tensor:
        """One batch."""
        state, time = x / (1 + sigma), self._index(sigma)
        output = calls.tensor(self.network(state.to(self.dtype, copy=True), time, **self._given(conditions)), x)
        return levels.add_to(state, output.to(x.dtype), -flow_time(sigma))

    def output(self, x: Tensor, sigma: Level, denoised: Tensor) -> Tensor:
        """:meth:`Denoiser.output`."""
        return (x / (1 + sigma) - denoised) / flow_time(sigma)

    def estimated(self, x: Tensor, sigma: Level, output: Tensor) -> Tensor:
        """:meth:`Denoiser.estimated`."""
        return levels.add(x / (1 + sigma), output, -flow_time(sigma))
