"""The page's data as its templates ask for them: the whole, and a data set by one metric."""

import collections
import math
import shlex
from collections.abc import Iterator

from dode.distillation import citations
from dode.report import passes, precisions
from dode.report.figures.style import MARKERS
from dode.report.page import markers, texts


class Page:
    """The data of a page.

    Attributes:
        found: from :func:`dode.report.page.page.data`.
        pictures: ``{cell's name: what :mod:`dode.report.page.thumbnails` made}``.
        cells, datasets, solvers: those of ``found`` by name or id.
    """

    def __init__(self, found: dict, pictures: dict):
        self.found, self.pictures = found, pictures
        self.cells = {cell["name"]: cell for cell in found["cells"]}
        self.datasets = {dataset["id"]: dataset for dataset in found["datasets"]}
        self.solvers = found["solvers"]
        self.precision_header = precisions.HEADER
        self.markers = {name: markers.marker(name) for name in MARKERS}
        self.environments = [texts.environment(each) for each in found["environments"]]

    def views(self) -> "Iterator[View]":
        """Every data set by every metric that it has a finite value of, or else by the first."""
        for dataset in self.datasets.values():
            for key in dataset["choices"] or list(self.found["metrics"])[:1]:
                yield View(self, dataset, key)

    def label(self, cell: dict) -> str:
        """Its solver's label."""
        return self.solvers[cell["solver"]]["label"]

    def title(self, cell: dict) -> str:
        """The label of its solver and its evaluations."""
        return f"{self.label(cell)}, NFE {cell['nfe']}"

    def archive_of(self, cell: dict) -> str:
        """The name of the file of the archive that a cell is from, as a shell takes it."""
        found = self.found["archive"]
        found = found or next(each for each in self.found["elsewhere"] if each["legend"] == cell["measured"])
        return shlex.quote(found["file"])

    @staticmethod
    def name_there(cell: dict) -> str:
        """A cell's name in its archive."""
        return cell["archived"] or cell["name"]

    def kind(self, cell: dict) -> str:
        """``reference``, ``distilled`` or ``plain``."""
        solver = self.solvers[cell["solver"]]
        return "reference" if solver["reference"] else "distilled" if solver["distilled"] else "plain"

    def score(self, cell: dict, key: str) -> str:
        """A score of a cell, to two digits of its error."""
        return texts.score(cell["scores"].get(key), self.found["metrics"][key])

    def picture(self, cell: dict, part: str) -> dict | None:
        """Its ``samples`` or ``trajectory``; None where it has none."""
        return self.pictures.get(cell["name"], {}).get(part)

    def reference(self, dataset: str) -> dict | None:
        """The fine-step cell of a data set."""
        return self.cells.get(self.datasets[dataset]["reference"])

    @property
    def costed(self) -> bool:
        """Whether anything was learnt whose cost is known."""
        return any(dataset["economy"].get(key) for dataset in self.found["datasets"] for key in dataset["economy"])

    def cells_of(self, dataset: str) -> list[dict]:
        """The cells of a data set."""
        return [cell for cell in self.cells.values() if cell["dataset"] == dataset]

    def neighbours(self, cell: dict) -> list[dict | None]:
        """The cells of the same solver and data set with the next fewer and the next more evaluations."""
        own = [each for each in self.cells_of(cell["dataset"]) if each["solver"] == cell["solver"]]
        row = [None, *sorted(own, key=lambda each: each["nfe"]), None]
        place = row.index(cell)
        return [row[place - 1], row[place + 1]]

    def relatives(self, cell: dict) -> list[dict]:
        """Cells with samples on the same noise: itself, its plain or distilled relatives, and the fine-step one."""
        plain = cell["plain"] or cell["name"]
        family = [each for each in self.cells_of(cell["dataset"]) if plain in (each["name"], each["plain"])]
        others = [each for each in family if each is not cell][:3]
        reference = self.reference(cell["dataset"])
        found = [cell, *others, *([] if reference in (None, cell) else [reference])]
        return [each for each in found if self.picture(each, "samples")] if self.picture(cell, "samples") else []

    def fewest(self, cells: list[dict]) -> int:
        """How many samples there are of each of the cells."""
        return min(self.pictures[cell["name"]]["samples"]["count"] for cell in cells)

    def directions(self, cell: dict) -> list[str]:
        """What each of the coefficients of an evaluation is called."""
        count = len(cell["fit"]["lambdas"][0]) if cell["fit"]["lambdas"] else 0
        return [f"λ, direction {i + 1}" for i in range(count)] if count > 1 else ["λ"] * count

    def errors(self, kinds: set[str]) -> str:
        """What ± is, by the kinds of errors."""
        return texts.listed((self.found["error_kinds"].get(kind, kind) for kind in sorted(kinds)), "or") or "unknown"

    def precisions(self, dataset: str) -> list[tuple[str, ...]]:
        """The rows of what was measured to choose the precisions of a data set (:mod:`dode.report.precisions`)."""
        own = [each for each in self.found["precisions"] if each["dataset"] == dataset]
        return [row for each in own for row in precisions.rows(each)]

    def cited(self, cell: dict) -> list[str]:
        """The sources of a cell's solver and grid, and of the method that fitted it."""
        return citations.of_cell(cell["made"], cell["fit"])

    def made_on(self, cell: dict) -> dict[str, str]:
        """What was made for a cell by what it was made on."""
        found: dict[str, list[str]] = {}
        for kind, indices in cell["made"]["environments"].items():
            found.setdefault("; ".join(self.environments[index] for index in indices), []).append(kind)
        return {where: texts.listed(kinds) for where, kinds in found.items()}

    def used(self, environment: int) -> int:
        """How many cells something was made for there."""
        made = (cell["made"]["environments"].values() for cell in self.cells.values())
        return sum(any(environment in indices for indices in kinds) for kinds in made)


class View:
    """A data set by one metric.

    Attributes:
        page, dataset, key: the :class:`Page`, the data set, and the key of the metric.
        metric: what the page says of it.
        cells, measured: its cells, with and without the fine-step one.
        rows: solver -> NFE -> cell of those measured.
        nfes: their numbers of evaluations.
        choices, gains, better: as in :func:`dode.report.page.page.data`.
        reference: the fine-step cell.
        halves: the score of the real halves; None where there is none.
        levels: (text, score) of both.
    """

    def __init__(self, page: Page, dataset: dict, key: str):
        self.page, self.dataset, self.key = page, dataset, key
        self.metric = page.found["metrics"][key]
        self.cells = page.cells_of(dataset["id"])
        self.measured = [cell for cell in self.cells if page.kind(cell) != "reference"]
        self.rows: dict[str, dict[int, dict]] = {}
        for cell in self.measured:
            self.rows.setdefault(cell["solver"], {})[cell["nfe"]] = cell
        self.nfes = sorted({cell["nfe"] for cell in self.measured})
        self.choices, self.gains, self.better = (dataset[part].get(key, []) for part in ("choices", "gains", "better"))
        self.reference, halves = page.reference(dataset["id"]), dataset["halves"]
        self.halves = halves and halves["scores"].get(key)
        self.levels = []
        if self.reference and key in self.reference["scores"]:
            text = f"{page.label(self.reference)} (NFE {self.reference['nfe']})"
            self.levels.append((text, self.reference["scores"][key]))
        if self.halves:
            self.levels.append((f"real halves ({texts.many(halves['images'], 'image')} each)", self.halves))
        self.tints = _tints(self.measured, key, self.metric["lower"])

    @property
    def told(self) -> dict[str, dict]:
        """The scores that between them tell what to take, of those that the data set has."""
        scored = {key for cell in self.cells for key in cell["scores"]}
        return {key: own for key, own in self.page.found["metrics"].items() if own["tells"] and key in scored}

    @property
    def costed(self) -> bool:
        """Whether anything was learnt here whose cost is known."""
        return bool(self.dataset["economy"].get(self.key))

    def economy(self, nfe: int) -> dict[str, dict | None]:
        """Of each kind of cost, what is worth it at a number of evaluations; None where nothing was learnt there."""
        return self.dataset["economy"][self.key].get(nfe, {})

    def at(self, nfe: int) -> list[dict]:
        """The cells with so many evaluations, the best score first."""
        cells = [cell for cell in self.measured if cell["nfe"] == nfe and self.key in cell["scores"]]
        sign = 1 if self.metric["lower"] else -1
        return sorted(cells, key=lambda cell: (self.value(cell) is None, sign * (self.value(cell) or 0)))

    @property
    def judged(self) -> dict:
        """The score whose bias is told: this one, or FID, or the first, where this one says nothing of bias."""
        told = self.told
        return self.metric if self.metric["bias"] or not told else told.get("fid", next(iter(told.values())))

    def written(self, score: list | None) -> str:
        """A score with its error."""
        return texts.score(score, self.metric)

    def text(self, cell: dict) -> str:
        """The score of a cell."""
        return self.written(cell["scores"].get(self.key))

    def value(self, cell: dict) -> float | None:
        """The unscaled score of a cell."""
        return cell["scores"].get(self.key, [None])[0]

    def mark(self, cell: dict) -> str:
        """``best`` or ``second`` of its column, or neither."""
        marks = self.dataset["marks"].get(self.key, {})
        return next((mark for mark, names in marks.items() if cell["name"] in names), "")

    @property
    def passes(self) -> str:
        """How many network passes the evaluations are, where they are more."""
        return passes.sentence((cell["nfe"], cell["passes"]) for cell in self.measured)

    @property
    def depth(self) -> str:
        """How many evaluations must wait for one another, where not all do."""
        found: dict[str, list[str]] = {}
        for cell in self.measured:
            if cell["depth"] not in (None, cell["nfe"]):
                found.setdefault(self.page.label(cell), []).append(f"{cell['depth']} of {cell['nfe']}")
        return "; ".join(f"{texts.listed(counts)} with {label}" for label, counts in found.items())

    @property
    def factors(self) -> list[dict]:
        """The gains whose factor is known, from the least."""
        return sorted((gain for gain in self.gains if gain["factor"] is not None), key=lambda gain: gain["factor"])

    @property
    def effects(self) -> str:
        """What distillation does to how many pairs."""
        verbs = {"distilled": "improves", "plain": "worsens", "tied": "makes no measurable difference in"}
        found = collections.Counter(gain["better"] for gain in self.gains)
        return texts.listed(f"{verb} {found[better]}" for better, verb in verbs.items() if found[better])

    @property
    def errors(self) -> str:
        """What ± is."""
        scores = [cell["scores"][self.key] for cell in self.measured if self.key in cell["scores"]]
        return self.page.errors({score[2] for score in scores if score[2]})

    @property
    def without_error(self) -> int:
        """How many cells have a score without an error."""
        return sum(cell["scores"].get(self.key, [0, 0])[1] is None for cell in self.measured)

    def biased(self, images: str) -> list[dict]:
        """The cells with too few ``generated`` or ``real`` images for their features."""
        return [cell for cell in self.cells if images in cell["biased"]]

    @property
    def failed(self) -> list[dict]:
        """The cells that have a score, of whatever metric, that is not finite."""
        return [cell for cell in self.measured if any(score[0] is None for score in cell["scores"].values())]

    @property
    def published(self) -> list[dict]:
        """The cells that have a published FID."""
        return [cell for cell in self.cells if cell["published"]]


def _tints(cells, key, lower):
    """Percent of the tint by a cell's name: 30 for the best of the table, 0 for the worst, by rank of magnitude."""
    values = {cell["name"]: cell["scores"][key][0] for cell in cells if key in cell["scores"]}
    values = {name: value for name, value in values.items() if value is not None}
    if values and min(values.values()) > 0:
        values = {name: math.log(value) for name, value in values.items()}
    low, high = min(values.values(), default=0), max(values.values(), default=0)
    if high - low < 1e-12:
        return {}
    shares = {name: (value - low) / (high - low) for name, value in values.items()}
    return {name: round(30 * (1 - share if lower else share)) for name, share in shares.items()}
