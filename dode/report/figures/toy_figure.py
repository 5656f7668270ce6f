"""The picture of every solver on the exact toy (benchmarks/toy.py)."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from matplotlib.lines import Line2D

from dode.report.figures import scales
from dode.report.figures.style import Paths, legend_below, panels_of, save, styled, styles

#: (evaluations, errors) by label.
Curves: TypeAlias = Mapping[str, tuple[Sequence[int], Sequence[float]]]


@styled
def draw(panels: Mapping[str, Curves], best: Curves, paths: Paths) -> None:
    """Error against evaluations, a panel each entry, and a last one of the best.

    Args:
        panels: ``{title: {label: (evaluations, errors)}}``; a label has one style in every panel.
        best: ``{label: (evaluations, errors)}`` of the last panel, whose labels stand in it.
        paths: files to write, the format by suffix.
    """
    labels = list(dict.fromkeys(label for curves in panels.values() for label in curves))
    # A label is a solver's name, and in parentheses its options.
    methods = [label.partition(" (")[0] for label in labels]
    cells = [
        {"method": method, "options": "{}", "label": label, "distilled": True}
        for method, label in zip(methods, labels, strict=True)
    ]
    found = {label: style for (_, label), style in styles(cells).items()}
    for place, label in enumerate(best):
        found[label] = {"color": str(0.6 - 0.3 * place), "marker": ".", "linestyle": ("--", "-.", "-")[place % 3]}
    panels = {**panels, "the best of each kind": best}
    figure, axes = panels_of(len(panels))
    values = np.concatenate([errors for curves in panels.values() for _, errors in curves.values()])
    shown = values[np.isfinite(values) & (values < 1)]
    low, high = shown.min() * 0.85, min(shown.max() * 1.15, 1.0)
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for label, (evaluations, errors) in curves.items():
            axis.plot(evaluations, errors, label=label, **found[label])
        axis.set(title=title, xscale="log", yscale="log", ylim=(low, high))
        axis.set_xlabel("network evaluations (NFE)")
        scales.plain_ticks(axis.xaxis, sorted({n for evaluations, _ in curves.values() for n in evaluations}))
        scales.plain_ticks(axis.yaxis, scales.log_ticks(low, high))
    for axis in axes[::2]:
        axis.set_ylabel("RMSE to the exact solution")
    axes[-1].legend(frameon=False)
    legend_below(figure, [Line2D([], [], label=label, **found[label]) for label in labels])
    save(figure, paths)
