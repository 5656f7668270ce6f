"""Where the files of a benchmark are. Imports no torch."""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dode.benchmark.cells import Benchmark, Cell, Dataset
from dode.benchmark.parameters import GUIDING
from dode.benchmark.precisions import CHOICE, Precisions
from dode.fetching.cards import CONVERTED, file_name
from dode.report import learning

TOGETHER = 500  # cells whose scores one job collects: Snakemake's time for a job grows faster than its inputs


class Files:
    """Paths, relative to the working directory.

    Args:
        benchmark: the :class:`dode.benchmark.cells.Benchmark`.
    """

    def __init__(self, benchmark: Benchmark):
        self.benchmark = benchmark
        self.results = benchmark.results
        self.precisions = Precisions(benchmark)

    def fetched(self, card: str) -> str:
        """A card's fetched and verified file, under its published name; of a folder its manifest."""
        if "source" in self.benchmark.cards[card]:
            return str(Path("resources") / "scorers" / f"{card}.json")
        if "pipeline" in self.benchmark.cards[card]:
            return str(Path("resources") / "pipelines" / f"{card}.json")
        return str(Path("resources") / "checkpoints" / card / file_name(self.benchmark.cards[card]))

    def checkpoint(self, card: str) -> str:
        """The file of a card that jobs read: the fetched one, or what it is converted to."""
        if self.benchmark.cards[card]["format"] in CONVERTED:
            return str(Path("resources") / "models" / f"{card}.safetensors")
        return self.fetched(card)

    def model(self, cell: Cell) -> str:
        """The checkpoint of a cell's model."""
        return self.checkpoint(cell.dataset["model"])

    def features(self, dataset: str) -> str:
        """The checkpoint of a dataset id's features."""
        return self.checkpoint(self.benchmark.datasets[dataset]["features"])

    def of_cell(self, cell: Cell, name: str) -> str:
        """The file ``name`` of a cell."""
        return f"{self.results}/{cell}/{name}"

    def of_cells(self, name: str, cells: Iterable[Cell] | None = None) -> list[str]:
        """The file ``name`` of each of ``cells`` (default all)."""
        cells = self.benchmark.cells.values() if cells is None else cells
        return [self.of_cell(cell, name) for cell in cells]

    def kept(self) -> list[str]:
        """What each cell leaves behind besides its samples."""
        found = self.of_cells("score.json") + self.of_cells("ends.npy") + self.of_cells("states.npy")
        found += self.of_cells("environments.json") + self.of_cells("lambdas.json", self.benchmark.fitted())
        return found + [self.of_cell(cell, "latent-ends.npy") for cell in self.in_latents()]

    def in_latents(self) -> list[Cell]:
        """The cells of pipelines."""
        return [cell for name in self.benchmark.in_latents() for cell in self.benchmark.cells_of(name)]

    def preparations(self, cell: Cell) -> dict[str, str]:
        """Artefacts that the cell's solver and grid are made from, name -> path, as inputs of the rules that run it.

        A part that must be prepared names its file (``prepare=`` where it is registered); the rule that makes
        ``<cell>/prepared/<file>`` is one of ``rules/solvers``. Empty for a cell that needs none.
        """
        parts = learning.prepared_files(cell.entry["solver"], cell.entry["grid"]["name"])
        return {name: self.of_cell(cell, f"prepared/{file}") for name, file in parts.items()}

    def guiding(self, cell: Cell) -> dict[str, str]:
        """The checkpoint of the network that guides the cell's model, by its key, as an input of the cell's rules."""
        guidance = cell.dataset.get("guidance", {})
        return {key: self.checkpoint(guidance[key]) for key in GUIDING if key in guidance}

    def precision(self, cell: Cell) -> dict[str, str]:
        """The file with the precision that a cell's network runs in, by name; none where its card decides."""
        if self.precisions.kind(cell) is None:
            return {}
        folder = self.precisions.folder(cell.dataset["id"], self.precisions.part(cell))
        return {"precision": f"{folder}/{CHOICE}"}

    def running(self, cell: Cell) -> dict[str, str]:
        """What a cell's network needs besides its checkpoint: :meth:`guiding` and :meth:`precision`."""
        return {**self.guiding(cell), **self.precision(cell)}

    def prepared(self, cell: Cell) -> dict[str, str]:
        """What a cell's rules read besides its model: :meth:`preparations` and :meth:`running`."""
        return {**self.preparations(cell), **self.running(cell)}

    def conditions(self, dataset: Dataset, stream: str, images: int) -> dict[str, str]:
        """What the prompts of the first images of a stream of noise were encoded to, by name; of classes none."""
        if "prompts" not in dataset:
            return {}
        return {"conditions": f"{self.results}/{dataset['id']}/conditions/{stream}-{images}.safetensors"}

    def fitted_on(self, cell: Cell) -> dict[str, str]:
        """:meth:`conditions` of a fitted cell's fitting set."""
        return self.conditions(cell.dataset, "fit", cell.entry["distill"]["images"])

    def searched_on(self, cell: Cell) -> dict[str, str]:
        """:meth:`conditions` of the images that a cell's grid is searched on."""
        return self.conditions(cell.dataset, "fit", cell.grid_options["images"])

    def sampled_on(self, cell: Cell) -> dict[str, str]:
        """:meth:`conditions` of a cell's samples."""
        return self.conditions(cell.dataset, "sample", cell.dataset["images"])

    def prompt_scores(self, cell: Cell) -> list[str]:
        """The scores of a cell's images by their prompts, a file for each of the dataset's scorers."""
        return [self.of_cell(cell, f"prompt-scores/{card}.json") for card in cell.dataset.get("prompt_scores", [])]

    def teacher(self, cell: Cell) -> dict[str, str]:
        """The teacher's states that the cell's fit reads, by name."""
        if cell.fit_follows_ends:
            return {"ends": self.fine_ends(cell)}
        return {"teacher": self.of_cell(cell, "teacher.safetensors")} if cell.with_teacher else {}

    def fine_ends(self, cell: Cell) -> str:
        """The fine solution's end states that a cell follows."""
        images, seed = self.benchmark.fine_ends(cell)
        return f"{self.results}/{cell.dataset['id']}/fine-ends/{images}-seed{seed}.safetensors"

    def prepared_on(self, cell: Cell) -> dict[str, str]:
        """What a cell's preparation reads besides its model: its images' conditions, a searched grid, ends."""
        assert cell.preparation is not None
        found = self.conditions(cell.dataset, "fit", cell.entry["prepare"]["images"])
        found |= {name: path for name, path in self.preparations(cell).items() if name != "prepared_solver"}
        return found | ({"ends": self.fine_ends(cell)} if cell.preparation.follows == "ends" else {})

    def lambdas(self, cell: Cell) -> dict[str, str]:
        """The coefficients that the cell's samples need, by name."""
        return {"lambdas": self.of_cell(cell, "lambdas.json")} if cell.fitted else {}

    @functools.cached_property
    def parts(self) -> dict[tuple[str, str], list[Cell]]:
        """The cells of each dataset in parts that are collected in one job each, by (dataset id, number)."""
        found = {}
        for name in self.benchmark.datasets:
            cells = self.benchmark.cells_of(name)
            for part, start in enumerate(range(0, len(cells), TOGETHER)):
                found[name, str(part)] = cells[start : start + TOGETHER]
        return found

    def part(self, wildcards: Any) -> tuple[list[Cell], list[Cell]]:
        """The cells of a rule's wildcards ``dataset`` and ``part``, and those of them that are fitted."""
        cells = self.parts[wildcards.dataset, wildcards.part]
        return cells, [cell for cell in cells if cell.fitted]

    def prepared_of_part(self, wildcards: Any) -> dict[str, str]:
        """What methods have prepared for the cells of a part, by the cell's name."""
        cells = self.parts[wildcards.dataset, wildcards.part]
        return {str(cell): self.preparations(cell)["prepared_solver"] for cell in cells if cell.preparation is not None}

    def collected(self, dataset: str | None = None) -> list[str]:
        """The files that the parts are collected in, of one dataset id or all."""
        return [f"{self.results}/{name}/collected/{part}.json" for name, part in self.parts if dataset in (None, name)]
