"""Figures of a score against NFE. Every function writes the files in ``paths``, the format by suffix."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dode.metrics.catalogue import METRICS
from dode.names import HALVES
from dode.report import CROWD
from dode.report.figures import scales
from dode.report.figures.style import PAGE, Paths, legend_below, paired, panels_of, save, styled, styles

_GREY: dict[str, Any] = {"color": "0.8", "linewidth": 0.7, "marker": ".", "markersize": 2, "zorder": 1.2}
_SMALL, _ENTRY = (
    (3, 1.75),
    0.11,
)  # small panels beside one another; inches of the height of one and of a line of its legend


@styled
def curves(frame: pd.DataFrame, metric: str, paths: Paths) -> None:
    """A metric against NFE, one panel per dataset: plain dashed, distilled solid, error bars as in the table.

    Where there are more than :data:`dode.report.CROWD` solvers, in colour are those of the Pareto front of a dataset
    and the plain solvers that they are distilled from; the others are grey.

    Args:
        frame: from :func:`dode.report.frame.tidy`; colours follow from all of its solvers, whatever the metric.
        metric: a key of :data:`dode.metrics.catalogue.METRICS`.
        paths: files to write.
    """
    style, rows = _style(frame), _scaled(frame, metric)
    datasets = list(rows["dataset"].unique())
    figure, axes = panels_of(max(len(datasets), 1))
    cells = _measured(rows)
    chosen = set(zip(cells["method"], cells["label"], strict=True))
    crowded = len(chosen) > CROWD
    if crowded:
        chosen = _front(cells, METRICS[metric].lower_is_better)
    levels, drawn = scales.level_styles(_fixed(rows)), set()
    for axis, dataset in zip(axes, datasets, strict=False):
        panel = rows[rows["dataset"] == dataset]
        axis.set(title=dataset, xlabel="NFE (network evaluations per image)")
        _panel(axis, panel, metric, style, chosen, _fixed(panel))
        drawn.update(scales.draw_levels(axis, _fixed(panel), levels))
    handles = [Line2D([], [], label=key[1], **style[key]) for key in paired(chosen, style)]
    handles += [Line2D([], [], label="other solvers", **_GREY)] if crowded else []
    legend_below(figure, handles + [Line2D([], [], label=name, **levels[name]) for name in levels if name in drawn])
    save(figure, paths)


@styled
def families(frame: pd.DataFrame, metric: str, dataset: str, paths: Paths) -> None:
    """A metric against NFE on one dataset, a small panel for each method, all other solvers in grey behind it."""
    style, rows = _style(frame), _scaled(frame, metric)
    rows = rows[rows["dataset"] == dataset]
    cells = _measured(rows)
    entries = [
        paired({*zip(own["method"], own["label"], strict=True)}, style)
        for _, own in cells.groupby("method", sort=False)
    ]
    columns = min(_SMALL[0], max(len(entries), 1))
    count = math.ceil(max(len(entries), 1) / columns)
    lines = sum(max(map(len, entries[i : i + columns])) for i in range(0, len(entries), columns))
    height = count * _SMALL[1] + lines * _ENTRY + 0.3
    figure = Figure(figsize=(PAGE, height), layout="constrained")
    axes = figure.subplots(count, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axis, keys in zip(axes, entries, strict=False):
        _panel(axis, rows, metric, style, set(keys), rows[:0])
        axis.set_ylabel("")
        axis.set_title(keys[0][1])
        axis.tick_params(labelbottom=True)
        axis.legend(
            handles=[Line2D([], [], label=key[1], **style[key]) for key in keys],
            fontsize=6,
            loc="upper left",
            bbox_to_anchor=(0, -0.19),  # below the numbers of the axis: on the curves it would cover some
            handlelength=2.2,
            labelspacing=0.2,
            borderaxespad=0,
            frameon=False,
        )
    for spare in axes[len(entries) :]:
        spare.set_axis_off()
    figure.supxlabel("NFE (network evaluations per image)", fontsize=8.5)
    figure.supylabel(METRICS[metric].axis(), fontsize=8.5)
    figure.suptitle(dataset)
    save(figure, paths)


def _style(frame):
    solvers = frame[(frame["solver"] != HALVES) & ~frame["reference"]]
    return styles(solvers[["method", "options", "label", "distilled"]].drop_duplicates().to_dict("records"))


def _scaled(frame, metric):
    rows, scale = frame[frame["metric"] == metric], METRICS[metric].scale
    return rows.assign(value=rows["value"] * scale, error=rows["error"] * scale)


def _measured(rows):
    return rows[(rows["solver"] != HALVES) & ~rows["reference"]]


def _fixed(rows):
    return rows[(rows["solver"] == HALVES) | rows["reference"]]


def _front(cells, lower_is_better):
    """(method, label) of the solvers on some dataset's Pareto front (NFE, score), and of their plain counterparts."""
    front = []
    for _, rows in cells[np.isfinite(cells["value"])].groupby("dataset"):
        best = np.inf
        for _, column in rows.assign(loss=rows["value"] * (1 if lower_is_better else -1)).groupby("nfe"):
            first = column.loc[column["loss"].idxmin()]
            if first["loss"] < best:
                best = first["loss"]
                front.append(first)
    bases = {(row["method"], row["options"]) for row in front}
    plain = cells[~cells["distilled"]].drop_duplicates(["method", "options"])
    partners = {(row.method, row.label) for row in plain.itertuples() if (row.method, row.options) in bases}
    return {(row["method"], row["label"]) for row in front} | partners


def _panel(axis, rows, metric, style, chosen, levels):
    """The curves of ``chosen`` in colour, the others behind them, on an axis that has room for ``levels``."""
    cells = _measured(rows)
    for key, line in cells.groupby(["method", "label"], sort=False):
        if key in chosen:
            _curve(axis, line, style[key])
        else:
            line = line[np.isfinite(line["value"])].sort_values("nfe")
            axis.plot(line["nfe"].astype(float), line["value"], **_GREY)
    scales.fit_metric(axis, cells, levels)
    scales.label_nfe(axis, cells["nfe"])
    kind = METRICS[metric]
    axis.set_ylabel(kind.axis("\n" if kind.unit else " "))


def _curve(axis, line, style):
    line = line[np.isfinite(line["value"])].sort_values("nfe")
    errors = line["error"].fillna(0.0)
    axis.errorbar(
        line["nfe"].astype(float), line["value"], yerr=errors, capsize=2, elinewidth=0.8, markeredgewidth=0.9, **style
    )
