"""The figure of costs: what a fit takes beside sampling, and beside the training of a student network."""

import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dode.report import scales
from dode.report.style import PAGE, PANEL, legend_below, paired, save, styled


def seconds(path):
    """Wall-clock seconds in a benchmark file of Snakemake; None where there is none."""
    path = Path(path)
    if not path.is_file():
        return None
    rows = list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))
    return float(rows[-1]["s"]) if rows else None


def sampling_seconds(folder):
    """Seconds of all shards of the latest whole set in ``folder`` (``<shard>-of-<shards>.tsv``); None without one."""
    sets = {}
    for path in Path(folder).glob("*-of-*.tsv"):
        sets.setdefault(int(path.stem.rpartition("-")[2]), []).append(path)
    whole = [paths for count, paths in sets.items() if len(paths) == count]
    if not whole:
        return None
    latest = max(whole, key=lambda paths: max(path.stat().st_mtime for path in paths))
    return sum(filter(None, map(seconds, latest)))


@styled
def draw(cells, rows, style, paths):
    """Left: seconds to fit against seconds to sample, a point a cell; right: evaluations, on a logarithmic scale.

    Args:
        cells: one dict per distilled cell, with method, label, ``fit`` and ``sample`` (seconds), ``evaluations`` (of
            the network, for one image, in the fit).
        rows: from :func:`dode.pictures.published_costs`.
        style: from :func:`dode.report.style.styles`.
        paths: files to write, the format by suffix.
    """
    figure = Figure(figsize=(PAGE, PANEL[1]), layout="constrained")
    left, right = figure.subplots(1, 2)
    shown = set()
    for cell in cells:
        key = cell["method"], cell["label"]
        left.plot(cell["sample"], cell["fit"], **{**style[key], "linestyle": ""})
        shown.add(key)
    left.set(xscale="log", yscale="log", xlabel=f"seconds to sample {_images(cells)} images")
    left.set_ylabel("seconds to fit (teacher and λ)")
    low, high = (end(*left.get_xlim(), *left.get_ylim()) for end in (min, max))
    left.plot([low, high], [low, high], color="0.6", linewidth=0.8, zorder=1)
    left.set(xlim=(low, high), ylim=(low, high), title="wall-clock time, start of jobs included")
    for axis in (left.xaxis, left.yaxis):
        scales.plain_ticks(axis, scales.log_ticks(low, high, most=6))
    _bars(right, [cell["evaluations"] for cell in cells], rows)
    handles = [Line2D([], [], label=key[1], **{**style[key], "linestyle": ""}) for key in paired(shown, style)]
    legend_below(figure, handles)
    save(figure, paths)


def _images(cells):
    counts = sorted({cell["images"] * cell["seeds"] for cell in cells}) or [0]
    return " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))


def _bars(axis, evaluations, rows):
    """What is known of the others: every training image is at least one evaluation (and a backward pass)."""
    names = ["fits of this benchmark", *(f"{row['method']}\n{row['dataset']}" for row in rows)]
    values = [np.median(evaluations), *(row["images"] for row in rows)]
    places = np.arange(len(names))[::-1]
    axis.barh(places, values, color=["#0072B2", *["0.7"] * len(rows)], height=0.6)
    axis.plot([min(evaluations), max(evaluations)], [places[0]] * 2, color="black", marker="|", linewidth=0.8)
    axis.set(xscale="log", yticks=places, title="evaluations in training")
    axis.set_yticklabels(names, fontsize=7)
    axis.set_xlim(min(evaluations) / 10, max(values) * 10)
    axis.set_xlabel("evaluations; grey: training images")
    axis.grid(visible=False, axis="y")
