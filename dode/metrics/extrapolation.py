"""The Fréchet distance of infinitely many images, from few (Chong & Forsyth 2020, arXiv 1911.07023)."""

import dataclasses
import math

import numpy as np

from dode.metrics.distances import Gaussian, GaussianLike, fid, fid_with_influences

SIZES = 15
FEWEST = 4  # images from which there are subsets of several sizes


@dataclasses.dataclass(frozen=True)
class Extrapolation:
    """The intercept, its standard error from one set of images or None, and the sizes of the subsets it comes from."""

    value: float
    error: float | None
    sizes: list[int]


def fid_infinity(
    features: np.ndarray, reference: GaussianLike, *, seed: int = 0, with_error: bool = True
) -> Extrapolation:
    """Intercept at 1/N = 0 of the least-squares line through the distances of random subsets of N images over 1/N.

    The bias of a Fréchet distance is proportional to 1/N for large N. The N are evenly spaced in 1/N from half of the
    images to all of them, for where there are few images smaller subsets are off the line (docs/scores.md).

    The intercept is a weighted sum of the distances, so that an image's influence on it is the weighted sum of those on
    the distances of the subsets that it is in: this gives the standard error, correlations between subsets included.

    Args:
        features: (n, F), n >= 4, of all images.
        reference: ``(mean, covariance)`` or :class:`Gaussian` of the real images.
        seed: of the subsets.
        with_error: whether the error is wanted, which takes the singular vectors of every subset.
    """
    draw, count = np.random.default_rng(seed), len(features)
    sizes = np.rint(1 / np.linspace(2 / count, 1 / count, SIZES)).astype(int)
    reference = reference if isinstance(reference, Gaussian) else Gaussian.of_moments(*reference)
    inverse = 1 / sizes - np.mean(1 / sizes)
    weights = 1 / len(sizes) - np.mean(1 / sizes) * inverse / np.square(inverse).sum()
    value, influences = 0.0, np.zeros(count)
    for size, weight in zip(sizes, weights, strict=True):
        chosen = draw.choice(count, size, replace=False)
        subset = features[chosen]
        gaussian = Gaussian.of_features(subset)
        if with_error:
            distance, psi = fid_with_influences(subset, gaussian, reference)
            influences[chosen] += weight * psi / size
        else:
            distance = fid(gaussian, reference)
        value += weight * distance
    error = math.hypot(*influences) if with_error else None
    return Extrapolation(float(value), error, sizes.tolist())
