"""The conversion between images in [-1, 1] and stored bytes."""

import numpy as np
from numpy.typing import ArrayLike


def from_bytes(images: np.ndarray) -> np.ndarray:
    """uint8 to float32 in [-1, 1]: ``v / 127.5 - 1``."""
    return images.astype(np.float32) / 127.5 - 1


def to_bytes(images: ArrayLike) -> np.ndarray:
    """Array or CPU tensor in [-1, 1] to uint8: ``round(127.5 (v + 1))``, clipped. ValueError for non-finite values."""
    values = np.asarray(images).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("an image contains NaN or infinity; it is not written")
    return np.clip(np.rint((values + 1) * 127.5), 0, 255).astype(np.uint8)
