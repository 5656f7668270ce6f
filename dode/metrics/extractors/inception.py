"""TensorFlow's Inception of 2015, the features of published FIDs, as clean-fid has it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dode.metrics import resizing
from dode.metrics.extractors import extractors
from dode.registry import unknown
from dode.weights import safetensors_files


@extractors.register("inception")
def inception(*, card: Mapping[str, Any], checkpoint: str | Path, device: str | torch.device) -> Extraction:
    """The 2,048 features of TensorFlow's Inception of 2015 in clean-fid's three modes, from a fetched checkpoint.

    The card's option ``mode``: ``clean``, antialiased bicubic resizing to 299 pixels before the network; or
    ``legacy_tensorflow``, the resizing within the TorchScript network, as EDM's fid.py has it too; or
    ``legacy_pytorch``, pytorch-fid's port of the weights, bilinear resizing before it. Grey images are repeated over
    three channels.
    """
    mode = card["network"]["options"].get("mode", "clean")
    if mode not in MODES:
        raise ValueError(f"inception features: {unknown('mode', mode, MODES)}")
    return MODES[mode](checkpoint, device)


# On a CPU the activations of a large batch leave the caches, and an image takes longer (benchmarks/README.md).
CPU_BATCH = 8


class Extraction:
    """Features by ``network``, of images (B, 1 or 3, H, W) uint8, which ``resize`` gets as (B, 3, H, W) float32."""

    def __init__(
        self,
        network: torch.nn.Module,
        device: str | torch.device,
        resize: Callable[[torch.Tensor], torch.Tensor] = lambda images: images,
    ):
        network = network.to(device).eval().requires_grad_(False)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device, self.resize = torch.device(device), resize

    def __call__(self, images: np.ndarray) -> torch.Tensor:
        """(B, F)."""
        parts = torch.from_numpy(images).split(CPU_BATCH if self.device.type == "cpu" else len(images))
        return torch.cat([self._features(part.to(self.device)) for part in parts])

    def _features(self, images):
        colour = images.expand(-1, 3, -1, -1).float()
        return self.network(self.resize(colour).contiguous(memory_format=torch.channels_last))


def _script(checkpoint, *, resize_inside):
    """clean-fid's TorchScript network from the file at ``checkpoint``."""
    from cleanfid.inception_torchscript import InceptionV3W

    # clean-fid takes the folder of a file with this very name.
    if Path(checkpoint).name != "inception-2015-12-05.pt":
        raise ValueError(f"clean-fid reads a file named inception-2015-12-05.pt, not {Path(checkpoint).name}")
    return InceptionV3W(str(Path(checkpoint).parent), download=False, resize_inside=resize_inside)


def _clean(checkpoint, device):
    return Extraction(_script(checkpoint, resize_inside=False), device, resizing.clean)


def _legacy_tensorflow(checkpoint, device):
    return Extraction(_script(checkpoint, resize_inside=True), device)


class _Pooled(torch.nn.Module):
    """pytorch-fid's network with bytes in and vectors out."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images / 255)[0].flatten(1)


def _legacy_pytorch(checkpoint, device):
    return Extraction(
        _Pooled(pytorch_inception(safetensors_files.tensors(checkpoint))), device, resizing.legacy_pytorch
    )


MODES = {"clean": _clean, "legacy_tensorflow": _legacy_tensorflow, "legacy_pytorch": _legacy_pytorch}


def pytorch_inception(weights: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """pytorch-fid's network, which clean-fid contains, with these weights (a state dict) instead of downloaded ones."""
    from dode.metrics.reference import inception_pytorch

    with _replaced(inception_pytorch, "load_state_dict_from_url", lambda *_, **__: weights):
        return inception_pytorch.InceptionV3(output_blocks=[3], resize_input=False)


@contextlib.contextmanager
def _replaced(module, name, value):
    """A module's attribute replaced for a while: the only way to give this network its weights from a file."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
