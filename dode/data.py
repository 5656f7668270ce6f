"""Real images by name."""

import numpy as np

from dode.registry import Registry

sources = Registry("data")


@sources.register("digits")
def digits():
    """scikit-learn's handwritten digits: 1,797 real 8x8 grey images (UCI Optical Recognition of Handwritten Digits).

    The 17 grey levels 0..16 become bytes by ``round(255 v / 16)``. Returns images (1797, 1, 8, 8) uint8 and the labels
    (1797,) int64.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8), labels.astype(np.int64)
