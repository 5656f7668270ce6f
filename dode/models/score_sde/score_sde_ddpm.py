"""DDPM (Ho et al. 2020, arXiv 2006.11239) with the parameter names of score_sde_pytorch's checkpoints.

The model ``ddpm`` of that repository; the options here have the names of its configurations. It is not the network of
``ddpm-unet``: on the way up attention comes once a level, behind all of its blocks.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dode.models import unet_parts
from dode.models.networks import networks
from dode.models.score_sde.layers import EPS, Attention, Nin, Numbered, after_middle_attention, sines

GROUPS = 32


def _norm(width):
    return nn.GroupNorm(GROUPS, width, eps=EPS)


class Block(nn.Module):
    """``s(x) + C_1 silu(N_1(C_0 silu(N_0(x)) + D e))``; s is ``W x + b`` of each pixel where the width changes."""

    def __init__(self, width_in: int, width: int, embedding: int):
        super().__init__()
        self.GroupNorm_0 = _norm(width_in)
        self.Conv_0 = nn.Conv2d(width_in, width, 3, padding=1)
        self.Dense_0 = nn.Linear(embedding, width)
        self.GroupNorm_1 = _norm(width)
        self.Conv_1 = nn.Conv2d(width, width, 3, padding=1)
        self.NIN_0 = nn.Identity() if width_in == width else Nin(width_in, width)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``embedding`` (1 or B, n) behind its nonlinearity."""
        h = self.Conv_0(functional.silu(self.GroupNorm_0(x))) + self.Dense_0(embedding)[:, :, None, None]
        return self.NIN_0(x) + self.Conv_1(functional.silu(self.GroupNorm_1(h)))


class Halving(nn.Module):
    """A 3x3 convolution at every other pixel, padded on the right and below alone, as TensorFlow pads."""

    def __init__(self, width: int):
        super().__init__()
        self.Conv_0 = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.Conv_0(functional.pad(x, (0, 1, 0, 1)))


class Doubling(nn.Module):
    """Each pixel doubled, then a 3x3 convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.Conv_0 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.Conv_0(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


@networks.register("score-sde-ddpm")
class DDPM(Numbered):
    """``F = network(x, condition)``, x of images in [-1, 1].

    Trained with a VP SDE, F is the noise: on its 1,000 steps the condition is the index, behind a linear ``schedule``;
    on continuous times it is 999 t, behind the ``preconditioning`` ``vp``. Trained with a VE SDE
    (``scale_by_sigma: true``), F is the score times the level, which the repository divides by it, behind the
    ``preconditioning`` ``ve``: of its condition ``ln(s)``, s the level of images in [0, 1], the network is told the
    index, ``(num_scales - 1) ln(sigma_max / s) / ln(sigma_max / sigma_min)``.

    Args:
        image_shape: ``(channels, H, H)``.
        nf, ch_mult: widths of the levels, ``nf * ch_mult``, multiples of 32.
        num_res_blocks: residual blocks a level, one more on the way up.
        attn_resolutions: sizes of feature maps, in pixels, with attention: behind each block on the way down, once a
            level on the way up.
        scale_by_sigma: whether it was trained with a VE SDE.
        sigma_min, sigma_max, num_scales: of the levels of a VE SDE, of images in [0, 1].

    Other keys are as all published configurations of this network have them: ``conditional`` and ``resamp_with_conv``
    are true, the ``nonlinearity`` is ``swish``, and images are ``centered`` with VP SDEs and not with VE SDEs. Images
    that are not centered become so inside the repository's network, which is what the level of images in [0, 1] is for.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        nf: int = 128,
        ch_mult: Sequence[int] = (1, 2, 2, 2),
        num_res_blocks: int = 2,
        attn_resolutions: Sequence[int] = (16,),
        scale_by_sigma: bool = False,
        sigma_min: float = 0.01,
        sigma_max: float = 50.0,
        num_scales: int = 1000,
    ):
        super().__init__()
        if nf < GROUPS or nf % GROUPS:
            raise ValueError(f"nf: {nf} is not allowed; allowed: a multiple of {GROUPS}, the groups of a normalisation")
        self.image_shape, self.depth, self.width = tuple(image_shape), num_res_blocks, nf
        sizes = unet_parts.level_sizes(image_shape[1], len(ch_mult), attn_resolutions)
        self.attends = [size in attn_resolutions for size in sizes]
        self.first, self.per_log = 0.0, 1.0  # index = first + per_log * condition
        if scale_by_sigma:
            self.per_log = -(num_scales - 1) / math.log(sigma_max / sigma_min)
            self.first = -self.per_log * math.log(sigma_max)
        self.all_modules = nn.ModuleList(self._parts(image_shape[0], nf, [nf * factor for factor in ch_mult]))

    def _parts(self, channels: int, nf: int, widths: Sequence[int]) -> Iterator[nn.Module]:
        """All of them, in the order of :meth:`forward`."""
        yield from (nn.Linear(nf, 4 * nf), nn.Linear(4 * nf, 4 * nf), nn.Conv2d(channels, nf, 3, padding=1))
        width, skips = nf, [nf]
        for level, own in enumerate(widths):
            for _ in range(self.depth):
                yield Block(width, own, 4 * nf)
                if self.attends[level]:
                    yield _attention(own)
                width = own
                skips.append(width)
            if level < len(widths) - 1:
                yield Halving(width)
                skips.append(width)
        yield from (Block(width, width, 4 * nf), _attention(width), Block(width, width, 4 * nf))
        for level, own in reversed(list(enumerate(widths))):
            for _ in range(self.depth + 1):
                yield Block(width + skips.pop(), own, 4 * nf)
                width = own
            if self.attends[level]:
                yield _attention(width)
            if level:
                yield Doubling(width)
        yield from (_norm(width), nn.Conv2d(width, channels, 3, padding=1))

    @property
    def bottleneck(self) -> nn.Module:
        """The module in the middle (:mod:`dode.solvers.bottleneck`)."""
        return after_middle_attention(self.all_modules, sum(self.attends) * self.depth)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``x`` (B, C, H, W) as the preconditioning or the schedule has it; ``condition`` 0-d or (B,)."""
        unet_parts.check_images(x, self.image_shape)
        part = iter(self.all_modules)
        first, second, enter = next(part), next(part), next(part)
        angles = unet_parts.sinusoids(self.first + self.per_log * condition, self.width // 2, self.width // 2 - 1)
        embedding = functional.silu(second(functional.silu(first(sines(angles).to(x.dtype)))))
        skips = [enter(x)]
        for level, attends in enumerate(self.attends):
            for _ in range(self.depth):
                h = next(part)(skips[-1], embedding)
                skips.append(next(part)(h) if attends else h)
            if level < len(self.attends) - 1:
                skips.append(next(part)(skips[-1]))
        h = next(part)(skips[-1], embedding)
        h = next(part)(h)
        h = next(part)(h, embedding)
        for level, attends in reversed(list(enumerate(self.attends))):
            for _ in range(self.depth + 1):
                h = next(part)(torch.cat([h, skips.pop()], dim=1), embedding)
            if attends:
                h = next(part)(h)
            if level:
                h = next(part)(h)
        norm, leave = next(part), next(part)
        return leave(functional.silu(norm(h)))


def _attention(width):
    return Attention(width, _norm(width), 1.0)
