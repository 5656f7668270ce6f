"""Fidelity and diversity by nearest neighbours: precision and recall, density and coverage.

Every set of features is replaced by balls: around each feature, as far as its k-th nearest neighbour in the set.

- precision: share of generated images in any real image's ball; recall: share of real images in any generated image's
  ball (Kynkäänniemi et al. 2019, arXiv 1904.06991, Eq. 2 and 3);
- density: in how many real images' balls a generated image is, over k; coverage: share of real images with any
  generated image in their balls (Naeem et al. 2020, arXiv 2002.09797, Eq. 5 and 6).
"""

from collections.abc import Sequence

import numpy as np

_ROWS = 1000  # of a matrix of distances at once


def _squared_distances(first, second):
    """Row blocks of the squared distances (a, b) between features (a, F) and (b, F)."""
    norms = np.square(second).sum(axis=1)
    for start in range(0, len(first), _ROWS):
        part = first[start : start + _ROWS]
        yield start, np.square(part).sum(axis=1)[:, None] + norms - 2 * part @ second.T


def squared_radii(features: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """Squared distance of each feature to its k-th nearest neighbour, itself not counted, for each k: (len(ks), n)."""
    radii, indices = np.empty((len(ks), len(features))), [k - 1 for k in ks]
    for start, block in _squared_distances(features, features):
        rows = np.arange(len(block))
        block[rows, start + rows] = np.inf
        radii[:, start : start + len(block)] = np.partition(block, indices, axis=1)[:, indices].T
    return radii


def per_image(
    real: np.ndarray, generated: np.ndarray, *, precision_recall: int, density_coverage: int
) -> dict[str, np.ndarray]:
    """What each image contributes to the four scores, whose values are the means.

    Args:
        real, generated: features (n, F), more than k of each.
        precision_recall: k of precision and recall.
        density_coverage: k of density and coverage.

    Returns:
        ``{"precision": (generated,), "recall": (real,), "density": (generated,), "coverage": (real,)}``.

    Raises:
        ValueError: where there are not more than k images.
    """
    ks = (precision_recall, density_coverage)
    if min(len(real), len(generated)) <= max(ks):
        raise ValueError(f"{max(ks)} neighbours need more images than {len(real)} real and {len(generated)} generated")
    centre = real.mean(axis=0, dtype=np.float64)  # distances lose fewer digits near the origin
    real, generated = real - centre, generated - centre
    near, wide = squared_radii(real, ks)
    (own,) = squared_radii(generated, ks[:1])
    precision, density = np.empty(len(generated)), np.empty(len(generated))
    recall, coverage = np.zeros(len(real)), np.zeros(len(real))
    for start, block in _squared_distances(generated, real):
        rows = slice(start, start + len(block))
        precision[rows] = (block <= near).any(axis=1)
        recall[(block <= own[rows, None]).any(axis=0)] = 1
        inside = block <= wide
        density[rows] = inside.sum(axis=1) / density_coverage
        coverage[inside.any(axis=0)] = 1
    return {"precision": precision, "recall": recall, "density": density, "coverage": coverage}
