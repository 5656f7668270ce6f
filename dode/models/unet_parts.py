"""What the published noise-prediction U-Nets have in common: their levels, the embedding of the index, a check."""

import math
from collections.abc import Iterable, Sequence

import torch


def level_sizes(image_size: int, levels: int, attention_resolutions: Iterable[int]) -> list[int]:
    """Side of the feature maps of each level, in pixels; each level halves it.

    ValueError where the image cannot be halved so often, or where attention is asked for at a size that no level has.
    """
    if image_size % 2 ** (levels - 1):
        raise ValueError(f"image_size {image_size} cannot be halved {levels - 1} times, as {levels} multipliers need")
    sizes = [image_size >> level for level in range(levels)]
    for size in attention_resolutions:
        if size not in sizes:
            raise ValueError(f"attention_resolutions: {size} is not one of this network's {', '.join(map(str, sizes))}")
    return sizes


def sinusoids(index: torch.Tensor, half: int, last: int) -> torch.Tensor:
    """Angles ``index * 10000^(-k / last)``, k = 0..half-1, in float32: (B, half), or (1, half) for a 0-d index."""
    exponents = torch.arange(half, dtype=torch.float32, device=index.device)
    return index.float().reshape(-1, 1) * (exponents * (-math.log(10000) / last)).exp()


def check_images(x: torch.Tensor, image_shape: Sequence[int]) -> None:
    """ValueError where x is not a batch of the images that the network is for: attention would be at other sizes."""
    if tuple(x.shape[1:]) != tuple(image_shape):
        raise ValueError(f"the network takes images of shape {tuple(image_shape)}, not {tuple(x.shape[1:])}")
