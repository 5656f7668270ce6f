"""Small pictures of a cell for the page: its first samples in one PNG, and its way against the fine solution's."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from dode.images import pixels
from dode.report.fine_solution import Fine, standardised

#: (images, pixels on the longer side) that are tried, from the best: fewer images only where small ones do not fit.
_SIZES = [(16, 64), (16, 48), (16, 32), (12, 32), (8, 32), (4, 32), (4, 24), (2, 24), (1, 16)]
SHOWN = _SIZES[0][0]


def sprite(ends: np.ndarray, most: int) -> dict[str, Any]:
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


def trajectory(sigmas: np.ndarray, states: np.ndarray, fine: Fine) -> dict[str, Any]:
    """How far a cell's states are from the fine solution, and two pixels on their way.

    Args:
        sigmas, states: (L,) and (images, L, C, H, W) of the cell.
        fine: a :class:`dode.report.fine_solution.Fine` of the same images.

    Returns:
        ``sigmas`` (L,); ``error`` (L,), the distances to the fine solution, None where there is none; ``pixels``, two
        lists (L,) of ``x / sqrt(1 + sigma^2)``, where the fine solution's first image is brightest and darkest.
    """
    last = np.asarray(fine.states[0, -1]).ravel()
    flat = standardised(sigmas, states[0])
    return {
        "sigmas": [float(sigma) for sigma in sigmas],
        "error": [float(f"{each:.4g}") if np.isfinite(each) else None for each in fine.distances(sigmas, states)],
        "pixels": [[round(float(value), 4) for value in flat[:, place]] for place in (last.argmax(), last.argmin())],
    }
