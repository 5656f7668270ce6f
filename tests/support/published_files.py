"""Writers of checkpoints in the published formats, with random weights. Only tests write (and may pickle)."""

import contextlib
import pickle
import sys
import types

import numpy as np
import torch

SOURCE = "open('{sentinel}', 'w').write('the embedded source was run')\nclass EDMPrecond: pass\n"


@contextlib.contextmanager
def published_modules():
    """Modules by the names that EDM's pickles refer to, there only while a file is written."""
    names = ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util")
    modules = {name: types.ModuleType(name) for name in names}

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("reading must not call this")

    class EasyDict(dict):
        """A dictionary whose keys are attributes."""

    for thing, home in ((_reconstruct_persistent_obj, "torch_utils.persistence"), (EasyDict, "dnnlib.util")):
        thing.__module__, thing.__qualname__ = home, thing.__name__
        setattr(modules[home], thing.__name__, thing)
    sys.modules.update(modules)
    try:
        yield modules["torch_utils.persistence"]._reconstruct_persistent_obj, EasyDict
    finally:
        for name in names:
            del sys.modules[name]


def persistent(cls, reconstruct, source):
    """``cls`` as EDM's decorator makes it: pickled as a call with its source and state, its arguments recorded."""

    class Decorated(cls):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._init_args, self._init_kwargs = args, kwargs

        def __reduce__(self):
            meta = {"type": "class", "version": 6, "module_src": source, "class_name": cls.__name__}
            return reconstruct, ({**meta, "state": dict(self.__dict__)},), None

    return Decorated


class Conv2d(torch.nn.Module):
    """A layer with a parameter that is absent and a buffer, as EDM's has."""

    def __init__(self, channels, kernel=3):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(channels, channels, kernel, kernel))
        self.bias = None
        self.register_parameter("absent", None)
        self.register_buffer("resample_filter", torch.full([1, 1, 2, 2], 0.25))
        self.register_buffer("passing", torch.ones(3), persistent=False)
        self.skip_scale = np.sqrt(0.5)


class SongUNet(torch.nn.Module):
    """A network with plain torch containers between persistent layers."""

    def __init__(self, channels, layer):
        super().__init__()
        self.enc = torch.nn.ModuleDict({"32x32_conv": layer(channels), "16x16_down": layer(channels, kernel=1)})
        self.map_label = None


class EDMPrecond(torch.nn.Module):
    """The network behind its preconditioning."""

    def __init__(self, model, sigma_max=float("inf")):
        super().__init__()
        self.sigma_max = sigma_max
        self.model = model


class Loss:
    """A persistent object that is no module."""

    def __init__(self, P_mean=-1.2):
        self.P_mean = P_mean


def edm_pickle(path, sentinel, *, half=False, protocol=4, changed=None):
    """Write a file as EDM's training does; returns the state dict of its ``ema``.

    ``changed``: function of the dictionary about to be pickled, to put something else into it.
    """
    with published_modules() as (reconstruct, EasyDict):
        source = SOURCE.format(sentinel=sentinel)
        layer = persistent(Conv2d, reconstruct, source)
        net = persistent(SongUNet, reconstruct, source)
        outer = persistent(EDMPrecond, reconstruct, source)

        ema = outer(net(4, layer)).eval().requires_grad_(False)
        # Published networks make their parts themselves, by name: only numbers and text are among their arguments.
        ema.model._init_args = ema._init_args = ()
        ema._init_kwargs = EasyDict(
            img_resolution=32, model_type="SongUNet", channel_mult=[2, 2], init_attn={"init_weight": np.sqrt(0.2)}
        )
        if half:
            ema = ema.half()
        data = {"ema": ema, "loss_fn": persistent(Loss, reconstruct, source)(), "augment_pipe": None}
        data["dataset_kwargs"] = EasyDict(path="cifar10.zip", use_labels=True)
        if changed is not None:
            changed(data)
        dump(data, path, protocol)
        return {name: tensor.detach().clone() for name, tensor in ema.state_dict().items()}


def dump(data, path, protocol=4):
    """Write a pickle."""
    with path.open("wb") as file:
        pickle.dump(data, file, protocol=protocol)


def weights(half=False):
    """A small state dict, named as the DDPM and ADM files name theirs."""
    generator = torch.Generator().manual_seed(0)
    kind = torch.float16 if half else torch.float32
    shapes = {"conv_in.weight": (4, 3, 3, 3), "conv_in.bias": (4,), "mid.attn_1.q.weight": (4, 4, 1, 1)}
    found = {name: torch.randn(shape, generator=generator).to(kind) for name, shape in shapes.items()}
    return {**found, "steps": torch.arange(5)}


def ddim_list(state):
    """``[model, optimizer, epoch, step, ema]`` of the DDIM repository, its model under DataParallel."""
    parallel = torch.nn.DataParallel(torch.nn.Linear(3, 2))
    optimizer = torch.optim.Adam(parallel.parameters())
    parallel(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    model = {f"module.{name}": torch.zeros_like(tensor) for name, tensor in state.items()}
    return [model, optimizer.state_dict(), 12, 3456, state]
