"""Distances between sets of features: Fréchet (FID) and kernel (KID), each with the error of a single block."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from dode.metrics.spread import standard_deviation

# Features kept besides mean and covariance, so that memory does not grow with the number of images.
KEPT_FEATURES = 10_000
# A negative eigenvalue of this share of the largest, or so large an asymmetry, is no rounding, not even of float32.
TOLERANCE = 1e-5
# Of a mean or a covariance. Features are some units large; the squares of their differences must not overflow.
LARGEST = 1e100
_ROWS = 1000  # features at once


def random_rows(total: int, count: int) -> np.ndarray:
    """``count`` of ``total`` rows, or all where there are not so many: ascending, drawn alike every time.

    By a generator whose sequence numpy promises to keep.
    """
    if count >= total:
        return np.arange(total)
    return np.sort(np.random.RandomState(0).permutation(total)[:count])


class Statistics:
    """Mean and covariance of features seen batch by batch (Chan et al. 1983), in float64, and some of the features.

    Args:
        total: how many features there will be. Those that are kept are then a random sample of all
            (:func:`random_rows`), which does not depend on the batches; without it they are the first ones, which are
            a random sample only where the images are independent, as generated ones are, and files sorted by their
            classes are not.
    """

    mean: np.ndarray  # and the scatter matrix: once there is a feature
    _scatter: np.ndarray

    def __init__(self, total: int | None = None):
        self.count = 0
        self._kept: list[np.ndarray] = []
        self._gaussian: Gaussian | None = None
        self._chosen = None if total is None else random_rows(total, KEPT_FEATURES)

    def add(self, features: np.ndarray) -> None:
        """Take in (b, F) float64.

        Raises:
            ValueError: where one is no number, or beyond float32, in which some of them are kept.
        """
        if not np.abs(features).max(initial=0) <= np.finfo(np.float32).max:
            raise ValueError("the features of an image contain NaN, infinity or numbers beyond float32")
        batch = Statistics()
        batch.count, batch.mean = len(features), features.mean(axis=0)
        centred = features - batch.mean
        batch._scatter, batch._kept = centred.T @ centred, [features[self._rows(len(features))]]
        self.merge(batch)

    def _rows(self, count):
        """Which of the next ``count`` features are kept, as far as there is room."""
        if self._chosen is None:
            return slice(None)
        first, last = np.searchsorted(self._chosen, (self.count, self.count + count))
        return self._chosen[first:last] - self.count

    def merge(self, other: Statistics) -> None:
        """Take in all that ``other`` has seen, as if it had been added here after what is here already.

        Of the features that ``other`` kept, as many are kept here as there is room for.

        ``M = M_1 + M_2 + (mu_2 - mu_1)(mu_2 - mu_1)^T n_1 n_2 / (n_1 + n_2)`` for the scatter matrices M.
        """
        self._gaussian = None
        for part in other._kept:
            room = KEPT_FEATURES - sum(map(len, self._kept))
            if room > 0:
                self._kept.append(part[:room].astype(np.float32))
        if not other.count:
            return
        if not self.count:
            self.count, self.mean, self._scatter = other.count, other.mean.copy(), other._scatter.copy()
            return
        total, shift = self.count + other.count, other.mean - self.mean
        self._scatter += other._scatter + np.outer(shift, shift) * (self.count * other.count / total)
        self.mean = self.mean + shift * (other.count / total)
        self.count = total

    @classmethod
    def of(cls, batches: Iterable[np.ndarray], total: int | None = None) -> Statistics:
        """Statistics of an iterable of batches."""
        statistics = cls(total)
        for batch in batches:
            statistics.add(batch)
        return statistics

    @property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """``(mean, covariance)``."""
        return self.mean, self.covariance

    @property
    def covariance(self) -> np.ndarray:
        """(F, F), divided by count - 1."""
        return self._scatter / (self.count - 1)

    @property
    def gaussian(self) -> Gaussian:
        """The :class:`Gaussian` of these moments; of fewer images than features by the cheaper thin factor.

        Kept until more is taken in.
        """
        if self._gaussian is None:
            thin = sum(map(len, self._kept)) == self.count < len(self.mean)
            self._gaussian = Gaussian.of_features(self.features) if thin else Gaussian.of_moments(*self.moments)
        return self._gaussian

    @property
    def features(self) -> np.ndarray:
        """The kept features, (n, F) float32."""
        return np.concatenate(self._kept)


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """A normal distribution by its mean (F,), a factor A (F, r) of its covariance ``A A^T``, and its total variance."""

    mean: np.ndarray
    factor: np.ndarray
    variance: float

    @classmethod
    def of_moments(cls, mean: np.ndarray, covariance: np.ndarray) -> Gaussian:
        """From mean and covariance, singular or not.

        Directions whose variance is below the rounding of the largest are left out of the factor: their square roots
        would be noise.

        Raises:
            ValueError: for an invalid covariance: not square, not finite, not symmetric, or with a negative eigenvalue
                beyond rounding; or for entries beyond :data:`LARGEST`.
        """
        mean, covariance = np.atleast_1d(mean).astype(np.float64), np.atleast_2d(covariance).astype(np.float64)
        if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
            raise ValueError(f"a mean {mean.shape} and a covariance {covariance.shape} do not match")
        if not np.isfinite(mean).all() or not np.isfinite(covariance).all():
            raise ValueError("the mean or the covariance contains NaN or infinity")
        if max(np.abs(mean).max(initial=0), np.abs(covariance).max(initial=0)) > LARGEST:
            raise ValueError(
                f"the mean or the covariance has entries beyond {LARGEST:g}, whose distances are no numbers"
            )
        asymmetry, largest = np.abs(covariance - covariance.T).max(), np.abs(covariance).max()
        if asymmetry > TOLERANCE * largest:
            raise ValueError(f"not a covariance: entries differ from their mirror images by {asymmetry:.3g}")
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        if values[0] < -TOLERANCE * abs(values).max():
            raise ValueError(f"not a covariance: its eigenvalues range from {values[0]:.3g} to {values[-1]:.3g}")
        kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
        return cls(mean, vectors[:, kept] * np.sqrt(values[kept]), float(np.trace(covariance)))

    @classmethod
    def of_features(cls, features: np.ndarray) -> Gaussian:
        """From features (n, F), n >= 2; of fewer than F the factor is the features themselves, centred."""
        features = np.asarray(features, np.float64)
        mean = features.mean(axis=0)
        factor = (features - mean).T / np.sqrt(len(features) - 1)
        return cls(mean, factor, float(np.square(factor).sum()))


def _gaussian(moments):
    return moments if isinstance(moments, Gaussian) else Gaussian.of_moments(*moments)


#: A normal distribution, or its mean (F,) and covariance (F, F).
GaussianLike: TypeAlias = Gaussian | tuple[np.ndarray, np.ndarray]


def fid(first: GaussianLike, second: GaussianLike) -> float:
    """Fréchet distance ``|mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))`` (Heusel et al. 2017, arXiv 1706.08500).

    With ``S = A A^T`` the trace of the root is the sum of the singular values of ``A_1^T A_2``: no root of a product
    that is not symmetric, nothing added to a singular covariance, and no imaginary part.

    Args:
        first, second: ``(mean (F,), covariance (F, F))``, or a :class:`Gaussian`.

    Raises:
        ValueError: for an invalid covariance, or if the two are of different features.
    """
    one, other = _gaussian(first), _gaussian(second)
    return _frechet(one, other, np.linalg.svd(_overlap(one, other), compute_uv=False))


def _overlap(first, second):
    if first.mean.shape != second.mean.shape:
        raise ValueError(f"{len(first.mean)} features per image cannot be compared with {len(second.mean)}")
    return first.factor.T @ second.factor


def _frechet(first, second, singular):
    variance = first.variance + second.variance
    distance = np.square(first.mean - second.mean).sum() + variance - 2 * singular.sum()
    # Of equal sets rounding alone is left, of either sign.
    return 0.0 if distance < len(first.mean) * np.finfo(np.float64).eps * variance else float(distance)


def fid_with_influences(
    features: np.ndarray, first: GaussianLike, second: GaussianLike, partners: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """The Fréchet distance and the influence of single images on it (Hampel 1974).

    The influence is the derivative of the distance when the share of one image among those of ``first`` grows. With
    the optimal map ``T = A_2 (A_2^T S_1 A_2)^(-1/2) A_2^T`` between the two normal distributions,
    ``psi(x) = 2 (mu_1 - mu_2)^T (x - mu_1) + (x - mu_1)^T (1 - T) (x - mu_1) - tr((1 - T) S_1)``. The distance of n
    images has the standard error ``sd(psi) / sqrt(n)`` (the delta method).

    Where each image of ``second`` has a partner in ``first`` and both are drawn together, the influence of the pair is
    the sum of the two, that of the partner with the roles exchanged.

    Args:
        features: (m, F), all or some of those that ``first`` is made of.
        first, second: as for :func:`fid`.
        partners: (m, F), the partners of ``features``, of which ``second`` is made; None where ``second`` is fixed.

    Returns:
        ``(distance, psi (m,))``.
    """
    one, other = _gaussian(first), _gaussian(second)
    left, singular, right = np.linalg.svd(_overlap(one, other), full_matrices=False)
    kept = singular > len(one.mean) * np.finfo(np.float64).eps * singular.max(initial=0)
    roots, lost = np.sqrt(singular[kept]), singular.sum()
    psi = _influences(features, one, other, other.factor @ (right[kept].T / roots), lost)
    if partners is not None:
        psi += _influences(partners, other, one, one.factor @ (left[:, kept] / roots), lost)
    return _frechet(one, other, singular), psi


def _influences(features, own, other, transport, overlap):
    """Those of images of ``own``, with ``T = transport transport^T`` and ``overlap = tr(T S)``."""
    psi = []
    for start in range(0, len(features), _ROWS):
        centred = features[start : start + _ROWS].astype(np.float64) - own.mean
        linear = 2 * centred @ (own.mean - other.mean)
        psi.append(linear + np.square(centred).sum(axis=1) - np.square(centred @ transport).sum(axis=1))
    return np.concatenate(psi) - own.variance + overlap


def kid(real: np.ndarray, generated: np.ndarray, **options: Any) -> float:
    """Kernel distance: the mean of :func:`kid_of_subsets`."""
    return float(kid_of_subsets(real, generated, **options).mean())


def kid_of_subsets(
    real: np.ndarray, generated: np.ndarray, *, subsets: int, subset_size: int, seed: int = 0
) -> np.ndarray:
    """Squared maximum mean discrepancy, unbiased, under the kernel ``(x.y / F + 1)^3``, of each of random subsets.

    Binkowski et al. 2018, arXiv 1801.01401, Eq. 4.

    Args:
        real, generated: features (n, F).
        subsets: how many.
        subset_size: images of each kind in a subset, fewer where there are not so many; at least 2.
        seed: of the subsets. They are those that clean-fid draws after ``np.random.seed(seed)``, whose sequence numpy
            promises to keep, from a generator of their own.

    Raises:
        ValueError: for subsets of fewer than two images, which have no unbiased estimate, or for no subset.
    """
    draw = np.random.RandomState(seed)
    size = min(len(real), len(generated), subset_size)
    if size < 2 or subsets < 1:
        raise ValueError(
            f"KID needs at least one subset of at least 2 images, not {subsets} of {size} (subset_size "
            f"{subset_size}, {len(real)} real and {len(generated)} generated images)"
        )
    values = []
    for _ in range(subsets):
        chosen = [features[draw.choice(len(features), size, replace=False)] for features in (generated, real)]
        values.append(_squared_discrepancy(*(features.astype(np.float64) for features in chosen)))
    return np.array(values)


def _squared_discrepancy(x, y):
    size, width = x.shape
    within = sum(kernel.sum() - np.trace(kernel) for kernel in ((z @ z.T / width + 1) ** 3 for z in (x, y)))
    return within / (size * (size - 1)) - 2 * ((x @ y.T / width + 1) ** 3).mean()


def kid_error(values: np.ndarray, size: int, count: int) -> float:
    """Standard error of the mean of S subsets' values: ``s sqrt(1/S + m / (n - m))``.

    The subsets are drawn from the same n images, so that more of them do not take the images' own error away. s is the
    spread of the values given the images. The variance over sets of images is at most the share m/n of that of one
    subset, for n times the variance of a U-statistic never grows with n (Hoeffding 1948, Theorem 5.2).

    Args:
        values: (S,), from :func:`kid_of_subsets`.
        size: images m of a subset.
        count: images n that the subsets are drawn from, of the smaller set.

    Returns:
        NaN for one subset, or for subsets of everything.
    """
    if len(values) < 2 or count <= size:
        return float("nan")
    return float(standard_deviation(values) * np.sqrt(1 / len(values) + size / (count - size)))


def squared_errors(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mean squared difference of each image's elements, (n,) float64, for two arrays (n, ...)."""
    found = []
    for start in range(0, len(first), _ROWS):
        pair = (np.asarray(images[start : start + _ROWS], np.float64) for images in (first, second))
        difference = np.subtract(*pair)
        found.append(np.square(difference).reshape(len(difference), -1).mean(axis=1))
    return np.concatenate(found)


def psnr(squared: ArrayLike, peak: float = 2.0) -> np.ndarray:
    """Peak signal-to-noise ratio ``10 log10(peak^2 / mse)`` of each image in decibels.

    Args:
        squared: mean squared errors, from :func:`squared_errors`.
        peak: range of a pixel, 2 for images in [-1, 1].

    Returns:
        Infinite where images are equal.
    """
    with np.errstate(divide="ignore"):
        return 10 * np.log10(peak**2 / np.asarray(squared))
