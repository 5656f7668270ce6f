"""EDM's pickles with the weights of a state dict: the tree of persistent objects that its names describe."""

import re

import numpy as np
import torch

from published_files import SOURCE, Loss, dump, persistent, published_modules

# What EDM calls the class of a part, by the part's name; containers are torch's own.
CLASSES = [
    (r"map_\w+|.*\.affine", "Linear"),
    (r".*norm\d?", "GroupNorm"),
    (r".*(_conv|_residual|\.conv\d|\.skip|\.qkv|\.proj)", "Conv2d"),
    (r"(enc|dec)\.\w+", "UNetBlock"),
]
NOISE_EMBEDDINGS = {"positional": "PositionalEmbedding", "fourier": "FourierEmbedding"}
ABSENT = {"Conv2d": ("weight", "bias"), "UNetBlock": ("skip", "norm2", "qkv", "proj")}


def write(path, state, options, *, sentinel, use_fp16=False, changed=None, name="EDMPrecond"):
    """Write the pickle of a network with EDM's preconditioning, as EDM's training does.

    Args:
        path: the file.
        state: ``{name: tensor}`` of the network, without ``model.``.
        options: of :func:`edm_layout.shapes`, recorded as the arguments of the whole.
        sentinel: file that is made if the embedded source code is run.
        use_fp16: that of the preconditioning, which computes so on GPUs; weights are float32 all the same.
        name: class of the preconditioning.
        changed: function of the dictionary about to be pickled, to put something else into it.
    """
    with published_modules() as (reconstruct, EasyDict):
        tree = _Tree(state, options, reconstruct, SOURCE.format(sentinel=sentinel))
        ema = tree.made(name, **_arguments(options), use_fp16=use_fp16)
        ema.sigma_min, ema.sigma_max, ema.sigma_data, ema.use_fp16 = 0, float("inf"), 0.5, use_fp16
        ema.model = tree.network()
        data = {"ema": ema.eval().requires_grad_(False), "loss_fn": tree.made_of(Loss), "augment_pipe": None}
        data["dataset_kwargs"] = EasyDict(path="data.zip", use_labels=bool(options.get("label_dim")), xflip=False)
        if changed is not None:
            changed(data)
        dump(data, path)


def _arguments(options):
    own = {key: value for key, value in options.items() if key not in ("image_size", "channels", "label_dim")}
    image = {"img_resolution": options["image_size"], "img_channels": options["channels"]}
    return {**image, "label_dim": options.get("label_dim", 0), **own, "dropout": 0.13}


class _Tree:
    """Makes the parts of one network."""

    def __init__(self, state, options, reconstruct, source):
        self.state, self.options, self.reconstruct, self.source = state, options, reconstruct, source

    def made_of(self, cls, **arguments):
        return persistent(cls, self.reconstruct, self.source)(**arguments)

    def made(self, name, **arguments):
        """A module of the class ``name`` that records its arguments and has no parts yet."""
        part = self.made_of(type(name, (torch.nn.Module,), {}))
        part._init_kwargs = arguments
        return part

    def network(self):
        network = self.made(self.options["model_type"], **_arguments(self.options))
        noise = self.made(NOISE_EMBEDDINGS[self.options.get("embedding_type", "positional")], num_channels=16)
        network.map_noise, network.map_label, network.map_augment = noise, None, None
        network.enc, network.dec = torch.nn.ModuleDict(), torch.nn.ModuleDict()
        for name, value in self.state.items():
            self.put(network, name, value)
        return network

    def put(self, part, name, value):
        """Put a parameter or buffer at its place, with the parts on the way."""
        *way, last = name.split(".")
        for depth, step in enumerate(way, start=1):
            if step not in part._modules:
                part.__dict__.pop(step, None)  # it was absent
                part.add_module(step, self.part(".".join(way[:depth])))
            part = part._modules[step]
        if last in ("resample_filter", "freqs"):
            part.register_buffer(last, value.clone())
        else:
            part.__dict__.pop(last, None)
            part.register_parameter(last, torch.nn.Parameter(value.clone()))

    def part(self, name):
        kind = next(kind for pattern, kind in CLASSES if re.fullmatch(pattern, name))
        part = self.made(kind, init_weight=np.sqrt(1 / 3), init_mode="kaiming_uniform")
        # A part that a layer does not have is an attribute that is None.
        part.__dict__ |= dict.fromkeys(ABSENT.get(kind, ()))
        if kind == "Conv2d":
            part.register_buffer("resample_filter", None)
        if kind == "UNetBlock":
            part.skip_scale, part.eps, part.adaptive_scale = np.sqrt(0.5), 1e-6, False
        return part
