"""What reports say about cells and datasets besides scores and provenance. Imports no torch."""

import itertools
import json
from typing import Any

from dode import grids, solvers
from dode.benchmark import published, published_costs
from dode.benchmark.cells import Benchmark, Cell, Dataset
from dode.distillation import citations
from dode.fetching.cards import file_name
from dode.grids.facts import ModelFacts, index_scale
from dode.images import data
from dode.report import learning

#: Most bytes of the samples of a cell, and of those of all cells of a page, as they are written (base64).
MOST, WHOLE = 150_000, 40_000_000


def share(cells: int) -> int:
    """Bytes that the samples of each cell may take on the page, so that all ``cells`` stay within :data:`WHOLE`.

    ``MOST`` times 1, 2/3, 1/2, 1/3, 1/4, ...: in steps, so that one more cell seldom changes the share of the others.
    """
    steps = (MOST * 2 // (divisor * 2**power) for power in itertools.count() for divisor in (2, 3))
    return next(each for each in steps if each * cells <= WHOLE)


class Facts:
    """What tables, figures and the page say of a benchmark.

    Args:
        benchmark: the :class:`dode.benchmark.cells.Benchmark`.

    Raises:
        dode.benchmark.config.ConfigError: in one sentence, if a file of published FIDs or costs is invalid.
    """

    def __init__(self, benchmark: Benchmark):
        self.benchmark = benchmark
        self._rows = published.read(benchmark.root / published.FILE)
        #: What others spent, as :func:`dode.benchmark.published_costs.read` has it.
        self.published_costs = published_costs.read(benchmark.root / published_costs.FILE)

    def of_cell(self, cell: Cell) -> dict[str, Any]:
        """What tables and figures say of a cell."""
        return {
            "dataset": cell.dataset["id"],
            "solver": cell.entry["id"],
            "label": cell.entry["label"],
            "method": learning.method(cell.entry["solver"], cell.fit),
            "options": json.dumps(cell.entry["options"], sort_keys=True),
            "distilled": cell.distilled,
            "fitted": cell.fitted,
            "reference": cell.is_reference,
            "nfe": cell.nfe,
            "images": cell.dataset["images"],
            "seeds": cell.dataset["seeds"],
        }

    def sources(self) -> list[str]:
        """All that the page may cite."""
        found: set[str] = set()
        for cell in self.benchmark.cells.values():
            solver, grid = cell.entry["solver"], cell.entry["grid"]
            how: dict[str, Any] = {"fit": cell.fit, "afs": bool(grid["options"].get("afs"))}
            for general in {False, cell.fitted}:
                found.update(citations.sources(solver, grid["name"], general=general, **how))
        return sorted(found)

    def cells(self) -> list[dict[str, Any]]:
        """What the page says of each cell: its facts, name, published FIDs, recipe and plain counterpart.

        ``recipe`` is a sentence on a cell of the authors' code, None for others. ``plain`` is the name of the cell with
        the same dataset, solver, options, grid and NFE that is not fitted, None where there is none or the cell is
        not fitted.
        """
        cells = self.benchmark.cells.values()
        plain = {_numerics(cell): str(cell) for cell in cells if not cell.fitted and not cell.is_reference}
        return [
            {
                **self.of_cell(cell),
                "name": str(cell),
                "plain": plain.get(_numerics(cell)) if cell.fitted else None,
                "published": self.published_fids(cell),
                "recipe": self._recipe(cell),
            }
            for cell in cells
        ]

    def _recipe(self, cell: Cell) -> str | None:
        if not grids.grids.get(cell.entry["grid"]["name"]).recipe:
            return None
        own, text = index_scale(self.benchmark.cards[cell.dataset["model"]]), "As the authors' code ran it"
        if own == 1:
            return f"{text}."
        return (
            f"{text}: this network was trained on {own:g} times the index, but that code calls it at the index itself; "
            "only its DPM-Solver rescales the index, and not for the teacher."
        )

    def datasets(self) -> list[dict[str, Any]]:
        """What the page says of each dataset: images, cards of its model and features, what it is scored against."""
        incomparable, cards, found = self.incomparable(), self.benchmark.cards, []
        for name, dataset in self.benchmark.datasets.items():
            found.append(
                {
                    "id": name,
                    "reference": str(self.benchmark.reference(name)),
                    "images": dataset["images"],
                    "seeds": dataset["seeds"],
                    "shape": self.benchmark.image_shape(name),
                    "prediction": cards[dataset["model"]]["prediction"],
                    "real": self.real_text(name),
                    "published_statistics": "statistics" in dataset,
                    "model": self._card(dataset["model"]),
                    "extractor": self._card(dataset["features"]) if self.benchmark.has_features(name) else None,
                    "incomparable": incomparable.get(name, 0),
                }
            )
        return found

    def _card(self, name: str) -> dict[str, Any]:
        card = self.benchmark.cards[name]
        own = {key: card.get(key) for key in ("licence", "restrictions")}
        source = card["pipeline"]["source"] if "pipeline" in card else card["urls"][0]
        return {"card": name, "source": source, **own}

    def real_text(self, dataset: str) -> str:
        """The real images of a dataset id in words, as the configuration has them; empty where it has none."""
        own = self.benchmark.datasets[dataset]
        if not self.benchmark.has_real(dataset):
            return ""
        return f"published statistics {own['statistics']}" if "statistics" in own else data.described(own["data"])

    def shown(self, dataset: str) -> list[Cell]:
        """The cells in a dataset's picture of samples: solvers of one NFE under one another, the reference last."""
        return sorted(self.benchmark.cells_of(dataset), key=lambda cell: (cell.is_reference, cell.nfe))

    def published_fids(self, cell: Cell) -> list[dict[str, Any]]:
        """The FIDs published for exactly this cell, ``{"fid": ..., "source": ...}`` each; mostly none."""
        if not self.benchmark.has_real(cell.dataset["id"]):
            return []
        grid, card = cell.entry["grid"], self.benchmark.cards[cell.dataset["model"]]
        options = grids.complete(grid["name"], ModelFacts.of_card(card), **grid["options"])
        rows = published.matching(
            self._rows,
            solver=cell.entry["solver"],
            options=cell.entry["options"],
            grid={"name": grid["name"], "options": {k: v for k, v in options.items() if k not in grids.FILLED}},
            nfe=cell.nfe,
            distill=cell.entry.get("distill"),
            **self._convention(cell.dataset),
        )
        return published.quoted(rows)

    def incomparable(self) -> dict[str, int]:
        """How many FIDs are published for the checkpoint of each dataset at other conventions than the dataset's."""
        found = {}
        for name, dataset in self.benchmark.datasets.items():
            convention = self._convention(dataset)
            rows = [row for row in self._rows if row["file"] == convention["file"]]
            found[name] = len(rows) - len(published.comparable(rows, **convention))
        return {name: count for name, count in found.items() if count}

    def _convention(self, dataset: Dataset) -> dict[str, Any]:
        """What is the same for all cells of a dataset (an entry of the configuration), and of a published FID."""
        return {
            "file": file_name(self.benchmark.cards[dataset["model"]]),
            "statistics": dataset.get("statistics"),
            "images": dataset["images"],
            "classes": {key: dataset[key] for key in ("labels", "guidance") if key in dataset},
        }


def _numerics(cell: Cell) -> tuple[Any, ...]:
    """What a fitted cell and its plain counterpart have in common; options with the solver's defaults filled in."""
    options = solvers.create(cell.entry["solver"], **cell.entry["options"]).options
    texts = (json.dumps(each, sort_keys=True) for each in (options, cell.entry["grid"]))
    return (cell.dataset["id"], cell.nfe, cell.entry["solver"], *texts)
