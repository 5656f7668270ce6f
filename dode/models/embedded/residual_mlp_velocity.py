"""A residual multilayer perceptron that predicts the velocity, behind a noise-prediction interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dode.grids import schedules
from dode.grids.schedules import Schedule
from dode.models.embedded.residual_mlp import ResidualMLP
from dode.models.networks import networks


@networks.register("residual-mlp-velocity")
def residual_mlp_velocity(
    *,
    image_shape: Sequence[int],
    schedule: Mapping[str, Any],
    width: int = 256,
    blocks: int = 5,
    embedding: int = 64,
    max_frequency: float = 64.0,
) -> VelocityToNoise:
    """:class:`dode.models.embedded.residual_mlp.ResidualMLP` as a noise prediction, by :class:`VelocityToNoise`."""
    inner = ResidualMLP(
        image_shape=image_shape, width=width, blocks=blocks, embedding=embedding, max_frequency=max_frequency
    )
    return VelocityToNoise(inner, schedules.schedules.create(**schedule))


class VelocityToNoise(nn.Module):
    """Noise from a network that predicts the velocity v (Salimans & Ho 2022, arXiv 2202.00512).

    ``eps = sqrt(1 - abar) x + sqrt(abar) F(x, (index + 1) / T)``. At the noisy end a network's raw noise output,
    divided by ``sqrt(abar)``, turns its smallest error into a saturated image; the velocity does not.
    """

    log_abar: Tensor

    def __init__(self, inner: nn.Module, schedule: Schedule):
        super().__init__()
        self.inner = inner
        self.register_buffer("log_abar", torch.from_numpy(schedule.log_abar(range(len(schedule)))), persistent=False)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """``x`` (B, C, H, W) in VP coordinates; ``index`` 0-d or (B,), fractional, 0 to T-1. Returns eps."""
        lower = index.floor().clamp(0, len(self.log_abar) - 2).long()
        fraction = index - lower
        log_abar = torch.lerp(self.log_abar[lower], self.log_abar[lower + 1], fraction.to(self.log_abar.dtype))
        velocity = self.inner(x, (index + 1) / len(self.log_abar))
        root_abar = log_abar.mul(0.5).exp().to(x.dtype).view(-1, 1, 1, 1)
        root_rest = torch.expm1(log_abar).neg().sqrt().to(x.dtype).view(-1, 1, 1, 1)
        return root_rest * x + root_abar * velocity
