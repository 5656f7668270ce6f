"""By how much a score moves when its images are computed in another precision, against what a seed's noise does to it.

Both sets of images are made from the same noise, so that what they have in common cancels: a change far below the
score's own error is seen on a few hundred images.
"""

import dataclasses
import math

import numpy as np

from dode.metrics import distances


@dataclasses.dataclass(frozen=True)
class Sample:
    """Images and their features, in the order of the noise that they were made from.

    Attributes:
        ends: end states (n, C, H, W), images in [-1, 1].
        features: of the same images as bytes, (n, F).
    """

    ends: np.ndarray
    features: np.ndarray


@dataclasses.dataclass(frozen=True)
class Score:
    """A score of n images with the influence of each on it, (n,): its error over seeds is ``sd / sqrt(images)``."""

    value: float
    influences: np.ndarray

    def error(self, images: int) -> float:
        """Standard error of the score of so many images (the delta method)."""
        return float(self.influences.std(ddof=1) / math.sqrt(images))


@dataclasses.dataclass(frozen=True)
class Deviation:
    """How a score moves.

    Attributes:
        value: the score as it was.
        change: the score in the other precision less that.
        error: standard error of the change, as measured.
        seed: standard deviation of the score over seeds.
    """

    value: float
    change: float
    error: float
    seed: float

    @property
    def least(self) -> float:
        """``(|change| - 2 error) / seed``, what the change is at least."""
        bound = abs(self.change) - 2 * self.error
        return 0.0 if bound <= 0 else bound / self.seed if self.seed > 0 else math.inf

    @property
    def share(self) -> float:
        """``(|change| + 2 error) / seed``, what the change is at most; infinite where seeds move nothing."""
        bound = abs(self.change) + 2 * self.error
        if not bound:
            return 0.0
        return bound / self.seed if self.seed > 0 else math.inf


def paired_fid(images: Sample, others: Sample) -> Score:
    """The Fréchet distance of images to others from the same noise (:func:`dode.metrics.distances.fid`)."""
    own, other = (distances.Statistics.of([sample.features]).gaussian for sample in (images, others))
    return Score(*distances.fid_with_influences(images.features, own, other, others.features))


def trajectory_rmse(images: Sample, others: Sample) -> Score:
    """The root of the mean squared distance per pixel of end states from the same noise."""
    squared = distances.squared_errors(images.ends, others.ends)
    value = math.sqrt(squared.mean())
    return Score(value, (squared - squared.mean()) / (2 * value) if value else np.zeros_like(squared))


SCORES = {"paired_fid": paired_fid, "trajectory_rmse": trajectory_rmse}


def deviations(before: Sample, after: Sample, others: Sample, of_seed: dict[str, int]) -> dict[str, Deviation]:
    """How the scores of ``before`` against ``others`` move when ``after`` is in its place, by name.

    Args:
        before, after: of the same noise in two precisions.
        others: what both are compared with, of the same noise.
        of_seed: how many images a seed has for each score, whose noise the change is held against.
    """
    found = {}
    for name, score in SCORES.items():
        was, now = score(before, others), score(after, others)
        moved = Score(now.value - was.value, now.influences - was.influences)
        error = moved.error(len(before.ends))
        found[name] = Deviation(was.value, moved.value, error, was.error(of_seed[name]))
    return found


def nearer(ends: np.ndarray, others: np.ndarray, distance: float) -> np.ndarray:
    """End states moved towards others until the share ``distance`` of the way between them is left."""
    return others + distance * (ends - others)
