"""The networks of EDM (Karras et al. 2022, arXiv 2206.00364): SongUNet (DDPM++, NCSN++) and DhariwalUNet (ADM).

Written from the papers and the names of the published parameters. A checkpoint holds the network under ``model.`` of
its preconditioning; :func:`inner_state` takes it out, and it then loads strictly.
"""

import functools
import math

import torch
from torch import nn
from torch.nn import functional

from dode.models.edm import layers
from dode.models.edm.layers import Block, Conv, FourierFeatures, group_norm, one_hot, positional_angles

# What a preconditioning keeps beside its network: the noise levels of the iDDPM one, a function of its constants.
OF_THE_PRECONDITIONING = {"u"}


def inner_state(state):
    """The network's part of a published state dictionary: ``model.`` taken off the names.

    Raises:
        ValueError: for a name that is neither under ``model.`` nor a preconditioning's own.

    >>> inner_state({"model.enc.a": 1, "u": 2})
    {'enc.a': 1}
    """
    foreign = sorted(name for name in state if not name.startswith("model.") and name not in OF_THE_PRECONDITIONING)
    if foreign:
        raise ValueError(f"not the state of a preconditioned EDM network: {', '.join(foreign[:5])}")
    return {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}


class UNet(nn.Module):
    """What both families share: levels of residual blocks down and up again, each output kept as a skip.

    The level of resolution r has the modules ``enc.{r}x{r}_*`` and ``dec.{r}x{r}_*``. Subclasses say how the condition
    is embedded (:meth:`embed`), what the encoder merges after each halving (:meth:`merged`) and how the image is read
    from the decoder (:meth:`read`).
    """

    def _map(self, width, embedding, augment_dim):
        """The embedding's layers, made first: :class:`dode.models.Denoiser` takes its precision from them."""
        self.map_layer0, self.map_layer1 = nn.Linear(width, embedding), nn.Linear(embedding, embedding)
        if augment_dim:
            self.map_augment = nn.Linear(augment_dim, width, bias=False)

    def _build(self, image_shape, stem, widths, depth, attention, *, last_only, block):
        """The levels. ``attention``: resolutions; the decoder attends in their last block (``last_only``) or in all."""
        channels, size, other = image_shape
        if size != other or size % 2 ** (len(widths) - 1):
            raise ValueError(f"images of {size}x{other} cannot be halved {len(widths) - 1} times")
        self.channels, self.depth = channels, depth
        self.tags = [f"{size >> level}x{size >> level}" for level in range(len(widths))]
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        attends = [size >> level in attention for level in range(len(widths))]
        skips = self._build_encoder(stem, widths, attends, block)
        self._build_decoder(widths, skips, attends, last_only, block)

    def _build_encoder(self, stem, widths, attends, block):
        self.enc[f"{self.tags[0]}_conv"] = Conv(self.channels, stem, 3)
        skips, width = [stem], stem
        for level, (tag, target) in enumerate(zip(self.tags, widths, strict=True)):
            if level:
                self.enc[f"{tag}_down"] = block(width, width, resample="down")
                skips.append(width)
            for index in range(self.depth):
                self.enc[f"{tag}_block{index}"] = block(width, target, attention=attends[level])
                width = target
                skips.append(width)
        return skips

    def _build_decoder(self, widths, skips, attends, last_only, block):
        width = widths[-1]
        for level, tag in reversed(list(enumerate(self.tags))):
            if level == len(widths) - 1:
                self.dec[f"{tag}_in0"] = block(width, width, attention=True)
                self.dec[f"{tag}_in1"] = block(width, width)
            else:
                self.dec[f"{tag}_up"] = block(width, width, resample="up")
            for index in range(self.depth + 1):
                attention = attends[level] and (index == self.depth or not last_only)
                self.dec[f"{tag}_block{index}"] = block(width + skips.pop(), widths[level], attention=attention)
                width = widths[level]

    def load_state_dict(self, state_dict, **options):
        """As torch's; of a published checkpoint, which has this network behind a preconditioning, its part."""
        published = any(name.startswith("model.") for name in state_dict)
        return super().load_state_dict(inner_state(state_dict) if published else state_dict, **options)

    def lower(self, dtype):
        """Run convolutions and normalisations in ``dtype``; the embedding stays in single precision. Returns self.

        So ran the published half-precision networks (``use_fp16``).
        """
        for module in self.modules():
            if isinstance(module, Conv | nn.GroupNorm):
                module.to(dtype)
        return self

    def forward(self, x, condition, labels=None):
        """The raw output F.

        Args:
            x: (B, C, H, W), scaled by the preconditioning.
            condition: c_noise, 0-d (embedded once for all images) or (B,).
            labels: classes, (B,) integers, -1 for none; None: no image has one.
        """
        embedding = self.embed(condition, labels)
        h = self.enc[f"{self.tags[0]}_conv"](x.to(self.enc[f"{self.tags[0]}_conv"].weight.dtype))
        skips, side = [h], x.to(h.dtype)
        for level, tag in enumerate(self.tags):
            if level:
                h, side = self.merged(tag, self.enc[f"{tag}_down"](h, embedding), side)
                skips.append(h)
            for index in range(self.depth):
                h = self.enc[f"{tag}_block{index}"](h, embedding)
                skips.append(h)
        image = None
        for level, tag in reversed(list(enumerate(self.tags))):
            for name in ("in0", "in1") if level == len(self.tags) - 1 else ("up",):
                h = self.dec[f"{tag}_{name}"](h, embedding)
            for index in range(self.depth + 1):
                h = self.dec[f"{tag}_block{index}"](torch.cat([h, skips.pop()], dim=1), embedding)
            image = self.read(level, tag, h, image)
        return image.to(x.dtype)

    def merged(self, tag, h, side):
        """``(h, side)`` after the halving to the level ``tag``; ``side`` is the input image, or what became of it."""
        return h, side


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
        image_shape,
        out_channels=None,
        label_dim=0,
        augment_dim=0,
        model_channels=128,
        channel_mult=(1, 2, 2, 2),
        channel_mult_emb=4,
        num_blocks=4,
        attn_resolutions=(16,),
        embedding_type="positional",
        channel_mult_noise=1,
        encoder_type="standard",
        decoder_type="standard",
        resample_filter=(1, 1),
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

    def embed(self, condition, labels):
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

    def merged(self, tag, h, side):
        """Progressive input: ``h + conv(down(image))`` (skip), ``(h + conv(side)) / sqrt(2)`` (residual)."""
        if self.encoder_type == "skip":
            side = self.enc[f"{tag}_aux_down"](side)
            return h + self.enc[f"{tag}_aux_skip"](side), side
        if self.encoder_type == "residual":
            h = (h + self.enc[f"{tag}_aux_residual"](side)) * math.sqrt(0.5)
            return h, h
        return h, side

    def read(self, level, tag, h, image):
        """The image at level 0, or at every level a share of it (``skip``)."""
        if f"{tag}_aux_conv" not in self.dec:
            return image
        share = self.dec[f"{tag}_aux_conv"](functional.silu(self.dec[f"{tag}_aux_norm"](h)))
        return share if image is None else share + self.dec[f"{tag}_aux_up"](image)


class DhariwalUNet(UNet):
    """ADM (Dhariwal & Nichol 2021, arXiv 2105.05233) as in EDM's table 7.

    Args: as of :class:`SongUNet`; blocks attend in the decoder wherever the encoder's do. ``head_width``: channels of
    an attention head.
    """

    def __init__(
        self,
        *,
        image_shape,
        out_channels=None,
        label_dim=0,
        augment_dim=0,
        model_channels=192,
        channel_mult=(1, 2, 3, 4),
        channel_mult_emb=4,
        num_blocks=3,
        attn_resolutions=(32, 16, 8),
        head_width=64,
    ):
        widths, embedding = [model_channels * factor for factor in channel_mult], model_channels * channel_mult_emb
        super().__init__()
        self._map(model_channels, embedding, augment_dim)
        self.label_dim = label_dim
        if label_dim:
            self.map_label = nn.Linear(label_dim, embedding, bias=False)
        block = functools.partial(Block, embedding=embedding, style=layers.dhariwal_style(head_width))
        self._build(image_shape, widths[0], widths, num_blocks, attn_resolutions, last_only=False, block=block)
        self.out_norm, self.out_conv = group_norm(widths[0], 1e-5), Conv(widths[0], out_channels or self.channels, 3)

    def embed(self, condition, labels):
        """(1 or B, embedding): cosines and sines, two layers, plus ``W y`` of the class before the last silu."""
        angles = positional_angles(condition, self.map_layer0.in_features, endpoint=False)
        embedding = torch.cat([angles.cos(), angles.sin()], dim=1).to(self.map_layer0.weight.dtype)
        embedding = self.map_layer1(functional.silu(self.map_layer0(embedding)))
        if self.label_dim:
            embedding = embedding + self.map_label(one_hot(labels, self.label_dim, embedding))
        return functional.silu(embedding)

    def read(self, level, tag, h, image):
        """The image, at level 0."""
        return image if level else self.out_conv(functional.silu(self.out_norm(h)))


def _check(option, value, allowed):
    if value not in allowed:
        raise ValueError(f"{option} must be one of {', '.join(allowed)}, not {value!r}")
