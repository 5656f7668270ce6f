"""The U-Net of DDPM (Ho et al. 2020, arXiv 2006.11239) with the parameter names of its two public PyTorch versions.

Those are the state dicts of pesser/pytorch_diffusion (the authors' weights, converted) and of ermongroup/ddim.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dode.models import unet_parts
from dode.models.networks import networks


def _norm(channels):
    return nn.GroupNorm(32, channels, eps=1e-6)


class ResnetBlock(nn.Module):
    """``s(x) + W2 silu(norm2(W1 silu(norm1(x)) + P emb))`` with 3x3 convolutions W and a 1x1 one, or none, for s."""

    def __init__(self, channels: int, out_channels: int, embedding: int, dropout: float):
        super().__init__()
        self.norm1 = _norm(channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.temb_proj = nn.Linear(embedding, out_channels)
        self.norm2 = _norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.nin_shortcut = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(functional.silu(self.norm1(x))) + self.temb_proj(emb)[:, :, None, None]
        return self.nin_shortcut(x) + self.conv2(self.dropout(functional.silu(self.norm2(h))))


class AttentionBlock(nn.Module):
    """``x + P softmax(q^T k / sqrt(C)) v`` over all pixels, one head."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = _norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).transpose(1, 2).unsqueeze(1) for layer in (self.q, self.k, self.v))
        h = functional.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(h.squeeze(1).transpose(1, 2).unflatten(2, x.shape[2:]))


class Downsample(nn.Module):
    """A convolution with stride 2, padded on the right and below alone, as TensorFlow pads; or the mean of each 2x2."""

    def __init__(self, channels: int, with_conv: bool):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2) if with_conv else None

    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 2) if self.conv is None else self.conv(functional.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Each pixel doubled, then a convolution or nothing."""

    def __init__(self, channels: int, with_conv: bool):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if with_conv else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


@networks.register("ddpm-unet")
class DDPMUNet(nn.Module):
    """``eps = network(x_vp, index)``.

    Args:
        image_size: side of the square images, in pixels.
        multipliers: channels of each level over ``channels``; every level halves the size of the last.
        attention_resolutions: sizes of feature maps, in pixels, that are followed by attention.
        channels: width, a multiple of 32.
        blocks: residual blocks of a level on the way down; one more on the way up.
        in_channels, out_channels: channels of image and output.
        dropout: rate in training; inference does not depend on it.
        resamp_with_conv: whether a convolution changes the size, or the mean of pixels and their repetition alone.
    """

    def __init__(
        self,
        *,
        image_size: int,
        multipliers: Sequence[int],
        attention_resolutions: Sequence[int],
        channels: int = 128,
        blocks: int = 2,
        in_channels: int = 3,
        out_channels: int = 3,
        dropout: float = 0.0,
        resamp_with_conv: bool = True,
    ):
        super().__init__()
        self.image_shape, self.half_width = (in_channels, image_size, image_size), channels // 2
        self.sizes = unet_parts.level_sizes(image_size, len(multipliers), attention_resolutions)
        self.widths, self.blocks = [channels * multiplier for multiplier in multipliers], blocks
        self.attention_resolutions, embedding = attention_resolutions, 4 * channels
        self.resamp_with_conv = resamp_with_conv
        self.res = partial(ResnetBlock, embedding=embedding, dropout=dropout)
        layers = [nn.Linear(channels, embedding), nn.Linear(embedding, embedding)]
        self.temb = nn.ModuleDict({"dense": nn.ModuleList(layers)})
        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.down, skip_widths = self._way_down(channels)
        width = self.widths[-1]
        middle = {"block_1": self.res(width, width), "attn_1": AttentionBlock(width), "block_2": self.res(width, width)}
        self.mid = nn.ModuleDict(middle)
        self.up = self._way_up(skip_widths)
        self.norm_out = _norm(self.widths[0])
        self.conv_out = nn.Conv2d(self.widths[0], out_channels, 3, padding=1)

    def _level(self, inputs, out_width, size):
        """The residual blocks of a level, whose channels are ``inputs``, and the attention behind each."""
        block = [self.res(width, out_width) for width in inputs]
        attention = [AttentionBlock(out_width) for _ in inputs if size in self.attention_resolutions]
        return nn.ModuleDict({"block": nn.ModuleList(block), "attn": nn.ModuleList(attention)})

    def _way_down(self, width):
        """The levels, and the channels of all that is handed over to the way up."""
        levels, skip_widths = nn.ModuleList(), [width]
        for out_width, size in zip(self.widths, self.sizes, strict=True):
            levels.append(self._level([width] + [out_width] * (self.blocks - 1), out_width, size))
            skip_widths += [out_width] * self.blocks
            width = out_width
            if size != self.sizes[-1]:
                levels[-1]["downsample"] = Downsample(width, self.resamp_with_conv)
                skip_widths.append(width)
        return levels, skip_widths

    def _way_up(self, skip_widths):
        """The levels, the largest images first, as on the way down."""
        levels, width = nn.ModuleList(), self.widths[-1]
        for out_width, size in zip(reversed(self.widths), reversed(self.sizes), strict=True):
            inputs = [given + skip_widths.pop() for given in [width] + [out_width] * self.blocks]
            levels.insert(0, self._level(inputs, out_width, size))
            width = out_width
            if size != self.sizes[0]:
                levels[0]["upsample"] = Upsample(width, self.resamp_with_conv)
        return levels

    @property
    def bottleneck(self) -> nn.Module:
        """The module in the middle (:mod:`dode.solvers.bottleneck`)."""
        return self.mid["block_2"]

    def embed(self, index: Tensor) -> Tensor:
        """The embedding of the index, ready for the blocks: (B, 4 channels), or (1, 4 channels) for a 0-d index."""
        angles = unet_parts.sinusoids(index, self.half_width, self.half_width - 1)
        layers: Any = self.temb["dense"]
        first, second = layers
        sines = torch.cat([angles.sin(), angles.cos()], dim=1).to(first.weight.dtype)
        return functional.silu(second(functional.silu(first(sines))))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``x`` (B, C, H, W) in VP coordinates, images in [-1, 1]; ``condition``, the index, 0-d or (B,)."""
        unet_parts.check_images(x, self.image_shape)
        emb, skips = self.embed(condition), [self.conv_in(x)]
        for level in self.down:
            for j in range(len(level["block"])):
                skips.append(self._block(level, j, skips[-1], emb))
            if "downsample" in level:
                skips.append(level["downsample"](skips[-1]))
        h = self.mid["attn_1"](self.mid["block_1"](skips[-1], emb))
        h = self.mid["block_2"](h, emb)
        for level in reversed(self.up):
            for j in range(len(level["block"])):
                h = self._block(level, j, torch.cat([h, skips.pop()], dim=1), emb)
            if "upsample" in level:
                h = level["upsample"](h)
        return self.conv_out(functional.silu(self.norm_out(h)))

    @staticmethod
    def _block(level, j, h, emb):
        h = level["block"][j](h, emb)
        return level["attn"][j](h) if len(level["attn"]) else h
