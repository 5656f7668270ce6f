"""Figures of joint fits: where a solver steps, and what its states are made of."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dode.report import CROWD
from dode.report.figures.style import PAGE, PANEL, Paths, columns_of, legend_below, panels_of, save, styled

_ROW = 0.24  # inches per fit in the figure of levels
_ROWS = 32  # fits of a dataset in it
_SMALLEST = 0.06  # weights with less are not written out
_LARGEST = 100  # those with more have an exponent


def _titled(fit):
    return f"{fit['label']}, NFE {fit['nfe']}"


def shown(fits: list[dict[str, Any]], most: int = CROWD) -> list[dict[str, Any]]:
    """The fits that a figure has room for: of more than ``most``, those of this project, and of them the first."""
    if len(fits) <= most:
        return fits
    return ([fit for fit in fits if fit["rungs"]] or fits)[:most]


@styled
def levels(fits: list[dict[str, Any]], paths: Paths) -> None:
    """The noise level that the network is told at each evaluation, a row per fit and a panel per dataset.

    Args:
        fits: one dict per joint fit, with dataset, label, nfe, and of its file ``given`` and ``levels`` (the grids
            before and after) and ``told`` (null where the network is told the solver's own levels, which may repeat).
        paths: files to write.
    """
    datasets = list(dict.fromkeys(fit["dataset"] for fit in fits))
    fits = [fit for name in datasets for fit in shown([each for each in fits if each["dataset"] == name], _ROWS)]
    most = max((sum(fit["dataset"] == name for fit in fits) for name in datasets), default=1)
    figure, axes = panels_of(max(len(datasets), 1), (PANEL[0], 0.8 + _ROW * most), columns_of(len(datasets)))
    drawn: dict[str, dict[str, Any]] = {
        "given grid": {"marker": "|", "markersize": 7, "color": "0.6"},
        "fitted": {"marker": "o", "markersize": 3.5, "color": "C0"},
    }
    given_as, fitted_as = ({"linestyle": "none", **style} for style in drawn.values())
    for axis, name in zip(axes, datasets, strict=False):
        own = sorted((fit for fit in fits if fit["dataset"] == name), key=lambda fit: (fit["label"], fit["nfe"]))
        for row, fit in enumerate(own):
            fitted = fit["told"] or [level for level in fit["levels"] if level > 0]
            given = [level for level in fit["given"] if level > 0]
            axis.plot(given, [row] * len(given), **given_as)
            axis.plot(fitted, [row] * len(fitted), **fitted_as)
        axis.set_yticks(range(len(own)), [_titled(fit) for fit in own])
        axis.set_ylim(len(own) - 0.5, -0.5)
        axis.set_xscale("log")
        axis.invert_xaxis()
        axis.set(xlabel="noise level σ that the network is told", title=name)
        axis.grid(axis="y", visible=False)
    legend_below(figure, [Line2D([], [], linestyle="none", label=label, **style) for label, style in drawn.items()])
    save(figure, paths)


@styled
def weights(fits: list[dict[str, Any]], paths: Paths) -> None:
    """The coefficients of fits of the general form, a panel per fit: a row per state, the last of them the image.

    The column of the noise is in units of the level that the network is told at that state.

    Args:
        fits: one dict per joint fit, with dataset, label, nfe, and of its file ``coefficients`` (null for other
            families), ``told`` and ``levels``.
        paths: files to write.
    """
    general = shown([fit for fit in fits if fit["coefficients"] is not None])
    columns = min(max(len(general), 1), 3)
    rows = -(-max(len(general), 1) // columns)
    figure = Figure(figsize=(PAGE * columns / 3, 2.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, fit in zip(axes, general, strict=False):
        _matrix(axis, fit)
    for axis in list(figure.axes)[len(general) :]:
        axis.set_axis_off()
    if not general:
        axes[0].text(0.5, 0.5, "No fit kept the general form.", ha="center", va="center")
    save(figure, paths)


def _matrix(axis, fit):
    """One matrix with its numbers, as far as they are not next to nothing."""
    values = np.array(fit["coefficients"], dtype=np.float64)
    scale = np.array([*(fit["told"] or fit["levels"][:-1]), 1.0])
    values[:, 0] /= scale
    count = len(values)
    values[np.triu_indices(count, 1)] = np.nan
    axis.imshow(values, cmap="RdBu_r", vmin=-1.5, vmax=1.5, aspect="auto")
    size = 6 if count <= 7 else 4
    for row, column in zip(*np.tril_indices(count), strict=True):
        value = values[row, column]
        if abs(value) > _SMALLEST:
            color = "white" if abs(value) > 1 else "0.1"
            text = f"{value:.1f}" if abs(value) < _LARGEST else f"{value:.0e}"
            axis.text(column, row, text, ha="center", va="center", fontsize=size, color=color)
    axis.set_xticks(range(count), ["n", *(f"$D_{{{index}}}$" for index in range(count - 1))])
    axis.set_yticks(range(count), [*(f"$x_{{{index}}}$" for index in range(count - 1)), "image"])
    axis.set_title(f"{_titled(fit)}\n{fit['dataset']}", fontsize=7)
    axis.tick_params(length=0, labelsize=6)
    axis.grid(visible=False)
