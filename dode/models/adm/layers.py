"""The layers of OpenAI's U-Nets (Nichol & Dhariwal 2021; Dhariwal & Nichol 2021), with their parameter names."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional


class GroupNorm32(nn.GroupNorm):
    """32 groups, computed in float32 whatever the type of the input."""

    def __init__(self, channels: int):
        super().__init__(32, channels)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


def halve(x: Tensor) -> Tensor:
    """The mean of each 2x2 pixels."""
    return functional.avg_pool2d(x, 2)


def double(x: Tensor) -> Tensor:
    """Each pixel twice in both directions."""
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


class ResBlock(nn.Module):
    """``s(r(x)) + W2 silu(n)`` with ``h = W1 r(silu(norm1(x)))``, resampling r, and s a 1x1 convolution or nothing.

    ``n`` is ``norm2(h) (1 + scale) + shift`` with scale and shift from the embedding, or ``norm2(h + P emb)``.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        resample: Callable[[Tensor], Tensor] | None = None,
        *,
        embedding: int,
        dropout: float,
        scale_shift_norm: bool,
    ):
        super().__init__()
        self.scale_shift_norm, self.resample = scale_shift_norm, resample
        conv = partial(nn.Conv2d, out_channels=out_channels, kernel_size=3, padding=1)
        self.in_layers = nn.Sequential(GroupNorm32(channels), nn.SiLU(), conv(channels))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, (1 + scale_shift_norm) * out_channels))
        self.out_layers = nn.Sequential(GroupNorm32(out_channels), nn.SiLU(), nn.Dropout(dropout), conv(out_channels))
        self.skip_connection = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        norm, silu, conv = self.in_layers
        h = silu(norm(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h, emb = conv(h), self.emb_layers(emb).to(h.dtype)[:, :, None, None]
        norm, silu, dropout, conv = self.out_layers
        if self.scale_shift_norm:
            scale, shift = emb.chunk(2, dim=1)
            h = norm(h) * (1 + scale) + shift
        else:
            h = norm(h + emb)
        return self.skip_connection(x) + conv(dropout(silu(h)))


def split_heads(qkv: Tensor, heads: int, new_order: bool) -> tuple[Tensor, ...]:
    """Queries, keys and values (B, heads, T, C / heads) from the channels of ``qkv`` (B, 3 C, T).

    The channels are (q | k | v) of (head 1 | head 2 | ...) in the new order, and in the old one (head 1 | head 2 | ...)
    of (q | k | v).
    """
    parts = qkv.unflatten(1, (3, heads, -1)) if new_order else qkv.unflatten(1, (heads, 3, -1)).transpose(1, 2)
    return parts.transpose(-1, -2).unbind(1)


class AttentionBlock(nn.Module):
    """``x + P attention(qkv(norm(x)))`` over all pixels, in ``heads`` heads or heads of ``head_channels`` channels."""

    def __init__(self, channels: int, *, heads: int, head_channels: int | None, new_order: bool):
        super().__init__()
        self.heads, self.new_order = heads if head_channels is None else channels // head_channels, new_order
        if not self.heads or channels % self.heads or head_channels not in (None, channels // self.heads):
            wish = f"heads of {head_channels} channels" if head_channels else f"{heads} heads"
            raise ValueError(f"attention over {channels} channels cannot have {wish}")
        self.norm = GroupNorm32(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def _load_from_state_dict(self, state_dict, prefix, *others):
        for name in (f"{prefix}qkv.weight", f"{prefix}proj_out.weight"):
            if name in state_dict and state_dict[name].shape[2:] == (1, 1):  # in the consistency models' files
                state_dict[name] = state_dict[name].squeeze(-1)
        super()._load_from_state_dict(state_dict, prefix, *others)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = split_heads(self.qkv(self.norm(x.flatten(2))), self.heads, self.new_order)
        h = functional.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(h.transpose(-1, -2).flatten(1, 2)).unflatten(2, x.shape[2:])


class Downsample(nn.Module):
    """A convolution with stride 2, or the mean of each 2x2 pixels."""

    def __init__(self, channels: int, with_conv: bool):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if with_conv else nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Each pixel doubled, then a convolution or nothing."""

    def __init__(self, channels: int, with_conv: bool):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if with_conv else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(double(x))


class Layers(nn.Sequential):
    """Layers in turn; the residual blocks are given the embedding too."""

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:  # type: ignore[override]
        for layer in self:
            h = layer(h, emb) if isinstance(layer, ResBlock) else layer(h)
        return h
