"""What the jobs of a benchmark depend on: parameters and code. Imports no torch.

Everything that decides a result is in a rule's ``params``; for a cell, as :mod:`dode.benchmark.parameters` defines.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dode import grids, solvers
from dode.benchmark import digests, records
from dode.benchmark.cells import Benchmark, Cell
from dode.benchmark.parameters import (
    FIT_MODULES,
    GUIDING,
    METHODS,
    PIPELINES,
    RECIPES,
    STUDENTS,
    Card,
    Fit,
    Samples,
    Teacher,
    Trajectory,
)
from dode.benchmark.precisions import Precisions
from dode.distillation import learned
from dode.fetching import checksums, pipelines
from dode.fetching.cards import file_name, folder_of, reading
from dode.images import prompts
from dode.metrics import prompt_scores
from dode.metrics.extractors import extractors
from dode.models.networks import networks
from dode.pipelines.registry import families

SCRIPTS = Path("scripts")
# Keys of a card that do not decide what its network computes; the file itself is an input of the jobs.
REMARKS = {
    *("urls", "source", "file", "size", "licence", "restrictions", "notes", "format", "key", "statistics", "sampling"),
    *("training", "loss", "test_accuracy", "test_images"),
}


def computed(card: Card) -> Card:
    """The part of a card that decides what its network computes."""
    found = {key: value for key, value in card.items() if key not in REMARKS}
    if "pipeline" in found:
        others = ("encoders", "decoder")
        found["precision"] = {key: value for key, value in found["precision"].items() if key not in others}
        found["pipeline"] = {"class": found["pipeline"]["class"]}
    return found


def pipeline_parts(card: Card) -> set[str]:
    """The modules that jobs with a pipeline choose as they run: that of its family, and that of these jobs."""
    return {families.module_of(card["pipeline"]["class"]), PIPELINES}


def _parts_of(method: learned.Learned, options: dict[str, Any]) -> set[str | Path]:
    """The modules and files that a method chooses as it runs."""
    own = method.parts(**options)
    modules = {*map(solvers.module_of, own.solvers), *map(grids.grids.module_of, own.grids)}
    return {*modules, *own.files}


def _chosen(kind: type, values: dict[str, Any]) -> Any:
    return kind(**{field.name: values[field.name] for field in dataclasses.fields(kind) if field.name in values})


class Dependencies:
    """The parameters and the code of jobs.

    Args:
        benchmark: the :class:`dode.benchmark.cells.Benchmark`.
    """

    def __init__(self, benchmark: Benchmark):
        self.benchmark = benchmark
        self.config, self.cards = benchmark.config, benchmark.cards
        self.locked = checksums.read(benchmark.root)
        self.precisions = Precisions(benchmark)

    def trajectory(self, cell: Cell) -> Trajectory:
        """Of a cell's rules that run its solver."""
        entry, guidance = cell.entry, cell.dataset.get("guidance")
        if guidance:
            others = {key: computed(self.cards[guidance[key]]) for key in GUIDING if key in guidance}
            guidance = {**guidance, **others}
        chosen = {key: entry[key] for key in ("solver", "options", "grid")}
        classes: dict[str, Any] = {"labels": cell.dataset.get("labels"), "guidance": guidance}
        if cell.preparation is not None:
            own = entry["prepare"]
            options = cell.preparation.filled(own["options"])
            classes["prepare"] = {**own, "options": options, **self._prompts(cell.dataset["id"], "fit", own["images"])}
        if cell.searched:
            searched = self._prompts(cell.dataset["id"], "fit", cell.grid_options["images"])
            classes["searched_on"] = searched.get("prompts")
        classes["precision"] = self.precisions.kind(cell)
        return Trajectory(model=self.model(cell), nfe=cell.nfe, seed=self.config["seed"], **chosen, **classes)

    def precision(self, dataset: str, part: str) -> dict[str, Any]:
        """What is measured to choose the precision of a part of a dataset id (:mod:`dode.benchmark.precisions`)."""
        own, found = self.benchmark.datasets[dataset], self.precisions.measurement(dataset, part)
        cells = {"cell": found.cell, "other": found.other}
        return {
            # The card's precision decides here, whatever was chosen.
            **{
                name: dataclasses.replace(self.trajectory(each), precision=None).params()
                for name, each in cells.items()
            },
            "kinds": list(found.kinds),
            "images": self.precisions.images(dataset),
            "most": self.precisions.most(dataset, part),
            "of_seed": {"paired_fid": own["images"], "trajectory_rmse": own["trajectory_images"]},
            "evaluations": own["images"] * own["seeds"] * found.cell.nfe,
            "features": self.features(dataset),
        }

    def precision_code(self, dataset: str, part: str) -> str:
        """Digest of the code of that measurement."""
        found = self.precisions.measurement(dataset, part)
        others = {*self._grid_parts(found.other), self._extractor(self.benchmark.datasets[dataset]["features"])}
        return self.cell_code("precision.py", found.cell, found.other.entry["solver"], parts=others)

    def teacher(self, cell: Cell) -> Teacher:
        """Of a fitted cell."""
        own = cell.entry["distill"]
        return _chosen(Teacher, {**own, **self._prompts(cell.dataset["id"], "fit", own["images"])})

    def fit(self, cell: Cell) -> Fit:
        """Of a fitted cell."""
        own = cell.entry["distill"]
        return _chosen(Fit, own if cell.method is None else {**own, "options": cell.method.filled(own["options"])})

    def samples(self, cell: Cell) -> Samples:
        """Of a cell."""
        own = cell.dataset
        return _chosen(Samples, {**own, "encoded": self._encoded(own["id"], "sample", own["images"]) or None})

    def model(self, cell: Cell) -> Card:
        """The cell's network: its card without remarks on training and licence."""
        return computed(self.cards[cell.dataset["model"]])

    def features(self, dataset: str) -> Card:
        """The part of the card of a dataset id's features that decides them; empty where it has none."""
        name = self.benchmark.datasets[dataset]["features"]
        return {} if name is None else computed(self.cards[name])

    def reading(self, card: str) -> dict[str, Any]:
        """How a card's file is read, for its conversion."""
        return reading(self.cards[card])

    def expected(self, card: str) -> str:
        """The checksum that a card's file must have, as far as it is known: of the card, or of the lock file.

        Of a file of this machine its own: where it is another one now, or the card says another checksum, it is fetched
        again, and refused there.
        """
        published = self.published(card)
        if (own := checksums.of_local(self.cards[card], folder_of(self.benchmark.root, card))) is not None:
            said = self.cards[card].get("sha256", "")
            # Where they differ something that no file has, whichever of the two was fetched.
            return own if own.startswith(said) else hashlib.sha256(f"{said} {own}".encode()).hexdigest()
        entry = self.locked.get(f"{card}/{file_name(self.cards[card])}")
        return published if len(published) == 64 or entry is None else entry["sha256"]

    def published(self, card: str) -> str:
        """The published checksum of a card's file, without that of the lock file."""
        own = self.cards[card]
        return own.get("sha256") or own.get("md5") or "none"

    def pipeline(self, card: str) -> dict[str, Any]:
        """Which folder of a pipeline or a scorer is meant; one of this machine is known by its contents."""
        own = pipelines.of_card(self.cards[card])
        assert own is not None
        variant, place = own.get("variant"), pipelines.local(own["source"], folder_of(self.benchmark.root, card))
        contents = own["source"] if place is None else pipelines.listing(place, variant)
        return {"class": own.get("class"), "variant": variant, "contents": contents}

    def encoding(self, dataset: str, stream: str, images: int) -> dict[str, Any]:
        """What the prompts of images are encoded from."""
        own = self.benchmark.datasets[dataset]
        card, first = self.cards[own["model"]], own["images"] if stream == "fit" else 0
        # Of a network that was distilled, what stands for no prompt is encoded only where it is guided by it.
        free, way = own.get("guidance", {}).get("name") == "classifier-free", card["pipeline"]["guidance"]
        rows = prompts.read(**own["prompts"])[first : first + images]
        return {
            "first": first,
            "rows": records.digest(rows),
            "negative_prompt": own.get("negative_prompt", ""),
            **({"without": True} if free and way != "classifier-free" else {}),
            "dtype": card["precision"].get("encoders", card["precision"]["dtype"]),
            "length": card["pipeline"].get("length"),
        }

    def _encoded(self, dataset: str, stream: str, images: int) -> dict[str, Any]:
        """What of :meth:`encoding` decides a result, without a text that others may read; of classes nothing."""
        if "prompts" not in self.benchmark.datasets[dataset]:
            return {}
        own = self.encoding(dataset, stream, images)
        del own["first"]
        return {"prompts": own.pop("rows"), **own, "negative_prompt": records.digest(own["negative_prompt"])}

    def _prompts(self, dataset: str, stream: str, images: int) -> dict[str, Any]:
        """The digest of the prompts of images as ``prompts``; of classes nothing."""
        return {key: value for key, value in self._encoded(dataset, stream, images).items() if key == "prompts"}

    def guiding(self, dataset: str) -> dict[str, str]:
        """The cards of the networks that guide a dataset id's model, by their key of ``guidance``."""
        guidance = self.benchmark.datasets[dataset].get("guidance") or {}
        return {key: guidance[key] for key in GUIDING if key in guidance}

    def scorers(self, dataset: str) -> dict[str, str]:
        """The cards of the scorers of a dataset id's prompts, by their metric."""
        cards = self.benchmark.datasets[dataset].get("prompt_scores", [])
        return {prompt_scores.metric(self.cards[card]): card for card in cards}

    def prompt_score(self, dataset: str, card: str) -> dict[str, Any]:
        """What the images of a dataset id are scored by: a scorer, and their prompts."""
        own = self.benchmark.datasets[dataset]
        rows = prompts.read(**own["prompts"])[: own["images"]]
        return {"card": computed(self.cards[card]), "first": 0, "rows": records.digest(rows)}

    def decoding(self, dataset: str) -> dict[str, Any]:
        """How a pipeline's latents become images."""
        precision = self.cards[self.benchmark.datasets[dataset]["model"]]["precision"]
        return {"dtype": precision.get("decoder", precision["dtype"])}

    def pipeline_code(self, script: str, dataset: str) -> str:
        """Digest of the code of a script that runs a part of a dataset id's pipeline other than its network."""
        return self.code(script, *pipeline_parts(self.cards[self.benchmark.datasets[dataset]["model"]]))

    def statistics(self, dataset: str) -> dict[str, Any]:
        """What the published statistics of a dataset id are; the file itself is an input."""
        name = self.benchmark.datasets[dataset]["statistics"]
        return {"card": name, **{key: self.cards[name][key] for key in ("sha256", "md5") if key in self.cards[name]}}

    def real(self, dataset: str) -> dict[str, Any] | str | None:
        """The real images that a dataset id is scored against, None where it has none."""
        own = self.benchmark.datasets[dataset]
        if not self.benchmark.has_real(dataset):
            return None
        return self.statistics(dataset) if "statistics" in own else self.benchmark.real(own)["data"]

    def score(self, dataset: str) -> dict[str, Any]:
        """How the cells of a dataset id are scored."""
        own = {key: self.config[key] for key in ("kid", "neighbours")}
        if dataset in self.benchmark.in_latents():
            own["decoding"] = self.decoding(dataset)
        return {"card": self.features(dataset), "real": self.real(dataset), **own}

    def code(self, script: str, *parts: str | Path) -> str:
        """Digest of a script's code; ``parts`` are the modules, and files with numbers, that its job chooses as it
        runs."""
        return self._digest(script, frozenset(parts))

    @functools.cache  # noqa: B019 - it lives as long as its run
    def _digest(self, script: str, parts: frozenset[str | Path]) -> str:
        return digests.code_digest(self.benchmark.root / SCRIPTS / script, *sorted(parts, key=str))

    def cell_code(self, script: str, cell: Cell, *others: str, parts: Iterable[str | Path] = ()) -> str:
        """Digest of the code of a script that runs a cell's solver, and ``others``, on its grid and network.

        ``parts`` are further modules, and files, that its job chooses as it runs.
        """
        grid = cell.entry["grid"]["name"]
        parts = {
            *parts,
            *(solvers.module_of(name) for name in (cell.entry["solver"], *others)),
            *self._grid_parts(cell),
        }
        for card in self._network_cards(cell):
            parts |= pipeline_parts(card) if "pipeline" in card else {networks.module_of(card["network"]["name"])}
        if grids.grids.get(grid).recipe:
            parts.add(RECIPES)
        if solvers.create(cell.entry["solver"]).method.network:
            parts.add(STUDENTS)
        return self.code(script, *parts)

    def _network_cards(self, cell: Cell) -> list[Card]:
        guidance = cell.dataset.get("guidance", {})
        names = [cell.dataset["model"], *(guidance[key] for key in GUIDING if key in guidance)]
        return [self.cards[name] for name in names]

    def _grid_parts(self, cell: Cell) -> set[str]:
        """The modules of the cell's grid and of the grid that it is made over."""
        over = cell.grid_options.get("over")
        names = [cell.entry["grid"]["name"], *([over["name"]] if isinstance(over, dict) else [])]
        return {grids.grids.module_of(name) for name in names}

    def teacher_code(self, cell: Cell) -> str:
        """Digest of the code of a cell's teacher trajectory."""
        return self.cell_code("teacher.py", cell, cell.teacher)

    def fit_code(self, cell: Cell) -> str:
        """Digest of the code of a cell's fit, which runs its teacher too where this has no file."""
        if cell.method is not None:
            module, options = learned.fits.module_of(cell.method.name), cell.entry["distill"]["options"]
            return self.cell_code("distill.py", cell, parts={METHODS, module, *_parts_of(cell.method, options)})
        teacher = [] if cell.with_teacher or cell.is_joint else [cell.teacher]
        return self.cell_code("distill.py", cell, *teacher, parts={FIT_MODULES[cell.entry["distill"]["fit"]]})

    def fine_ends_code(self, dataset: str) -> str:
        """Digest of the code of a dataset id's fine solution on fitting images."""
        return self.cell_code("fine_ends.py", self.benchmark.reference(dataset))

    def sampling_code(self, cell: Cell) -> dict[str, str]:
        """Digests of all code that makes a cell's samples, but for that of its fit, by what it does."""
        dataset, found = cell.dataset["id"], {"sample": self.cell_code("sample.py", cell)}
        if cell.preparation is not None:
            found["prepare"] = self.preparation_code(cell)
            if cell.preparation.follows == "ends":
                found["fine_ends"] = self.fine_ends_code(dataset)
        if cell.searched:
            found["search_grid"] = self.search_code(cell)
        if "prompts" in cell.dataset:
            found["encode"] = self.pipeline_code("encode.py", dataset)
        return found

    def decoded_code(self, dataset: str) -> dict[str, str]:
        """Digests of the code that makes images of the latents of a pipeline's dataset id, and their scores."""
        return {"decode": self.pipeline_code("decode.py", dataset), "pipeline": self.code("score_pipeline.py")}

    def preparation_code(self, cell: Cell) -> str:
        """Digest of the code that prepares what a cell's solver needs."""
        module, own = learned.preparations.module_of(cell.entry["solver"]), cell.preparation
        assert own is not None
        parts = _parts_of(own, cell.entry["prepare"]["options"])
        return self.cell_code("prepare.py", cell, parts={module, *parts})

    def search_code(self, cell: Cell) -> str:
        """Digest of the code of the search for a cell's grid."""
        return self.cell_code("search_grid.py", cell, cell.grid_options["teacher"])

    def prompt_score_code(self, card: str) -> str:
        """Digest of the code of the scores of images by their prompts with the scorer of a card."""
        return self.code("prompt_score.py", prompt_scores.scorers.module_of(self.cards[card]["network"]["name"]))

    def score_code(self, dataset: str) -> str:
        """Digest of the code that scores the cells of a dataset id."""
        name = self.benchmark.datasets[dataset]["features"]
        return self.code("score_ends.py") if name is None else self.features_code("score.py", name)

    def features_code(self, script: str, features: str) -> str:
        """Digest of the code of a script that takes the features of the card ``features``."""
        return self.code(script, self._extractor(features))

    def _extractor(self, features: str) -> str:
        return extractors.module_of(self.cards[features]["network"]["name"])
