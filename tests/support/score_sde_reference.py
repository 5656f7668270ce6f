"""score_sde's NCSN++ and DDPM++ as plain functions of a state dictionary, in float64, from paper and public code.

Deliberately nothing like ``dode.models.score_sde``: parts are found by their number alone, resampling is a matrix,
attention and normalisation are written out, and the score is that of images in [0, 1] where the repository has it so.
"""

import math

import torch

from edm_reference import resampled
from published_weights import random_weights

TAPS = {True: (1, 3, 3, 1), False: (1, 1)}


def shapes(*, nf, ch_mult, num_res_blocks, attends, channels, fourier, side, sums, **_):
    """Names and shapes of the parameters in the repository's order. ``attends``: of each level."""
    found, count = {}, 0

    def part(**own):
        nonlocal count
        for name, shape in own.items():
            found[f"all_modules.{count}.{name.replace('__', '.')}"] = shape
        count += 1

    def layer(name, *shape):
        return {f"{name}weight": shape, f"{name}bias": shape[:1]}

    def block(inputs, outputs, sized=False):
        own = layer("GroupNorm_0__", inputs) | layer("Conv_0__", outputs, inputs, 3, 3)
        own |= layer("Dense_0__", outputs, 4 * nf) | layer("GroupNorm_1__", outputs)
        own |= layer("Conv_1__", outputs, outputs, 3, 3)
        part(**own, **(layer("Conv_2__", outputs, inputs, 1, 1) if sized or inputs != outputs else {}))

    def attention(width):
        nins = {f"NIN_{n}__{name}": (width,) * dims for n in range(4) for name, dims in (("W", 2), ("b", 1))}
        part(**layer("GroupNorm_0__", width), **nins)

    if fourier:
        part(W=(nf,))
    part(**layer("", 4 * nf, 2 * nf if fourier else nf))
    part(**layer("", 4 * nf, 4 * nf))
    part(**layer("", nf, channels, 3, 3))
    kept, width, inputs, last = [nf], nf, channels, len(ch_mult) - 1
    for level, factor in enumerate(ch_mult):
        for _ in range(num_res_blocks):
            block(width, nf * factor)
            width = nf * factor
            if attends[level]:
                attention(width)
            kept.append(width)
        if level < last:
            block(width, width, sized=True)
            if side == "residual":
                part(**layer("Conv2d_0__", width, inputs, 3, 3))
                inputs = width
            if side == "input_skip":
                part(**layer("Conv_0__", width, channels, 1, 1))
            kept.append(width)
    block(width, width)
    attention(width)
    block(width, width)
    for level in range(last, -1, -1):
        for _ in range(num_res_blocks + 1):
            block(width + kept.pop(), nf * ch_mult[level])
            width = nf * ch_mult[level]
        if attends[level]:
            attention(width)
        if sums:
            part(**layer("", width))
            part(**layer("", channels, width, 3, 3))
        if level:
            block(width, width, sized=True)
    if not sums:
        part(**layer("", width))
        part(**layer("", channels, width, 3, 3))
    return found


def weights(**options):
    """Random ones."""
    return random_weights(shapes(**options))


class Reference:
    """``output(x, time)`` is what the repository's network returns, scale_by_sigma where it has Fourier features."""

    def __init__(self, state, **options):
        self.state = {name: value.double() for name, value in state.items()}
        self.options, self.taps = options, TAPS[options["fir"]]

    def output(self, x, time):
        """Of images in [0, 1] and sigma in their units with Fourier features, else of images in [-1, 1] and 999 t."""
        self.place = -1
        nf, fourier = self.options["nf"], self.options["fourier"]
        if fourier:
            angles = 2 * math.pi * math.log(time) * self.next()["W"]
            x = 2 * x - 1
        else:
            angles = time * torch.exp(torch.arange(nf // 2, dtype=torch.float64) * -math.log(10_000) / (nf // 2 - 1))
        e = torch.cat([angles.sin(), angles.cos()])
        e = self.dense(self.next(), e)
        e = silu(self.dense(self.next(), silu(e)))
        h = self.body(x, e)
        return h / time if fourier else h

    def next(self):
        self.place += 1
        start = f"all_modules.{self.place}."
        return {name.removeprefix(start): value for name, value in self.state.items() if name.startswith(start)}

    def body(self, x, e):
        ch_mult, depth = self.options["ch_mult"], self.options["num_res_blocks"]
        attends, last, side = self.options["attends"], len(ch_mult) - 1, x
        kept = [conv(self.next(), "", x)]
        for level in range(last + 1):
            for _ in range(depth):
                h = self.block(kept[-1], e)
                kept.append(self.attention(h) if attends[level] else h)
            if level < last:
                h = self.block(kept[-1], e, "down")
                if self.options["side"] == "residual":
                    side = (self.halved(side) + h) / math.sqrt(2)
                    h = side
                if self.options["side"] == "input_skip":
                    side = resampled(side, "down", self.taps)
                    h = h + conv(self.next(), "Conv_0.", side)
                kept.append(h)
        h = self.block(kept[-1], e)
        h = self.attention(h)
        h = self.block(h, e)
        images = []
        for level in range(last, -1, -1):
            for _ in range(depth + 1):
                h = self.block(torch.cat([h, kept.pop()], 1), e)
            if attends[level]:
                h = self.attention(h)
            if self.options["sums"]:
                images = [resampled(image, "up", self.taps) for image in images]
                normed = silu(normalised(self.next(), "", h))
                images.append(conv(self.next(), "", normed))
            if level:
                h = self.block(h, e, "up")
        if not images:
            h = silu(normalised(self.next(), "", h))
            images = [conv(self.next(), "", h)]
        assert not self.next()
        return sum(images)

    def dense(self, own, x, name=""):
        return x @ own[f"{name}weight"].T + own[f"{name}bias"]

    def block(self, x, e, how=None):
        own = self.next()
        h = resampled(silu(normalised(own, "GroupNorm_0.", x)), how, self.taps)
        x = resampled(x, how, self.taps)
        h = conv(own, "Conv_0.", h) + self.dense(own, e, "Dense_0.")[:, None, None]
        h = conv(own, "Conv_1.", silu(normalised(own, "GroupNorm_1.", h)))
        return (h + (conv(own, "Conv_2.", x) if "Conv_2.weight" in own else x)) / math.sqrt(2)

    def attention(self, x):
        own = self.next()
        h = normalised(own, "GroupNorm_0.", x)
        q, k, v = (self.nin(own, n, h) for n in range(3))
        w = torch.einsum("bcij,bckl->bijkl", q, k) / math.sqrt(x.shape[1])
        w = w.flatten(3).softmax(3).view(w.shape)
        return (x + self.nin(own, 3, torch.einsum("bijkl,bckl->bcij", w, v))) / math.sqrt(2)

    @staticmethod
    def nin(own, n, x):
        return torch.einsum("bcij,cd->bdij", x, own[f"NIN_{n}.W"]) + own[f"NIN_{n}.b"][:, None, None]

    def halved(self, x):
        """Filtered at every place with two zeros around the image, then the kernel at every other place."""
        own, size = self.next(), x.shape[-1]
        every = torch.zeros(size + 1, size, dtype=torch.float64)
        for row in range(size + 1):
            for k, value in enumerate(self.taps):
                if 0 <= row - 2 + k < size:
                    every[row, row - 2 + k] = value / sum(self.taps)
        x = every @ x @ every.T
        return torch.nn.functional.conv2d(x, own["Conv2d_0.weight"], own["Conv2d_0.bias"], stride=2)


def silu(x):
    return x * torch.sigmoid(x)


def conv(own, name, x):
    weight = own[f"{name}weight"]
    return torch.nn.functional.conv2d(x, weight, own[f"{name}bias"], padding=weight.shape[-1] // 2)


def normalised(own, name, x):
    groups = x.reshape(len(x), min(x.shape[1] // 4, 32), -1)
    mean, variance = groups.mean(2, keepdim=True), groups.var(2, keepdim=True, unbiased=False)
    unit = ((groups - mean) / (variance + 1e-6).sqrt()).view(x.shape)
    return unit * own[f"{name}weight"].view(-1, 1, 1) + own[f"{name}bias"].view(-1, 1, 1)
