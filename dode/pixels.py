"""The conversion between images in [-1, 1] and stored bytes."""

import numpy as np


def from_bytes(images):
    """uint8 to float32 in [-1, 1]: ``v / 127.5 - 1``."""
    return images.astype(np.float32) / 127.5 - 1


def to_bytes(images):
    """Tensor in [-1, 1] to uint8 (numpy): ``round(127.5 (v + 1))``, clipped. Non-finite values are a ValueError."""
    if not bool(images.isfinite().all()):
        raise ValueError("an image holds NaN or infinity; it is not written")
    return (images.double() + 1).mul_(127.5).round_().clamp_(0, 255).byte().cpu().numpy()
