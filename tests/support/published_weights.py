"""State dicts of the published kinds with random weights: shapes by name, then numbers."""

import torch


def random_weights(shapes, seed=0):
    """Weights with which a network's activations stay of order one: {name: shape} to {name: tensor}, float32."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) > 1 and not name.startswith(("label_emb", "out.2.positional")):
            noise /= torch.tensor(shape[1:]).prod().sqrt()
        weights[name] = noise if len(shape) > 1 else 0.2 * noise + name.endswith("weight")
    return weights


def linear(name, outputs, inputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def conv(name, outputs, inputs, *kernel):
    return {f"{name}.weight": (outputs, inputs, *kernel), f"{name}.bias": (outputs,)}


def norm(name, channels):
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}
