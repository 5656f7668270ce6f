"""The U-Net and the classifier of Dhariwal & Nichol, written a second time: a layout, and equations in float64.

The layout gives each parameter by its place: input block n >= 1 is number (n - 1) mod (blocks + 1) of level
(n - 1) div (blocks + 1), the last of a level changes the size; output blocks likewise from the bottom, and output block
m is given what input block N - 1 - m put out. Shares nothing with ``dode``.
"""

import math

import torch
from torch.nn import functional

from published_weights import conv, linear, norm

DEFAULTS = {
    "in_channels": 3,
    "channels": 128,
    "blocks": 2,
    "heads": 1,
    "head_channels": None,
    "new_attention_order": False,
    "scale_shift_norm": True,
    "resblock_updown": False,
    "conv_resample": True,
    "classes": None,
    "learned_sigma": True,
    "index_scale": 1.0,
}


def layout(options):
    """(input blocks, middle block, output blocks); a block is a list of (kind, channels in, channels out)."""
    blocks, levels = options["blocks"], len(options["multipliers"])
    wide = [int(options["channels"] * multiplier) for multiplier in options["multipliers"]]
    attended = [options["image_size"] / 2**i in options["attention_resolutions"] for i in range(levels)]
    period, total = blocks + 1, levels * (blocks + 1)

    def put_out(n):
        return wide[max(n - 1, 0) // period]

    down, up = [[("conv", options["in_channels"], wide[0])]], []
    for n in range(1, total):
        level, out = (n - 1) // period, put_out(n)
        if (n - 1) % period == blocks:
            down.append([("res_down", out, out) if options["resblock_updown"] else ("op", out, out)])
        else:
            down.append([("res", put_out(n - 1), out)] + [("attention", out, out)] * attended[level])
    for m in range(total):
        level = levels - 1 - m // period
        below, out = wide[levels - 1 - max(m - 1, 0) // period], wide[level]
        up.append([("res", below + put_out(total - 1 - m), out)] + [("attention", out, out)] * attended[level])
        if m % period == blocks and level:
            up[-1].append(("res_up", out, out) if options["resblock_updown"] else ("up", out, out))
    deep = wide[-1]
    return down, [("res", deep, deep), ("attention", deep, deep), ("res", deep, deep)], up


def part_shapes(name, kind, inputs, outputs, options):
    if kind == "attention":
        shapes = norm(f"{name}.norm", inputs) | conv(f"{name}.qkv", 3 * inputs, inputs, 1)
        return shapes | conv(f"{name}.proj_out", inputs, inputs, 1)
    if not kind.startswith("res"):
        if kind != "conv" and not options["conv_resample"]:
            return {}
        suffix = {"conv": "", "op": ".op", "up": ".conv"}[kind]
        return conv(name + suffix, outputs, inputs, 3, 3)
    conditions = 2 * outputs if options["scale_shift_norm"] else outputs
    shapes = norm(f"{name}.in_layers.0", inputs) | conv(f"{name}.in_layers.2", outputs, inputs, 3, 3)
    shapes |= linear(f"{name}.emb_layers.1", conditions, 4 * options["channels"])
    shapes |= norm(f"{name}.out_layers.0", outputs) | conv(f"{name}.out_layers.3", outputs, outputs, 3, 3)
    return shapes | (conv(f"{name}.skip_connection", outputs, inputs, 1, 1) if inputs != outputs else {})


def shapes(options, classifier=False):
    """{name: shape} of the published state dict."""
    options = DEFAULTS | options
    channels, (down, middle, up) = options["channels"], layout(options)
    found = linear("time_embed.0", 4 * channels, channels) | linear("time_embed.2", 4 * channels, 4 * channels)
    named = [(f"input_blocks.{n}", block) for n, block in enumerate(down)] + [("middle_block", middle)]
    named += [] if classifier else [(f"output_blocks.{m}", block) for m, block in enumerate(up)]
    for name, block in named:
        for i, part in enumerate(block):
            found |= part_shapes(f"{name}.{i}", *part, options)
    if classifier:
        deep, side = middle[0][1], options["image_size"] // 2 ** (len(options["multipliers"]) - 1)
        found |= norm("out.0", deep) | {"out.2.positional_embedding": (deep, side**2 + 1)}
        found |= conv("out.2.qkv_proj", 3 * deep, deep, 1) | conv("out.2.c_proj", options["classes"], deep, 1)
        return found
    if options["classes"] is not None:
        found["label_emb.weight"] = (options["classes"], 4 * channels)
    _, images, first = down[0][0]
    return found | norm("out.0", first) | conv("out.2", (1 + options["learned_sigma"]) * images, first, 3, 3)


class Reference:
    """The equations, with the weights of a state dict in float64; ``index`` one number for all images."""

    def __init__(self, weights, options):
        self.weights = {name: value.double() for name, value in weights.items()}
        self.options = DEFAULTS | options

    def affine(self, name, x):
        return x @ self.weights[f"{name}.weight"].flatten(1).T + self.weights[f"{name}.bias"]

    def convolution(self, name, x, stride=1):
        weight = self.weights[f"{name}.weight"]
        return functional.conv2d(x, weight, self.weights[f"{name}.bias"], stride, padding=weight.shape[-1] // 2)

    def group_norm(self, name, x):
        groups = x.reshape(len(x), 32, -1)
        centred = groups - groups.mean(-1, keepdim=True)
        x = (centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()).reshape(x.shape)
        return x * self.weights[f"{name}.weight"][:, None, None] + self.weights[f"{name}.bias"][:, None, None]

    def res(self, name, x, emb, resize):
        h = self.convolution(f"{name}.in_layers.2", resize(silu(self.group_norm(f"{name}.in_layers.0", x))))
        condition = self.affine(f"{name}.emb_layers.1", silu(emb))[:, :, None, None]
        if self.options["scale_shift_norm"]:
            half = h.shape[1]
            h = self.group_norm(f"{name}.out_layers.0", h) * (1 + condition[:, :half]) + condition[:, half:]
        else:
            h = self.group_norm(f"{name}.out_layers.0", h + condition)
        x = resize(x)
        if f"{name}.skip_connection.weight" in self.weights:
            x = self.convolution(f"{name}.skip_connection", x)
        return x + self.convolution(f"{name}.out_layers.3", silu(h))

    def attention(self, name, x):
        tokens = self.group_norm(f"{name}.norm", x).flatten(2).transpose(1, 2)
        size = self.options["head_channels"] or x.shape[1] // self.options["heads"]
        mixed = attend(self.affine(f"{name}.qkv", tokens), size, self.options["new_attention_order"])
        return x + self.affine(f"{name}.proj_out", mixed).transpose(1, 2).reshape(x.shape)

    def block(self, name, parts, h, emb):
        for i, (kind, _, _) in enumerate(parts):
            here = f"{name}.{i}"
            if kind == "attention":
                h = self.attention(here, h)
            elif kind.startswith("res"):
                h = self.res(here, h, emb, {"res": same, "res_down": halved, "res_up": doubled}[kind])
            elif kind in ("op", "up") and not self.options["conv_resample"]:
                h = halved(h) if kind == "op" else doubled(h)
            elif kind == "up":
                h = self.convolution(f"{here}.conv", doubled(h))
            else:
                h = self.convolution(here + (".op" if kind == "op" else ""), h, stride=2 if kind == "op" else 1)
        return h

    def embed(self, index, labels=None):
        half = self.options["channels"] // 2
        angles = [index * self.options["index_scale"] * 10000 ** (-k / half) for k in range(half)]
        waves = torch.tensor([[math.cos(a) for a in angles] + [math.sin(a) for a in angles]], dtype=torch.float64)
        emb = self.affine("time_embed.2", silu(self.affine("time_embed.0", waves)))
        return emb if labels is None else emb + self.weights["label_emb.weight"][labels]

    def encode(self, x, emb):
        down, middle, _ = layout(self.options)
        outputs = []
        for n, parts in enumerate(down):
            outputs.append(self.block(f"input_blocks.{n}", parts, outputs[-1] if outputs else x, emb))
        return outputs, self.block("middle_block", middle, outputs[-1], emb)

    def noise(self, x, index, labels=None):
        """The first half of the U-Net's channels, or all where it has no variances."""
        emb = self.embed(index, labels)
        outputs, h = self.encode(x.double(), emb)
        for m, parts in enumerate(layout(self.options)[2]):
            h = self.block(f"output_blocks.{m}", parts, torch.cat([h, outputs[-1 - m]], 1), emb)
        return self.convolution("out.2", silu(self.group_norm("out.0", h)))[:, : x.shape[1]]

    def logits(self, x, index):
        """The classifier's output: attention over the mean and all places, of which the mean's is kept."""
        h = silu(self.group_norm("out.0", self.encode(x.double(), self.embed(index))[1])).flatten(2)
        h = torch.cat([h.mean(2, keepdim=True), h], 2) + self.weights["out.2.positional_embedding"]
        qkv = self.affine("out.2.qkv_proj", h.transpose(1, 2))
        return self.affine("out.2.c_proj", attend(qkv, self.options["head_channels"], new_order=True))[:, 0]


def attend(qkv, size, new_order):
    """Softmax attention head by head; qkv (B, T, 3 C), heads of ``size`` channels each."""
    width = qkv.shape[-1] // 3
    mixed = []
    for head in range(width // size):
        starts = [part * width + head * size if new_order else (3 * head + part) * size for part in range(3)]
        q, k, v = (qkv[..., start : start + size] for start in starts)
        scores = (q @ k.transpose(1, 2) / math.sqrt(size)).exp()
        mixed.append(scores / scores.sum(-1, keepdim=True) @ v)
    return torch.cat(mixed, -1)


def silu(x):
    return x / (1 + (-x).exp())


def same(x):
    return x


def halved(x):
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def doubled(x):
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)
