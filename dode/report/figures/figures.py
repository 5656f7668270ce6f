"""Figures of the fits and of the images. Every function writes the files in ``paths``, the format by suffix."""

import math
import textwrap

import matplotlib
import numpy as np
import seaborn
from matplotlib import ticker
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dode.metrics.catalogue import PIXELS
from dode.report.figures import scales
from dode.report.figures.style import (
    DPI,
    LOW,
    MARKERS,
    PAGE,
    PANEL,
    columns_of,
    legend_below,
    panels_of,
    save,
    styled,
    text_width,
)


def _pairs(fits):
    """Fits by (dataset, solver) in order of appearance, each by ascending NFE."""
    pairs = {}
    for fit in fits:
        pairs.setdefault((fit["dataset"], fit["solver"]), []).append(fit)
    return {pair: sorted(own, key=lambda fit: fit["nfe"]) for pair, own in pairs.items()}


def _nfe_styles(fits):
    """One colour and marker per NFE, light to dark."""
    nfes = sorted({fit["nfe"] for fit in fits})
    colors = seaborn.color_palette("flare", len(nfes))
    return {
        nfe: {"color": c, "marker": MARKERS[i % len(MARKERS)]}
        for i, (nfe, c) in enumerate(zip(nfes, colors, strict=True))
    }


def _evaluation_axis(axis, own, ylabel, small):
    most = max(fit["nfe"] for fit in own)
    title = f"{own[0]['label']}\n{own[0]['dataset']}"
    axis.set(xlabel="evaluation k", ylabel=ylabel)
    if small:  # what all have is written once
        title = textwrap.fill(f"{own[0]['label']}, {own[0]['dataset']}", 24, break_on_hyphens=False)
        axis.set(xlabel="", ylabel=ylabel if ylabel.startswith("λ") else "")
    axis.set_title(title)
    axis.set_xlim(-0.04 * most, most - 1 + 0.04 * most)
    axis.xaxis.set_major_locator(ticker.MaxNLocator(5 if small else 8, integer=True))


def _shared_labels(figure, small, ylabel):
    """What all small panels have, written once; under the lowest of each column, for the legend is below the figure."""
    if small:
        for axis in {axis.get_subplotspec().colspan.start: axis for axis in figure.axes if axis.axison}.values():
            axis.set_xlabel("evaluation k")
        figure.supylabel(ylabel, fontsize=7)


def _count_directions(own):
    return max(len(fit["lambdas"][0]) for fit in own)


_MANY = 12  # pairs of dataset and solver from which on panels are small
_COMPACT = {"font.size": 6, "axes.titlesize": 6.5, "axes.labelsize": 6.5, "xtick.labelsize": 6, "ytick.labelsize": 6}
_COMPACT |= {"lines.linewidth": 0.9, "lines.markersize": 2.5, "xtick.major.pad": 1, "ytick.major.pad": 1}


def _layout(pairs):
    """Columns, size of a panel and changes of the style."""
    if len(pairs) > _MANY:
        return 4, (PAGE / 4, 1.3), _COMPACT
    return columns_of(len(pairs)), (PANEL[0], LOW), {}


def _blocks(pairs):
    """``(row, column, fits, direction)`` of each panel: a pair is one column of as many panels as it has directions."""
    row, most = 0, _layout(pairs)[0]
    # Pairs with the same number of directions stand together: else the grid is full of holes.
    for count in sorted({_count_directions(own) for own in pairs}):
        alike = [own for own in pairs if _count_directions(own) == count]
        for start in range(0, len(alike), most):
            for column, own in enumerate(alike[start : start + most]):
                yield from ((row + direction, column, own, direction) for direction in range(count))
            row += count


@styled
def coefficients(fits, paths):
    """The fitted λ against the evaluation: one panel per dataset and solver, one line per NFE.

    A solver with several directions has one panel for each, one under the other.

    Args:
        fits: one dict per distilled cell, with dataset, solver, label, nfe and ``lambdas`` (K lists of m).
        paths: files to write.
    """
    pairs = list(_pairs(fits).values())
    panels, (_, size, small) = list(_blocks(pairs)), _layout(pairs)
    matplotlib.rcParams.update(small)
    columns, rows = (max((panel[i] for panel in panels), default=0) + 1 for i in (1, 0))
    figure = Figure(figsize=(columns * size[0], rows * size[1]), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    style = _nfe_styles(fits)
    for row, column, own, direction in panels:
        axis = axes[row, column]
        for fit in own:
            values = [found[direction] if direction < len(found) else math.nan for found in fit["lambdas"]]
            axis.plot(range(len(values)), values, **style[fit["nfe"]])
        scales.fit_coefficients(axis)
        name = f"λ, direction {direction + 1}" if _count_directions(own) > 1 else "λ"
        _evaluation_axis(axis, own, f"{name}{', symlog' if axis.get_yscale() == 'symlog' else ''}", small)
    for axis in axes.flat:
        axis.set_axis_off() if not axis.lines else axis.axhline(0.0, color="0.4", linewidth=0.7, zorder=1.5)
    _shared_labels(figure, small, "")
    legend_below(figure, [Line2D([], [], label=f"NFE {nfe}", **line) for nfe, line in style.items()])
    save(figure, paths)


@styled
def residuals(fits, paths):
    """Distance to the teacher before (dashed) and after (solid) the correction of each evaluation, as the fit saw it.

    Args:
        fits: one dict per distilled cell, with dataset, solver, label, nfe, ``rms_before`` and ``rms_after`` (null
            where an evaluation has no target).
        paths: files to write.
    """
    pairs = list(_pairs(fits).values())
    columns, size, small = _layout(pairs)
    matplotlib.rcParams.update(small)
    figure, axes = panels_of(max(len(pairs), 1), size, columns)
    style = _nfe_styles(fits)
    stages = {"rms_before": ("before", "--", "white"), "rms_after": ("after", "-", None)}
    for axis, own in zip(axes, pairs, strict=False):
        for fit in own:
            for key, (_, dashes, face) in stages.items():
                values = np.array(fit[key], dtype=np.float64)
                values[~(values > 0)] = np.nan  # a distance of zero has no place on a log axis
                line = style[fit["nfe"]]
                axis.plot(values, linestyle=dashes, **line, markerfacecolor=face or line["color"])
        drawn = np.concatenate([line.get_ydata() for line in axis.lines])
        drawn = drawn[np.isfinite(drawn)]
        axis.set_yscale("log")
        if len(drawn):
            axis.set_ylim(drawn.min() / 1.3, drawn.max() * 1.3)
            scales.plain_ticks(axis.yaxis, scales.log_ticks(*axis.get_ylim()))
        _evaluation_axis(axis, own, f"RMS to the teacher,\n{PIXELS}", small)
    _shared_labels(figure, small, f"RMS to the teacher, {PIXELS}")
    lines = [Line2D([], [], label=f"NFE {nfe}", **line) for nfe, line in style.items()]
    for name, dashes, face in stages.values():
        lines.append(
            Line2D([], [], color="0.3", marker="o", linestyle=dashes, markerfacecolor=face or "0.3", label=name)
        )
    legend_below(figure, lines if style else [])
    save(figure, paths)


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
                raise ValueError(f"images of unequal size: {tile.shape[:2]} and {rows[0][0].shape[:2]} after scaling")
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
def sample_grid(rows, paths, title=None):
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
def real_images(images, labels, paths, title=None):
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
