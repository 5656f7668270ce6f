"""score_sde's ``ddpm`` as plain functions of a state dictionary, in float64, from paper and public code.

Deliberately nothing like ``dode.models.score_sde``: parts are found by their number alone, kernels act on patches,
attention and normalisation are written out, and what enters and leaves is as in the repository: a whole index, and with
``scale_by_sigma`` images that begin in [0, 1] and the score.
"""

import math

import torch

from published_weights import conv, linear, norm, random_weights
from score_sde_reference import silu


def plan(*, nf, ch_mult, num_res_blocks, attends, **_):
    """The parts in the repository's order: their kind, and their widths in and out."""
    found, kept, width, last = (
        [("dense", nf, 4 * nf), ("dense", 4 * nf, 4 * nf), ("enter", 0, nf)],
        [nf],
        nf,
        len(ch_mult) - 1,
    )
    for level, factor in enumerate(ch_mult):
        for _ in range(num_res_blocks):
            found.append(("block", width, nf * factor))
            width = nf * factor
            found += [("attention", width, width)] * attends[level]
            kept.append(width)
        if level < last:
            found.append(("down", width, width))
            kept.append(width)
    found += [("block", width, width), ("attention", width, width), ("block", width, width)]
    for level in range(last, -1, -1):
        for _ in range(num_res_blocks + 1):
            found.append(("block", width + kept.pop(), nf * ch_mult[level]))
            width = nf * ch_mult[level]
        found += [("attention", width, width)] * attends[level]
        found += [("up", width, width)] * bool(level)
    return [*found, ("norm", width, width), ("leave", width, 0)]


def weights(*, nf, channels, **options):
    """Random ones with the published names."""
    shapes = {}
    for place, (kind, inputs, outputs) in enumerate(plan(nf=nf, **options)):
        own, inputs, outputs = f"all_modules.{place}", inputs or channels, outputs or channels
        if kind == "dense":
            shapes |= linear(own, outputs, inputs)
        elif kind in ("enter", "leave"):
            shapes |= conv(own, outputs, inputs, 3, 3)
        elif kind == "norm":
            shapes |= norm(own, outputs)
        elif kind in ("down", "up"):
            shapes |= conv(f"{own}.Conv_0", outputs, inputs, 3, 3)
        elif kind == "attention":
            shapes |= norm(f"{own}.GroupNorm_0", outputs)
            for n in range(4):
                shapes |= {f"{own}.NIN_{n}.W": (inputs, outputs), f"{own}.NIN_{n}.b": (outputs,)}
        else:
            shapes |= norm(f"{own}.GroupNorm_0", inputs) | conv(f"{own}.Conv_0", outputs, inputs, 3, 3)
            shapes |= linear(f"{own}.Dense_0", outputs, 4 * nf) | norm(f"{own}.GroupNorm_1", outputs)
            shapes |= conv(f"{own}.Conv_1", outputs, outputs, 3, 3)
            if inputs != outputs:
                shapes |= {f"{own}.NIN_0.W": (inputs, outputs), f"{own}.NIN_0.b": (outputs,)}
    return random_weights(shapes)


class Reference:
    """What the repository's network returns."""

    def __init__(self, state, **options):
        self.state, self.options = {name: value.double() for name, value in state.items()}, options

    def output(self, x, index):
        """Of x as it is given there, (B, C, H, W), and a whole index, or 999 t."""
        nf, depth, attends = (self.options[name] for name in ("nf", "num_res_blocks", "attends"))
        self.places = iter(range(1000))
        # The repository has these in single precision, in which 999 times a frequency is known to 3e-5.
        frequencies = torch.exp(torch.arange(nf // 2, dtype=torch.float32) * -(math.log(10_000) / (nf // 2 - 1)))
        angles = torch.tensor(index).float() * frequencies
        e = torch.cat([angles.sin(), angles.cos()]).double()
        for _ in range(2):
            e = silu(self.dense(self.next(), "", e))
        if self.options["scale_by_sigma"]:
            x = 2 * x - 1
        kept, last = [patches(self.next(), "", x)], len(attends) - 1
        for level in range(last + 1):
            for _ in range(depth):
                h = self.block(kept[-1], e)
                kept.append(self.attention(h) if attends[level] else h)
            if level < last:
                padded = torch.zeros(*kept[-1].shape[:2], *(size + 1 for size in kept[-1].shape[2:]), dtype=x.dtype)
                padded[:, :, :-1, :-1] = kept[-1]
                kept.append(patches(self.next(), "Conv_0.", padded, margin=0, stride=2))
        h = self.block(self.attention(self.block(kept[-1], e)), e)
        for level in range(last, -1, -1):
            for _ in range(depth + 1):
                h = self.block(torch.cat([h, kept.pop()], 1), e)
            if attends[level]:
                h = self.attention(h)
            if level:
                h = patches(self.next(), "Conv_0.", h.repeat_interleave(2, 2).repeat_interleave(2, 3))
        h = silu(normalised(self.next(), "", h))
        h = patches(self.next(), "", h)
        assert not self.next()
        return h / level_of(index) if self.options["scale_by_sigma"] else h

    def next(self):
        start = f"all_modules.{next(self.places)}."
        return {name.removeprefix(start): value for name, value in self.state.items() if name.startswith(start)}

    def dense(self, own, name, x):
        return own[f"{name}weight"] @ x + own[f"{name}bias"]

    def block(self, x, e):
        own = self.next()
        h = patches(own, "Conv_0.", silu(normalised(own, "GroupNorm_0.", x)))
        h = h + self.dense(own, "Dense_0.", e)[:, None, None]
        h = patches(own, "Conv_1.", silu(normalised(own, "GroupNorm_1.", h)))
        return h + (nin(own, 0, x) if "NIN_0.W" in own else x)

    def attention(self, x):
        own = self.next()
        h = normalised(own, "GroupNorm_0.", x)
        q, k, v = (nin(own, n, h).flatten(2) for n in range(3))
        w = torch.softmax(torch.einsum("bci,bcj->bij", q, k) / math.sqrt(x.shape[1]), 2)
        return x + nin(own, 3, torch.einsum("bij,bcj->bci", w, v).view(x.shape))


def level_of(index):
    """Of images in [0, 1]: entry of the geometric series of 1,000 levels from 50 to 0.01."""
    return 50 * (0.01 / 50) ** (index / 999)


def nin(own, n, x):
    return torch.einsum("bcij,cd->bdij", x, own[f"NIN_{n}.W"]) + own[f"NIN_{n}.b"][:, None, None]


def patches(own, name, x, margin=1, stride=1):
    """A 3x3 convolution."""
    size = (x.shape[-1] + 2 * margin - 3) // stride + 1
    columns = torch.nn.functional.unfold(x, 3, padding=margin, stride=stride)
    found = own[f"{name}weight"].flatten(1) @ columns + own[f"{name}bias"][:, None]
    return found.view(len(x), -1, size, size)


def normalised(own, name, x):
    groups = x.reshape(len(x), 32, -1)
    mean, variance = groups.mean(2, keepdim=True), groups.var(2, keepdim=True, unbiased=False)
    unit = ((groups - mean) / (variance + 1e-6).sqrt()).view(x.shape)
    return unit * own[f"{name}weight"].view(-1, 1, 1) + own[f"{name}bias"].view(-1, 1, 1)
