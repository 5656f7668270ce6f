"""EDM's DhariwalUNet: ADM."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dode.models.edm import layers
from dode.models.edm.layers import Block, Conv, group_norm, one_hot, positional_angles
from dode.models.edm.unet import UNet
from dode.models.networks import networks


@networks.register("edm-dhariwal-unet")
class DhariwalUNet(UNet):
    """ADM (Dhariwal & Nichol 2021, arXiv 2105.05233) as in EDM's table 7.

    Args: as of :class:`dode.models.edm.edm_song_unet.SongUNet`; blocks attend in the decoder wherever the encoder's do.
    ``head_width``: channels of an attention head; a level of fewer channels has no attention.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        out_channels: int | None = None,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 192,
        channel_mult: Sequence[int] = (1, 2, 3, 4),
        channel_mult_emb: int = 4,
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (32, 16, 8),
        head_width: int = 64,
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

    def embed(self, condition: Tensor, labels: Tensor | None) -> Tensor:
        """(1 or B, embedding): cosines and sines, two layers, plus ``W y`` of the class before the last silu."""
        angles = positional_angles(condition, self.map_layer0.in_features, endpoint=False)
        embedding = torch.cat([angles.cos(), angles.sin()], dim=1).to(self.map_layer0.weight.dtype)
        embedding = self.map_layer1(functional.silu(self.map_layer0(embedding)))
        if self.label_dim:
            embedding = embedding + self.map_label(one_hot(labels, self.label_dim, embedding))
        return functional.silu(embedding)

    def read(self, level: int, tag: str, h: Tensor, image: Tensor | None) -> Tensor | None:
        """The image, at level 0."""
        return image if level else self.out_conv(functional.silu(self.out_norm(h)))
