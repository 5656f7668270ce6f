"""What the pipelines of diffusers keep as their state, give to their network and make of its output, a class a kind.

A class has ``unit``, the standard deviation of the noise that a pipeline begins with; ``from_state``, which turns a
state ``x_0 + sigma n`` into the pipeline's; ``network_input``, what the network is given in place of that;
``denoised``, the clean image by its output; and ``timestep`` with its inverse ``level``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from dode.grids.facts import ModelFacts, flow_prior, vp_prior
from dode.grids.schedules import FlowSchedule, Schedule
from dode.solvers.formulas import flow_time


class OnASchedule:
    """The state is ``x / prior_std(sigma)`` and goes to the network as it is; a timestep is called by the schedule.

    Args:
        config: of the scheduler.
        facts: of the result's model, which says where the authors' recipes call the network.
        schedule: that the network was trained on.
    """

    prior_std: Callable[[Any], Any]

    def __init__(self, config: Any, facts: ModelFacts, schedule: Schedule):
        self.schedule, self.round = schedule, config.round_timesteps
        own = ModelFacts(config.prediction_type, schedule=schedule, prior_std=self.prior_std)
        # A recipe of the authors may call the network at another index, with an interpolation of its own between them.
        self.facts = facts if facts.shift or facts.index_factor != 1 else own
        self.shift, self.index_factor = facts.shift, facts.index_factor
        self.lowest, self.highest, self.said = schedule.sigma_min, schedule.noisiest, own.said()

    def unit(self, sigma: float) -> float:
        return 1.0

    def timestep(self, sigma: float) -> float:
        index = self.facts.index(sigma)
        return float(round(index)) if self.round else index

    def from_state(self, x: Any, sigma: float) -> Any:
        return x / self.prior_std(sigma)

    def network_input(self, sample: Tensor, sigma: float) -> Tensor:
        return sample.clone()

    def _index(self, index, first, timestep):
        """An index that may be outside of the schedule by the rounding of timesteps, which are float32."""
        last = len(self.facts.schedule) - 1
        rounding = 1e-6 * last
        if not first - rounding <= index <= last + rounding:
            raise ValueError(f"timestep: {timestep:g} is outside of the model's schedule of {last + 1} steps")
        return min(max(index, first), last)


class VariancePreserving(OnASchedule):
    """A network on a discrete schedule, whose input is ``x / sqrt(1 + sigma^2)``."""

    prediction = "noise"
    prior_std = staticmethod(vp_prior)
    estimates = MappingProxyType(
        {
            "epsilon": lambda x, sigma, output: torch.add(x, output, alpha=-sigma),
            "v_prediction": lambda x, sigma, output: x / (1 + sigma**2) - output * (sigma / math.sqrt(1 + sigma**2)),
            "sample": lambda x, sigma, output: output.clone(),
        }
    )

    def __init__(self, config: Any, facts: ModelFacts, schedule: Schedule):
        super().__init__(config, facts, schedule)
        # A result may be of a network with another output than the pipeline's, as they are turned into each other.
        del self.said["prediction"]

    def denoised(self, kind: str, x: Tensor, sigma: float, output: Tensor) -> Tensor:
        return self.estimates[kind](x, sigma, output)

    def level(self, timestep: float) -> float:
        index = self._index(timestep / self.index_factor - self.shift, 0.0, timestep)
        schedule: Any = self.facts.schedule
        return float(schedule.sigma(index))

    def shown(self, sigmas: Any) -> Any:
        return sigmas


class FlowMatching(OnASchedule):
    """A network of flow matching, whose input is ``x_t = x / (1 + sigma)``; a timestep is ``T sigma / (1 + sigma)``."""

    prediction = "flow"
    prior_std = staticmethod(flow_prior)
    estimates = MappingProxyType(
        {"flow_prediction": lambda x, sigma, output: torch.add(x / (1 + sigma), output, alpha=-flow_time(sigma))}
    )

    def __init__(self, config: Any, facts: ModelFacts, schedule: FlowSchedule):
        super().__init__(config, facts, schedule)
        self.lowest = 0.0  # any time is one that the network was trained on

    def denoised(self, kind: str, x: Tensor, sigma: float, output: Tensor) -> Tensor:
        return self.estimates[kind](x, sigma, output)

    def level(self, timestep: float) -> float:
        return float(self.schedule.sigma(self._index(timestep - 1, -1.0, timestep)))

    def shown(self, sigmas: Any) -> Any:
        return sigmas / (1 + sigmas)


class VarianceExploding:
    """A network under EDM's preconditioning, as ``EDMEulerScheduler`` has it. The pipeline's state is x."""

    prediction = "data"
    said = MappingProxyType(ModelFacts("data").said())
    # The sign of c_out (Karras et al. 2022, arXiv 2206.00364, Table 1).
    estimates = MappingProxyType({"epsilon": 1, "v_prediction": -1})
    lowest, highest, shift, index_factor, round = 0.0, math.inf, 0, 1.0, False

    def __init__(self, config: Any, facts: ModelFacts, schedule: None):
        if config.round_timesteps:
            raise ValueError(
                "round_timesteps: under EDM's preconditioning (sigma_data) a timestep is ln(sigma) / 4, and there is "
                "no whole one to round it to; leave it out"
            )
        self.data = config.sigma_data

    def denoised(self, kind: str, x: Tensor, sigma: float, output: Tensor) -> Tensor:
        variance = sigma**2 + self.data**2
        scale = self.estimates[kind] * sigma * self.data / math.sqrt(variance)
        return torch.add(x * (self.data**2 / variance), output, alpha=scale)

    def prior_std(self, sigma: Any) -> Any:
        return sigma

    def unit(self, sigma: float) -> float:
        return sigma

    def timestep(self, sigma: float) -> float:
        return math.log(sigma) / 4

    def level(self, timestep: float) -> float:
        return math.exp(4 * timestep)

    def from_state(self, x: Any, sigma: float) -> Any:
        return x.clone() if isinstance(x, Tensor) else x

    def network_input(self, sample: Tensor, sigma: float) -> Tensor:
        return sample / math.sqrt(sigma**2 + self.data**2)

    def shown(self, sigmas: Any) -> Any:
        return sigmas
