"""EDM's SongUNet: DDPM++ and NCSN++."""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dode.models.edm import layers
from dode.models.edm.layers import Block, Conv, FourierFeatures, group_norm, one_hot, positional_angles
from dode.models.edm.unet import UNet
from dode.models.networks import networks


@networks.register("edm-song-unet")
class SongUNet(UNet):
    """DDPM++ and NCSN++ (Song et al. 2021, arXiv 2011.13456) as in EDM's table 7.

    Args:
        image_shape: ``(channels, H, H)``.
        out_channels: None: as many as the image has.
        label_dim, augment_dim: sizes of class and augmentation vectors, 0: none. The augmentation vector is zero when
            sampling and its layer has no bias, so that its weights are kept and never used.
        model_channels, channel_mult: widths of the levels, ``model_channels * channel_mult``.
        num_blocks: residual blocks a level, one more in the decoder.
        attn_resolutions: where blocks attend: all of the encoder's level, the last of the decoder's.
        embedding_type, channel_mult_noise, encoder_type, decoder_type, resample_filter: ``positional``, 1,
            ``standard``, ``standard``, [1, 1] in DDPM++; ``fourier``, 2, ``residual``, ``standard``, [1, 3, 3, 1] in
            NCSN++. Encoder and decoder can be ``skip`` too.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        out_channels: int | None = None,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 2, 2),
        channel_mult_emb: int = 4,
        num_blocks: int = 4,
        attn_resolutions: Sequence[int] = (16,),
        embedding_type: str = "positional",
        channel_mult_noise: int = 1,
        encoder_type: str = "standard",
        decoder_type: str = "standard",
        resample_filter: Sequence[int] = (1, 1),
    ):
        _check("embedding_type", embedding_type, ("positional", "fourier"))
        _check("encoder_type", encoder_type, ("standard", "skip", "residual"))
        _check("decoder_type", decoder_type, ("standard", "skip"))
        super().__init__()
        self.encoder_type, self.decoder_type = encoder_type, decoder_type
        width, embedding = model_channels * channel_mult_noise, model_channels * channel_mult_emb
        self.map_noise = FourierFeatures(width) if embedding_type == "fourier" else None
        self._map(width, embedding, augment_dim)
        self.label_dim = label_dim
        if label_dim:
            self.map_label = nn.Linear(label_dim, width)
        block = functools.partial(Block, embedding=embedding, style=layers.song_style(resample_filter))
        widths = [model_channels * factor for factor in channel_mult]
        self._build(image_shape, model_channels, widths, num_blocks, attn_resolutions, last_only=True, block=block)
        self._add_sides(out_channels or self.channels, resample_filter)

    def _add_sides(self, channels, taps):
        """The auxiliary modules of encoder and decoder."""
        side = self.channels
        for level, tag in enumerate(self.tags):
            width = self.dec[f"{tag}_block{self.depth}"].conv1.weight.shape[0]
            if level and self.encoder_type != "standard":
                entering = self.enc[f"{tag}_down"].conv1.weight.shape[0]
                if self.encoder_type == "skip":
                    self.enc[f"{tag}_aux_down"] = Conv(side, side, 0, resample="down", taps=taps)
                    self.enc[f"{tag}_aux_skip"] = Conv(side, entering, 1)
                else:
                    residual = Conv(side, entering, 3, resample="down", taps=taps, at_full=True)
                    self.enc[f"{tag}_aux_residual"] = residual
                    side = entering
            if level == 0 or self.decoder_type == "skip":
                self.dec[f"{tag}_aux_norm"] = group_norm(width, 1e-6)
                self.dec[f"{tag}_aux_conv"] = Conv(width, channels, 3)
                if self.decoder_type == "skip" and level < len(self.tags) - 1:
                    self.dec[f"{tag}_aux_up"] = Conv(channels, channels, 0, resample="up", taps=taps)

    def embed(self, condition: Tensor, labels: Tensor | None) -> Tensor:
        """(1 or B, embedding): sines and cosines, plus ``sqrt(n) W y + b`` of n classes, two layers."""
        if self.map_noise is None:
            angles = positional_angles(condition, self.map_layer0.in_features, endpoint=True)
        else:
            angles = self.map_noise(condition)
        embedding = torch.cat([angles.sin(), angles.cos()], dim=1).to(self.map_layer0.weight.dtype)
        if self.label_dim:
            hot = one_hot(labels, self.label_dim, embedding) * math.sqrt(self.label_dim)
            embedding = embedding + self.map_label(hot)
        return functional.silu(self.map_layer1(functional.silu(self.map_layer0(embedding))))

    def merged(self, tag: str, h: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
        """Progressive input: ``h + conv(down(image))`` (skip), ``(h + conv(side)) / sqrt(2)`` (residual)."""
        if self.encoder_type == "skip":
            side = self.enc[f"{tag}_aux_down"](side)
            return h + self.enc[f"{tag}_aux_skip"](side), side
        if self.encoder_type == "residual":
            h = (h + self.enc[f"{tag}_aux_residual"](side)) * math.sqrt(0.5)
            return h, h
        return h, side

    def read(self, level: int, tag: str, h: Tensor, image: Tensor | None) -> Tensor | None:
        """The image at level 0, or at every level a share of it (``skip``)."""
        if f"{tag}_aux_conv" not in self.dec:
            return image
        share = self.dec[f"{tag}_aux_conv"](functional.silu(self.dec[f"{tag}_aux_norm"](h)))
        return share if image is None else share + self.dec[f"{tag}_aux_up"](image)


def _check(option, value, allowed):
    if value not in allowed:
        raise ValueError(f"{option} must be one of {', '.join(allowed)}, not {value!r}")
