"""The figure of ablations: the score against what the fit was given, a panel each."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.lines import Line2D

from dode.metrics import spread
from dode.metrics.catalogue import METRICS
from dode.report.figures import scales
from dode.report.figures.style import MARKERS, Paths, legend_below, panels_of, save, styled

NAMES = {
    "substeps": "teacher steps per step S",
    "images": "images in the fitting set",
    "alignment": "alignment",
    "directions": "directions per evaluation m",
    "seed": "seed of the fitting set",
}
_DASHES = ("-", "--", "-.", ":")


@styled
def draw(
    sweeps: list[dict[str, Any]],
    scores: Mapping[str, dict[str, Any]],
    lambdas: Mapping[str, Sequence[Sequence[float]]],
    colors: Mapping[str, Any],
    paths: Paths,
    metric: str = "fid",
) -> None:
    """A panel for each key that is swept; where seeds are, another of how far the coefficients move.

    Args:
        sweeps: from :func:`dode.benchmark.figure_cells.sweeps`.
        scores: ``{name of the cell: metrics of its score.json}``.
        lambdas: ``{name of the cell: its coefficients, (K, m)}``.
        colors: ``{method: colour}``.
        paths: files to write, the format by suffix.
        metric: a key of :data:`dode.metrics.catalogue.METRICS`.
    """
    datasets, nfes = ([*dict.fromkeys(sweep[key] for sweep in sweeps)] for key in ("dataset", "nfe"))
    keys = [key for key in NAMES if any(sweep["key"] == key for sweep in sweeps)]
    seeds = [sweep for sweep in sweeps if sweep["key"] == "seed"]
    figure, axes = panels_of(len(keys) + bool(seeds))
    lines = {}
    for sweep in sweeps:
        line = {
            "color": colors[sweep["method"]],
            "marker": MARKERS[datasets.index(sweep["dataset"]) % len(MARKERS)],
            "linestyle": _DASHES[nfes.index(sweep["nfe"]) % len(_DASHES)],
            "alpha": 1 - 0.5 * (datasets.index(sweep["dataset"]) % 2),
        }
        lines[f"{sweep['dataset']}, {sweep['method']}, NFE {sweep['nfe']}"] = line
        _sweep(axes[keys.index(sweep["key"])], sweep, scores, line, METRICS[metric])
        if sweep["key"] == "seed":
            _spread(axes[-1], [lambdas[name] for _, name in sweep["points"]], line)
    for axis, key in zip(axes, keys, strict=False):
        _finish(axis, [sweep for sweep in sweeps if sweep["key"] == key], key, METRICS[metric])
    if seeds:
        axes[-1].set(title="λ over these seeds", xlabel="evaluation k", yscale="log")
        axes[-1].set_ylabel("sd of λ / largest mean |λ|")
        scales.plain_ticks(axes[-1].yaxis, scales.log_ticks(*axes[-1].get_ylim()))
        axes[-1].xaxis.set_major_locator(ticker.MaxNLocator(8, integer=True))
    legend_below(figure, [Line2D([], [], label=label, **line) for label, line in lines.items()])
    save(figure, paths)


def _text(value):
    return value if isinstance(value, str) else json.dumps(value)


def _numeric(points):
    return all(isinstance(value, int | float) for value, _ in points)


def _sweep(axis, sweep, scores, line, kind):
    points = sorted(sweep["points"], key=lambda p: p[0]) if _numeric(sweep["points"]) else sweep["points"]
    found = [scores[name] for _, name in points]
    values, errors = ([np.nan if e[key] is None else e[key] * kind.scale for e in found] for key in ("value", "error"))
    places = [value for value, _ in points] if _numeric(points) else [_text(value) for value, _ in points]
    joined = {} if sweep["key"] in ("seed", "alignment") else {"linestyle": line["linestyle"]}
    axis.errorbar(
        places, values, yerr=np.nan_to_num(errors), capsize=2, elinewidth=0.8, **{**line, "linestyle": "", **joined}
    )


def _finish(axis, sweeps, key, kind):
    axis.set(title=NAMES[key].split(" per ")[0], xlabel=NAMES[key])
    axis.set_ylabel(kind.axis())
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    scales.plain_ticks(axis.yaxis, scales.log_ticks(low, high))
    values = {value for sweep in sweeps for value, _ in sweep["points"] if isinstance(value, int | float)}
    if values and key in ("substeps", "images"):
        axis.set_xscale("log")
    if values:
        scales.plain_ticks(axis.xaxis, sorted(values))
    else:
        axis.margins(x=0.15)


def _spread(axis, fits, line):
    """How far the first coefficient of each evaluation moves over fits, beside the largest of them."""
    columns = np.array([[row[0] for row in fit] for fit in fits], dtype=float)
    moved, largest = spread.standard_deviation(columns, axis=0), np.abs(columns.mean(axis=0)).max()
    axis.plot(np.where(moved > 0, moved, np.nan) / (largest or 1.0), **line)
