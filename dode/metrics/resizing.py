"""Resizing of whole batches to Inception's 299 pixels, equal to clean-fid's resizing image by image."""

import functools

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

SIZE = 299


@functools.cache
def _bicubic(size):
    """Pillow's antialiased bicubic filter as a matrix (299, size): what it makes of every unit impulse."""
    impulses = Image.fromarray(np.eye(size, dtype=np.float32))
    return torch.from_numpy(np.asarray(impulses.resize((SIZE, size), Image.Resampling.BICUBIC)).T.copy())


def clean(images: torch.Tensor) -> torch.Tensor:
    """Mode ``clean`` (Parmar et al. 2022, arXiv 2104.11222): antialiased bicubic, not rounded.

    The filter is separable, so that a batch is resized by two matrix products. Images (B, C, H, W) float32 in [0, 255].
    """
    rows, columns = (_bicubic(size).to(images.device) for size in images.shape[2:])
    return (rows @ images @ columns.T).clamp(0, 255)


def legacy_pytorch(images: torch.Tensor) -> torch.Tensor:
    """Mode ``legacy_pytorch``: bilinear without antialiasing, as torch has it."""
    return functional.interpolate(images, size=(SIZE, SIZE), mode="bilinear", align_corners=False).clamp(0, 255)
