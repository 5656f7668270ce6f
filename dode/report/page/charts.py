"""The page's charts as values for JSON, which ``assets/chart.js`` draws.

A chart has ``lines``; ``levels``, horizontal lines ``{"y", "text"}`` that the legend names; the axes ``x`` and ``y``;
its ``height`` in pixels; a ``label`` for those who do not see it; and a ``legend`` unless that is false.

A line has a ``name``; a ``solver``, whose colour and marker it has; ``dashed``; and ``points``, ``{"x", "y", "text"}``
with ``error``, a standard deviation, and ``cell``, the one that a click opens. Instead of points it may have
``values``, one per evaluation, or ``way``, ``{"cell", "pixel"}``: the points are then among the pictures of that cell,
and are its error if no pixel is named.

An axis has a ``label``; it is linear unless it is ``log`` or, for noise levels, ``angle``; and it has ``ticks`` unless
``chart.js`` is to choose them, with ``words`` where a tick is not called by its number.

A chart may have several x axes to choose from: ``axes``, by name, instead of ``x``, and points with ``at``, by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dode.report.figures import scales
from dode.report.page import texts

if TYPE_CHECKING:
    from dode.report.page.views import Page, View

_SIGMAS = {"label": "noise level σ, from noise to image", "ticks": [0, 0.1, 0.3, 0.6, 1, 2, 5, 80], "angle": True}
_SMALL = {"height": 240, "legend": False, "levels": []}


def _nfe(cells: list[dict[str, Any]]) -> dict[str, Any]:
    nfes = sorted({cell["nfe"] for cell in cells})
    return {"label": "NFE (network evaluations per image)", "log": bool(nfes) and nfes[-1] > 8 * nfes[0], "ticks": nfes}


def curve(view: View) -> dict:
    """Scores against evaluations, a line per solver, of a :class:`dode.report.page.views.View`."""
    scale, lines = view.metric["scale"], []
    for solver, cells in view.rows.items():
        points = []
        for cell in cells.values():
            if score := cell["scores"].get(view.key):
                value, error = (texts.scaled(part, scale) for part in score[:2])
                text = f"NFE {cell['nfe']}: {view.text(cell)}"
                points.append({"x": cell["nfe"], "y": value, "error": error, "cell": cell["name"], "text": text})
        lines.append({**_line(view.page, solver), "points": points})
    return {
        "lines": lines,
        "levels": [{"y": texts.scaled(score[0], scale), "text": text} for text, score in view.levels],
        "x": _nfe(view.measured),
        "y": {"label": view.metric["axis"], "log": True},
        "height": 380,
        "label": f"{view.metric['name']} against network evaluations on {view.dataset['id']}; the same numbers are in "
        "the table below",
    }


def _line(page: Page, solver: str, dashed: bool | None = None) -> dict[str, Any]:
    own = page.solvers[solver]
    return {"name": own["label"], "solver": solver, "dashed": not own["distilled"] if dashed is None else dashed}


def gains(view: View) -> dict:
    """How many times better distilled solvers are than their plain ones, a line per distilled solver."""
    lines: dict[str, Any] = {}
    name = view.metric["name"]
    for gain in view.gains:
        cell, plain = view.page.cells[gain["distilled"]], view.page.cells[gain["plain"]]
        line = lines.setdefault(cell["solver"], {**_line(view.page, cell["solver"]), "points": []})
        text = f"NFE {cell['nfe']}: {texts.factor(gain)} times better than {view.page.label(plain)}"
        place = {"x": cell["nfe"], "y": gain["factor"], "error": gain["error"]}
        line["points"].append({**place, "cell": cell["name"], "text": text})
    return {
        "lines": list(lines.values()),
        "levels": [{"y": 1, "text": "no gain"}],
        "x": _nfe([view.page.cells[gain["distilled"]] for gain in view.gains]),
        "y": {"label": f"{name}: times better than plain", "log": True},
        "height": 320,
        "label": f"How many times better distilled solvers are than plain ones in {name} on {view.dataset['id']}",
    }


def costs(view: View, nfe: int) -> dict:
    """Scores at a number of evaluations against what was learnt for them; what cost nothing stands at the left."""
    scale, cells = view.metric["scale"], view.at(nfe)
    kinds = {
        "work": "network evaluations to learn it, one with gradients counted as three",
        "seconds": "seconds to learn it",
    }
    plain = dict.fromkeys(kinds, 0)
    spent = {cell["name"]: plain if view.page.kind(cell) == "plain" else cell["cost"] or {} for cell in cells}
    axes = {kind: _cost_axis([own[kind] for own in spent.values() if own.get(kind)], kinds[kind]) for kind in kinds}
    lines = []
    for cell in cells:
        own = spent[cell["name"]]
        value, error = (texts.scaled(part, scale) for part in cell["scores"][view.key][:2])
        known = [kind for kind in kinds if own.get(kind) is not None]
        at = {kind: own[kind] or axes[kind]["ticks"][0] if kind in known else None for kind in kinds}
        said = "learnt nothing" if own is plain else ", ".join(texts.costing(own[kind], kind) for kind in known)
        point = {"at": at, "y": value, "error": error, "cell": cell["name"], "text": f"{view.text(cell)}; {said}"}
        lines.append({**_line(view.page, cell["solver"]), "points": [point]})
    return {
        "lines": lines,
        "levels": [{"y": texts.scaled(score[0], scale), "text": text} for text, score in view.levels],
        "axes": axes,
        "y": {"label": view.metric["axis"], "log": True},
        "height": 380,
        "scattered": True,
        "label": f"{view.metric['name']} at NFE {nfe} on {view.dataset['id']} against what it cost to learn; the same "
        "numbers are in the table below",
    }


def _cost_axis(values: list[float], label: str) -> dict:
    """A logarithmic axis with a place left of all costs for what has none."""
    low, high = min(values, default=1), max(values, default=1)
    ticks = [tick for tick in scales.log_ticks(low / 1.2, high * 1.2, most=7) if tick >= low / 1.2]
    plain = min([low, *ticks]) / 6
    words = ["plain", *(texts.compact(tick) for tick in ticks)]
    return {"label": label, "log": True, "ticks": [plain, *ticks], "words": words}


def fitted(page: Page, cell: dict) -> list[dict]:
    """What was fitted in a cell: a chart per direction, and the distance to the teacher if it is known."""
    fit, solver = cell["fit"], cell["solver"]
    axis = {"label": "evaluation k (from 0)", "ticks": list(range(cell["nfe"]))}
    charts = []
    for direction, values in zip(page.directions(cell), zip(*(fit["lambdas"] or ()), strict=True), strict=True):
        lines = [{**_line(page, solver), "name": direction, "values": values}]
        charts.append({**_SMALL, "lines": lines, "x": axis, "y": {"label": direction}, "label": "Fitted coefficients"})
        charts[-1]["levels"] = [{"y": 0}]
    if any(fit.get("rms_before") or ()):
        stages = [("before", fit["rms_before"], True), ("after", fit["rms_after"], False)]
        lines = [
            {**_line(page, solver, dashed), "name": name, "values": [value or None for value in values]}
            for name, values, dashed in stages
        ]
        label = "Distance to the teacher on the fitting images"
        y = {"label": "RMS to the teacher", "log": True}
        charts.append({**_SMALL, "lines": lines, "x": axis, "y": y, "label": label, "legend": True})
    return charts


def error_on_the_way(page: Page, cell: dict) -> dict:
    """How far a cell is from the fine-step solution after every step."""
    lines = [{**_line(page, cell["solver"], False), "way": {"cell": cell["name"]}}]
    y, label = {"label": "RMS error", "log": True}, "Distance to the fine-step solution"
    return {**_SMALL, "lines": lines, "x": _SIGMAS, "y": y, "label": label}


def pixels_on_the_way(page: Page, cell: dict) -> dict:
    """Two pixels of a cell on their way from noise to image, over those of the fine-step solution."""
    ways, reference = [(cell["name"], _line(page, cell["solver"], False))], page.reference(cell["dataset"])
    if reference not in (None, cell) and page.picture(reference, "trajectory"):
        ways.insert(0, (reference["name"], {"name": "fine steps", "fine": True}))
    lines = [
        {**line, "name": f"{line['name']}, pixel {pixel + 1}", "way": {"cell": name, "pixel": pixel}}
        for name, line in ways
        for pixel in (0, 1)
    ]
    return {
        **_SMALL,
        "lines": lines,
        "x": _SIGMAS,
        "y": {"label": "x / √(1 + σ²)"},
        "label": "Paths of two pixels",
    }
