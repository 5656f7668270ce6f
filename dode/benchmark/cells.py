"""From a configuration to the cells of a benchmark: (dataset, solver, NFE), their files and what they depend on.

Imports no torch: the Snakefile is parsed again in every job.
"""

import dataclasses
import functools
import json
from pathlib import Path
from urllib.parse import urlparse

from dode import grids, solvers
from dode.benchmark import config as configs
from dode.benchmark import digests, published
from dode.grids.facts import ModelFacts
from dode.images import data
from dode.names import REFERENCE, CellName

SCRIPTS = Path("scripts")
# Keys of a card that do not decide what its network computes; the file itself is an input of the jobs.
REMARKS = {
    *("urls", "file", "size", "licence", "restrictions", "notes", "format", "key", "statistics", "sampling"),
    *("training", "loss", "test_accuracy", "test_images"),
}
TOGETHER = 500  # cells whose scores one job collects: Snakemake's time for a job grows faster than its inputs
PUBLISHED = Path("config") / "published_fids.csv"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell. ``entry`` is the solver's entry of the configuration, ``dataset`` the dataset's, defaults filled in."""

    dataset: dict
    entry: dict
    nfe: int

    @functools.cached_property
    def key(self):
        """The :class:`dode.names.CellName`: (dataset id, solver id, NFE)."""
        return CellName(self.dataset["id"], self.entry["id"], self.nfe)

    @functools.cached_property
    def _name(self):
        return str(self.key)

    @property
    def distilled(self):
        """Whether the cell has fitted coefficients."""
        return "distill" in self.entry

    def __str__(self):
        return self._name


@dataclasses.dataclass(frozen=True)
class Source:
    """Real images: what :func:`dode.images.data.load` is given, and the files that it reads."""

    source: str | dict
    image_shape: list

    def __str__(self):
        return data.described(self.source)

    @property
    def files(self):
        """Paths that the images are in."""
        return data.files(self.source)

    @property
    def params(self):
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

    def __init__(self, config, root):
        self.root = Path(root)
        self.config, self.cards = configs.load(config, root)
        self.results = f"results/{self.config['benchmark']}"
        self.datasets = {dataset["id"]: dataset for dataset in self.config["datasets"]}
        self.cells = {cell.key: cell for cell in self._cells()}
        self.published_rows = published.read(self.root / PUBLISHED)

    def _cells(self):
        for dataset in self.config["datasets"]:
            for entry in self.config["solvers"]:
                if dataset["id"] in entry["datasets"]:
                    entry = {"grid": dataset["grid"], **entry}
                    if "distill" in entry:
                        entry["distill"] = {"images": dataset["fit_images"], **entry["distill"]}
                    yield from (Cell(dataset, entry, nfe) for nfe in entry["nfe"])
            yield self._reference(dataset)

    def _reference(self, dataset):
        fine = dataset["reference"]
        label = f"reference: fine {fine['solver']} steps"
        entry = {"id": REFERENCE, "label": label, "options": {}, "grid": dataset["grid"], **fine}
        return Cell(dataset, entry, fine["nfe"])

    def cell(self, wildcards):
        """The cell of a rule's wildcards ``dataset``, ``solver`` and ``nfe``."""
        return self.cells[wildcards.dataset, wildcards.solver, int(wildcards.nfe)]

    def reference(self, dataset):
        """The reference cell of a dataset id."""
        return self.cells[dataset, REFERENCE, self.datasets[dataset]["reference"]["nfe"]]

    def fetched(self, card):
        """Path of a card's fetched and verified file, under its published name."""
        return str(Path("resources") / "checkpoints" / card / file_name(self.cards[card]))

    def model_file(self, cell):
        """Path of the checkpoint of a cell's model, as jobs read it."""
        return self.checkpoint(cell.dataset["model"])

    def checkpoint(self, card):
        """Path of the file that jobs read: the fetched one, or what it is converted to."""
        if self.cards[card]["format"] in configs.CONVERTED:
            return str(Path("resources") / "models" / f"{card}.safetensors")
        return self.fetched(card)

    def reading(self, card):
        """How a card's file is read, for ``params`` of its conversion."""
        return {key: self.cards[card].get(key) for key in ("format", "key")}

    def published(self, card):
        """The checksum that a card's file is published with, for ``params``, where the lock file's must not come in."""
        card = self.cards[card]
        return card.get("sha256") or card.get("md5") or "none"

    @property
    def several_seeds(self):
        """Whether any dataset has more than one seed, which self-FID needs."""
        return any(dataset["seeds"] > 1 for dataset in self.datasets.values())

    @property
    def sources(self):
        """The real images, each once, by the name that paths have of them."""
        return {
            self.real(dataset)["data"]: Source(dataset["data"], self.image_shape(dataset["id"]))
            for dataset in self.with_data()
        }

    def with_data(self):
        """The datasets that have real images, and not only statistics of them."""
        return [dataset for dataset in self.datasets.values() if "data" in dataset]

    def real(self, dataset):
        """The wildcards of the rules that make a dataset's statistics of real images."""
        found = {"dataset": dataset["id"], "features": dataset["features"]}
        if "data" in dataset:
            found["data"] = data.identity(dataset["data"], self.image_shape(dataset["id"]))
        return found

    def image_shape(self, dataset):
        """(C, H, W) of the images of a dataset id."""
        return self.cards[self.datasets[dataset]["model"]]["image_shape"]

    def features_file(self, dataset):
        """Path of the checkpoint of a dataset id's features, as jobs read it."""
        return self.checkpoint(self.datasets[dataset]["features"])

    def features_card(self, dataset):
        """The part of the card of a dataset id's features that decides them."""
        return computed(self.cards[self.datasets[dataset]["features"]])

    def statistics_of(self, dataset):
        """What the published statistics of a dataset id are, for ``params``; the file itself is an input."""
        name = self.datasets[dataset]["statistics"]
        return {"card": name, **{key: self.cards[name][key] for key in ("sha256", "md5") if key in self.cards[name]}}

    def scored_against(self, dataset):
        """What a dataset id is scored against, for ``params``: that another file is among the inputs reruns nothing."""
        own = self.datasets[dataset]
        return self.statistics_of(dataset) if "statistics" in own else self.real(own)["data"]

    def real_text(self, dataset):
        """What a dataset id is scored against in words, as the configuration has it."""
        own = self.datasets[dataset]
        return f"published statistics {own['statistics']}" if "statistics" in own else data.described(own["data"])

    def files(self, name, cells=None):
        """Path of the file ``name`` of each of ``cells`` (default all)."""
        cells = self.cells.values() if cells is None else cells
        return [f"{self.results}/{cell}/{name}" for cell in cells]

    @functools.cached_property
    def parts(self):
        """The cells of each dataset in parts that are collected in one job each, by (dataset id, number)."""
        found = {}
        for name in self.datasets:
            cells = self.cells_of(name)
            for part, start in enumerate(range(0, len(cells), TOGETHER)):
                found[name, str(part)] = cells[start : start + TOGETHER]
        return found

    def part(self, wildcards):
        """The cells of a rule's wildcards ``dataset`` and ``part``, and those of them that are distilled."""
        cells = self.parts[wildcards.dataset, wildcards.part]
        return cells, [cell for cell in cells if cell.distilled]

    @property
    def collected(self):
        """Paths of the files that the parts are collected in."""
        return [f"{self.results}/{name}/collected/{part}.json" for name, part in self.parts]

    def collected_of(self, dataset):
        """Those of them that are of a dataset id."""
        return [path for path, (name, _) in zip(self.collected, self.parts, strict=True) if name == dataset]

    def cells_of(self, dataset):
        """The cells of a dataset id."""
        return [cell for cell in self.cells.values() if cell.dataset["id"] == dataset]

    def distilled(self, dataset=None):
        """Cells with fitted coefficients, of one dataset or all."""
        return [cell for cell in self.cells.values() if cell.distilled and dataset in (None, cell.dataset["id"])]

    def shown(self, dataset):
        """The cells in a dataset's picture of samples: solvers of one NFE under one another, the reference last."""
        return sorted(self.cells_of(dataset), key=lambda cell: (cell.entry["id"] == REFERENCE, cell.nfe))

    def code(self, script, *names):
        """Digest of a script's code; ``names`` are the solvers that it will run."""
        return self._digest(script, frozenset(names))

    @functools.cache  # noqa: B019 - a benchmark lives as long as its run
    def _digest(self, script, names):
        modules = {solvers.module_of(name) for name in names}
        return digests.code_digest(self.root / SCRIPTS / script, *sorted(modules))

    def model(self, cell):
        """What the cell's network is: its card without remarks on training and licence."""
        return computed(self.cards[cell.dataset["model"]])

    def preparations(self, cell):
        """Artefacts that the cell's solver and grid are made from, name -> path, as inputs of the rules that run it.

        A part that must be prepared names its file (``prepare=`` where it is registered); the rule that makes
        ``<cell>/prepared/<file>`` is one of ``rules/solvers``. Empty for a cell that needs none.
        """
        parts = _prepared_files(cell.entry["solver"], cell.entry["grid"]["name"])
        return {name: self.files(f"prepared/{file}", [cell])[0] for name, file in parts.items()}

    def grid_options(self, cell):
        """All options of the cell's grid, defaults filled in, for the rule that prepares it."""
        grid = cell.entry["grid"]
        return {**grids.defaults(grid["name"]), **grid["options"]}

    def classifier(self, cell):
        """The checkpoint of the classifier that guides the cell's model, by name, as an input of its rules."""
        card = cell.dataset.get("guidance", {}).get("classifier")
        return {"classifier": self.checkpoint(card)} if card else {}

    def prepared(self, cell):
        """What a cell's rules read besides its model: :meth:`preparations` and :meth:`classifier`."""
        return {**self.preparations(cell), **self.classifier(cell)}

    def conditions(self, cell):
        """How the classes of the cell's images are drawn and how they guide; empty for a model without classes."""
        found = {key: cell.dataset[key] for key in ("labels", "guidance") if key in cell.dataset}
        if self.classifier(cell):
            found["guidance"] = {
                **found["guidance"],
                "classifier": computed(self.cards[found["guidance"]["classifier"]]),
            }
        return found

    def run(self, cell):
        """The parameters that decide the cell's trajectory, for ``params``: model, classes, solver, grid, NFE, seed."""
        return {
            **self.conditions(cell),
            "model": self.model(cell),
            "solver": cell.entry["solver"],
            "options": cell.entry["options"],
            "grid": cell.entry["grid"],
            "nfe": cell.nfe,
            "seed": self.config["seed"],
        }

    def teacher(self, cell):
        """The parameters of the teacher's trajectory: the run and the pairing."""
        keys = ("alignment", "substeps", "images", "teacher")
        distill = {key: cell.entry["distill"].get(key) for key in keys}
        if "seed" in cell.entry["distill"]:  # absent, and not null: a configuration without it stays as it was
            distill["seed"] = cell.entry["distill"]["seed"]
        return {**self.run(cell), "distill": distill}

    def teacher_solver(self, cell):
        """Name of the solver that makes the cell's teacher trajectory."""
        distill = cell.entry["distill"]
        if distill["alignment"] == "released":
            return "ddim"
        return distill.get("teacher") or solvers.create(cell.entry["solver"], **cell.entry["options"]).teacher.name

    def trajectory(self, cell):
        """The teacher's states that the cell's fit reads, by name; a local fit has its teacher with it, and no file."""
        if cell.entry["distill"]["alignment"] == "local":
            return {}
        return {"teacher": self.files("teacher.safetensors", [cell])[0]}

    def lambdas(self, cell):
        """The coefficients that the cell's samples need, by name."""
        return {"lambdas": self.files("lambdas.json", [cell])[0]} if cell.distilled else {}

    def fit_solvers(self, cell):
        """Names of the solvers that the cell's fit runs."""
        return [cell.entry["solver"], *([] if self.trajectory(cell) else [self.teacher_solver(cell)])]

    def fit(self, cell):
        """The parameters of the fit: the teacher's and what is fitted."""
        distill = {key: cell.entry["distill"][key] for key in ("directions", "stages", "refine")}
        return {**self.teacher(cell), "fit": distill}

    def samples(self, cell):
        """The parameters of the cell's samples: the run and which images."""
        keys = ("images", "seeds", "trajectory_images")
        return {**self.run(cell), **{key: cell.dataset[key] for key in keys}}

    def facts(self, cell):
        """What tables and figures say of the cell."""
        return {
            "dataset": cell.dataset["id"],
            "solver": cell.entry["id"],
            "label": cell.entry["label"],
            "method": cell.entry["solver"],
            "options": json.dumps(cell.entry["options"], sort_keys=True),
            "distilled": cell.distilled,
            "reference": cell.entry["id"] == REFERENCE,
            "nfe": cell.nfe,
            "images": cell.dataset["images"],
            "seeds": cell.dataset["seeds"],
        }

    def published_fids(self, cell):
        """The FIDs published for exactly this cell, ``{"fid": ..., "source": ...}`` each; mostly none."""
        grid, card = cell.entry["grid"], self.cards[cell.dataset["model"]]
        options = grids.complete(grid["name"], ModelFacts.of_card(card), **grid["options"])
        rows = published.matching(
            self.published_rows,
            solver=cell.entry["solver"],
            options=cell.entry["options"],
            grid={"name": grid["name"], "options": {k: v for k, v in options.items() if k not in grids.FILLED}},
            nfe=cell.nfe,
            distill=cell.entry.get("distill"),
            **self._convention(cell.dataset),
        )
        return published.quoted(rows)

    def incomparable(self):
        """How many FIDs are published for the checkpoint of each dataset at other conventions than the dataset's."""
        found = {}
        for name, dataset in self.datasets.items():
            convention = self._convention(dataset)
            rows = [row for row in self.published_rows if row["file"] == convention["file"]]
            found[name] = len(rows) - len(published.comparable(rows, **convention))
        return {name: count for name, count in found.items() if count}

    def _convention(self, dataset):
        """What is the same for all cells of a dataset (an entry of the configuration), and of a published FID."""
        return {
            "file": file_name(self.cards[dataset["model"]]),
            "statistics": dataset.get("statistics"),
            "images": dataset["images"],
            "classes": {key: dataset[key] for key in ("labels", "guidance") if key in dataset},
        }


@functools.cache
def _prepared_files(solver, grid):
    """The files that a solver and a grid are made from, by name of the part."""
    parts = {
        "prepared_solver": solvers.create(solver).method.prepare,
        "prepared_grid": grids.grids.get(grid).prepare,
    }
    return {name: file for name, file in parts.items() if file}


def file_name(card):
    """The published name of a card's checkpoint."""
    return card.get("file") or Path(urlparse(card["urls"][0]).path).name.split("@")[0]


def computed(card):
    """The part of a card that decides what its network computes."""
    return {key: value for key, value in card.items() if key not in REMARKS}
