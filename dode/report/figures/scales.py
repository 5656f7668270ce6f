"""Scales, ticks and reference lines of the figures' axes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis

from dode.names import HALVES

#: No axis ends further from or closer to zero: what matplotlib computes with its limits must be numbers too.
CLOSEST, FURTHEST = 1e-305, 1e305
#: A linear part of an axis is no smaller beside what is largest.
_SMALLEST_PART = 1e-12


def fit_metric(axis: Axes, cells: pd.DataFrame, levels: pd.DataFrame) -> None:
    """Log scale with plain numbers; linear around zero where a mean is not positive, as an unbiased KID can be."""
    cells = cells[np.isfinite(cells["value"])]
    cells = levels[levels["value"] > 0] if cells.empty else cells
    if cells.empty:
        return
    errors = cells["error"].fillna(0.0)
    low, high = (cells["value"] - errors).min(), (cells["value"] + errors).max()
    positive = cells["value"][cells["value"] > 0]
    if len(positive) < len(cells):
        _symlog(axis, low, high, _decade(positive.median() if len(positive) else 1.0))
        return
    if low <= 0:  # an error bar that reaches zero has no lower end on a log axis
        low = positive.min() / 2
    # A level far below (the KID of real halves is noise around zero) would press the curves together: see draw_levels.
    shown = levels["value"][levels["value"] >= low / 10]
    low, high = min([low, *shown]), max([high, *shown])
    low, high = np.clip([low, high], CLOSEST, FURTHEST)
    fit_log(axis, low, high, 10 ** max(0.05 * (math.log10(high) - math.log10(low)), 0.05 * math.log10(1.2)))


def fit_log(axis: Axes, low: float, high: float, room: float) -> None:
    """Log y axis with plain numbers that ends ``room`` times below ``low`` and above ``high``, all positive."""
    low, high = (float(np.clip(size, CLOSEST, FURTHEST)) for size in (low / room, high * room))
    axis.set_yscale("log")
    axis.set_ylim(low, high)
    plain_ticks(axis.yaxis, log_ticks(low, high))


def log_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Readable numbers on a log axis from ``low`` to ``high``: powers of ten, with 2 and 5 or 3 where there is room."""
    decades = range(*_decades(low, high))
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [d * 10.0**k for k in decades for d in digits if low <= d * 10.0**k <= high]
        if len(ticks) <= most:
            break
    if len(ticks) < 3:
        unit = 10.0 ** _decades(low, high)[0]  # the locator takes what is much smaller than 1 for 0
        even = ticker.MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low / unit, high / unit)
        ticks = [x * unit for x in even if low <= x * unit <= high] or ticks
    return ticks[:: max(math.ceil(len(ticks) / most), 1)]


def _symlog(axis, low, high, threshold):
    """Symmetric log y axis, linear within ``threshold`` of zero, with plain numbers."""
    low, high = np.clip([low, high], -FURTHEST, FURTHEST)
    largest = max(high, -low)
    threshold = float(np.clip(threshold, max(_SMALLEST_PART * largest, CLOSEST), max(largest, CLOSEST)))
    axis.set_yscale("symlog", linthresh=threshold, linscale=0.7)
    scale = axis.yaxis.get_transform()
    ends = scale.transform(np.array([low, high], dtype=float))
    room = 0.08 * max(ends[1] - ends[0], 0.1 * threshold)  # the scale is in units of its linear part
    low, high = scale.inverted().transform(np.array([ends[0] - room, ends[1] + room]))
    axis.set_ylim(low, high)
    ends, ticks = scale.transform(np.array([low, high])), [0.0]
    sizes = [digit * 10.0**k for digit in (1, 5, 2) for k in range(*_decades(threshold, max(high, -low)))]
    # Powers of ten first; what would touch one that is there already is left out.
    for tick in [sign * size for size in sizes for sign in (1, -1)]:
        places = (scale.transform(np.array([tick, *ticks])) - ends[0]) / (ends[1] - ends[0])
        if threshold <= abs(tick) and low <= tick <= high and np.abs(places[1:] - places[0]).min() > 0.09:
            ticks.append(tick)
    plain_ticks(axis.yaxis, sorted(ticks))


def _decade(size):
    return 10.0 ** math.floor(math.log10(np.clip(size, CLOSEST, FURTHEST)))


def _decades(low, high):
    ends = math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1
    return max(ends[0], math.floor(math.log10(CLOSEST))), min(ends[1], math.ceil(math.log10(FURTHEST)) + 1)


def plain_ticks(axis: Axis, ticks: Sequence[float]) -> None:
    axis.set_major_locator(ticker.FixedLocator(ticks))
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x:.6g}".replace("-", "−")))


def label_nfe(axis: Axes, nfes: pd.Series) -> None:
    """Ticks at the NFE there are; of two that would touch, the one that more cells have is labelled."""
    counts = nfes.value_counts()
    if counts.empty:
        return
    if counts.index.max() > 8 * counts.index.min():
        axis.set_xscale("log")
    place = math.log if axis.get_xscale() == "log" else float
    low, high = place(counts.index.min()), place(counts.index.max())
    room = 0.085 * max(high - low, 1e-9)
    labelled: list[int] = []
    for nfe in sorted(counts.index, key=lambda n: (-counts[n], n)):
        if all(abs(place(nfe) - place(other)) >= room for other in labelled):
            labelled.append(nfe)
    plain_ticks(axis.xaxis, sorted(int(nfe) for nfe in labelled))


def level_styles(levels: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """``{name: properties of a Line2D}`` of the real halves and references in ``levels``: thin grey lines."""
    dashes = [(0, (1, 1.5)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1.5)), (0, (8, 2))]
    return {
        name: {
            "color": str(0.15 + 0.15 * (i % 3)),
            "linestyle": dashes[i % len(dashes)],
            "linewidth": 0.9,
            "zorder": 1.5,
        }
        for i, name in enumerate(dict.fromkeys(map(_name, levels.itertuples())))
    }


def draw_levels(axis: Axes, levels: pd.DataFrame, style: Mapping[str, dict[str, Any]]) -> list[str]:
    """Lines for the real halves and the references, which the legend names: a label among the curves would cover some.

    A level below the axis has its value written under the label of the x axis.

    Returns:
        Names of the lines that are drawn.
    """
    drawn, below = [], []
    for row in levels[np.isfinite(levels["value"])].sort_values("value").itertuples():
        name = _name(row)
        if _height(axis, row.value) < 0:
            below.append(f"↓ {name}: {row.value:.2g}".replace("-", "−"))
        else:
            axis.axhline(row.value, **style[name])
            drawn.append(name)
    axis.set_xlabel("\n".join([axis.get_xlabel(), *below]).strip())
    return drawn


def _name(row):
    return row.label if row.solver == HALVES else f"{row.label} (NFE {row.nfe})"


def _height(axis, value):
    """Where ``value`` stands on the y axis: 0 at the lower edge, 1 at the upper; below 0 for what a log axis lacks."""
    if axis.get_yscale() == "log" and value <= 0:
        return -1.0
    scale = axis.yaxis.get_transform()
    low, high, place = scale.transform(np.array([*axis.get_ylim(), value], dtype=float))
    return (place - low) / (high - low)


def fit_coefficients(axis: Axes) -> None:
    """Linear, unless one coefficient would press all others flat."""
    values = np.concatenate([line.get_ydata() for line in axis.lines]).astype(float)
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if len(sizes) and (sizes.max() / 20 > (middle := np.median(sizes)) or sizes.max() > FURTHEST):
        decade = math.ceil(math.log10(np.clip(middle, CLOSEST, FURTHEST)))
        _symlog(axis, np.nanmin(values), np.nanmax(values), 10.0**decade)
