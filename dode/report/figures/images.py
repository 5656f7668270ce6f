"""Figures of images: samples and real ones. Every function writes the files in ``paths``, the format by suffix."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from dode.report.figures.style import (
    DPI,
    PAGE,
    Paths,
    save,
    styled,
    text_width,
)

_TILE = 96  # smaller images are enlarged to about this many pixels, 0.48 inch
_GAP = 3
_MARGIN = 12
_LINE = round(8 * 1.35 / 72 * DPI)


def _tile(image):
    """Image (C, H, W) uint8 as (H, W, 3), small ones enlarged by a whole factor so that every pixel stays a square."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[0] not in (1, 3) or image.dtype != np.uint8:
        raise ValueError(f"images must be uint8 (1 or 3, H, W), not {image.dtype} {image.shape}")
    factor = max(1, round(_TILE / max(image.shape[1:])))
    image = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def _mosaic(rows, gaps):
    """Tiles (lists of equally large arrays) on white, ``gaps`` (vertical, horizontal) pixels apart."""
    height, width, _ = rows[0][0].shape
    down, across = height + gaps[0], width + gaps[1]
    columns = max(len(row) for row in rows)
    canvas = np.full((len(rows) * down - gaps[0], columns * across - gaps[1], 3), 255, dtype=np.uint8)
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            if tile.shape != rows[0][0].shape:
                raise ValueError(
                    f"images of different sizes: {tile.shape[:2]} and {rows[0][0].shape[:2]} after scaling"
                )
            canvas[i * down : i * down + height, j * across : j * across + width] = tile
    return canvas


def _text_size(width, labels=()):
    """Points of text that are 8 where a mosaic of ``width`` pixels, with labels beside it, is as wide as a page."""
    beside = min(text_width(labels) / DPI, PAGE / 2)
    return 8 * max(1.0, width / DPI / (PAGE - beside))


def _pixel_figure(canvas, title, size, left=0, right=0, below=0):
    """A figure that shows ``canvas`` one to one at the report's resolution, with room in pixels around it.

    ``size`` is that of the labels in points; the title is a quarter larger.
    """
    height, width, _ = canvas.shape
    top = _MARGIN + (round(1.3 * _LINE * size / 8) if title else 0)
    across = max(left + width + right, text_width([title or ""], size=1.25 * size))
    whole = across + 2 * _MARGIN, top + height + below + _MARGIN
    figure = Figure(figsize=(whole[0] / DPI, whole[1] / DPI), dpi=DPI)
    place = ((_MARGIN + left) / whole[0], (below + _MARGIN) / whole[1], width / whole[0], height / whole[1])
    axis = figure.add_axes(place)
    axis.imshow(canvas, interpolation="nearest", aspect="auto", extent=(0, width, height, 0))
    axis.set_axis_off()
    if title:
        figure.text(_MARGIN / whole[0], 1 - _MARGIN / 2 / whole[1], title, ha="left", va="top", fontsize=1.25 * size)
    return figure, axis


@styled
def sample_grid(rows: Sequence[tuple[str, np.ndarray]], paths: Paths, title: str | None = None) -> None:
    """Samples of several solvers from the same noise, one solver per row, its label to the left.

    Args:
        rows: ``(label, images)``, images uint8 (n, C, H, W) with C = 1 or 3, of one size.
        paths: files to write.
        title: printed above.
    """
    tiles = [[_tile(image) for image in images] for _, images in rows]
    canvas = _mosaic(tiles, (_GAP, _GAP))
    labels = [label for label, _ in rows]
    size = _text_size(canvas.shape[1], labels)
    figure, axis = _pixel_figure(canvas, title, size, left=text_width(labels, size) + _MARGIN)
    height = tiles[0][0].shape[0]
    for i, (label, _) in enumerate(rows):
        middle = i * (height + _GAP) + height / 2
        axis.text(-_MARGIN, middle, label, ha="right", va="center", fontsize=size)
    save(figure, paths)


@styled
def real_images(images: np.ndarray, labels: ArrayLike | None, paths: Paths, title: str | None = None) -> None:
    """Real images in rows of about ten, each with its label below.

    Args:
        images: uint8 (n, C, H, W) with C = 1 or 3.
        labels: one per image, or None.
        paths: files to write.
        title: printed above.
    """
    tiles = [_tile(image) for image in images]
    names = [str(label) for label in np.asarray(labels).tolist()] if labels is not None else []
    height, width, _ = tiles[0].shape
    columns = next((n for n in (10, 8, 9, 6) if len(tiles) % n == 0), min(10, len(tiles)))
    size = _text_size(columns * width)
    line = round(_LINE * size / 8) if names else 0
    gaps = (line + _GAP, max(_GAP, text_width(names, size) + _MARGIN - width))
    canvas = _mosaic([tiles[i : i + columns] for i in range(0, len(tiles), columns)], gaps)
    # A label may be wider than its image and stand out at either end.
    side = (gaps[1] - _GAP) // 2
    figure, axis = _pixel_figure(canvas, title, size, left=side, right=side, below=line)
    for i, name in enumerate(names):
        row, column = divmod(i, columns)
        axis.text(
            column * (width + gaps[1]) + width / 2,
            row * (height + gaps[0]) + height + _GAP,
            name,
            ha="center",
            va="top",
            fontsize=size,
        )
    save(figure, paths)
