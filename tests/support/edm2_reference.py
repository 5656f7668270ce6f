"""EDM2's network as plain functions of a state dictionary, from the paper's equations, in float64; and its pickles.

Deliberately nothing like ``dode.models.edm2``: what is normalised is written out, resampling is by hand, and where a
block attends is read from nowhere but the names of the weights.
"""

import math

import torch

from published_files import SOURCE, dump, persistent, published_modules


def shapes(*, size, channels, width, multipliers, depth, attention, classes=0, head=64):
    """``{name: shape}`` of the published state dict of the network."""
    wide, emb = [width * multiplier for multiplier in multipliers], width * max(multipliers)
    found = {"out_gain": (), "emb_fourier.freqs": (wide[0],), "emb_fourier.phases": (wide[0],)}
    found["emb_noise.weight"] = (emb, wide[0])
    if classes:
        found["emb_label.weight"] = (emb, classes)

    def block(name, inputs, outputs, *, decoder, attends):
        found[f"{name}.emb_gain"] = ()
        found[f"{name}.conv_res0.weight"] = (outputs, inputs if decoder else outputs, 3, 3)
        found[f"{name}.emb_linear.weight"] = (outputs, emb)
        found[f"{name}.conv_res1.weight"] = (outputs, outputs, 3, 3)
        if inputs != outputs:
            found[f"{name}.conv_skip.weight"] = (outputs, inputs, 1, 1)
        if attends and outputs >= head:
            found[f"{name}.attn_qkv.weight"] = (3 * outputs, outputs, 1, 1)
            found[f"{name}.attn_proj.weight"] = (outputs, outputs, 1, 1)

    last = len(wide) - 1
    for i, out in enumerate(wide):
        side, above = size >> i, wide[max(i - 1, 0)]
        attends, tag = side in attention, f"{side}x{side}"
        if i:
            block(f"enc.{tag}_down", above, above, decoder=False, attends=False)
        else:
            found[f"enc.{tag}_conv.weight"] = (out, channels + 1, 3, 3)
        for j in range(depth):
            block(f"enc.{tag}_block{j}", out if j else above, out, decoder=False, attends=attends)
        if i == last:
            block(f"dec.{tag}_in0", out, out, decoder=True, attends=True)
            block(f"dec.{tag}_in1", out, out, decoder=True, attends=False)
        else:
            block(f"dec.{tag}_up", wide[i + 1], wide[i + 1], decoder=True, attends=False)
        for j in range(depth + 1):
            below = out if j else wide[min(i + 1, last)]
            skip = out if j < depth else above
            block(f"dec.{tag}_block{j}", below + skip, out, decoder=True, attends=attends)
    found["out_conv.weight"] = (channels, wide[0], 3, 3)
    return found


def random_state(shapes, seed=0):
    """Weights of any magnitude, which does not count, and gains of order one."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * (3 if shape else 0.5) for name, shape in shapes.items()}


class Reference:
    """Args: the state dict, the number of blocks a level and the width of a head."""

    def __init__(self, state, *, depth, head=64):
        self.state = {name: value.double() for name, value in state.items()}
        self.depth, self.head = depth, head

    def layer(self, name, x, gain=1.0):
        weight = self.state[f"{name}.weight"]
        rows = weight.flatten(1)
        root = rows.square().mean(1, keepdim=True).sqrt()
        weight = (rows / (root + 1e-4) * gain / rows.shape[1] ** 0.5).view(weight.shape)
        if weight.ndim == 2:
            return torch.einsum("bi,oi->bo", x, weight)
        return torch.nn.functional.conv2d(x, weight, padding=weight.shape[-1] // 2)

    def block(self, name, x, e, *, decoder):
        if not decoder:
            if f"{name}.conv_skip.weight" in self.state:
                x = self.layer(f"{name}.conv_skip", x)
            x = x / (x.square().mean(1, keepdim=True).sqrt() + 1e-4)
        h = self.layer(f"{name}.conv_res0", silu(x))
        h = h * (1 + self.layer(f"{name}.emb_linear", e, self.state[f"{name}.emb_gain"]))[..., None, None]
        h = self.layer(f"{name}.conv_res1", silu(h))
        if decoder and f"{name}.conv_skip.weight" in self.state:
            x = self.layer(f"{name}.conv_skip", x)
        x = (0.7 * x + 0.3 * h) / math.sqrt(0.58)
        if f"{name}.attn_qkv.weight" in self.state:
            x = (0.7 * x + 0.3 * self.layer(f"{name}.attn_proj", self.attention(name, x))) / math.sqrt(0.58)
        return x.clip(-256, 256)

    def attention(self, name, x):
        width, qkv = x.shape[1], self.layer(f"{name}.attn_qkv", x).flatten(2)
        heads = width // self.head
        size, mixed = width // heads, []
        for head in range(heads):
            own = qkv[:, 3 * size * head : 3 * size * (head + 1)]
            q, k, v = (p / (p.square().mean(1, keepdim=True).sqrt() + 1e-4) for p in (own[:, j::3] for j in range(3)))
            weights = (torch.einsum("bcq,bck->bqk", q, k) / math.sqrt(size)).softmax(2)
            mixed.append(torch.einsum("bqk,bck->bcq", weights, v))
        return torch.cat(mixed, 1).view(x.shape)

    def embedding(self, c, hot):
        angles = c[:, None] * self.state["emb_fourier.freqs"] + self.state["emb_fourier.phases"]
        e = self.layer("emb_noise", 2**0.5 * angles.cos())
        if hot is not None:
            e = (e + self.layer("emb_label", hot * hot.shape[1] ** 0.5)) / 2**0.5
        return silu(e)

    def __call__(self, x, c, hot, sizes):
        """F for images x (B, C, H, W), conditions c (B,) and one-hot classes."""
        e, kept = self.embedding(c, hot), []
        h = self.layer(f"enc.{sizes[0]}x{sizes[0]}_conv", torch.cat([x, torch.ones_like(x[:, :1])], 1))
        kept.append(h)
        for size in sizes:
            if size != sizes[0]:
                h = (h[..., ::2, ::2] + h[..., 1::2, ::2] + h[..., ::2, 1::2] + h[..., 1::2, 1::2]) / 4
                kept.append(h := self.block(f"enc.{size}x{size}_down", h, e, decoder=False))
            for j in range(self.depth):
                kept.append(h := self.block(f"enc.{size}x{size}_block{j}", h, e, decoder=False))
        for size in reversed(sizes):
            if size == sizes[-1]:
                h = self.block(f"dec.{size}x{size}_in0", h, e, decoder=True)
                h = self.block(f"dec.{size}x{size}_in1", h, e, decoder=True)
            else:
                h = h.repeat_interleave(2, -1).repeat_interleave(2, -2)
                h = self.block(f"dec.{size}x{size}_up", h, e, decoder=True)
            for j in range(self.depth + 1):
                skip = kept.pop()
                a, b = h.shape[1], skip.shape[1]
                both = [h * math.sqrt((a + b) / (2 * a)), skip * math.sqrt((a + b) / (2 * b))]
                h = self.block(f"dec.{size}x{size}_block{j}", torch.cat(both, 1), e, decoder=True)
        return self.layer("out_conv", h, self.state["out_gain"])


def silu(x):
    return x / (1 + (-x).exp()) / 0.596


def write(path, state, arguments, *, sentinel):
    """Write a pickle as EDM2 publishes them: the preconditioned network in half precision under ``ema``."""
    with published_modules() as (reconstruct, EasyDict):

        def made(name, **recorded):
            cls = type(name, (torch.nn.Module,), {})
            part = persistent(cls, reconstruct, SOURCE.format(sentinel=sentinel))()
            part._init_kwargs = recorded
            return part

        whole = made("Precond", **arguments)
        whole.sigma_data, whole.use_fp16 = arguments.get("sigma_data", 0.5), True
        own = {f"unet.{name}": value for name, value in state.items()}
        own |= {"logvar_fourier.freqs": torch.randn(4), "logvar_fourier.phases": torch.randn(4)}
        for name, value in (own | {"logvar_linear.weight": torch.randn(1, 4)}).items():
            *way, last = name.split(".")
            part = whole
            for step in way:
                if step not in part._modules:
                    part.add_module(step, torch.nn.ModuleDict() if step in ("enc", "dec") else made("MPConv"))
                part = part._modules[step]
            if last in ("freqs", "phases"):
                part.register_buffer(last, value.half())
            else:
                part.register_parameter(last, torch.nn.Parameter(value.half()))
        dump(EasyDict(ema=whole.eval().requires_grad_(False), dataset_kwargs=EasyDict(use_labels=True)), path)
