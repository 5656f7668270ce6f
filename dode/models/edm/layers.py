"""The layers that the networks of Karras et al. 2022 (arXiv 2206.00364, appendix F.7 and table 7) are made of.

Written from the papers. Names of parameters and the order of their channels are those of the published checkpoints.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

MAX_PERIOD = 10_000
FOURIER_SCALE = 16


@dataclasses.dataclass(frozen=True)
class Style:
    """What distinguishes the residual blocks of one family from the other's.

    Attributes:
        eps: of the group normalisations.
        scale_shift: the condition scales and shifts after the second normalisation (ADM), or is added before it.
        skip_scale: factor on every sum of a residual with its shortcut.
        head_width: channels of an attention head, at least; None: one head.
        projected_resampling: the shortcut of a resampling block has a 1x1 convolution at equal width too.
        taps: 1-d resampling filter.
    """

    eps: float
    scale_shift: bool
    skip_scale: float
    head_width: int | None
    projected_resampling: bool
    taps: tuple[int, ...]


def song_style(taps: Iterable[int]) -> Style:
    """DDPM++ and NCSN++ (Song et al. 2021, arXiv 2011.13456): added condition, one head, sums divided by sqrt(2)."""
    return Style(1e-6, False, math.sqrt(0.5), None, True, tuple(taps))


def dhariwal_style(head_width: int) -> Style:
    """ADM (Dhariwal & Nichol 2021, arXiv 2105.05233): scale and shift, heads of 64 channels, box resampling."""
    return Style(1e-5, True, 1.0, head_width, False, (1, 1))


def group_norm(width: int, eps: float) -> nn.GroupNorm:
    """Group normalisation with at most 32 groups of at least 4 channels."""
    return nn.GroupNorm(min(32, width // 4), width, eps=eps)


def outer(taps: Sequence[int]) -> Tensor:
    """The outer product of ``taps`` with itself, of unit sum: (1, 1, n, n) float32."""
    line = torch.tensor(taps, dtype=torch.float32)
    line = line / line.sum()
    return torch.outer(line, line)[None, None]


def filtered(x: Tensor, taps: Tensor, resample: str | None, margin: int) -> Tensor:
    """Each channel of x (B, C, H, W) with a filter (1, 1, n, n), then halved; or doubled (``resample="up"``)."""
    channels = x.shape[1]
    each = taps.to(x.dtype).expand(channels, -1, -1, -1)
    if resample == "up":
        return functional.conv_transpose2d(x, 4 * each, stride=2, padding=margin, groups=channels)
    return functional.conv2d(x, each, stride=2, padding=margin, groups=channels)


class Conv(nn.Module):
    """A convolution with its resampling by two; ``kernel=0``: the resampling alone.

    ``resample`` is ``"up"``, ``"down"`` or None. The filter is the outer product of ``taps`` with itself, of unit sum,
    and acts on each channel: ``y = w * (f * x)[::2]`` downwards, and upwards four times f on the zero-filled image.
    With ``at_full=True`` the learned kernel acts before the halving: ``y = (f * (w * x))[::2]``.
    """

    resample_filter: Tensor

    def __init__(
        self,
        width_in: int,
        width: int,
        kernel: int,
        *,
        resample: str | None = None,
        taps: Sequence[int] = (1, 1),
        at_full: bool = False,
    ):
        super().__init__()
        self.resample, self.at_full = resample, at_full
        self.weight: nn.Parameter | None = None
        self.bias: nn.Parameter | None = None
        if kernel:
            bound = (width_in * kernel**2) ** -0.5
            self.weight = nn.Parameter(torch.empty(width, width_in, kernel, kernel).uniform_(-bound, bound))
            self.bias = nn.Parameter(torch.zeros(width))
        if resample is not None:
            self.register_buffer("resample_filter", outer(taps))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (B, width_in, H, W) to (B, width, H', W'), H' = H, 2 H or H / 2."""
        margin = 0 if self.weight is None else self.weight.shape[-1] // 2
        if self.at_full:
            assert self.weight is not None and self.bias is not None  # noqa: PT018 - there is a kernel then
            margin_of_filter = (self.resample_filter.shape[-1] - 1) // 2
            x = functional.conv2d(x, self.weight, padding=margin + margin_of_filter)
            return filtered(x, self.resample_filter, self.resample, 0) + self.bias[:, None, None]
        if self.resample is not None:
            x = filtered(x, self.resample_filter, self.resample, (self.resample_filter.shape[-1] - 1) // 2)
        return x if self.weight is None else functional.conv2d(x, self.weight, self.bias, padding=margin)


class Block(nn.Module):
    """Residual block, optionally resampling, optionally followed by self-attention over the pixels.

    ``h = conv1(silu(modulate(norm1, conv0(silu(norm0(x))), affine(e))))``, then ``s (h + skip(x))`` and, with
    attention, ``s (x + proj(attend(qkv(norm2(x)))))``, s the style's ``skip_scale``.
    """

    def __init__(
        self,
        width_in: int,
        width: int,
        embedding: int,
        style: Style,
        *,
        resample: str | None = None,
        attention: bool = False,
    ):
        super().__init__()
        self.style = style
        options: dict[str, Any] = {"resample": resample, "taps": style.taps}
        self.norm0 = group_norm(width_in, style.eps)
        self.conv0 = Conv(width_in, width, 3, **options)
        self.affine = nn.Linear(embedding, 2 * width if style.scale_shift else width)
        self.norm1 = group_norm(width, style.eps)
        self.conv1 = Conv(width, width, 3)
        self.skip = None
        if width_in != width or resample is not None:
            pure = width_in == width and not style.projected_resampling
            self.skip = Conv(width_in, width, 0 if pure else 1, **options)
        self.heads = 0
        if attention:  # with fewer channels than a head has, the published networks have none
            self.heads = 1 if style.head_width is None else width // style.head_width
        if self.heads:
            self.norm2 = group_norm(width, style.eps)
            self.qkv = Conv(width, 3 * width, 1)
            self.proj = Conv(width, width, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``x`` (B, width_in, H, W); ``embedding`` (1 or B, embedding)."""
        h = self.conv0(functional.silu(self.norm0(x)))
        condition = self.affine(embedding)[:, :, None, None].to(h.dtype)
        if self.style.scale_shift:
            scale, shift = condition.chunk(2, dim=1)
            h = self.norm1(h) * (1 + scale) + shift
        else:
            h = self.norm1(h + condition)
        h = self.conv1(functional.silu(h))
        x = (h + (x if self.skip is None else self.skip(x))) * self.style.skip_scale
        return (x + self.proj(self._attended(x))) * self.style.skip_scale if self.heads else x

    def _attended(self, x):
        """``softmax(q^T k / sqrt(d)) v`` per head; channel ``(head d + i) 3 + j`` is component i of q, k or v."""
        batch, width, *size = x.shape
        parts = self.qkv(self.norm2(x)).view(batch, self.heads, width // self.heads, 3, -1)
        q, k, v = parts.permute(3, 0, 1, 4, 2)
        attended = functional.scaled_dot_product_attention(q, k, v)
        return attended.transpose(2, 3).reshape(batch, width, *size)


def positional_angles(condition: Tensor, width: int, *, endpoint: bool) -> Tensor:
    """``c 10000^(-i / n)``, i = 0..width/2 - 1; n = width/2, or one less with ``endpoint`` (DDPM). (B, width/2)."""
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float32, device=condition.device) / (half - endpoint)
    return condition.reshape(-1, 1).float() * torch.exp(-math.log(MAX_PERIOD) * exponents)


class FourierFeatures(nn.Module):
    """Random frequencies ``2 pi f``, f normal with standard deviation 16, part of the checkpoint (NCSN++)."""

    freqs: Tensor

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("freqs", FOURIER_SCALE * torch.randn(width // 2))

    def forward(self, condition: Tensor) -> Tensor:
        """Angles, (B, width / 2)."""
        return condition.reshape(-1, 1).float() * (2 * math.pi * self.freqs.float())


def one_hot(labels: Tensor | None, classes: int, like: Tensor) -> Tensor:
    """(B, classes) of the dtype of ``like``; a label of -1 (no class) is a row of zeros, None one such row."""
    if labels is None:
        return like.new_zeros(1, classes)
    return (labels.to(like.device)[:, None] == torch.arange(classes, device=like.device)).to(like.dtype)
