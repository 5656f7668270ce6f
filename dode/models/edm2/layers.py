"""The magnitude-preserving layers of Karras et al. 2024 (EDM2, arXiv 2312.02696, section 2 and appendix B).

Written from the paper. Each keeps activations of unit magnitude on average: weights are normalised as they are used,
and sums, concatenations and nonlinearities are divided by what they would add. Nothing has a bias or a group
normalisation. Names of parameters are those of the published checkpoints.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

SILU = 0.596  # the magnitude of silu(x) for a unit normal x
CLIP = 256.0  # beyond which activations are cut, so that half precision holds them


def normalize(x: Tensor, dim: tuple[int, ...], eps: float = 1e-4) -> Tensor:
    """``x / (eps + |x|)`` with the root mean square ``|x|`` over the dimensions ``dim``."""
    magnitude = torch.linalg.vector_norm(x, dim=dim, keepdim=True, dtype=torch.float32)
    entries = math.prod(x.shape[axis] for axis in dim)
    return x / (eps + magnitude / math.sqrt(entries)).to(x.dtype)


def mp_silu(x: Tensor) -> Tensor:
    """``silu(x) / 0.596`` (equation 81)."""
    return functional.silu(x) / SILU


def mp_sum(a: Tensor, b: Tensor, t: float) -> Tensor:
    """``((1 - t) a + t b) / sqrt((1 - t)^2 + t^2)`` (equation 88)."""
    return a.lerp(b, t) / math.hypot(1 - t, t)


def mp_cat(a: Tensor, b: Tensor, t: float) -> Tensor:
    """``sqrt((N_a + N_b) / ((1 - t)^2 + t^2)) [(1 - t) a / sqrt(N_a), t b / sqrt(N_b)]`` (equation 103).

    N are the numbers of channels.
    """
    scale = math.sqrt((a.shape[1] + b.shape[1]) / ((1 - t) ** 2 + t**2))
    return torch.cat([a * (scale * (1 - t) / math.sqrt(a.shape[1])), b * (scale * t / math.sqrt(b.shape[1]))], dim=1)


class MPFourier(nn.Module):
    """``sqrt(2) cos(f c + p)`` with the checkpoint's frequencies f and phases p (equation 75)."""

    freqs: Tensor
    phases: Tensor

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("freqs", 2 * math.pi * torch.randn(width))
        self.register_buffer("phases", 2 * math.pi * torch.rand(width))

    def forward(self, condition: Tensor) -> Tensor:
        """0-d or (B,) to (1 or B, width), float32."""
        angles = condition.reshape(-1, 1).float() * self.freqs.float() + self.phases.float()
        return angles.cos() * math.sqrt(2)


class MPConv(nn.Module):
    """A convolution, or with ``kernel=0`` a linear layer, of weights that are normalised for each output (equation 47).

    ``w = g W / (|W| sqrt(N))``, |W| the root mean square and N the number of an output's weights, with a gain g.
    """

    def __init__(self, width_in: int, width: int, kernel: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width_in, *(2 * [kernel] if kernel else [])))

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        """(B, width_in) or (B, width_in, H, W) to the same with ``width``; computed in x's type."""
        weight = normalize(self.weight.float(), tuple(range(1, self.weight.ndim)))
        weight = (weight * (gain / math.sqrt(weight[0].numel()))).to(x.dtype)
        if weight.ndim == 2:
            return x @ weight.T
        return functional.conv2d(x, weight, padding=weight.shape[-1] // 2)


class Balances(NamedTuple):
    """How residuals and attention are mixed with what they are added to; how wide attention's heads are at least."""

    residual: float = 0.3
    attention: float = 0.3
    head_width: int = 64


class Block(nn.Module):
    """A residual block of the encoder or the decoder, with attention where it has heads (figure 21).

    The encoder's begins with the resampling, the 1x1 convolution if the width changes, and ``x / |x|`` over the
    channels of each pixel; the decoder's has that convolution on its shortcut. The embedding scales the channels by
    ``1 + g c``.
    """

    def __init__(
        self,
        width_in: int,
        width: int,
        embedding: int,
        balances: Balances,
        *,
        decoder: bool = False,
        resample: str | None = None,
        attention: bool = False,
    ):
        super().__init__()
        self.balances, self.decoder, self.resample = balances, decoder, resample
        self.heads = width // balances.head_width if attention else 0
        self.emb_gain = nn.Parameter(torch.zeros([]))
        self.conv_res0 = MPConv(width_in if decoder else width, width, 3)
        self.emb_linear = MPConv(embedding, width, 0)
        self.conv_res1 = MPConv(width, width, 3)
        self.conv_skip = MPConv(width_in, width, 1) if width_in != width else None
        if self.heads:
            self.attn_qkv, self.attn_proj = MPConv(width, 3 * width, 1), MPConv(width, width, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``x`` (B, width_in, H, W); ``embedding`` (1 or B, embedding)."""
        if self.resample == "down":
            x = functional.avg_pool2d(x, 2)
        elif self.resample == "up":
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        if not self.decoder:
            x = normalize(self._skipped(x), (1,))
        h = self.conv_res0(mp_silu(x))
        scale = self.emb_linear(embedding, gain=self.emb_gain) + 1
        h = self.conv_res1(mp_silu(h * scale[:, :, None, None].to(h.dtype)))
        x = mp_sum(self._skipped(x) if self.decoder else x, h, self.balances.residual)
        if self.heads:
            x = mp_sum(x, self.attn_proj(self._attended(x)), self.balances.attention)
        return x.clamp(-CLIP, CLIP)

    def _skipped(self, x):
        return x if self.conv_skip is None else self.conv_skip(x)

    def _attended(self, x):
        """Cosine attention per head; channel ``(head d + i) 3 + j`` is component i of q, k or v."""
        batch, width, *size = x.shape
        parts = normalize(self.attn_qkv(x).view(batch, self.heads, width // self.heads, 3, -1), (2,))
        q, k, v = parts.permute(3, 0, 1, 4, 2)
        return functional.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(batch, width, *size)
