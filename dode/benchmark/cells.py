"""From a configuration to the cells of a benchmark: (dataset, solver, NFE).

Where their files are is in :mod:`dode.benchmark.files`, what their jobs depend on in
:mod:`dode.benchmark.dependencies`, what reports say of them in :mod:`dode.benchmark.facts`. Imports no torch: the
Snakefile is parsed again in every job.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dode import grids, solvers
from dode.benchmark import config as configs
from dode.benchmark import fit_config
from dode.distillation import learned
from dode.distillation.fit_checks import FITS
from dode.images import data
from dode.names import REFERENCE, CellName
from dode.report import learning

Dataset = dict[str, Any]  # an entry of the configuration's datasets, defaults filled in
Card = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        dataset: the dataset's entry of the configuration, defaults filled in.
        entry: the solver's.
        nfe: number of network evaluations.
    """

    dataset: Dataset
    entry: dict[str, Any]
    nfe: int

    @functools.cached_property
    def key(self) -> CellName:
        """Its name: (dataset id, solver id, NFE)."""
        return CellName(self.dataset["id"], self.entry["id"], self.nfe)

    @functools.cached_property
    def _name(self) -> str:
        return str(self.key)

    @property
    def fitted(self) -> bool:
        """Whether the cell has a file of fitted coefficients."""
        return "distill" in self.entry

    @functools.cached_property
    def distilled(self) -> bool:
        """Whether it has learnt something before it samples (:func:`dode.report.learning.distilled`)."""
        return learning.distilled(self.entry["solver"], self.entry["grid"]["name"], fitted=self.fitted)

    @property
    def is_reference(self) -> bool:
        """Whether it is the fine-step solver of its dataset."""
        return self.entry["id"] == REFERENCE

    @property
    def with_teacher(self) -> bool:
        """Whether its fit reads a teacher's states from a file; a local fit runs its teacher itself."""
        if self.method is not None:
            return self.method.follows == "states"
        return self.fitted and self.entry["distill"].get("alignment") in ("aligned", "released")

    @property
    def fit(self) -> str | None:
        """The name of its fit; None without one."""
        return self.entry["distill"]["fit"] if self.fitted else None

    @property
    def is_joint(self) -> bool:
        """Whether it has a joint fit."""
        return self.fit == "joint"

    @property
    def method(self) -> learned.Learned | None:
        """By which method of others it is fitted; None without a fit, and for those of this project."""
        return None if self.fit in (None, *FITS) else learned.fits.get(self.fit)

    @property
    def preparation(self) -> learned.Learned | None:
        """What makes the file that its solver needs."""
        return learned.preparations.get(self.entry["solver"]) if "prepare" in self.entry else None

    @property
    def fit_follows_ends(self) -> bool:
        """Whether its fit aims at the end states of the dataset's fine solution."""
        return self.is_joint or (self.method is not None and self.method.follows == "ends")

    @property
    def follows_ends(self) -> bool:
        """Whether its fit or its preparation does."""
        return self.fit_follows_ends or (self.preparation is not None and self.preparation.follows == "ends")

    @property
    def searched(self) -> bool:
        """Whether its grid must be prepared."""
        return grids.grids.get(self.entry["grid"]["name"]).prepare is not None

    @property
    def grid_options(self) -> dict[str, Any]:
        """All options of the cell's grid, defaults filled in."""
        grid = self.entry["grid"]
        return {**grids.defaults(grid["name"]), **grid["options"]}

    @property
    def teacher(self) -> str:
        """Name of the solver that makes a fitted cell's teacher trajectory."""
        distill = self.entry["distill"]
        if distill.get("alignment") == "released":
            return "ddim"
        own = solvers.create(self.entry["solver"], **self.entry["options"])
        return distill.get("teacher") or own.teacher.name

    def __str__(self) -> str:
        return self._name


@dataclasses.dataclass(frozen=True)
class Source:
    """Real images: the argument of :func:`dode.images.data.load`, and the files that it reads."""

    source: str | dict
    image_shape: list[int]

    def __str__(self) -> str:
        return data.described(self.source)

    @property
    def files(self) -> list[str]:
        """Paths that the images are in."""
        return data.files(self.source)

    @property
    def params(self) -> dict[str, Any]:
        """What the images are, for ``params``."""
        return {"source": self.source, "image_shape": self.image_shape, "listing": data.listing(self.source)}


class Benchmark:
    """A checked configuration with its cells.

    Args:
        config: the configuration as a dictionary.
        root: the folder that holds ``config/`` and ``scripts/``.

    Raises:
        dode.benchmark.config.ConfigError: one sentence that names the key, the value and what is allowed.
    """

    def __init__(self, config: Mapping[str, Any], root: str | Path):
        self.root = Path(root)
        self.config, self.cards = configs.load(config, root)
        self.results = f"results/{self.config['benchmark']}"
        self.datasets: dict[str, Dataset] = {dataset["id"]: dataset for dataset in self.config["datasets"]}
        self.cells: dict[CellName, Cell] = {cell.key: cell for cell in self._cells()}

    def _cells(self) -> Iterator[Cell]:
        for dataset in self.config["datasets"]:
            for entry in self.config["solvers"]:
                if dataset["id"] in entry["datasets"]:
                    entry = {"grid": dataset["grid"], **entry}
                    if "distill" in entry:
                        own = entry["distill"]
                        entry["distill"] = {**own, "images": fit_config.fitting_images(own, dataset)}
                    if "prepare" in entry:
                        own = entry["prepare"]
                        entry["prepare"] = {**own, "images": fit_config.preparing_images(entry, dataset)}
                    yield from (Cell(dataset, entry, nfe) for nfe in entry["nfe"])
            yield self._reference(dataset)

    def _reference(self, dataset: Dataset) -> Cell:
        fine = dataset["reference"]
        label = f"reference: fine {fine['solver']} steps"
        entry = {"id": REFERENCE, "label": label, "options": {}, **fine, "grid": configs.reference_grid(dataset)}
        return Cell(dataset, entry, fine["nfe"])

    def cell(self, wildcards: Any) -> Cell:
        """The cell of a rule's wildcards ``dataset``, ``solver`` and ``nfe``."""
        return self.cells[CellName(wildcards.dataset, wildcards.solver, int(wildcards.nfe))]

    def reference(self, dataset: str) -> Cell:
        """The reference cell of a dataset id."""
        return self.cells[CellName(dataset, REFERENCE, self.datasets[dataset]["reference"]["nfe"])]

    def fine_ends(self, cell: Cell) -> tuple[int, int]:
        """Images and seed of the fine solution's end states that a cell is fitted to, or its solver prepared with."""
        own = cell.entry["distill" if cell.fit_follows_ends else "prepare"]
        return own["images"], own.get("seed", self.config["seed"])

    def with_fine_ends(self, dataset: str, images: int, seed: int) -> list[Cell]:
        """The cells of a dataset id that follow the same end states."""
        following = (cell for cell in self.cells_of(dataset) if cell.follows_ends)
        return [cell for cell in following if self.fine_ends(cell) == (images, seed)]

    def cells_of(self, dataset: str) -> list[Cell]:
        """The cells of a dataset id."""
        return [cell for cell in self.cells.values() if cell.dataset["id"] == dataset]

    def fitted(self) -> list[Cell]:
        """The cells with a file of fitted coefficients."""
        return [cell for cell in self.cells.values() if cell.fitted]

    def distilled(self) -> list[Cell]:
        """The cells that have learnt something: with a fit, or with what was prepared for their solver or grid."""
        return [cell for cell in self.cells.values() if cell.distilled]

    def joint(self) -> list[Cell]:
        """The cells whose numbers were fitted together, by a joint fit or a method of others."""
        return [cell for cell in self.fitted() if cell.is_joint or cell.method]

    def stepwise(self) -> list[Cell]:
        """The cells whose coefficients were fitted evaluation by evaluation."""
        return [cell for cell in self.fitted() if not (cell.is_joint or cell.method)]

    def has_real(self, dataset: str) -> bool:
        """Whether the cells of a dataset id are scored against real images too (:func:`configs.has_real`)."""
        return configs.has_real(self.datasets[dataset])

    def has_features(self, dataset: str) -> bool:
        """Whether the images of a dataset id are scored by features (:func:`configs.has_features`)."""
        return configs.has_features(self.datasets[dataset])

    def with_data(self) -> list[Dataset]:
        """The datasets that have real images, and not only statistics of them."""
        return [dataset for dataset in self.datasets.values() if "data" in dataset]

    def in_latents(self) -> list[str]:
        """Ids of the datasets whose model is a pipeline, so that their solvers work in latents."""
        return [name for name, dataset in self.datasets.items() if "pipeline" in self.cards[dataset["model"]]]

    def image_shape(self, dataset: str) -> list[int]:
        """(C, H, W) of the images of a dataset id."""
        return self.cards[self.datasets[dataset]["model"]]["image_shape"]

    def state_shape(self, dataset: str) -> list[int]:
        """(C, H, W) of what solvers work on: the latents of a pipeline, else the images."""
        card = self.cards[self.datasets[dataset]["model"]]
        return card["latent_shape"] if "pipeline" in card else card["image_shape"]

    def real(self, dataset: Dataset) -> dict[str, str]:
        """The wildcards of the rules that make a dataset's statistics of real images."""
        found = {"dataset": dataset["id"], "features": dataset["features"]}
        if "data" in dataset:
            found["data"] = data.identity(dataset["data"], self.image_shape(dataset["id"]))
        return found

    @property
    def sources(self) -> dict[str, Source]:
        """The real images, each once, by their name in paths."""
        return {
            self.real(dataset)["data"]: Source(dataset["data"], self.image_shape(dataset["id"]))
            for dataset in self.with_data()
        }
