"""Distances between sets of features: Fréchet (FID) and kernel (KID), by clean-fid's own functions."""

import numpy as np

# Features kept for the kernel distance, so that memory does not grow with the number of images.
KEPT_FEATURES = 10_000


class Statistics:
    """Mean and covariance of features seen batch by batch (Chan et al. 1983), and the first of them for KID."""

    def __init__(self):
        self.count, self.mean, self._scatter, self._kept = 0, None, None, []

    def add(self, features):
        """Take in (b, F) float64."""
        mean = features.mean(axis=0)
        centred = features - mean
        scatter = centred.T @ centred
        kept = sum(map(len, self._kept))
        if kept < KEPT_FEATURES:
            self._kept.append(features[: KEPT_FEATURES - kept].astype(np.float32))
        if self.mean is None:
            self.count, self.mean, self._scatter = len(features), mean, scatter
            return
        total, shift = self.count + len(features), mean - self.mean
        self._scatter += scatter + np.outer(shift, shift) * (self.count * len(features) / total)
        self.mean = self.mean + shift * (len(features) / total)
        self.count = total

    @classmethod
    def of(cls, batches):
        """Statistics of an iterable of batches."""
        statistics = cls()
        for batch in batches:
            statistics.add(batch)
        return statistics

    @property
    def moments(self):
        """``(mean, covariance)``."""
        return self.mean, self.covariance

    @property
    def covariance(self):
        """(F, F), divided by count - 1."""
        return self._scatter / (self.count - 1)

    @property
    def features(self):
        """The kept features, (n, F) float32."""
        return np.concatenate(self._kept)


def fid(first, second):
    """Fréchet distance ``|mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))`` (Heusel et al. 2017, arXiv 1706.08500).

    Args:
        first, second: ``(mean (F,), covariance (F, F))``.
    """
    from dode.metrics.reference import frechet_distance  # a second to import, which statistics alone do not need

    return float(frechet_distance(*first, *second))


def kid(real, generated, *, subsets, subset_size, seed=0):
    """Squared maximum mean discrepancy under a cubic kernel, mean over random subsets.

    Binkowski et al. 2018, arXiv 1801.01401.

    ``real`` and ``generated`` are features (n, F). clean-fid draws its subsets from numpy's global generator: it is
    seeded here and put back afterwards.
    """
    from dode.metrics.reference import kernel_distance

    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        return kernel_distance(real, generated, num_subsets=subsets, max_subset_size=subset_size)
    finally:
        np.random.set_state(state)  # noqa: NPY002


def rmse(first, second):
    """Root-mean-square difference per element; images in [-1, 1]."""
    return float(np.sqrt(np.mean(np.square(np.asarray(first, np.float64) - np.asarray(second, np.float64)))))
