"""EDM2's U-Net, with the parameter names of its published checkpoints."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from dode.models import unet_parts
from dode.models.edm.layers import one_hot
from dode.models.edm.levels import add_decoder, add_encoder
from dode.models.edm2.layers import Balances, Block, MPConv, MPFourier, mp_cat, mp_silu, mp_sum
from dode.models.networks import networks

# What a checkpoint has beside the network: the estimate of the loss that training is weighted by.
OF_TRAINING = ("logvar_fourier.", "logvar_linear.")


@networks.register("edm2-unet")
class EDM2UNet(nn.Module):
    """The magnitude-preserving U-Net of Karras et al. 2024 (arXiv 2312.02696), configuration G.

    Args:
        image_shape: ``(channels, H, H)``.
        label_dim: number of classes, 0: none.
        model_channels, channel_mult: widths of the levels, ``model_channels * channel_mult``; 128 (XS), 192 (S), 256
            (M), 320 (L), 384 (XL) or 448 (XXL) times 1, 2, 3, 4 in the published ones.
        channel_mult_noise, channel_mult_emb: widths of Fourier features and embedding over ``model_channels``; None:
            the width of the first level, and the largest.
        num_blocks: residual blocks a level, one more in the decoder.
        attn_resolutions: sizes of feature maps, in pixels, that are followed by attention.
        label_balance, concat_balance, res_balance, attn_balance: weights t of sums and concatenations.
        head_width: channels of an attention head; a level of fewer channels has no attention.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        label_dim: int = 0,
        model_channels: int = 192,
        channel_mult: Sequence[int] = (1, 2, 3, 4),
        channel_mult_noise: int | None = None,
        channel_mult_emb: int | None = None,
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (16, 8),
        label_balance: float = 0.5,
        concat_balance: float = 0.5,
        res_balance: float = 0.3,
        attn_balance: float = 0.3,
        head_width: int = 64,
    ):
        super().__init__()
        self.image_shape, self.label_dim = tuple(image_shape), label_dim
        self.label_balance, self.concat_balance = label_balance, concat_balance
        self.dtype = torch.float32
        widths = [model_channels * factor for factor in channel_mult]
        noise = widths[0] if channel_mult_noise is None else model_channels * channel_mult_noise
        embedding = max(widths) if channel_mult_emb is None else model_channels * channel_mult_emb
        self.out_gain = nn.Parameter(torch.zeros([]))
        self.emb_fourier, self.emb_noise = MPFourier(noise), MPConv(noise, embedding, 0)
        if label_dim:
            self.emb_label = MPConv(label_dim, embedding, 0)
        sizes = unet_parts.level_sizes(self.image_shape[-1], len(widths), ())
        block = partial(Block, embedding=embedding, balances=Balances(res_balance, attn_balance, head_width))
        attends = [size in attn_resolutions for size in sizes]
        self.tags = [f"{size}x{size}" for size in sizes]
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        own: Any = {"tags": self.tags, "attends": attends}
        stem = MPConv(self.image_shape[0] + 1, widths[0], 3)
        skips = add_encoder(self.enc, stem, widths[0], widths, num_blocks, block=block, **own)
        add_decoder(self.dec, widths, num_blocks, skips, block=partial(block, decoder=True), **own)
        self.out_conv = MPConv(widths[0], self.image_shape[0], 3)

    def load_state_dict(self, state_dict: Mapping[str, Any], **options: Any) -> Any:  # type: ignore[override]
        """As torch's; of a published checkpoint, which has this network as ``unet.``, its part."""
        if any(name.startswith("unet.") for name in state_dict):
            own = {name: value for name, value in state_dict.items() if not name.startswith(OF_TRAINING)}
            state_dict = {name.removeprefix("unet."): value for name, value in own.items()}
        return super().load_state_dict(state_dict, **options)

    @property
    def bottleneck(self) -> nn.Module:
        """The module at the end of the way down (:mod:`dode.solvers.bottleneck`)."""
        return list(self.enc.values())[-1]

    def lower(self, dtype: torch.dtype) -> Self:
        """Compute the levels in ``dtype``; weights and embedding stay in single precision. Returns self."""
        self.dtype = dtype
        return self

    def embed(self, condition: Tensor, labels: Tensor | None) -> Tensor:
        """(1 or B, embedding): noise and class ``sqrt(n) y``, summed."""
        embedding = self.emb_noise(self.emb_fourier(condition))
        if self.label_dim:
            hot = one_hot(labels, self.label_dim, embedding) * math.sqrt(self.label_dim)
            of_class = self.emb_label(hot)
            embedding = mp_sum(embedding.expand(max(len(embedding), len(of_class)), -1), of_class, self.label_balance)
        return mp_silu(embedding)

    def forward(self, x: Tensor, condition: Tensor, labels: Tensor | None = None) -> Tensor:
        """The raw output F.

        Args:
            x: (B, C, H, W), scaled by the preconditioning.
            condition: c_noise, 0-d (embedded once for all images) or (B,).
            labels: classes, (B,) integers, -1 for none; None: no image has one.
        """
        unet_parts.check_images(x, self.image_shape)
        embedding, h, skips = self.embed(condition, labels), x.to(self.dtype), []
        h = torch.cat([h, torch.ones_like(h[:, :1])], dim=1)
        for name, part in self.enc.items():
            h = part(h) if name.endswith("_conv") else part(h, embedding)
            skips.append(h)
        for name, part in self.dec.items():
            if "_block" in name:
                h = mp_cat(h, skips.pop(), self.concat_balance)
            h = part(h, embedding)
        return self.out_conv(h, gain=self.out_gain).to(x.dtype)
