"""A plain U-Net of the shape and cost of the DDPM one for CIFAR-10 (Ho et al. 2020), with random weights."""

import math

import torch
from torch import nn


class Residual(nn.Module):
    """Two normalised convolutions, the condition added between them."""

    def __init__(self, width_in, width, embedding):
        super().__init__()
        self.before = nn.Sequential(nn.GroupNorm(32, width_in), nn.SiLU(), nn.Conv2d(width_in, width, 3, padding=1))
        self.condition = nn.Linear(embedding, width)
        self.after = nn.Sequential(nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))
        self.shortcut = nn.Identity() if width_in == width else nn.Conv2d(width_in, width, 1)

    def forward(self, x, embedding):
        h = self.before(x) + self.condition(embedding)[:, :, None, None]
        return self.shortcut(x) + self.after(h)


class Attention(nn.Module):
    """Self-attention over the pixels, one head."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.GroupNorm(32, width)
        self.qkv, self.project = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x, _):
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.project(attended.transpose(1, 2).reshape(x.shape))


class Plain(nn.Module):
    """A module without a condition among those with one."""

    def __init__(self, *modules):
        super().__init__()
        self.modules_ = nn.Sequential(*modules)

    def forward(self, x, _):
        return self.modules_(x)


class UNet(nn.Module):
    """Called as ``network(x, condition)``, x (B, 3, size, size), condition a 0-d tensor.

    Args:
        width: channels of the first level.
        multipliers: channels of each level in units of ``width``; each level halves the resolution.
        blocks: residual blocks a level.
        size: pixels a side; attention is at ``size / 2``.
    """

    def __init__(self, *, width=128, multipliers=(1, 2, 2, 2), blocks=2, size=32):
        super().__init__()
        embedding = 4 * width
        frequencies = torch.exp(-math.log(10_000) * torch.arange(width // 2) / (width // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.embed = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU())
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skips, channels, resolution = [width], width, size
        for level, multiplier in enumerate(multipliers):
            for _ in range(blocks):
                self.down.append(self._block(channels, multiplier * width, embedding, resolution == size // 2))
                channels = multiplier * width
                skips.append(channels)
            if level < len(multipliers) - 1:
                self.down.append(nn.ModuleList([Plain(nn.Conv2d(channels, channels, 3, stride=2, padding=1))]))
                skips.append(channels)
                resolution //= 2
        self.middle = nn.ModuleList(
            [Residual(channels, channels, embedding), Attention(channels), Residual(channels, channels, embedding)]
        )
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for block in range(blocks + 1):
                width_in, channels = channels + skips.pop(), multiplier * width
                stage = self._block(width_in, channels, embedding, resolution == size // 2)
                if level and block == blocks:
                    stage.append(Plain(nn.Upsample(scale_factor=2), nn.Conv2d(channels, channels, 3, padding=1)))
                    resolution *= 2
                self.up.append(stage)
        self.head = nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, 3, 3, padding=1))

    @staticmethod
    def _block(width_in, width, embedding, attention):
        return nn.ModuleList([Residual(width_in, width, embedding), *([Attention(width)] if attention else [])])

    def forward(self, x, condition):
        angles = condition.reshape(-1, 1) * 1000 * self.frequencies
        embedding = self.embed(torch.cat([angles.sin(), angles.cos()], dim=1))
        h = self.stem(x)
        skips = [h]
        for stage in self.down:
            for module in stage:
                h = module(h, embedding)
            skips.append(h)
        for module in self.middle:
            h = module(h, embedding)
        for stage in self.up:
            h = torch.cat([h, skips.pop()], dim=1)
            for module in stage:
                h = module(h, embedding)
        return self.head(h)
