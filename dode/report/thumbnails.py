"""Small pictures of a cell for the page: its first samples in one PNG, and its way against the fine solution's."""

import base64
import io

import numpy as np
from PIL import Image
from scipy.interpolate import CubicSpline

from dode import pixels

#: (images, pixels on the longer side) that are tried, from the best: fewer images only where small ones do not fit.
_SIZES = [(16, 64), (16, 48), (16, 32), (12, 32), (8, 32), (4, 32), (4, 24), (2, 24), (1, 16)]
SHOWN = _SIZES[0][0]
ROUNDING = 1e-6  # of float32 states


def sprite(ends, most):
    """The first images of ``ends`` side by side as PNG.

    Args:
        ends: images in [-1, 1], (n, C, H, W), C = 1 or 3.
        most: bytes that the base64 text may have.

    Returns:
        ``{"png": base64, "count": images, "width": ..., "height": ...}``, the size of one image in pixels; large
        images are made smaller, small ones are left as they are.
    """
    images = [Image.fromarray(image.transpose(1, 2, 0).squeeze()) for image in pixels.to_bytes(ends[:SHOWN])]
    for count, size in _SIZES:
        found = _strip(images[:count], size)
        if len(found["png"]) <= most:
            break
    return found


def _strip(images, size):
    scale = min(1.0, size / max(images[0].size))
    width, height = (max(1, round(side * scale)) for side in images[0].size)
    strip = Image.new(images[0].mode, (width * len(images), height))
    for index, image in enumerate(images):
        small = image if scale == 1 else image.resize((width, height), Image.Resampling.LANCZOS)
        strip.paste(small, (index * width, 0))
    file = io.BytesIO()
    strip.save(file, "PNG", optimize=True)
    text = base64.b64encode(file.getvalue()).decode()
    return {"png": text, "count": len(images), "width": width, "height": height}


class Fine:
    """The fine-step solution of a few images as a function of the noise level.

    Between its states the scaled state ``x / sqrt(1 + sigma^2)`` is a cubic spline in ``atan(sigma)``: both are bounded
    from noise to image, and the path is smooth in them. A spline is linear in its values, so it is kept as weights of
    the states: its coefficients for large images would be gigabytes.

    Args:
        sigmas: (L,) noise levels, descending.
        states: (images, L, C, H, W) states at them.
    """

    def __init__(self, sigmas, states):
        self.states, self._scales = states, _scale(sigmas)
        self._cardinal = CubicSpline(np.arctan(sigmas)[::-1], np.eye(len(sigmas))[::-1])
        first = np.asarray(states[0, -1]).ravel()
        #: Where the two pixels are that are drawn, in the flattened first image: its brightest and its darkest.
        self.pixels = [int(first.argmax()), int(first.argmin())]

    def at(self, sigmas):
        """States (len(sigmas), C, H, W) at other noise levels, an image after the other; NaN outside of its own."""
        weights = self._cardinal(np.arctan(sigmas), extrapolate=False) * _scale(sigmas)[:, None] / self._scales
        for states in self.states:
            yield np.tensordot(weights, states, 1)


def _scale(sigmas):
    return np.sqrt(1 + np.square(sigmas))


def trajectory(sigmas, states, fine):
    """How far a cell's states are from the :class:`Fine` solution, and two pixels on their way.

    Returns:
        ``sigmas`` (L,); ``error`` (L,), the root-mean-square difference over all elements of all images, None where
        the fine solution has no such noise level, and where the two are equal but for rounding, as at the start;
        ``pixels``, two lists (L,) of ``x / sqrt(1 + sigma^2)``.
    """
    squares = [np.square(own - other).mean(axis=(1, 2, 3)) for own, other in zip(states, fine.at(sigmas), strict=True)]
    error = np.sqrt(np.mean(squares, axis=0))
    error[error <= ROUNDING * _scale(sigmas)] = np.nan
    ways = (np.asarray(states[0]).reshape(len(sigmas), -1)[:, fine.pixels] / _scale(sigmas)[:, None]).T
    return {
        "sigmas": [float(sigma) for sigma in sigmas],
        "error": [float(f"{each:.4g}") if np.isfinite(each) else None for each in error],
        "pixels": [[round(float(value), 4) for value in way] for way in ways],
    }
