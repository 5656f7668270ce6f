"""The fine-step solution of a few images between its steps, and how far others are from it."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline

ROUNDING = 1e-6  # of float32 states


def scale(sigmas: ArrayLike) -> np.ndarray:
    """``sqrt(1 + sigma^2)``, by which a state is divided so that noise and images are of one size."""
    return np.sqrt(1 + np.square(np.asarray(sigmas, dtype=np.float64)))


def standardised(sigmas: np.ndarray, states: np.ndarray) -> np.ndarray:
    """``x / sqrt(1 + sigma^2)`` of the states (L, C, H, W) of one image, flattened: (L, C H W)."""
    return np.asarray(states).reshape(len(sigmas), -1) / scale(sigmas)[:, None]


class Fine:
    """The fine-step solution of a few images as a function of the noise level.

    Between its states the standardised state ``x / sqrt(1 + sigma^2)`` is a cubic spline in ``atan(sigma)``: both are
    bounded from noise to image, and the path is smooth in them. A spline is linear in its values, so it is kept as
    weights of the states: its coefficients for large images would be gigabytes.

    Args:
        sigmas: (L,) noise levels, descending.
        states: (images, L, C, H, W) states at them.
    """

    def __init__(self, sigmas: np.ndarray, states: np.ndarray):
        self.sigmas, self.states = sigmas, states
        self._cardinal = CubicSpline(np.arctan(sigmas)[::-1], np.eye(len(sigmas))[::-1])

    def at(self, sigmas: np.ndarray) -> Iterator[np.ndarray]:
        """States (len(sigmas), C, H, W) at other noise levels, an image after the other; NaN outside of its own."""
        weights = self._cardinal(np.arctan(sigmas), extrapolate=False) * scale(sigmas)[:, None] / scale(self.sigmas)
        for states in self.states:
            yield np.tensordot(weights, states, 1)

    def distances(self, sigmas: np.ndarray, states: np.ndarray) -> np.ndarray:
        """Root-mean-square difference of states (images, len(sigmas), C, H, W) to the solution at each level.

        Over all elements of all images; NaN where the solution has no such noise level, and where the two are equal
        but for rounding, as at the start.
        """
        pairs = zip(states, self.at(sigmas), strict=True)
        found = np.sqrt(np.mean([np.square(own - fine).mean(axis=(1, 2, 3)) for own, fine in pairs], axis=0))
        return np.where(found > ROUNDING * scale(sigmas), found, np.nan)
