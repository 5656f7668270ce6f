"""The noisy image classifier of classifier guidance (Dhariwal & Nichol 2021, arXiv 2105.05233, section 4).

The way down of ADM's U-Net and an attention pool, with the parameter names of OpenAI's checkpoints.
"""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dode.models.adm.adm_unet import Encoder, EncoderOptions
from dode.models.adm.layers import GroupNorm32, split_heads
from dode.models.networks import networks


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions(EncoderOptions):
    """Of the classifier besides: the number of classes. Its ``head_channels`` are also the pool's."""

    classes: int = 1000
    head_channels: int = 64
    resblock_updown: bool = True


class AttentionPool(nn.Module):
    """The mean over all pixels attends to itself and to each of them, every place with its own learned offset."""

    def __init__(self, channels: int, places: int, head_channels: int, outputs: int):
        super().__init__()
        self.heads = channels // head_channels
        self.positional_embedding = nn.Parameter(torch.randn(channels, places + 1) / channels**0.5)
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, outputs)."""
        x = x.flatten(2)
        x = torch.cat([x.mean(dim=-1, keepdim=True), x], dim=-1) + self.positional_embedding
        q, k, v = split_heads(self.qkv_proj(x), self.heads, new_order=True)
        h = functional.scaled_dot_product_attention(q[:, :, :1], k, v)
        return self.c_proj(h.transpose(-1, -2).flatten(1, 2)).squeeze(-1)


@networks.register("adm-classifier")
class ADMClassifier(Encoder):
    """``logits = network(x_vp, index)``; options :class:`ClassifierOptions`."""

    __signature__ = inspect.signature(ClassifierOptions)
    options: ClassifierOptions

    def __init__(self, **options: Any):
        super().__init__(ClassifierOptions(**options))
        width, head_channels = self.widths[-1], self.options.head_channels
        pool = AttentionPool(width, self.sizes[-1] ** 2, head_channels, self.options.classes)
        self.out = nn.Sequential(GroupNorm32(width), nn.SiLU(), pool)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """``x`` (B, C, H, W) in VP coordinates, images in [-1, 1]; ``index`` 0-d or (B,). Returns (B, classes)."""
        return self.out(self.encode(x, self.embed(index))[-1].to(x.dtype))
