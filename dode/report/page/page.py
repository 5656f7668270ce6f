"""The page: one HTML file that holds its texts, scripts and pictures, and loads nothing."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import jinja2.bccache
import matplotlib.colors
from markupsafe import Markup

from dode import storage
from dode.metrics.catalogue import ERROR_KINDS, METRICS
from dode.report import collection, economy, ranking, verdicts
from dode.report import precisions as measured
from dode.report.costs import by_cell
from dode.report.figures import style
from dode.report.page import charts, texts, views

ASSETS = Path(__file__).parent / "assets"
_FITTED = ("lambdas", "rms_before", "rms_after", "family", "levels", "given", "told", "coefficients", "rungs")


def data(
    cells: list[dict[str, Any]],
    datasets: list[dict[str, Any]],
    collected: Iterable[str | Path],
    halves: Mapping[str, str | Path],
    provenance: dict[str, Any],
    precisions: Iterable[str | Path] = (),
    *,
    costs: str | Path | None = None,
    elsewhere: Sequence[Mapping[str, Any]] = (),
    archive: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything the page says.

    Args:
        cells: from :meth:`dode.benchmark.facts.Facts.cells`.
        datasets: from :meth:`dode.benchmark.facts.Facts.datasets`.
        collected: paths of the files that the rule ``collect`` makes.
        halves: ``{dataset id: path}`` of the datasets that have real images.
        provenance: what the cells were made of (:mod:`dode.benchmark.provenance`).
        precisions: paths of what was measured to choose precisions (:mod:`dode.report.precisions`).
        costs: path of what the learning of each solver cost (:mod:`dode.report.costs`), where anything was learnt.
        elsewhere: of each archive whose cells are among these, :func:`dode.report.archives.added.about`.
        archive: of the archive that the page is rendered from, if it is, ``file``, ``sha256``, ``by`` and ``date``.

    Returns:
        ``title``, ``elsewhere``, ``archive``, ``revision``, ``environments``, ``metrics`` (with what is said of them),
        ``error_kinds``, ``legend`` (what marks mean), ``solvers`` (with the colours and markers of the figures),
        ``cells`` (with ``scores``, metric -> ``[value, error, kind, settings]``, and ``cost``, None where it is not
        known), ``precisions`` and ``datasets`` (with ``halves``, and by metric ``choices``, ``gains``, ``marks``,
        ``better``, the names of the cells that are better than the fine-step one, and ``economy``, by NFE what
        :func:`dode.report.economy.judged` says of each kind of cost; empty where nothing was learnt). Values are
        unscaled; what is not finite is None.
    """
    cells = _measured(cells, collected, provenance["cells"], {} if costs is None else by_cell(costs))
    metrics = [key for key in METRICS if any(key in cell["scores"] for cell in cells)]
    halves_of = {dataset: storage.read_json(path) for dataset, path in halves.items()}
    found = {
        "title": provenance["benchmark"],
        "elsewhere": list(elsewhere),
        "archive": archive,
        "revision": provenance["revision"],
        "environments": provenance["environments"],
        "metrics": {key: _metric(METRICS[key]) for key in metrics},
        "error_kinds": dict(ERROR_KINDS),
        "legend": ranking.LEGEND.format("italic"),
        "solvers": _solvers(cells),
        "datasets": [
            {
                **dataset,
                **_checksums(dataset, provenance["checkpoints"]),
                **_judged([cell for cell in cells if cell["dataset"] == dataset["id"]], metrics),
                "halves": _halves(halves_of.get(dataset["id"])),
            }
            for dataset in datasets
        ],
        "cells": [_written(cell) for cell in cells],
        "precisions": measured.read(precisions),
    }
    return _short(found)


def _short(value):
    """The same with eight significant digits; None for what is not finite."""
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_short(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    return value


def _measured(cells, paths, made, costs):
    """The cells with ``scores``, what was fitted, and what they were made of and with."""
    fits = collection.fits([cell for cell in cells if cell["fitted"]], paths)
    fits = {fit["name"]: {key: fit.get(key) for key in _FITTED} for fit in fits}
    return [
        {
            **cell,
            "scores": {key: entry for key, entry in cell["metrics"].items() if entry["blocks"]},
            "fit": fits.get(cell["name"]),
            "cost": costs.get(cell["name"]),
            "scored": {key: cell[key] for key in ("against", "extractor")},
            "made": {key: value for key, value in made[cell["name"]].items() if key != "label"},
        }
        for cell in collection.scores(cells, paths)
    ]


def _checksums(dataset, checkpoints):
    """The cards of a dataset with the checksums of their files: the whole one, or else the published one."""
    own = {part: checkpoints[dataset[part]["card"]] for part in ("model", "extractor") if dataset[part]}
    return {part: {**dataset[part], "checksum": own[part]["sha256"] or own[part]["published"]} for part in own}


def _metric(kind):
    """What the page says of a metric (:class:`dode.metrics.catalogue.Metric`)."""
    keys = ("name", "unit", "scale", "tells", "description", "count", "warning", "aim")
    own = {key: getattr(kind, key) for key in keys}
    return {**own, "lower": kind.lower_is_better, "axis": kind.axis(), "bias": dict(kind.bias)}


def _halves(halves):
    """``images`` of each half, and ``scores``, metric -> ``[mean, sd, pairs of halves]``; None where there are none."""
    if halves is None:
        return None
    scores = {key: [statistics.fmean(x), statistics.stdev(x), len(x)] for key, x in halves["halves"].items()}
    return {"images": halves["images"], "scores": scores}


def _judged(cells, metrics):
    """What is said of the cells of a dataset by metric (:func:`data`)."""
    own = [cell for cell in cells if not cell["reference"]]
    fine = next((cell["scores"] for cell in cells if cell["reference"]), {})
    found = {"choices": {}, "gains": {}, "marks": {}, "better": {}, "economy": {}}
    for key in metrics:
        known = [cell for cell in own if verdicts.known(cell["scores"].get(key))]
        if known:
            kind, level = METRICS[key], fine.get(key)
            lower = kind.lower_is_better
            found["choices"][key] = verdicts.choices(own, key, lower=lower)
            found["marks"][key] = _marks(own, key, lower)
            found["gains"][key] = verdicts.gains(own, key, lower=lower)
            found["better"][key] = verdicts.better(own, key, level, lower=lower)
            found["economy"][key] = _economy(own, key, lower)
    return found


def _economy(cells, key, lower):
    """By NFE, of each kind of cost, which of what was learnt is worth it; empty where nothing was learnt."""
    if not any(cell["distilled"] and cell["cost"] for cell in cells):
        return {}
    columns = {}
    for cell in cells:
        columns.setdefault(cell["nfe"], []).append(cell)
    return {
        nfe: {cost: economy.judged(column, key, cost, lower=lower) for cost in economy.COSTS}
        for nfe, column in columns.items()
    }


def _marks(cells, key, lower):
    """Names of the cells that are ``best`` and ``second`` among those of as many evaluations."""
    columns, found = {}, {"best": [], "second": []}
    for cell in cells:
        if key in cell["scores"]:
            columns.setdefault(cell["nfe"], []).append(cell)
    for column in columns.values():
        places = ranking.places([cell["scores"][key] for cell in column], lower_is_better=lower)
        for place, names in ((ranking.BEST, found["best"]), (ranking.SECOND, found["second"])):
            names += [cell["name"] for cell, own in zip(column, places, strict=True) if own == place]
    return found


def _solvers(cells):
    """Id -> label, method, and how it is drawn; a solver's variants are told apart as in the figures."""
    own = [cell for cell in cells if not cell["reference"]]
    light, dark = style.styles(own), style.styles(own, dark=True)
    found = {}
    for cell in cells:
        found[cell["solver"]] = {key: cell[key] for key in ("label", "method", "reference", "distilled")}
        key = cell["method"], cell["label"]
        if key in light:
            color, on_dark = (matplotlib.colors.to_hex(lines[key]["color"]) for lines in (light, dark))
            found[cell["solver"]] |= {"color": color, "dark": on_dark, "marker": light[key]["marker"]}
    return found


def _written(cell):
    """What the page says of a cell."""
    scores = {
        key: [entry["value"], entry["error"], entry["error_kind"], _settings(entry)]
        for key, entry in cell["scores"].items()
    }
    keys = (
        "name",
        "dataset",
        "solver",
        "nfe",
        "plain",
        "published",
        "recipe",
        "biased",
        "fit",
        "cost",
        "scored",
        "made",
    )
    elsewhere = {"measured": "", "archived": "", "differences": []}
    own = {key: cell.get(key, default) for key, default in {**elsewhere, "passes": None, "depth": None}.items()}
    return {**{key: cell[key] for key in keys}, **own, "scores": scores}


def _settings(entry):
    return {key: entry[key] for key in ("k", "images", "subsets", "subset_size", "peak") if key in entry}


class _Compiled(jinja2.BytecodeCache):
    """What the templates were compiled to, for the next page of this process: a site has one per archive and cell."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}

    def load_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        """Jinja asks for a template; a bucket knows whether what it is given is of the same source."""
        if bucket.key in self.known:
            bucket.bytecode_from_string(self.known[bucket.key])

    def dump_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        """Jinja has compiled one."""
        self.known[bucket.key] = bucket.bytecode_to_string()


_COMPILED = _Compiled()


def environment(folder: Path, *filters: str) -> jinja2.Environment:
    """Where the templates of a folder are rendered, with some filters of :mod:`dode.report.page.texts`."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        bytecode_cache=_COMPILED,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {name: getattr(texts, name) for name in filters}
    return found


def render(environment: jinja2.Environment, template: str, path: str | Path, **values: Any) -> None:
    """Write a template with its values as a file."""
    text = environment.get_template(template).render(**values)
    with storage.atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


#: The charts that templates draw, by name: what is named in templates alone would not count for the page.
CHARTS = {
    each.__name__: each
    for each in (
        charts.costs,
        charts.curve,
        charts.error_on_the_way,
        charts.fitted,
        charts.gains,
        charts.pixels_on_the_way,
    )
}


def write(path: str | Path, found: dict[str, Any], thumbnails: dict[str, Any], config: dict[str, Any]) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        found: from :func:`data`.
        thumbnails: ``{cell's name: what :mod:`dode.report.page.thumbnails` made}``; a cell may be without.
        config: the checked configuration without ``execution``, which the page offers as a file.
    """
    own = environment(ASSETS, "costing", "factor", "many", "parsed", "plain", "share", "short", "signed")
    # For the filter ``tojson``, whose text can end neither a <script> nor an attribute in single quotes.
    own.policies["json.dumps_kwargs"] = {
        "ensure_ascii": False,
        "allow_nan": False,
        "separators": (",", ":"),
    }
    own.globals |= {"page": views.Page(found, thumbnails), "charts": CHARTS}
    render(
        own,
        "page.html.j2",
        path,
        config=config,
        style=Markup((ASSETS / "page.css").read_text(encoding="utf-8")),
        scripts=Markup("\n".join((ASSETS / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)),
    )


#: In the order in which they stand in the page.
SCRIPTS = ("basics", "chart", "table", "costs", "cell", "main")
