"""A residual multilayer perceptron for small images, conditioned on one scalar (time or noise level)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dode.models.networks import networks


@networks.register("residual-mlp")
class ResidualMLP(nn.Module):
    """Map an image and a scalar condition to an output of the image's shape.

    The image is flattened; each block is ``h + W2 silu(W1 (norm(h) * (1 + scale) + shift))`` with scale and shift from
    a sinusoidal embedding of the condition (the adaptive normalisation of Dhariwal & Nichol 2021, arXiv 2105.05233).

    Args:
        image_shape: ``(channels, height, width)``.
        width: size of the hidden state.
        blocks: number of residual blocks.
        embedding: size of the embedding of the condition (even).
        max_frequency: largest angular frequency of the embedding, for a condition of order one.
    """

    frequencies: Tensor

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        width: int = 256,
        blocks: int = 5,
        embedding: int = 64,
        max_frequency: float = 64.0,
    ):
        super().__init__()
        self.image_shape = tuple(image_shape)
        size = math.prod(self.image_shape)
        self.register_buffer(
            "frequencies", torch.logspace(0, math.log10(max_frequency), embedding // 2) / 2, persistent=False
        )
        self.embed = nn.Sequential(nn.Linear(embedding, embedding), nn.SiLU())
        self.stem = nn.Linear(size, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(blocks))
        self.conditions = nn.ModuleList(nn.Linear(embedding, 2 * width) for _ in range(blocks))
        self.expand = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.project = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.final_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.head = nn.Linear(width, size)
        for layer in (*self.conditions, *self.project, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``x`` (B, C, H, W); ``condition`` a scalar of order one, 0-d (shared, embedded once) or (B,)."""
        angles = condition.reshape(-1, 1) * self.frequencies
        embedding = self.embed(torch.cat([angles.sin(), angles.cos()], dim=1))
        h = self.stem(x.flatten(1))
        for norm, condition_layer, expand, project in zip(
            self.norms, self.conditions, self.expand, self.project, strict=True
        ):
            scale, shift = condition_layer(embedding).chunk(2, dim=1)
            h = h + project(nn.functional.silu(expand(norm(h) * (1 + scale) + shift)))
        return self.head(self.final_norm(h)).view(x.shape)
