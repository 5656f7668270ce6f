"""How alike decoded images are, one by one: the pixels of a cell's images against those of its fine solution."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from dode.metrics import distances, scores

WINDOW = 11  # pixels: Wang's Gaussian window, which ends at 3.5 standard deviations of 1.5 pixels


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Structural similarity of two images, 1 where they are equal (Wang et al. 2004, IEEE TIP 13(4), Eq. 13).

    ``(2 m_x m_y + C_1) (2 s_xy + C_2) / ((m_x^2 + m_y^2 + C_1) (s_x^2 + s_y^2 + C_2))`` with the paper's constants
    ``C_1 = (0.01 L)^2``, ``C_2 = (0.03 L)^2`` and its Gaussian window; the mean over channels and over all windows that
    lie in the image.

    Args:
        first, second: images (C, H, W) in [-1, 1], so that L is 2; H and W at least :data:`WINDOW`.

    Returns:
        A number from -1 to 1.
    """
    from skimage.metrics import structural_similarity

    window = {"gaussian_weights": True, "sigma": 1.5, "win_size": WINDOW, "use_sample_covariance": False}
    return float(structural_similarity(first, second, channel_axis=0, data_range=scores.PEAK, **window))


def of_decoded(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """``decoded_psnr`` and ``decoded_ssim`` of decoded images and those of the fine solution, by name.

    A decoder goes a little beyond [-1, 1]; what is compared is what is shown, and so clipped to it.

    Args:
        pairs: of each seed block the images of both (n, C, H, W), which may be mapped from disk.

    Returns:
        Without ``decoded_ssim`` for images smaller than its window.
    """
    ratios, similarities = [], []
    for pair in pairs:
        found = np.array([_both(*images) for images in zip(*pair, strict=True)])
        ratios.append(distances.psnr(found[:, 0], scores.PEAK))
        similarities.append(found[:, 1])
    return scores.decoded(ratios, None if np.isnan(similarities[0]).all() else similarities)


def _both(*images):
    """Squared error and structural similarity of two images; NaN for that of small ones."""
    first, second = (np.clip(image, -1, 1).astype(np.float64) for image in images)
    error = distances.squared_errors(first[None], second[None])[0]
    return error, ssim(first, second) if min(first.shape[1:]) >= WINDOW else np.nan
