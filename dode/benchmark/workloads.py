"""How much work each job is, and from it: shards, walltime, memory, which jobs of a cell go to the cluster together.

Numbers are of the configuration's ``execution``, per dataset where it says so; nothing here changes a result. Imports
no torch.
"""

import math
from collections.abc import Mapping
from typing import Any

from dode.benchmark import evaluations
from dode.benchmark.cells import Benchmark, Cell
from dode.benchmark.execution import settings
from dode.benchmark.precision_rule import FINE, FITTED, LOADS, PLAIN
from dode.benchmark.precisions import Precisions
from dode.distillation.learned import Expense
from dode.names import REFERENCE

COMPILE = 60  # further seconds of a job whose network is compiled
COMPILATIONS = 10  # minutes of compiling in a measurement of precisions
START = 20  # seconds that a job takes to start and to load its network
MARGIN = 2  # walltime asked for, in expected times
GROUPED = 1  # minutes of walltime for each job of a group besides
MORE_MEMORY = 0.5  # asked for beyond the first time with every further attempt
FIT = ("search_grid", "fine_ends", "prepare", "teacher", "distill")
SCORE = ("gather", "decode", "score", "prompt_score", "score_pipeline")


CARD, COMPILED = "card", "-compiled"
AS_CARDS = (CARD, f"{CARD}{COMPILED}")
#: By the kind of a choice the ways that it is assumed to be one of.
ASSUMED = {
    PLAIN: (*AS_CARDS, "tf32", f"tf32{COMPILED}", "float16", f"float16{COMPILED}"),
    FITTED: AS_CARDS,
    FINE: AS_CARDS,
}


def speeds(settings: Mapping[str, Any]) -> dict[str, float]:
    """``evaluations_per_second`` by way, :data:`CARD` first; empty where there is none."""
    own = settings.get("evaluations_per_second")
    if own is None:
        return {}
    return dict(own) if isinstance(own, Mapping) else {CARD: own}


class Workloads:
    """The work of a benchmark's jobs.

    Args:
        benchmark: a :class:`dode.benchmark.cells.Benchmark`.
        measured: where precisions are measured and are known, the speed of a choice and the seconds of its first call,
            by (dataset id, part, kind). For a plan alone: a run has as many shards before its measurements as after.
    """

    def __init__(self, benchmark: Benchmark, *, measured: Mapping[tuple, tuple[float, float]] | None = None) -> None:
        self.benchmark, self.measured = benchmark, measured or {}
        self.precisions = Precisions(benchmark)
        self.execution = benchmark.config["execution"]
        self._counted: dict[tuple, Expense] = {}

    def settings(self, cell: Cell) -> dict[str, Any]:
        """The settings ``execution`` for a cell."""
        return settings(self.execution, cell.dataset["id"])

    def evaluations(self, rule: str, cell: Cell) -> int:
        """Network evaluations in all jobs of a cell's rule, at most (:func:`dode.benchmark.evaluations.count`)."""
        return self._expense(rule, cell).evaluations

    def gradients(self, rule: str, cell: Cell) -> int:
        """Through how many of these gradients flow back, at most."""
        return self._expense(rule, cell).gradients

    def _expense(self, rule: str, cell: Cell) -> Expense:
        key = (rule, *cell.key)
        if key not in self._counted:  # asked for several times per job, and a grid is made for it
            asked = (self.benchmark, rule, cell)
            self._counted[key] = Expense(evaluations.count(*asked), evaluations.gradients(*asked))
        return self._counted[key]

    def scored(self, cell: Cell) -> int:
        """Images of a cell, which its scores look at."""
        return cell.dataset["images"] * cell.dataset["seeds"]

    def measuring(self, dataset: str, part: str) -> int:
        """Network evaluations of a measurement of precisions that the first images decide."""
        return self.precisions.images(dataset) * self.precisions.evaluations(dataset, part)

    def measuring_runtime(self, dataset: str, part: str, attempt: int) -> int:
        """Walltime in minutes of the job that makes it."""
        own = settings(self.execution, dataset)
        speed = speeds(own).get(CARD, math.inf)
        work = self.precisions.most(dataset, part) * self.precisions.evaluations(dataset, part)
        minutes = own["runtime"] + COMPILATIONS + MARGIN * work / speed / 60
        return math.ceil(minutes * attempt)

    def assumed(self, cell: Cell) -> tuple[str, float, float] | None:
        """``(way, evaluations per second, further seconds of each job)`` of a cell before anything is measured; None
        where no speed is given.

        The card's, or with ``precision: auto`` the fastest of those that keep as many digits as TF32, a compilation in
        each job included; for fitted cells and the fine solution the card's, compiled or not. On the digits a
        measurement takes just these. Elsewhere it may take others.
        """
        own = speeds(self.settings(cell))
        if not own:
            return None
        taken = ASSUMED.get(self.precisions.kind(cell) or "", (CARD,))
        ways = [(way, own[way], COMPILE * way.endswith(COMPILED)) for way in taken if way in own]
        loads, count = 1 if cell.is_reference else LOADS, self.evaluations("sample", cell)
        return min(ways, key=lambda way: count / way[1] + loads * way[2])

    def known(self, cell: Cell) -> tuple[float, float] | None:
        """Evaluations per second and further seconds of a cell's jobs, as measured or else assumed."""
        found = self.measured.get((cell.dataset["id"], self.precisions.part(cell), self.precisions.kind(cell)))
        assumed = self.assumed(cell)
        return found or (assumed and assumed[1:])

    def seconds(self, rule: str, cell: Cell) -> float | None:
        """Expected seconds of one job of a cell's rule beyond its start; None where no speed is given."""
        return self._seconds(rule, cell, self.known(cell))

    def _seconds(self, rule: str, cell: Cell, how: tuple[float, float] | None) -> float | None:
        own, count = self.settings(cell), self._expense(rule, cell).work
        if how is None:
            return None
        if rule == "score" and not self.benchmark.has_features(cell.dataset["id"]):
            return 0.0
        if rule in ("score", "prompt_score"):
            return self.scored(cell) / own["features_per_second"] if "features_per_second" in own else 0.0
        speed, further = how
        jobs = self.shards(cell) if rule == "sample" else 1
        return count / speed / jobs + (further if count else 0)

    def _may_compile(self, cell: Cell) -> bool:
        return self.precisions.kind(cell) is not None

    def shards(self, cell: Cell) -> int:
        """Number of jobs that share a cell's images: as set, or as many as last ``job_minutes`` each."""
        own = self.settings(cell)
        if own["shards"] != "auto":
            return own["shards"]
        assumed = self.assumed(cell)
        assert assumed is not None  # the configuration is refused without a speed
        seconds = self.evaluations("sample", cell) / assumed[1]
        return min(max(1, math.ceil(seconds / 60 / own["job_minutes"])), self.scored(cell))

    def shard_files(self, cell: Cell, name: str) -> list[str]:
        """Paths of a cell's shards, ``name`` behind their numbers."""
        count = self.shards(cell)
        folder = f"{self.benchmark.results}/{cell}/shards"
        return [f"{folder}/{shard}-of-{count}{name}" for shard in range(count)]

    def runtime(self, rule: str, cell: Cell, attempt: int) -> int:
        """Walltime in minutes, more with every attempt: a job may have been stopped for want of it."""
        own = speeds(self.settings(cell))
        # By the card's speed, on which a measured choice may fall back.
        seconds = (self._seconds(rule, cell, (own[CARD], COMPILE * self._may_compile(cell))) or 0.0) if own else 0.0
        if self.group(rule, cell) is None:
            minutes = self.settings(cell)["runtime"] + MARGIN * seconds / 60
        else:  # the walltimes of a group are added up
            minutes = GROUPED + MARGIN * (seconds + START) / 60
        return math.ceil(minutes * attempt)

    def memory(self, wildcards: Any, attempt: int) -> int:
        """Memory in megabytes of a rule's job that runs a network, more with every attempt: likewise."""
        own = settings(self.execution, wildcards.get("dataset"))
        return math.ceil(own["mem_mb"] * (1 + MORE_MEMORY * (attempt - 1)))

    def walltime(self, wildcards: Any, attempt: int) -> int:
        """Walltime in minutes of a job that belongs to no cell."""
        return settings(self.execution, wildcards.get("dataset"))["runtime"] * attempt

    def gpus(self, wildcards: Any) -> int:
        """GPUs of a rule's job that runs a network."""
        return settings(self.execution, wildcards.get("dataset"))["gpus"]

    def group(self, rule: str, cell: Cell) -> str | None:
        """Name of the group of jobs that are one job of the cluster, one after another on one GPU; None for none.

        All jobs of a cell that lasts less than ``job_minutes``; of a longer one its fit is one group, and what follows
        the samples another. Cells are not taken together: one that fails would take its fellows' results with it. A
        dataset's reference has no group: what others take from it would have to come out of the middle of it.
        """
        if rule == "fine_ends":  # several cells share them
            return None
        if cell.entry["id"] == REFERENCE or not speeds(self.settings(cell)):
            return None
        if self.shards(cell) == 1 and self.minutes(cell) <= self.settings(cell)["job_minutes"]:
            part = "cell"
        elif rule in FIT or rule in SCORE:
            part = "fit" if rule in FIT else "score"
        else:
            return None
        return "-".join([*map(str, cell.key), part])

    def jobs(self, cell: Cell) -> dict[str, int]:
        """How many jobs each rule has for a cell."""
        made = {"distill"} if cell.fitted else set()  # of a table, without any evaluation
        fit = {rule: 1 for rule in FIT if rule in made or self.evaluations(rule, cell)}
        in_latents = int(cell.dataset["id"] in self.benchmark.in_latents())
        prompts = len(cell.dataset.get("prompt_scores", []))
        after = {"gather": 1, "decode": in_latents, "score": 1, "prompt_score": prompts, "score_pipeline": in_latents}
        return {**fit, "sample": self.shards(cell), **{rule: count for rule, count in after.items() if count}}

    def minutes(self, cell: Cell) -> float:
        """Expected minutes of all jobs of a cell, one after another, where a speed is given."""
        return sum(((self.seconds(rule, cell) or 0) + START) * count for rule, count in self.jobs(cell).items()) / 60
