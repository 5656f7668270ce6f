"""A finished benchmark, read from its folder: scores of each cell, and what the cells were made of."""

import json
from pathlib import Path
from typing import Any

from dode import storage
from dode.metrics import prompt_scores
from dode.names import REFERENCE, CellName, cells_with
from dode.registry import unknown
from dode.report import learning

PROVENANCE = "provenance.json"
KEYS = {"datasets", "cells", "checkpoints", "software", "environments"}


def read(path: str | Path) -> Any:
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

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        found = {str(name): path for name, path in cells_with(self.folder, "score.json").items()}
        if not found:
            raise ValueError(
                f"{self.folder}: not a folder of results; expected <dataset>/<solver>/nfe<n>/score.json in it"
            )
        path = self.folder / PROVENANCE
        self.provenance = read(path) if path.is_file() else None
        if self.provenance is not None and not set(self.provenance) >= KEYS:
            raise ValueError(f"{path}: not a record that the workflow wrote")
        known = found if self.provenance is None else self.provenance["cells"]
        self.cells = {name: path for name, path in found.items() if name in known}
        self.stale = [name for name in found if name not in known]

    def scores(self, cell: str) -> dict[str, Any]:
        """``{metric: entry}`` of a cell of :attr:`cells`: the ``metrics`` of its ``score.json``."""
        return self.score_file(cell)["metrics"]

    def score_file(self, cell: str) -> dict[str, Any]:
        """The ``score.json`` of a cell of :attr:`cells` (docs/scores.md).

        Raises:
            ValueError: where it was made of something else than the record says, as one that was copied there was.
        """
        path = self.cells[cell] / "score.json"
        found = read(path)
        if self.provenance is not None and "made" in found:
            _check_made(path, found["made"], self.provenance["cells"][cell])
        return found

    def aim(self, cell: str) -> dict[str, Any] | None:
        """The parameters of the fine-step solver that a cell is compared with; None where they are not recorded."""
        if self.provenance is None:
            return None
        dataset = self.provenance["datasets"].get(CellName.read(cell).dataset, {})
        return self.provenance["cells"].get(dataset.get("reference"), {}).get("run")

    def scorers(self, cell: str) -> dict[str, dict[str, Any]]:
        """What a cell's prompts were scored by, by metric: ``card``, the part of it that decides it, and ``sha256``.

        That is of the folder's manifest; None where it is not recorded.
        """
        cards = [own["scoring"]["card"] for own in self.score_file(cell).get("prompt_scores", [])]
        known = {} if self.provenance is None else self.provenance["checkpoints"]
        dataset = {} if self.provenance is None else self.provenance["datasets"].get(CellName.read(cell).dataset, {})
        names = {metric: own["card"] for metric, own in dataset.get("scorers", {}).items()}
        return {
            metric: {"card": card, "sha256": known.get(names.get(metric), {}).get("sha256")}
            for metric, card in ((prompt_scores.metric(card), card) for card in cards)
        }

    def measured(self, dataset: str) -> list[dict[str, Any]]:
        """The cells of a dataset but its reference, as :mod:`dode.report.verdicts` takes them.

        Raises:
            ValueError: for an unknown dataset, or where there is no record of what the cells were made of.
        """
        parts = {name: CellName.read(name) for name in self.cells}
        known = list(dict.fromkeys(own.dataset for own in parts.values()))
        if dataset not in known:
            raise ValueError(f"{self.folder}: {unknown('dataset', dataset, known)}")
        return [
            {
                "name": name,
                "solver": cell.solver,
                "nfe": cell.nfe,
                "distilled": learning.of_record(self.made(name)),
                "scores": self.scores(name),
            }
            for name, cell in parts.items()
            if cell.dataset == dataset and cell.solver != REFERENCE
        ]

    def made(self, cell: str) -> dict[str, Any]:
        """What a cell was made of; ValueError where there is no record of it."""
        path = self.folder / PROVENANCE
        if self.provenance is None:
            raise ValueError(f"{path} is missing: run snakemake again, which writes it with the tables")
        return self.provenance["cells"][cell]

    def cell(self, dataset: str, solver: str, nfe: int) -> str:
        """The name of a cell; ValueError that lists what is known where there is none."""
        cells, wanted = [CellName.read(name) for name in self.cells], CellName(dataset, solver, nfe)
        for place, (kind, value) in enumerate(zip(("dataset", "solver", "NFE"), wanted, strict=True)):
            known = list(dict.fromkeys(cell[place] for cell in cells))
            if value not in known:
                raise ValueError(f"{self.folder}: {unknown(kind, value, known)}")
            cells = [cell for cell in cells if cell[place] == value]
        return str(wanted)


def _check_made(path, made, record):
    """Refuse a score whose own word of what it was made of is not the record's."""
    own = {"run": {key: value for key, value in made["cell"].items() if key != "model"}, "samples": made["samples"]}
    for kind, values in own.items():
        for key in sorted({*values, *record[kind]}):
            if values.get(key) != record[kind].get(key):
                raise ValueError(
                    f"{path} was made with {key} {values.get(key)!r}, but {PROVENANCE} says {record[kind].get(key)!r}: "
                    "run snakemake again, which makes anew what is not of one configuration"
                )
