"""The networks of EDM as plain functions of a state dictionary, from the papers' equations, in float64.

Deliberately nothing like ``dode.models.edm.unet``: resampling is a matrix, attention and normalisation are written
out, and where a block attends is read from nowhere but ``attends``.
"""

import math

import torch


def halving(size, taps, margin=None):
    """(size / 2, size): ``y_i = sum_k f_k x_(2 i - p + k)``, zero outside; p = (len - 1) // 2, or ``margin``."""
    taps = torch.tensor(taps, dtype=torch.float64) / sum(taps)
    margin = (len(taps) - 1) // 2 if margin is None else margin
    rows = (size + 2 * margin - len(taps)) // 2 + 1
    matrix = torch.zeros(rows, size, dtype=torch.float64)
    for row in range(rows):
        for k, value in enumerate(taps):
            if 0 <= 2 * row - margin + k < size:
                matrix[row, 2 * row - margin + k] += value
    return matrix


def resampled(x, how, taps):
    if how is None:
        return x
    matrix = halving(x.shape[-1], taps) if how == "down" else 2 * halving(2 * x.shape[-1], taps).T
    return matrix @ x @ matrix.T


class Reference:
    def __init__(self, state, *, adm, taps=(1, 1), head_width=None, attends=()):
        self.state = {name: value.double() for name, value in state.items()}
        self.adm, self.taps, self.head_width, self.attends = adm, taps, head_width, attends
        self.eps, self.shrink = (1e-5, 1.0) if adm else (1e-6, 2**-0.5)

    def linear(self, name, x):
        return x @ self.state[f"{name}.weight"].T + self.state.get(f"{name}.bias", 0.0)

    def conv(self, name, x, margin=None):
        weight = self.state[f"{name}.weight"]
        margin = weight.shape[-1] // 2 if margin is None else margin
        return torch.nn.functional.conv2d(x, weight, self.state[f"{name}.bias"], padding=margin)

    def norm(self, name, x):
        batch, width = x.shape[:2]
        groups = x.reshape(batch, min(32, width // 4), -1)
        mean, variance = groups.mean(2, keepdim=True), groups.var(2, keepdim=True, unbiased=False)
        unit = ((groups - mean) / (variance + self.eps).sqrt()).view(x.shape)
        weight, bias = (self.state[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias"))
        return unit * weight + bias

    def block(self, name, x, e, how=None):
        h = torch.nn.functional.silu(self.norm(f"{name}.norm0", x))
        h = self.conv(f"{name}.conv0", resampled(h, how, self.taps))
        condition = self.linear(f"{name}.affine", e)[..., None, None]
        if self.adm:
            width = h.shape[1]
            h = self.norm(f"{name}.norm1", h) * (condition[:, :width] + 1) + condition[:, width:]
        else:
            h = self.norm(f"{name}.norm1", h + condition)
        h = self.conv(f"{name}.conv1", torch.nn.functional.silu(h))
        shortcut = resampled(x, how, self.taps)
        changed = h.shape[1] != x.shape[1]
        if changed or (how and not self.adm):
            shortcut = self.conv(f"{name}.skip", shortcut)
        x = (h + shortcut) * self.shrink
        return self.attended(name, x) if name in self.attends else x

    def attended(self, name, x):
        batch, width, rows, columns = x.shape
        heads = 1 if self.head_width is None else width // self.head_width
        size = width // heads
        qkv = self.conv(f"{name}.qkv", self.norm(f"{name}.norm2", x)).flatten(2)
        result = torch.empty(batch, width, rows * columns, dtype=x.dtype)
        for head in range(heads):
            own = qkv[:, 3 * size * head : 3 * size * (head + 1)]
            q, k, v = own[:, 0::3], own[:, 1::3], own[:, 2::3]
            weights = torch.exp(torch.einsum("bcq,bck->bqk", q, k) / math.sqrt(size))
            weights = weights / weights.sum(dim=2, keepdim=True)
            result[:, size * head : size * (head + 1)] = torch.einsum("bqk,bck->bcq", weights, v)
        return (x + self.conv(f"{name}.proj", result.view(x.shape))) * self.shrink

    def embedding(self, c, hot):
        """``c`` (B,), ``hot`` (B, classes)."""
        width = self.state["map_layer0.weight"].shape[1]
        half = width // 2
        if "map_noise.freqs" in self.state:
            frequencies = 2 * math.pi * self.state["map_noise.freqs"]
        else:
            last = half if self.adm else half - 1
            frequencies = torch.tensor([10_000 ** (-i / last) for i in range(half)], dtype=torch.float64)
        angles = torch.outer(c, frequencies)
        e = torch.cat([angles.cos(), angles.sin()] if self.adm else [angles.sin(), angles.cos()], dim=1)
        silu = torch.nn.functional.silu
        if self.adm:
            e = self.linear("map_layer1", silu(self.linear("map_layer0", e)))
            return silu(e + self.linear("map_label", hot) if hot is not None else e)
        if hot is not None:
            e = e + self.linear("map_label", hot * math.sqrt(hot.shape[1]))
        return silu(self.linear("map_layer1", silu(self.linear("map_layer0", e))))

    def __call__(self, x, c, hot, *, sizes, depth, encoder="standard", decoder="standard"):
        e, silu = self.embedding(c, hot), torch.nn.functional.silu
        image, side = None, x
        h = self.conv(f"enc.{sizes[0]}x{sizes[0]}_conv", x)
        kept = [h]
        for size in sizes:
            at = f"enc.{size}x{size}"
            if size != sizes[0]:
                h = self.block(f"{at}_down", h, e, "down")
                if encoder == "skip":
                    side = resampled(side, "down", self.taps)
                    h = h + self.conv(f"{at}_aux_skip", side)
                if encoder == "residual":
                    margin = (len(self.taps) - 1) // 2
                    bare = dict.fromkeys([f"{at}_aux_residual.bias"], torch.zeros(h.shape[1], dtype=torch.float64))
                    bias = self.state[f"{at}_aux_residual.bias"]
                    full = Reference({**self.state, **bare}, adm=False).conv(f"{at}_aux_residual", side, 1 + margin)
                    matrix = halving(full.shape[-1], self.taps, margin=0)
                    h = side = (h + matrix @ full @ matrix.T + bias.view(-1, 1, 1)) / math.sqrt(2)
                kept.append(h)
            for index in range(depth):
                h = self.block(f"{at}_block{index}", h, e)
                kept.append(h)
        for size in reversed(sizes):
            at = f"dec.{size}x{size}"
            if size == sizes[-1]:
                h = self.block(f"{at}_in1", self.block(f"{at}_in0", h, e), e)
            else:
                h = self.block(f"{at}_up", h, e, "up")
            for index in range(depth + 1):
                h = self.block(f"{at}_block{index}", torch.cat([h, kept.pop()], dim=1), e)
            if not self.adm and (decoder == "skip" or size == sizes[0]):
                share = self.conv(f"{at}_aux_conv", silu(self.norm(f"{at}_aux_norm", h)))
                image = share if image is None else share + resampled(image, "up", self.taps)
        return image if not self.adm else self.conv("out_conv", silu(self.norm("out_norm", h)))
