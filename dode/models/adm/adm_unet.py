"""The U-Net of improved DDPM and ADM, with the parameter names of OpenAI's checkpoints.

Nichol & Dhariwal 2021 (arXiv 2102.09672), Dhariwal & Nichol 2021 (arXiv 2105.05233). The trunk (``input_blocks``,
``middle_block``, ``output_blocks``) can compute its convolutions in half precision, as the published models do; the
normalisations, the embedding and the last layers are float32 all the same.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from dode.models import unet_parts
from dode.models.adm.layers import AttentionBlock, Downsample, GroupNorm32, Layers, ResBlock, Upsample, double, halve
from dode.models.networks import networks


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """What the U-Net and the classifier have in common.

    Args:
        image_size: side of the square images, in pixels.
        multipliers: channels of each level over ``channels``; every level halves the size of the last.
        attention_resolutions: sizes of feature maps, in pixels, that are followed by attention.
        channels, blocks: width, and residual blocks of a level on the way down; one more on the way up.
        heads, head_channels: attention has that many heads, or heads of that many channels.
        new_attention_order: how the heads share the channels, see :func:`dode.models.adm.layers.split_heads`.
        scale_shift_norm: whether the embedding scales and shifts, or is added.
        resblock_updown: whether residual blocks change the size, or a convolution.
        conv_resample: whether that convolution is there, or the mean of pixels and their repetition change the size.
        in_channels: channels of the image.
        dropout: rate in training; inference does not depend on it.
    """

    image_size: int
    multipliers: Sequence[int]
    attention_resolutions: Sequence[int]
    channels: int = 128
    blocks: int = 2
    heads: int = 1
    head_channels: int | None = None
    new_attention_order: bool = False
    scale_shift_norm: bool = True
    resblock_updown: bool = False
    conv_resample: bool = True
    in_channels: int = 3
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class UNetOptions(EncoderOptions):
    """Of the U-Net besides.

    Args:
        classes: number of classes; None for an unconditional model.
        learned_sigma: whether the checkpoint's output has a second half, for variances, which is left out.
        index_scale: what the index is multiplied by. Improved DDPM with its 4,000 steps was trained on times in
            [0, 1000) (``rescale_timesteps``, on by default there): 0.25. Behind EDM's preconditioning the consistency
            models' networks (Song et al. 2023, arXiv 2303.01469) are given 1000 ln(sigma) / 4: 1000.
    """

    classes: int | None = None
    learned_sigma: bool = True
    index_scale: float = 1.0


class Encoder(nn.Module):
    """The way down and the middle."""

    def __init__(self, options: EncoderOptions):
        super().__init__()
        self.options = options
        self.image_shape = (options.in_channels, options.image_size, options.image_size)
        self.sizes = unet_parts.level_sizes(options.image_size, len(options.multipliers), options.attention_resolutions)
        self.widths = [int(options.channels * multiplier) for multiplier in options.multipliers]
        embedding = 4 * options.channels
        self.res = partial(
            ResBlock, embedding=embedding, dropout=options.dropout, scale_shift_norm=options.scale_shift_norm
        )
        self.attention = partial(
            AttentionBlock,
            heads=options.heads,
            head_channels=options.head_channels,
            new_order=options.new_attention_order,
        )
        self.time_embed = nn.Sequential(
            nn.Linear(options.channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.input_blocks, self.skip_widths = self._way_down()
        width = self.widths[-1]
        self.middle_block = Layers(self.res(width, width), self.attention(width), self.res(width, width))

    def _way_down(self):
        """The input blocks, and the channels that each of them puts out."""
        options, width = self.options, self.widths[0]
        parts, skip_widths = [Layers(nn.Conv2d(options.in_channels, width, 3, padding=1))], [width]
        for out_width, size in zip(self.widths, self.sizes, strict=True):
            for _ in range(options.blocks):
                parts.append(Layers(*self._block(width, out_width, size)))
                skip_widths.append(width := out_width)
            if size != self.sizes[-1]:
                updown, with_conv = options.resblock_updown, options.conv_resample
                parts.append(Layers(self.res(width, width, halve) if updown else Downsample(width, with_conv)))
                skip_widths.append(width)
        return nn.ModuleList(parts), skip_widths

    def _block(self, width, out_width, size):
        """A residual block, and attention where this size has it."""
        attention = [self.attention(out_width)] if size in self.options.attention_resolutions else []
        return [self.res(width, out_width), *attention]

    @property
    def bottleneck(self) -> nn.Module:
        """The module in the middle (:mod:`dode.solvers.bottleneck`)."""
        return self.middle_block

    def lower(self, dtype: torch.dtype) -> Self:
        """Run the convolutions of the trunk in ``dtype``, as the published models do. Returns self."""
        for name in ("input_blocks", "middle_block", "output_blocks"):
            for module in getattr(self, name, nn.Identity()).modules():
                if isinstance(module, nn.Conv1d | nn.Conv2d):
                    module.to(dtype)
        return self

    def embed(self, index: Tensor) -> Tensor:
        """The embedding of the index: (B, 4 channels), or (1, 4 channels) for a 0-d index."""
        half = self.options.channels // 2
        angles = unet_parts.sinusoids(index, half, half)
        first: Any = self.time_embed[0]
        return self.time_embed(torch.cat([angles.cos(), angles.sin()], dim=1).to(first.weight.dtype))

    def encode(self, x: Tensor, emb: Tensor) -> list[Tensor]:
        """What every input block puts out, and at the end what the middle block does."""
        unet_parts.check_images(x, self.image_shape)
        outputs = [x.to(self.input_blocks[0][0].weight.dtype)]
        for block in self.input_blocks:
            outputs.append(block(outputs[-1], emb))
        return [*outputs[1:], self.middle_block(outputs[-1], emb)]


@networks.register("adm-unet")
class ADMUNet(Encoder):
    """``eps = network(x_vp, index, labels)``, or F of a preconditioning; options :class:`UNetOptions`."""

    __signature__ = inspect.signature(UNetOptions)
    options: UNetOptions

    def __init__(self, **options: Any):
        super().__init__(own := UNetOptions(**options))
        if own.classes is not None:
            self.label_emb = nn.Embedding(own.classes, 4 * own.channels)
        self.output_blocks = self._way_up()
        width, outputs = self.widths[0], (1 + own.learned_sigma) * own.in_channels
        self.out = nn.Sequential(GroupNorm32(width), nn.SiLU(), nn.Conv2d(width, outputs, 3, padding=1))

    def _way_up(self):
        options, parts = self.options, nn.ModuleList()
        skip_widths, width = list(self.skip_widths), self.widths[-1]
        for out_width, size in zip(reversed(self.widths), reversed(self.sizes), strict=True):
            for i in range(options.blocks + 1):
                layers, width = self._block(width + skip_widths.pop(), out_width, size), out_width
                if i == options.blocks and size != self.sizes[0]:
                    updown, with_conv = options.resblock_updown, options.conv_resample
                    layers.append(self.res(width, width, double) if updown else Upsample(width, with_conv))
                parts.append(Layers(*layers))
        return parts

    def forward(self, x: Tensor, condition: Tensor, labels: Tensor | None = None) -> Tensor:
        """``x`` (B, C, H, W) in VP coordinates, images in [-1, 1]; ``condition``, the index, 0-d or (B,).

        Behind a preconditioning, ``x`` is scaled by it and ``condition`` is c_noise. ``labels`` (B,) are given to a
        class-conditional model and to no other (ValueError); -1 is no class, for what was trained so (the published
        models were not).
        """
        if (labels is None) != (self.options.classes is None):
            raise ValueError("a class-conditional network needs labels, and an unconditional one takes none")
        emb = self.embed(condition * self.options.index_scale)
        if labels is not None:
            emb = emb + self.label_emb(labels.clamp(min=0)) * (labels >= 0)[:, None]
        *skips, h = self.encode(x, emb)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), emb)
        return self.out(h.to(x.dtype))[:, : self.options.in_channels]
