"""A finished benchmark, read from its folder: scores of each cell, and what the cells were made of."""

import json
import math
import statistics
from pathlib import Path
from typing import NamedTuple

from dode import storage
from dode.registry import unknown

PROVENANCE = "provenance.json"


class Score(NamedTuple):
    """A metric of a cell: its value, unscaled, and the standard error of that, None where it is not known."""

    value: float
    error: float | None


def scores(path):
    """``{metric: Score}`` of a cell's ``score.json``; metrics that the cell has none of are left out.

    A value is there with the error of one seed's block of images, so that the mean over blocks has that over the root
    of their number; or it is a list of one value a seed.
    """
    found = {}
    for metric, values in read(path)["metrics"].items():
        if isinstance(values, dict):
            error, blocks = values.get("error"), values.get("blocks", ())
            found[metric] = Score(_value(values["value"]), error and error / max(len(blocks), 1) ** 0.5)
        elif values:
            values = [_value(value) for value in values]
            spread = statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None
            found[metric] = Score(statistics.fmean(values), None if spread is None else spread / len(values) ** 0.5)
    return found


def _value(value):
    """NaN is null in a file."""
    return math.nan if value is None else float(value)


def read(path):
    """A JSON file; ValueError where it is damaged."""
    try:
        return storage.read_json(path)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None


class Finished:
    """The folder ``results/<benchmark>`` of a finished benchmark.

    Attributes:
        cells: path of the folder of each cell that has a score, by ``<dataset>/<solver>/nfe<n>``, sorted.
        provenance: the record of :mod:`dode.provenance`, or None where the folder has none.

    Raises:
        ValueError: where it is not the folder of a benchmark, or its record is damaged.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        files = self.folder.glob("*/*/nfe*/score.json")
        found = {str(path.parent.relative_to(self.folder)): path.parent for path in files}
        self.cells = dict(sorted(found.items(), key=lambda item: _natural(item[0])))
        if not self.cells:
            raise ValueError(
                f"{self.folder}: no folder of results; expected is <dataset>/<solver>/nfe<n>/score.json in it"
            )
        path = self.folder / PROVENANCE
        self.provenance = read(path) if path.is_file() else None
        if self.provenance is not None and not {"datasets", "cells", "checkpoints"} <= set(self.provenance):
            raise ValueError(f"{path}: not the record that the workflow writes")

    def scores(self, cell):
        """``{metric: Score}`` of a cell of :attr:`cells`."""
        return scores(self.cells[cell] / "score.json")

    def cell(self, dataset, solver, nfe):
        """The name of a cell; ValueError that lists what is known where there is none."""
        parts = [name.split("/") for name in self.cells]
        wanted = [("dataset", dataset), ("solver", solver), ("NFE", f"nfe{nfe}")]
        for place, (kind, value) in enumerate(wanted):
            known = list(dict.fromkeys(part[place] for part in parts))
            if value not in known:
                strip = (lambda text: text.removeprefix("nfe")) if kind == "NFE" else str
                raise ValueError(f"{self.folder}: {unknown(kind, strip(value), [strip(each) for each in known])}")
            parts = [part for part in parts if part[place] == value]
        return f"{dataset}/{solver}/nfe{nfe}"


def _natural(name):
    """``nfe5`` before ``nfe10``."""
    head, nfe = name.rsplit("/nfe", 1)
    return head, int(nfe) if nfe.isdigit() else 0
