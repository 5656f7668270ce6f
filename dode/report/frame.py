"""Scores as one tidy frame, and that frame as CSV."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dode import storage
from dode.metrics import spread
from dode.metrics.catalogue import METRICS
from dode.names import HALVES
from dode.registry import unknown

_COLUMNS = {
    "dataset": "str",
    "solver": "str",
    "label": "str",
    "method": "str",
    "options": "str",
    "distilled": "bool",
    "reference": "bool",
    "nfe": "Int64",
    "passes": "Int64",
    "depth": "Int64",
    "metric": "str",
    "value": "float64",
    "error": "float64",
    "error_kind": "str",
    "seeds": "int64",
    "blocks": "str",
    "images": "Int64",
    "real": "str",
    "real_sha256": "str",
    "real_images": "Int64",
    "extractor": "str",
    "biased": "str",
    "published": "str",
    "published_source": "str",
    "measured": "str",
}
# Between several published values of a cell, and between their sources.
SEPARATOR = " | "


def tidy(scores: Iterable[dict[str, Any]], halves: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One row per cell and metric, then how random halves of each dataset's real images compare, as a frame.

    Args:
        scores: one dict per cell: what tables say of it (:meth:`dode.benchmark.cells.Benchmark.facts`), ``metrics`` as
            in its ``score.json`` (docs/scores.md), and, where known, ``against`` (the ``reference`` of that file),
            ``real`` (what that is, in words), ``extractor``, ``biased``, and ``published``, a list of published FIDs,
            ``{"fid": text, "source": text}``.
        halves: one dict per dataset, ``{"dataset": ..., "images": of a half, "halves": {metric: [value per pair]}}``.

    Returns:
        Columns dataset, solver, label, method, options (of the solver, JSON), distilled, reference (whether it is the
        fine-step solver), nfe, passes (of a network, per image), depth (how many of the evaluations must wait for one
        another), metric, value, error, error_kind (of what error is one standard deviation: ``seeds``, ``images``,
        ``subsets``, of real images ``halves``; empty where it cannot be told, with error NaN), seeds, blocks (the value
        of each seed, with a space between), images (per seed), real, real_sha256, real_images (what it is scored
        against), extractor, biased (of ``generated`` and ``real`` images those that are too few), published,
        published_source, measured (by whom and with what, where it was elsewhere). Datasets and solvers stand in the
        order of their first appearance; values are unscaled. Solver and method of real halves are :data:`HALVES`,
        ``seeds`` is the number of their pairs. Several values in one column (biased, what is published and its sources)
        have ``" | "`` between them.

    Raises:
        ValueError: for an unknown metric, or a cell that appears twice.
    """
    rows = [row for score in scores for row in _rows(score, score["metrics"])]
    for own in halves:
        name = {"solver": HALVES, "label": f"real halves ({own['images']:,} images each)", "method": HALVES}
        cell = {"dataset": own["dataset"], **name, "distilled": False, "reference": False, "nfe": None}
        metrics = {metric: _halves(values) for metric, values in own["halves"].items()}
        rows += _rows({**cell, "images": own["images"]}, metrics)
    datasets, solvers, metrics = (
        {name: i for i, name in enumerate(dict.fromkeys(names))}
        for names in ([row["dataset"] for row in rows], [row["solver"] for row in rows], METRICS)
    )
    # Halves come last in the list, so that theirs is the last solver too.
    rows.sort(key=lambda r: (datasets[r["dataset"]], solvers[r["solver"]], r["nfe"] or 0, metrics[r["metric"]]))
    frame = pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)
    twice = frame.duplicated(["dataset", "solver", "nfe", "metric"])
    if twice.any():
        first = frame[twice].iloc[0]
        raise ValueError(
            f"two scores for solver '{first.solver}' on '{first.dataset}' at NFE {first.nfe} ({first.metric})"
        )
    return frame


def _halves(values):
    values = np.array(values, dtype=np.float64)
    return {
        "value": spread.mean(values),
        "error": spread.standard_deviation(values),
        "error_kind": "halves",
        "blocks": values,
    }


def _rows(cell, metrics):
    against = cell.get("against") or {}
    of_cell = {
        **{key: cell.get(key) for key in _COLUMNS},
        "options": cell.get("options", "{}"),
        "real": cell.get("real") or against.get("file", ""),
        "real_sha256": against.get("sha256", ""),
        "real_images": against.get("images"),
        "extractor": cell.get("extractor", ""),
        "biased": SEPARATOR.join(cell.get("biased", [])),
        "measured": cell.get("measured", ""),
    }
    for metric, entry in metrics.items():
        if metric not in METRICS:
            raise ValueError(unknown("metric", metric, METRICS))
        value, error = (math.nan if entry[key] is None else entry[key] for key in ("value", "error"))
        error = error if math.isfinite(value) else math.nan
        statistics = {"metric": metric, "value": value, "error": error, "seeds": len(entry["blocks"])}
        statistics["blocks"] = " ".join(repr(math.nan if block is None else float(block)) for block in entry["blocks"])
        statistics["error_kind"] = entry["error_kind"] if math.isfinite(error) else ""
        published = (cell.get("published") or []) if metric == "fid" else []
        for column, key in (("published", "fid"), ("published_source", "source")):
            statistics[column] = SEPARATOR.join(found[key] for found in published)
        yield {**of_cell, **statistics}


def entry(row: Any) -> dict[str, Any]:
    """The entry of a row of a :func:`tidy` frame, as in a ``score.json``: value, error (or None) and blocks."""
    return {
        "value": row.value,
        "error": row.error if math.isfinite(row.error) else None,
        "blocks": [float(block) for block in row.blocks.split()],
    }


def entries(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The :func:`entry` of each row."""
    return [entry(row) for row in rows.itertuples()]


def write_csv(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a :func:`tidy` frame, unscaled and to the last digit; :func:`read_csv` gives it back."""
    with storage.atomic(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")


def read_csv(path: str | Path) -> pd.DataFrame:
    """The frame that :func:`write_csv` wrote."""
    # float() gives back every digit; which float_precision of read_csv does depends on the version of pandas.
    numbers = dict.fromkeys(("value", "error"), lambda text: float(text or "nan"))
    others = {key: dtype for key, dtype in _COLUMNS.items() if key not in numbers}
    # A solver may be called "NA": empty is the only missing value, and only in these columns.
    missing = {key: [""] for key, dtype in _COLUMNS.items() if dtype == "Int64"}
    frame = pd.read_csv(path, dtype=others, converters=numbers, na_values=missing, keep_default_na=False)
    return frame[list(_COLUMNS)].astype(_COLUMNS)
