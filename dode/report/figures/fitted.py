"""Figures of the fits: coefficients and residuals. Each function writes the files in ``paths``, format by suffix."""

import math
import textwrap
from typing import Any

import matplotlib
import numpy as np
import seaborn
from matplotlib import ticker
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dode.metrics.catalogue import PIXELS
from dode.report.figures import scales
from dode.report.figures.style import (
    LOW,
    MARKERS,
    PAGE,
    PANEL,
    Paths,
    columns_of,
    legend_below,
    panels_of,
    save,
    styled,
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
def coefficients(fits: list[dict[str, Any]], paths: Paths) -> None:
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
def residuals(fits: list[dict[str, Any]], paths: Paths) -> None:
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
    stages: dict[str, tuple[str, Any, str | None]] = {
        "rms_before": ("before", "--", "white"),
        "rms_after": ("after", "-", None),
    }
    for axis, own in zip(axes, pairs, strict=False):
        for fit in own:
            for key, (_, dashes, face) in stages.items():
                values = np.array(fit[key], dtype=np.float64)
                values[~(values > 0)] = np.nan  # a distance of zero has no place on a log axis
                line = style[fit["nfe"]]
                axis.plot(values, linestyle=dashes, **line, markerfacecolor=face or line["color"])
        drawn = np.concatenate([line.get_ydata() for line in axis.lines])
        drawn = drawn[np.isfinite(drawn)]
        if len(drawn):
            scales.fit_log(axis, drawn.min(), drawn.max(), 1.3)
        else:
            axis.set_yscale("log")
        _evaluation_axis(axis, own, f"RMS to the teacher,\n{PIXELS}", small)
    _shared_labels(figure, small, f"RMS to the teacher, {PIXELS}")
    lines = [Line2D([], [], label=f"NFE {nfe}", **line) for nfe, line in style.items()]
    for name, dashes, face in stages.values():
        lines.append(
            Line2D([], [], color="0.3", marker="o", linestyle=dashes, markerfacecolor=face or "0.3", label=name)
        )
    legend_below(figure, lines if style else [])
    save(figure, paths)
