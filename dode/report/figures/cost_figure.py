"""The figure of costs: what a fit takes beside sampling, and beside published trainings of student networks."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dode import storage
from dode.metrics.catalogue import METRICS
from dode.report import costs
from dode.report.figures import scales
from dode.report.figures.style import PAGE, PANEL, Paths, Styles, legend_below, paired, panels_of, save, styled

_ROOM = 1.6  # the axes end so many times above and below the outermost values, so that no marker is cut
_ROW = 0.28  # inches of a row of names in two lines
_GAIN, _ERROR, _PANELS = "paired_fid", "paired_fid_error", 6
_EQUAL: dict[str, Any] = {"color": "0.6", "linewidth": 0.8, "zorder": 1}
_PUBLISHED = {"color": "0.45", "linestyle": "", "marker": "D", "markersize": 5}


def _read(jobs: Iterable[str | Path]) -> list[dict[str, float]]:
    """What the jobs with these files beside their logs took; nothing where one of them has none."""
    files = [Path(job) for job in jobs]
    return [storage.read_json(path) for path in files] if all(path.is_file() for path in files) else []


def seconds(jobs: Iterable[str | Path]) -> tuple[float, list[float]] | None:
    """Seconds that the jobs with these files beside their logs took, and those of each one's start.

    Returns:
        ``(seconds, [seconds of the start, ...])``; None where one of the jobs has no such file.
    """
    found = _read(jobs)
    return (sum(job["seconds"] for job in found), [job["start"] for job in found if "start" in job]) if found else None


def peak_memory(jobs: Iterable[str | Path]) -> float | None:
    """Most memory in MB that one of the jobs with these files beside their logs took; None where it is not known."""
    found = _read(jobs)
    return max(job["memory"] for job in found) if found and all("memory" in job for job in found) else None


def sampling_jobs(folder: str | Path) -> list[Path]:
    """The files of all shards of the latest whole set in ``folder`` (``<shard>-of-<shards>.json``)."""
    sets: dict[int, list[Path]] = {}
    for path in Path(folder).glob("*-of-*.json"):
        sets.setdefault(int(path.stem.rpartition("-")[2]), []).append(path)
    whole = [paths for count, paths in sets.items() if len(paths) == count]
    return max(whole, key=lambda paths: max(path.stat().st_mtime for path in paths), default=[])


def timed(cell: dict[str, Any]) -> dict[str, Any]:
    """A cell with seconds: of its ``fit`` (``seconds`` too) and its ``sample``, None where unknown, and ``starts``.

    And with ``memory``, the most in MB that a job of its fit took.
    """
    fit = seconds(cell["times"]["fit"])
    sample = seconds(sampling_jobs(cell["times"]["sample"]))
    known = {"fit": fit and fit[0], "seconds": fit[0] if fit else None, "sample": sample and sample[0]}
    known["memory"] = peak_memory(cell["times"]["fit"])
    return {**cell, **known, "starts": [start for each in (fit, sample) if each for start in each[1]]}


@styled
def gains(frame: pd.DataFrame, style: Styles, paths: Paths) -> None:
    """Paired FID against what was learnt for it, in evaluations; a panel for each dataset and NFE, or for some.

    Args:
        frame: from :func:`dode.report.costs.frame`. What took no evaluation, as plain solvers,
            stands at the left edge, beyond the axis.
        style: from :func:`dode.report.figures.style.styles`.
        paths: files to write.
    """
    known = frame[np.isfinite(frame[_GAIN]) & (frame[_GAIN] > 0)]
    known = known.assign(work=[costs.work(row) for row in known.itertuples()])
    panels = [
        (dataset, nfe, rows)
        for dataset, own in known.groupby("dataset", sort=False)
        for nfe, rows in list(own.groupby("nfe"))
        if (rows["work"] > 0).any()
    ]
    places = np.linspace(0, len(panels) - 1, min(_PANELS, len(panels)))
    shown = [panels[round(place)] for place in places]
    figure, axes = panels_of(max(len(shown), 1))
    learnt = known[known["work"] > 0]["work"]
    low, high = (learnt.min(), learnt.max()) if len(learnt) else (1, 10)
    for axis, (dataset, nfe, rows) in zip(axes, shown, strict=False):
        for row in rows.itertuples():
            value, error = getattr(row, _GAIN), getattr(row, _ERROR)
            marker = _marker(style[row.method, row.label])
            axis.errorbar(row.work or low / 8, value, error if error > 0 else None, elinewidth=0.8, **marker)
        axis.set(xscale="log", yscale="log", title=f"{dataset}, NFE {nfe}", xlim=(low / 16, high * 3))
        ticks = [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
        ticks = ticks or scales.log_ticks(low, high, most=2)
        axis.set_xticks([low / 8, *ticks], ["none", *(_power(tick, None) for tick in ticks)])
        values = rows[_GAIN].min(), rows[_GAIN].max()
        if values[1] < 10 * values[0]:  # within a decade there may be no power of ten
            scales.plain_ticks(axis.yaxis, scales.log_ticks(*values, most=4) or [values[0]])
        axis.minorticks_off()
        axis.set(xlabel="evaluations to learn it", ylabel=METRICS[_GAIN].axis())
    keys = paired({(row.method, row.label) for _, _, rows in shown for row in rows.itertuples()}, style)
    legend_below(figure, [Line2D([], [], label=key[1], **_marker(style[key])) for key in keys])
    save(figure, paths)


@styled
def draw(cells: list[dict[str, Any]], rows: list[dict[str, Any]], style: Styles, paths: Paths) -> None:
    """Left: seconds to fit against seconds to sample; right: evaluations of the network in a fit; a point a cell.

    Published costs are shown where the benchmark has images of their shape, and nowhere else: an evaluation of another
    network on other images is another cost. Training images stand on the right; hours on other devices, which are no
    measure of seconds here, in a panel of their own below.

    Args:
        cells: one dict per distilled cell, with method, label, ``fit`` and ``sample`` (seconds), ``starts`` (seconds of
            the starts of its jobs, not in these), ``evaluations`` (of the network, in the fit), ``shape`` (C, H, W).
        rows: from :func:`dode.benchmark.published_costs.read`.
        style: from :func:`dode.report.figures.style.styles`.
        paths: files to write, the format by suffix.
    """
    shapes = sorted({tuple(cell["shape"]) for cell in cells}, key=math.prod)
    rows = [row for row in rows if row["image_shape"] in shapes]
    trained = list({(row["method"], row["dataset"], row["images"]): row for row in rows if row["images"]}.values())
    elsewhere = _elsewhere([row for row in rows if row["hours"]])
    heights = [max(PANEL[1], 0.8 + _ROW * (len(shapes) + len(trained)))]
    heights += [0.8 + 0.6 * _ROW * len(elsewhere)] if elsewhere else []
    figure = Figure(figsize=(PAGE, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights).ravel()
    left, right = parts[0].subplots(1, 2)
    keys = paired({(cell["method"], cell["label"]) for cell in cells}, style)
    _times(left, cells, style)
    _evaluations(right, cells, shapes, trained, keys, style)
    if elsewhere:
        _hours(parts[1].subplots(), elsewhere)
    handles = [Line2D([], [], label=key[1], **_marker(style[key])) for key in keys]
    legend_below(figure, [*handles, Line2D([], [], label="fitting takes as long as sampling", **_EQUAL)])
    save(figure, paths)


def _marker(line):
    return {**line, "linestyle": ""}


def _limits(values):
    return min(values, default=1.0) / _ROOM, max(values, default=1.0) * _ROOM


def _times(axis, cells, style):
    for cell in cells:
        axis.plot(cell["sample"], cell["fit"], **_marker(style[cell["method"], cell["label"]]))
    low, high = limits = _limits([cell[key] for cell in cells for key in ("fit", "sample")])
    axis.plot(limits, limits, **_EQUAL)
    axis.set(xscale="log", yscale="log", xlim=limits, ylim=limits, title="wall-clock time")
    starts = [start for cell in cells for start in cell["starts"]]
    besides = f"\nnot counted: {np.median(starts):.1f} s (median) to start a job" if starts else ""
    axis.set_xlabel(f"seconds to sample {_images(cells)} images{besides}")
    axis.set_ylabel("seconds to fit (teacher and λ)")
    for each in (axis.xaxis, axis.yaxis):
        scales.plain_ticks(each, scales.log_ticks(low, high, most=6))


def _images(cells):
    counts = sorted({cell["images"] * cell["seeds"] for cell in cells}) or [0]
    return " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))


def _evaluations(axis, cells, shapes, rows, keys, style):
    """A row for each shape of images, a solver a little above the next, and one for each published training.

    What was learnt without the network, as printed coefficients are, stands at the left edge, beyond the axis.
    """
    names, place = [], 0
    counted = [cell["evaluations"] for cell in cells] + [row["images"] for row in rows]
    low, high = limits = _limits([count for count in counted if count])
    nothing = low / 2
    for shape in shapes:
        names.append(f"fits,\n{_size(shape)}")
        for cell in (cell for cell in cells if tuple(cell["shape"]) == shape):
            shift = (keys.index((cell["method"], cell["label"])) + 0.5) / len(keys) - 0.5
            axis.plot(
                cell["evaluations"] or nothing, place + 0.7 * shift, **_marker(style[cell["method"], cell["label"]])
            )
        for row in (row for row in rows if row["image_shape"] == shape):
            place += 1
            names.append(f"{row['method']},\n{row['dataset']}")
            axis.plot(row["images"], place, **_PUBLISHED)
        place += 1
    if 0 in counted:
        limits = nothing / _ROOM, high
    axis.set(xscale="log", xlim=limits, ylim=(place - 0.5, -0.5), title="network evaluations")
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.grid(visible=False, axis="y")
    ticks = scales.log_ticks(low, high, most=5)
    scales.plain_ticks(axis.xaxis, [nothing, *ticks] if 0 in counted else ticks)
    axis.xaxis.set_major_formatter(lambda tick, place: "none" if tick == nothing else _power(tick, place))
    alone = f"in a fit\nno published training on {' or '.join(map(_size, shapes))} images"
    axis.set_xlabel("in a fit; grey: training images" if rows else alone)


def _elsewhere(rows):
    """Published rows with hours by method, data and device, the cheapest first."""
    found = {}
    for row in rows:
        found.setdefault((row["method"], row["dataset"], row["device"]), []).append(row)
    return dict(sorted(found.items(), key=lambda each: min(row["hours"] for row in each[1])))


def _hours(axis, groups):
    """A line a published method with a point for each of its costs; at its right what was reached for them."""
    for place, rows in enumerate(groups.values()):
        axis.plot([row["hours"] for row in rows], [place] * len(rows), **_PUBLISHED)
    limits = _limits([row["hours"] for rows in groups.values() for row in rows])
    axis.set(xscale="log", xlim=limits, title="published, on other devices: no measure of the seconds above")
    axis.grid(visible=False, axis="y")
    scales.plain_ticks(axis.xaxis, scales.log_ticks(*limits, most=6))
    axis.set_xlabel("hours on the device in brackets, of several added up\nat the right: FID (NFE) of the points")
    names = [f"{method}, {data} ({device})" for method, data, device in groups]
    reached = axis.twinx()
    for side, texts in ((axis, names), (reached, map(_reached, groups.values()))):
        side.set_yticks(range(len(groups)), list(texts), fontsize=7)
        side.set_ylim(len(groups) - 0.4, -0.6)
        side.tick_params(axis="y", length=0)  # a second axis turns the marks of both on
    reached.grid(visible=False)


def _reached(rows):
    """``FID (NFE)`` of published rows, the cheapest first."""
    rows = sorted(rows, key=lambda row: row["hours"])
    return ", ".join(f"{row['fid']} ({row['nfe']})" for row in rows if row["fid"])


def _size(shape):
    return "×".join(map(str, shape))


def _power(value, _):
    digits, exponent = f"{value:.0e}".split("e")
    factor = "" if digits == "1" else rf"{digits} \cdot "
    return f"${factor}10^{{{int(exponent)}}}$"
