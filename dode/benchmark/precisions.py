"""Which cells share a measured choice of precision, and what is measured for it. Imports no torch.

The choice itself is in ``results/<benchmark>/<dataset>/precision/<part>/choice.json`` (docs/architecture.md): a part is
the cells of a number of evaluations, ``nfe<n>``, or :data:`FINE`. It depends on nothing that another cell brings along.
"""

import dataclasses
from typing import Any

from dode import grids, solvers
from dode.benchmark.cells import Benchmark, Cell
from dode.benchmark.execution import settings
from dode.benchmark.precision_rule import FINE, FITTED, PLAIN
from dode.grids.facts import ModelFacts
from dode.validation import ConfigError

TABLE, CHOICE = "table.json", "choice.json"
IMAGES, MOST = 400, 3200  # of the fitting noise that is measured on: at first, and where that does not decide
RUNS, OF_A_CELL = 3, 0.25  # ways that are mostly run to end states, at most for this share of a cell's evaluations
PROBE, FEW = "ipndm", 10  # the plain solver, and with how many evaluations it stands for those that the fine one serves
#: A grid that every model has, where the dataset's cannot have the probe's number of steps.
ANY_GRID: dict[str, Any] = {"name": "karras", "options": {}}


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What is measured for a part.

    Attributes:
        kinds: the choices that it makes.
        cell: whose solver runs in every precision.
        other: whose end states it is compared with, in the card's precision.
    """

    kinds: tuple[str, ...]
    cell: Cell
    other: Cell


class Precisions:
    """The choices of a benchmark.

    Args:
        benchmark: the :class:`dode.benchmark.cells.Benchmark`.

    Raises:
        ConfigError: where a model has no grid of as many steps as the probe takes.
    """

    def __init__(self, benchmark: Benchmark):
        self.benchmark = benchmark
        for dataset in benchmark.datasets:
            for part in self.parts(dataset):
                self.measurement(dataset, part)

    def measured(self, dataset: str) -> bool:
        """Whether the precision of a dataset id is chosen by measurement."""
        return settings(self.benchmark.config["execution"], dataset)["precision"] == "auto"

    def kind(self, cell: Cell) -> str | None:
        """Which choice is a cell's; None where its card decides, as of a network that is trained in the model's place:
        what is measured is the model's own."""
        trained = solvers.create(cell.entry["solver"], **cell.entry["options"]).method.network is not None
        if trained or not self.measured(cell.dataset["id"]):
            return None
        if cell.is_reference:
            return FINE
        to_fine = cell.preparation is not None or cell.fit not in (None, "greedy")
        return FITTED if to_fine else PLAIN

    def part(self, cell: Cell) -> str:
        """The part with a cell's choice."""
        return FINE if cell.is_reference else f"nfe{cell.nfe}"

    def parts(self, dataset: str) -> list[str]:
        """The parts of a dataset id, the fine solution's first; none where cards decide."""
        cells = self.benchmark.cells_of(dataset) if self.measured(dataset) else []
        nfes = sorted({cell.nfe for cell in cells if not cell.is_reference})
        return [FINE, *(f"nfe{nfe}" for nfe in nfes)] if cells else []

    def folder(self, dataset: str, part: str) -> str:
        """Where a part's files are."""
        return f"{self.benchmark.results}/{dataset}/precision/{part}"

    def tables(self) -> list[str]:
        """The files with what was measured."""
        names = [(dataset, part) for dataset in self.benchmark.datasets for part in self.parts(dataset)]
        return [f"{self.folder(*name)}/{TABLE}" for name in names]

    def configuration(self) -> dict[str, Any]:
        """The part of ``execution`` that decides results, for a configuration that is handed on; empty without any."""
        chosen = {name: {"precision": "auto"} for name in self.benchmark.datasets if self.measured(name)}
        return {"execution": {"datasets": chosen}} if chosen else {}

    def measurement(self, dataset: str, part: str) -> Measurement:
        """What is measured for a part of a dataset id."""
        reference = self.benchmark.reference(dataset)
        if part == FINE:
            return Measurement((FINE,), reference, self._probe(dataset, FEW))
        return Measurement((PLAIN, FITTED), self._probe(dataset, int(part.removeprefix("nfe"))), reference)

    def images(self, dataset: str) -> int:
        """How many images are measured on at first."""
        return max(IMAGES, self.benchmark.datasets[dataset]["fit_images"])

    def most(self, dataset: str, part: str) -> int:
        """How many at most: as few as at first where more would cost as much as a quarter of a cell."""
        own, first = self.benchmark.datasets[dataset], self.images(dataset)
        cell = own["images"] * own["seeds"] * self.measurement(dataset, part).cell.nfe
        return max(first, min(MOST, int(OF_A_CELL * cell / self.evaluations(dataset, part))))

    def evaluations(self, dataset: str, part: str) -> int:
        """Network evaluations of a measurement for each image."""
        found = self.measurement(dataset, part)
        return RUNS * found.cell.nfe + found.other.nfe

    def _probe(self, dataset: str, nfe: int) -> Cell:
        own = self.benchmark.datasets[dataset]
        entry = {"id": PROBE, "label": PROBE, "solver": PROBE, "options": {}, "grid": self._grid(own, nfe)}
        return Cell(own, entry, nfe)

    def _grid(self, dataset: dict[str, Any], nfe: int) -> dict[str, Any]:
        """The dataset's, where it can have the probe's number of steps by itself."""
        facts, wrong = ModelFacts.of_card(self.benchmark.cards[dataset["model"]]), None
        for own in (dataset["grid"], ANY_GRID):
            made = grids.grids.get(own["name"])
            if made.recipe or made.prepare:
                continue
            try:
                grids.check(own["name"], solvers.create(PROBE).steps(nfe), facts, **own["options"])
                return own
            except ValueError as error:  # such as levels that are listed, of another number
                wrong = error
        raise ConfigError(
            f"execution.precision: 'auto' measures '{PROBE}' with {nfe} evaluations on the dataset '{dataset['id']}', "
            f"which its grid does not allow ({wrong}); set execution.datasets.{dataset['id']}.precision: card"
        )
