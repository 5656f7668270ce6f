"""NCSN++ and DDPM++ (Song et al. 2021, arXiv 2011.13456) with the parameter names of score_sde_pytorch's checkpoints.

``all_modules.<n>`` are all parts in the order in which they are used. Both are the model ``ncsnpp`` of that repository;
the options here have the names of its configurations. EDM's networks of this kind (``edm-song-unet``) have other names.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dode.models import unet_parts
from dode.models.edm.layers import filtered, group_norm, outer, positional_angles
from dode.models.networks import networks
from dode.models.score_sde.layers import EPS, Attention, Numbered, after_middle_attention, sines

FIR, BOX = (1, 3, 3, 1), (1, 1)


class Features(nn.Module):
    """``sin, cos (2 pi W c)`` of a number c, (B, 2 n); the frequencies W (n,) are not trained."""

    def __init__(self, count: int):
        super().__init__()
        self.W = nn.Parameter(16 * torch.randn(count), requires_grad=False)

    def forward(self, condition: Tensor) -> Tensor:
        return sines(condition.reshape(-1, 1).float() * (2 * math.pi * self.W.float()))


class Block(nn.Module):
    """``(s(x) + C_1 silu(N_1(C_0 r(silu(N_0(x))) + D e))) / sqrt(2)``; s is ``C_2 r(x)`` where size or width change.

    r changes the size by two (``resample``: "up", "down" or None), with a filter of ``taps`` in each direction.
    """

    taps: Tensor

    def __init__(self, width_in: int, width: int, embedding: int, *, taps: Sequence[int], resample: str | None = None):
        super().__init__()
        self.resample = resample
        self.register_buffer("taps", outer(taps), persistent=False)
        self.GroupNorm_0 = group_norm(width_in, EPS)
        self.Conv_0 = nn.Conv2d(width_in, width, 3, padding=1)
        self.Dense_0 = nn.Linear(embedding, width)
        self.GroupNorm_1 = group_norm(width, EPS)
        self.Conv_1 = nn.Conv2d(width, width, 3, padding=1)
        changes = width_in != width or resample is not None
        self.Conv_2 = nn.Conv2d(width_in, width, 1) if changes else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``embedding`` (1 or B, n) behind its nonlinearity."""
        h = functional.silu(self.GroupNorm_0(x))
        if self.resample is not None:
            h, x = (resized(each, self.taps, self.resample) for each in (h, x))
        h = self.Conv_0(h) + self.Dense_0(embedding)[:, :, None, None]
        h = self.Conv_1(functional.silu(self.GroupNorm_1(h)))
        return (h + (x if self.Conv_2 is None else self.Conv_2(x))) * math.sqrt(0.5)


def resized(image: Tensor, taps: Tensor, how: str) -> Tensor:
    """Half ("down") or twice ("up") as large in each direction, filtered with ``taps``."""
    return filtered(image, taps, how, (taps.shape[-1] - 1) // 2)


class Halving(nn.Module):
    """A 3x3 convolution of the filtered image, at every other pixel."""

    taps: Tensor

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.register_buffer("taps", outer(FIR), persistent=False)
        self.Conv2d_0 = nn.Conv2d(inputs, outputs, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        each = self.taps.to(x.dtype).expand(x.shape[1], -1, -1, -1)
        return self.Conv2d_0(functional.conv2d(x, each, padding=2, groups=x.shape[1]))


class Joined(nn.Module):
    """``h + C_0 x``, x the image at the size of the feature map h."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.Conv_0 = nn.Conv2d(inputs, width, 1)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return h + self.Conv_0(x)


@networks.register("score-sde-ncsnpp")
class NCSNpp(Numbered):
    """``F = network(x, condition)`` as the ``preconditioning`` ``ve`` or ``vp`` calls it, x of images in [-1, 1].

    NCSN++ (``ve``): the condition is ``ln(sigma / 2)``, the logarithm of the level of images in [0, 1], on which it was
    trained, and F is the score times that level, which the repository divides by it (``scale_by_sigma``). DDPM++
    (``vp``, or a ``schedule`` of 1,000 steps where it was trained on one): the condition is 999 t, F the noise.

    Args:
        image_shape: ``(channels, H, H)``.
        nf, ch_mult: widths of the levels, ``nf * ch_mult``.
        num_res_blocks: residual blocks a level, one more on the way up.
        attn_resolutions: sizes of feature maps, in pixels, that are followed by attention.
        embedding_type: ``fourier`` in NCSN++, ``positional`` in DDPM++.
        progressive_input: how the image enters the smaller levels. ``residual`` in NCSN++ of CIFAR-10, by convolutions;
            ``input_skip`` in NCSN++ of 256 pixels and more, itself made smaller; ``none`` in DDPM++.
        progressive: how the output is made. ``none``, from the last level; ``output_skip`` in NCSN++ of 256 pixels and
            more, as the sum of images of all levels made larger.
        fir: whether sizes are changed with the filter 1, 3, 3, 1 (NCSN++), or by repetition and means (DDPM++).

    Other keys are as all published configurations with these options have them: blocks of the type ``biggan``,
    ``skip_rescale``, ``progressive_combine: sum``.
    """

    taps: Tensor

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        nf: int = 128,
        ch_mult: Sequence[int] = (1, 2, 2, 2),
        num_res_blocks: int = 4,
        attn_resolutions: Sequence[int] = (16,),
        embedding_type: str = "fourier",
        progressive_input: str = "residual",
        progressive: str = "none",
        fir: bool = True,
    ):
        super().__init__()
        _check("embedding_type", embedding_type, ("fourier", "positional"))
        _check("progressive_input", progressive_input, ("none", "residual", "input_skip"))
        _check("progressive", progressive, ("none", "output_skip"))
        if progressive_input == "residual" and not fir:
            raise ValueError("progressive_input: 'residual' is not allowed without fir; allowed: 'none', 'input_skip'")
        self.image_shape, self.depth = tuple(image_shape), num_res_blocks
        sizes = unet_parts.level_sizes(image_shape[1], len(ch_mult), attn_resolutions)
        self.attends = [size in attn_resolutions for size in sizes]
        self.fourier, self.side, self.sums = embedding_type == "fourier", progressive_input, progressive != "none"
        self.options: Any = {"embedding": 4 * nf, "taps": FIR if fir else BOX}
        self.register_buffer("taps", outer(self.options["taps"]), persistent=False)
        self.all_modules = nn.ModuleList(self._parts(image_shape[0], nf, [nf * factor for factor in ch_mult]))

    def _parts(self, channels: int, nf: int, widths: Sequence[int]) -> Iterator[nn.Module]:
        """All of them, in the order of :meth:`forward`."""
        if self.fourier:
            yield Features(nf)
        yield nn.Linear(2 * nf if self.fourier else nf, 4 * nf)
        yield nn.Linear(4 * nf, 4 * nf)
        yield nn.Conv2d(channels, nf, 3, padding=1)
        width, side, skips = nf, channels, [nf]
        for level, own in enumerate(widths):
            for _ in range(self.depth):
                yield Block(width, own, **self.options)
                if self.attends[level]:
                    yield _attention(own)
                width = own
                skips.append(width)
            if level < len(widths) - 1:
                yield Block(width, width, resample="down", **self.options)
                if self.side == "residual":
                    yield Halving(side, width)
                    side = width
                elif self.side == "input_skip":
                    yield Joined(channels, width)
                skips.append(width)
        yield from (Block(width, width, **self.options), _attention(width), Block(width, width, **self.options))
        for level, own in reversed(list(enumerate(widths))):
            for _ in range(self.depth + 1):
                yield Block(width + skips.pop(), own, **self.options)
                width = own
            if self.attends[level]:
                yield _attention(width)
            if self.sums or level == 0:
                yield group_norm(width, EPS)
                yield nn.Conv2d(width, channels, 3, padding=1)
            if level:
                yield Block(width, width, resample="up", **self.options)

    @property
    def bottleneck(self) -> nn.Module:
        """The module in the middle (:mod:`dode.solvers.bottleneck`)."""
        return after_middle_attention(self.all_modules, sum(self.attends) * self.depth)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``x`` (B, C, H, W), scaled by the preconditioning; ``condition`` 0-d or (B,)."""
        unet_parts.check_images(x, self.image_shape)
        part = iter(self.all_modules)
        embedding, skips, side = self._embedded(part, condition), [next(part)(x)], x
        for level, attends in enumerate(self.attends):
            for _ in range(self.depth):
                h = next(part)(skips[-1], embedding)
                skips.append(next(part)(h) if attends else h)
            if level < len(self.attends) - 1:
                h = next(part)(skips[-1], embedding)
                if self.side == "residual":
                    h = side = (next(part)(side) + h) * math.sqrt(0.5)
                elif self.side == "input_skip":
                    side = resized(side, self.taps, "down")
                    h = next(part)(side, h)
                skips.append(h)
        h = next(part)(skips[-1], embedding)
        h = next(part)(h)
        h = next(part)(h, embedding)
        output: Any = None  # of the smallest level that has one
        for level, attends in reversed(list(enumerate(self.attends))):
            for _ in range(self.depth + 1):
                h = next(part)(torch.cat([h, skips.pop()], dim=1), embedding)
            if attends:
                h = next(part)(h)
            if self.sums or level == 0:
                norm, image = next(part), next(part)
                own = image(functional.silu(norm(h)))
                output = own if output is None else resized(output, self.taps, "up") + own
            if level:
                h = next(part)(h, embedding)
        return output

    def _embedded(self, part, condition):
        """Of the condition, behind the nonlinearity that every block begins with: (1 or B, 4 nf)."""
        if self.fourier:
            found = next(part)(condition)
        first, second = next(part), next(part)
        if not self.fourier:
            found = sines(positional_angles(condition, first.in_features, endpoint=True))
        return functional.silu(second(functional.silu(first(found.to(first.weight.dtype)))))


def _attention(width):
    return Attention(width, group_norm(width, EPS), math.sqrt(0.5))


def _check(option, value, allowed):
    if value not in allowed:
        raise ValueError(f"{option}: {value!r} is not allowed; allowed: {', '.join(allowed)}")
