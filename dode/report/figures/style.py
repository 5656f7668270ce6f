"""What all figures share: sizes, colours, markers, line styles, panels, the legend, and how a figure is written.

The same input gives the same bytes: figures carry no dates.
"""

import functools
import itertools
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar

import matplotlib
import matplotlib.colors
import numpy as np
import seaborn
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from dode import solvers, storage

PANEL = (3.3, 2.65)  # inches: one column of a two-column page
PAGE = 2 * PANEL[0]  # both columns
LOW = 2.3  # height of the many panels of the fits
DPI = 200
_METADATA = {
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".svg": {"Date": None, "Creator": None},
}
_RC = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "figure.titlesize": 10,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.3,
    "pdf.fonttype": 42,  # journals refuse Type 3 fonts
    "svg.hashsalt": "dode",  # else the ids in an SVG are random
}
# Okabe and Ito's eight colours without yellow, which is pale on white, and three of Tol's muted scheme: told apart by
# the colour-blind, too.
COLORS = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#000000", "#56B4E9"),
    *("#882255", "#999933", "#332288"),
)
# The same on the dark surface of the page: lighter and fuller ones, in the same order; mixed with white only they would
# become three dull blues.
DARK_COLORS = (
    *("#4080f6", "#e69f00", "#00a878", "#f2661a", "#d98ab8", "#f2f2f2", "#45c8ec"),
    *("#d9578e", "#a5a53a", "#8f74ee"),
)
# WCAG 2.2 asks a contrast of 3 of graphics (1.4.11) and of 4.5 of text; a line is as thin as text.
DARK_SURFACE, CONTRAST = "#171c22", 4.5
MARKERS = ("o", "s", "^", "D", "v", "p", "<", ">", "X", "P")

#: Files to write, the format by suffix.
Paths: TypeAlias = str | Path | Iterable[str | Path]
#: Of each solver, (method, label), the properties of a Line2D.
Styles: TypeAlias = Mapping[tuple[str, str], dict[str, Any]]
Color: TypeAlias = tuple[float, float, float]
P = ParamSpec("P")
R = TypeVar("R")


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Draw and save under the style of the report, whatever the style of the caller."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update({**seaborn.axes_style("whitegrid"), **_RC})
            return function(*args, **kwargs)

    return wrapper


def save(figure: Figure, paths: Paths) -> None:
    """Write ``figure`` to each of ``paths`` (png, pdf or svg by suffix) without dates."""
    for path in [paths] if isinstance(paths, str | Path) else paths:
        metadata = _METADATA.get(os.path.splitext(path)[1].lower())
        with storage.atomic(path) as temporary:
            figure.savefig(temporary, dpi=DPI, metadata=metadata)


#: Solvers in the order of their colours; others follow by name, so that a new one recolours none of these.
FIRST = (
    "ddim",
    "deis",
    "dpm-solver",
    "dpm-solver++",
    "dpm-solver-multistep",
    "heun",
    "ipndm",
    "ipndm_v",
    "pndm",
    "unipc",
)


def styles(cells: list[dict[str, Any]], dark: bool = False) -> Styles:
    """Line styles of solvers; the same in every figure of a benchmark that is given all of its cells.

    Args:
        cells: dicts with ``method``, ``options``, ``label`` and ``distilled``, in the order of the report.
        dark: whether they are drawn on :data:`DARK_SURFACE` instead of white.

    Returns:
        ``{(method, label): properties of a Line2D}``. A method has one colour and marker in every benchmark (a method
        that is no solver of :mod:`dode.solvers` takes one that is left); its plain solver is dashed with hollow
        markers, its distilled one solid with filled markers. A solver with other options, and each further variant, has
        a darker or lighter shade and a marker of its own; plain and distilled with the same options share them.
    """
    places, palette = _places([cell["method"] for cell in cells]), DARK_COLORS if dark else COLORS
    bases: dict[str, dict[str, int]] = {}
    taken: dict[tuple[str, bool], set[int]] = {}
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for cell in cells:
        method = cell["method"]
        bases.setdefault(method, {}).setdefault(cell["options"], len(bases[method]))
    for cell in cells:
        method, key = cell["method"], (cell["method"], cell["label"])
        if key in found:
            continue
        place = places[method]
        ranks = taken.setdefault((method, cell["distilled"]), set())
        rank = bases[method][cell["options"]]
        while rank in ranks:
            rank = max(rank + 1, len(bases[method]))
        ranks.add(rank)
        color = _shade(matplotlib.colors.to_rgb(palette[place % len(palette)]), rank, dark)
        found[key] = {
            "color": color,
            "linestyle": "-" if cell["distilled"] else "--",
            "marker": MARKERS[(place + place // len(COLORS) + 4 * rank) % len(MARKERS)],
            "markeredgecolor": color,
            "markerfacecolor": color if cell["distilled"] else "white",
        }
    return found


def _places(methods):
    """The place of each method among the colours: a solver's own, for others one that is not taken."""
    known = {name: place for place, name in enumerate(dict.fromkeys([*FIRST, *solvers.names()]))}
    methods = list(dict.fromkeys(methods))
    taken = {known[name] for name in methods if name in known}
    free = (place for place in itertools.count() if place not in taken)
    return {name: known[name] if name in known else next(free) for name in methods}


def _shade(color, rank, dark):
    """The colour itself, then farther from the surface (``dark`` or white), nearer, farther still.

    Of what is almost black or white already nearer ones alone.
    """
    if rank == 0:
        return color
    away = float(dark)
    farther = rank % 2 and max(abs(away - channel) for channel in color) > 0.1
    end, share = (away, 0.25 + 0.2 * rank) if farther else (1 - away, 0.2 + 0.15 * rank)
    mixed = _mixed(color, end, min(share, 0.7))
    return readable(mixed) if dark else mixed


def _mixed(color, end, share):
    return tuple((1 - share) * channel + share * end for channel in color)


def readable(color: Color) -> Color:
    """``color`` (RGB), mixed with as little white as gives it :data:`CONTRAST` on :data:`DARK_SURFACE`."""
    mixed = (_mixed(color, 1.0, step / 20) for step in range(21))
    return next(each for each in mixed if contrast(each, DARK_SURFACE) >= CONTRAST)


def contrast(one: str | Color, other: str | Color) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    light, dark = sorted(map(_luminance, (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color):
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in matplotlib.colors.to_rgb(color)]
    return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), channels, strict=True))


def columns_of(panels: int) -> int:
    """Two panels are as wide as a printed page; more only where the figure would not fit a page anyway."""
    return min(panels, 2 if panels <= 8 else 3)


def panels_of(panels: int, size: tuple[float, float] = PANEL, columns: int | None = None) -> tuple[Figure, np.ndarray]:
    """A figure with ``panels`` axes of ``size``; what is left of the last row is blank."""
    columns = min(columns or columns_of(panels), panels)
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(columns * size[0], rows * size[1]), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in axes[panels:]:
        spare.set_axis_off()
    return figure, axes[:panels]


def legend_below(figure: Figure, handles: list[Line2D]) -> None:
    """One legend under all panels, in as many columns as the width takes; the figure grows by its height."""
    if not handles:
        return
    width, height = figure.get_size_inches()
    entry = 0.42 + text_width([str(handle.get_label()) for handle in handles]) / DPI
    columns = int(np.clip((width - 0.1) // entry, 1, len(handles)))
    rows = math.ceil(len(handles) / columns)
    columns = math.ceil(len(handles) / rows)  # else the last columns are short
    figure.set_size_inches(width, height + 0.17 * rows + 0.1)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        handlelength=2.4,
        handletextpad=0.5,
        columnspacing=1.0,
    )


def paired(keys: Iterable[tuple[str, str]], style: Styles) -> list[tuple[str, str]]:
    """Solvers (keys of :func:`styles`) method by method, plain before distilled: the order of a legend."""
    methods = list(dict.fromkeys(method for method, _ in style))
    return sorted(keys, key=lambda key: (methods.index(key[0]), style[key]["linestyle"] == "-", list(style).index(key)))


def text_width(texts: Iterable[str], size: float = 8) -> int:
    """Width of the widest text in pixels of the figure."""
    widths = [TextPath((0, 0), text, size=size).get_extents().width for text in texts if text.strip()]
    return math.ceil(max(widths, default=0.0) / 72 * DPI)
