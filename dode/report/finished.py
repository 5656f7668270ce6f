"""A finished benchmark, read from its folder: scores of each cell, and what the cells were made of."""

import json
from pathlib import Path

from dode import storage
from dode.benchmark.config import REFERENCE
from dode.registry import unknown

PROVENANCE = "provenance.json"
KEYS = {"datasets", "cells", "checkpoints", "software", "environments"}


def read(path):
    """A JSON file; ValueError where it is damaged."""
    try:
        return storage.read_json(path)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None


class Finished:
    """The folder ``results/<benchmark>`` of a finished benchmark.

    Attributes:
        cells: path of the folder of each cell that has a score, by ``<dataset>/<solver>/nfe<n>``, sorted. Where there
            is a record, the cells in it.
        stale: names of the others, which an earlier configuration has left there.
        provenance: the record of :mod:`dode.benchmark.provenance`, or None where the folder has none.

    Raises:
        ValueError: where it is not the folder of a benchmark, or its record is damaged.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        files = self.folder.glob("*/*/nfe*/score.json")
        found = {str(path.parent.relative_to(self.folder)): path.parent for path in files}
        if not found:
            raise ValueError(
                f"{self.folder}: no folder of results; expected is <dataset>/<solver>/nfe<n>/score.json in it"
            )
        path = self.folder / PROVENANCE
        self.provenance = read(path) if path.is_file() else None
        if self.provenance is not None and not set(self.provenance) >= KEYS:
            raise ValueError(f"{path}: not the record that the workflow writes")
        names, known = sorted(found, key=_natural), found if self.provenance is None else self.provenance["cells"]
        self.cells = {name: found[name] for name in names if name in known}
        self.stale = [name for name in names if name not in known]

    def scores(self, cell):
        """``{metric: entry}`` of a cell of :attr:`cells`: the ``metrics`` of its ``score.json``."""
        return self.score_file(cell)["metrics"]

    def score_file(self, cell):
        """The ``score.json`` of a cell of :attr:`cells` (docs/scores.md)."""
        return read(self.cells[cell] / "score.json")

    def aim(self, cell):
        """The parameters of the fine-step solver that a cell is compared with; None where they are not recorded."""
        if self.provenance is None:
            return None
        dataset = self.provenance["datasets"].get(cell.split("/")[0], {})
        return self.provenance["cells"].get(dataset.get("reference"), {}).get("run")

    def measured(self, dataset):
        """The cells of a dataset but its reference, as :mod:`dode.report.verdicts` takes them.

        Raises:
            ValueError: for an unknown dataset, or where there is no record of what the cells were made of.
        """
        parts = {name: name.split("/") for name in self.cells}
        known = list(dict.fromkeys(own for own, *_ in parts.values()))
        if dataset not in known:
            raise ValueError(f"{self.folder}: {unknown('dataset', dataset, known)}")
        return [
            {
                "name": name,
                "solver": solver,
                "nfe": _nfe(nfe),
                "distilled": "fit" in self.made(name),
                "scores": self.scores(name),
            }
            for name, (own, solver, nfe) in parts.items()
            if own == dataset and solver != REFERENCE
        ]

    def made(self, cell):
        """What a cell was made of; ValueError where there is no record of it."""
        path = self.folder / PROVENANCE
        if self.provenance is None:
            raise ValueError(f"{path} is not there: run snakemake again, which writes it with the tables")
        return self.provenance["cells"][cell]

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
    head, nfe = name.rsplit("/", 1)
    return head, _nfe(nfe)


def _nfe(folder):
    number = folder.removeprefix("nfe")
    return int(number) if number.isdigit() else 0
