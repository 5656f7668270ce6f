"""The figure of solvers on their way from noise to image, beside the fine-step solution from the same noise."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dode.report.figures import scales
from dode.report.figures.style import PAGE, PANEL, Paths, legend_below, save, styled
from dode.report.fine_solution import Fine, standardised

POWER = 7  # levels are spread like those of the Karras grid, so that the axis has room for all and a place for 0
_FINE: dict[str, Any] = {"color": "0.45", "linewidth": 2.4, "alpha": 0.55, "zorder": 1.5}


def plane(sigmas: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre and principal plane of a trajectory, (D,) and (2, D), of standardised states (L, ...)."""
    flat = standardised(sigmas, states)
    centre = flat.mean(axis=0)
    axes = np.linalg.svd(flat - centre, full_matrices=False)[2][:2]
    # The signs of singular vectors are arbitrary.
    signs = np.sign((flat[-1] - flat[0]) @ axes.T)
    return centre, axes * np.where(signs == 0, 1, signs)[:, None]


def pixels(sigmas: np.ndarray, states: np.ndarray, count: int = 2) -> list[int]:
    """Elements of one image to look at: drawn at random from the half that moves most (a margin stays as it is)."""
    flat = standardised(sigmas, states)
    moving = np.argsort(np.ptp(flat, axis=0))[flat.shape[1] // 2 :]
    return sorted(np.random.default_rng(0).choice(moving, size=count, replace=False).tolist())


@styled
def draw(
    fine: tuple[np.ndarray, np.ndarray],
    solvers: Sequence[tuple[str, dict[str, Any], np.ndarray, np.ndarray]],
    paths: Paths,
    title: str,
) -> None:
    """Two pixels on their way, the way in the principal plane, and the distance to the fine-step solution.

    Args:
        fine: ``(sigmas, states)`` of the fine-step solver, as of :func:`dode.images.trajectories.read`.
        solvers: ``(label, line style, sigmas, states)`` of the others, from the same noise.
        paths: files to write, the format by suffix.
        title: printed above.
    """
    sigmas, states = fine[0], np.asarray(fine[1], dtype=np.float64)
    others = [(label, style, s, np.asarray(x, dtype=np.float64)) for label, style, s, x in solvers]
    figure = Figure(figsize=(PAGE, 1.85 * PANEL[1]), layout="constrained")
    axes = figure.subplots(2, 2)
    shape = states.shape[2:]
    for axis, pixel in zip(axes[0], pixels(sigmas, states[0]), strict=True):
        axis.plot(sigmas, standardised(sigmas, states[0])[:, pixel], **_FINE)
        for _, style, own, x in others:
            axis.plot(own, standardised(own, x[0])[:, pixel], **style)
        channel, row, column = np.unravel_index(pixel, shape)
        name = f"image 0, pixel ({row}, {column})" + (f", channel {channel}" if shape[0] > 1 else "")
        axis.set(title=name, ylabel="x / √(1 + σ²)")
        axis.set_ylim(_around(axis.lines[0].get_ydata(), axis.get_ylim()))
        _noise_axis(axis, sigmas)
    _draw_plane(axes[1, 0], sigmas, states[0], others)
    _draw_distances(axes[1, 1], Fine(sigmas, states), others)
    figure.suptitle(title)
    handles = [Line2D([], [], label=label, **style) for label, style, _, _ in others]
    legend_below(figure, [*handles, Line2D([], [], label="fine steps", **_FINE)])
    save(figure, paths)


def _around(fine, limits, room=1.0):
    """``limits``, but no farther from the fine-step curve than ``room`` times its extent: what goes astray leaves."""
    low, high = np.min(fine), np.max(fine)
    extent = room * (high - low)
    return max(limits[0], low - extent), min(limits[1], high + extent)


def _draw_plane(axis, sigmas, image, others):
    centre, axes = plane(sigmas, image)

    def projected(own, x):
        return (standardised(own, x) - centre) @ axes.T

    axis.plot(*projected(sigmas, image).T, **_FINE)
    for _, style, own, x in others:
        axis.plot(*projected(own, x[0]).T, **style)
    fine = axis.lines[0]
    axis.set_xlim(_around(fine.get_xdata(), axis.get_xlim()))
    axis.set_ylim(_around(fine.get_ydata(), axis.get_ylim()))
    axis.set(title="image 0, principal plane of the fine steps", xlabel="1st component (from noise to image)")
    axis.set_ylabel("2nd component")


def _draw_distances(axis, fine, others):
    for _, style, own, x in others:
        axis.plot(own, fine.distances(own, x), **style)
    axis.set(title=f"distance to the fine steps, {len(fine.states)} images", yscale="log")
    axis.set_ylabel("RMS of the difference")
    _noise_axis(axis, fine.sigmas)
    low, high = axis.get_ylim()
    scales.plain_ticks(axis.yaxis, scales.log_ticks(low, high))


def _noise_axis(axis, sigmas):
    """Noise falls to the right; levels spread like a Karras grid's."""

    def power(exponent):
        return lambda values: np.sign(values) * np.abs(values) ** exponent

    axis.set_xscale("function", functions=(power(1 / POWER), power(POWER)))
    axis.set_xlim(sigmas.max() * 1.15, -(0.05**POWER))
    ticks = [tick for tick in (80, 20, 5, 1, 0.1, 0.01, 0) if tick <= sigmas.max() * 1.01]
    scales.plain_ticks(axis.xaxis, ticks)
    axis.set_xlabel("noise level σ")
