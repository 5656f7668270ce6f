"""What the networks of EDM (Karras et al. 2022, arXiv 2206.00364) have in common.

Written from the papers and the names of the published parameters. A checkpoint holds the network under ``model.`` of
its preconditioning; :func:`inner_state` takes it out, and it then loads strictly.
"""

from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from dode.models.edm.layers import Conv
from dode.models.edm.levels import add_decoder, add_encoder

T = TypeVar("T")

# What a preconditioning keeps beside its network: the noise levels of the iDDPM one, a function of its constants.
OF_THE_PRECONDITIONING = {"u"}


def inner_state(state: Mapping[str, T]) -> dict[str, T]:
    """The network's part of a published state dictionary: ``model.`` taken off the names.

    Raises:
        ValueError: for a name that is neither under ``model.`` nor a preconditioning's own.

    >>> inner_state({"model.enc.a": 1, "u": 2})
    {'enc.a': 1}
    """
    foreign = sorted(name for name in state if not name.startswith("model.") and name not in OF_THE_PRECONDITIONING)
    if foreign:
        raise ValueError(f"not the weights of a preconditioned EDM network: {', '.join(foreign[:5])}")
    return {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}


class UNet(nn.Module):
    """What both families share: levels of residual blocks down and up again, each output kept as a skip.

    The level of resolution r has the modules ``enc.{r}x{r}_*`` and ``dec.{r}x{r}_*``. Subclasses say how the condition
    is embedded (:meth:`embed`), what the encoder merges after each halving (:meth:`merged`) and how the image is read
    from the decoder (:meth:`read`).
    """

    embed: Callable[[Tensor, Tensor | None], Tensor]
    read: Callable[[int, str, Tensor, Tensor | None], Tensor | None]

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
        own = {"tags": self.tags, "attends": attends, "block": block}
        skips = add_encoder(self.enc, Conv(channels, stem, 3), stem, widths, depth, **own)
        add_decoder(self.dec, widths, depth, skips, last_only=last_only, **own)

    def load_state_dict(self, state_dict: Mapping[str, Any], **options: Any) -> Any:  # type: ignore[override]
        """As torch's; of a published checkpoint, which has this network behind a preconditioning, its part."""
        published = any(name.startswith("model.") for name in state_dict)
        return super().load_state_dict(inner_state(state_dict) if published else state_dict, **options)

    @property
    def bottleneck(self) -> nn.Module:
        """The module at the end of the way down (:mod:`dode.solvers.bottleneck`)."""
        return self.enc[f"{self.tags[-1]}_block{self.depth - 1}"]

    def lower(self, dtype: torch.dtype) -> Self:
        """Run convolutions and normalisations in ``dtype``; the embedding stays in single precision. Returns self.

        So ran the published half-precision networks (``use_fp16``).
        """
        for module in self.modules():
            if isinstance(module, Conv | nn.GroupNorm):
                module.to(dtype)
        return self

    def forward(self, x: Tensor, condition: Tensor, labels: Tensor | None = None) -> Tensor:
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
        return image.to(x.dtype)  # type: ignore[union-attr]  # at level 0 it was read

    def merged(self, tag: str, h: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
        """``(h, side)`` after the halving to the level ``tag``; ``side`` is the input image, or what became of it."""
        return h, side
