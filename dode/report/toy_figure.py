"""The picture of every solver on the exact toy (benchmarks/toy.py)."""

import numpy as np
from matplotlib.lines import Line2D

from dode.report import scales
from dode.report.style import legend_below, panels_of, save, styled, styles


@styled
def draw(panels, paths):
    """Error against evaluations, a panel each entry.

    Args:
        panels: ``{title: {(method, label): (evaluations, errors)}}``; a curve has one style in every panel.
        paths: files to write, the format by suffix.
    """
    keys = list(dict.fromkeys(key for curves in panels.values() for key in curves))
    found = styles([(method, label, True) for method, label in keys])
    figure, axes = panels_of(len(panels))
    values = np.concatenate([errors for curves in panels.values() for _, errors in curves.values()])
    shown = values[np.isfinite(values) & (values < 1)]
    low, high = shown.min() * 0.85, min(shown.max() * 1.15, 1.0)
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for key, (evaluations, errors) in curves.items():
            axis.plot(evaluations, errors, **found[key])
        axis.set(title=title, xscale="log", yscale="log", ylim=(low, high))
        axis.set_xlabel("network evaluations (NFE)")
        scales.plain_ticks(axis.xaxis, sorted({n for evaluations, _ in curves.values() for n in evaluations}))
        scales.plain_ticks(axis.yaxis, scales.log_ticks(low, high))
    axes[0].set_ylabel("RMSE to the exact solution")
    legend_below(figure, [Line2D([], [], label=label, **found[method, label]) for method, label in keys])
    save(figure, paths)
