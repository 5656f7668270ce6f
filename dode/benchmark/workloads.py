"""How much work each job is, and from it: shards, walltime, memory, which jobs of a cell go to the cluster together.

Numbers are of the configuration's ``execution``, per dataset where it says so; nothing here changes a result. Imports
no torch.
"""

import math

from dode import grids, solvers
from dode.benchmark.execution import settings
from dode.names import REFERENCE

START = 20  # seconds that a job takes to start and to load its network
MARGIN = 2  # walltime asked for, in expected times
GROUPED = 1  # minutes of walltime for each job of a group besides
MORE_MEMORY = 0.5  # asked for beyond the first time with every further attempt
FIT, SCORE = ("search_grid", "teacher", "distill"), ("gather", "score")


class Workloads:
    """The work of a benchmark's jobs.

    Args:
        benchmark: a :class:`dode.benchmark.cells.Benchmark`.
    """

    def __init__(self, benchmark):
        self.benchmark = benchmark
        self.execution = benchmark.config["execution"]

    def settings(self, cell):
        """The settings ``execution`` for a cell."""
        return settings(self.execution, cell.dataset["id"])

    def evaluations(self, rule, cell):
        """Network evaluations of one image in all jobs of a cell's rule.

        The teacher's and the refinement's are estimates from above: by how many its solver takes per interval, and by
        all iterations being made.
        """
        return getattr(self, f"_{rule}", lambda cell: 0)(cell)

    def _sample(self, cell):
        return cell.dataset["images"] * cell.dataset["seeds"] * cell.nfe

    def _teacher(self, cell):
        if not cell.distilled or not cell.with_teacher:
            return 0
        return self._followed(cell)

    def _followed(self, cell):
        distill = cell.entry["distill"]
        fine = solvers.create_teacher(cell.teacher).nfe(distill["substeps"])
        return distill["images"] * cell.nfe * fine

    def _distill(self, cell):
        if not cell.distilled:
            return 0
        distill = cell.entry["distill"]
        directions = distill["directions"] if isinstance(distill["directions"], int) else 4
        runs = 1 + distill["refine"] * (cell.nfe * directions + 2)
        return distill["images"] * cell.nfe * runs + (0 if cell.with_teacher else self._followed(cell))

    def _search_grid(self, cell):
        if not grids.grids.get(cell.entry["grid"]["name"]).prepare:
            return 0
        options = cell.grid_options
        return options["images"] * options["candidates"] * solvers.create(options["teacher"]).nfe(1)

    def scored(self, cell):
        """Images whose features a cell's score takes."""
        return cell.dataset["images"] * cell.dataset["seeds"]

    def seconds(self, rule, cell):
        """Expected seconds of one job of a cell's rule beyond its start; None where no speed is given."""
        own = self.settings(cell)
        if "evaluations_per_second" not in own:
            return None
        if rule == "score":
            return self.scored(cell) / own["features_per_second"] if "features_per_second" in own else 0.0
        jobs = self.shards(cell) if rule == "sample" else 1
        return self.evaluations(rule, cell) / own["evaluations_per_second"] / jobs

    def shards(self, cell):
        """Number of jobs that share a cell's images: as set, or as many as last ``job_minutes`` each."""
        own = self.settings(cell)
        if own["shards"] != "auto":
            return own["shards"]
        seconds = self.evaluations("sample", cell) / own["evaluations_per_second"]
        return min(max(1, math.ceil(seconds / 60 / own["job_minutes"])), self.scored(cell))

    def shard_files(self, cell, name):
        """Paths of a cell's shards, ``name`` behind their numbers."""
        count = self.shards(cell)
        folder = f"{self.benchmark.results}/{cell}/shards"
        return [f"{folder}/{shard}-of-{count}{name}" for shard in range(count)]

    def runtime(self, rule, cell, attempt):
        """Walltime in minutes, more with every attempt: a job may have been stopped for want of it."""
        if self.group(rule, cell) is None:
            minutes = self.settings(cell)["runtime"] + MARGIN * (self.seconds(rule, cell) or 0) / 60
        else:  # the walltimes of a group are added up
            minutes = GROUPED + MARGIN * (self.seconds(rule, cell) + START) / 60
        return math.ceil(minutes * attempt)

    def memory(self, wildcards, attempt):
        """Memory in megabytes of a rule's job that runs a network, more with every attempt: likewise."""
        own = settings(self.execution, wildcards.get("dataset"))
        return math.ceil(own["mem_mb"] * (1 + MORE_MEMORY * (attempt - 1)))

    def walltime(self, wildcards, attempt):
        """Walltime in minutes of a rule's job that is no cell's."""
        return settings(self.execution, wildcards.get("dataset"))["runtime"] * attempt

    def gpus(self, wildcards):
        """GPUs of a rule's job that runs a network."""
        return settings(self.execution, wildcards.get("dataset"))["gpus"]

    def group(self, rule, cell):
        """Name of the group of jobs that are one job of the cluster, one after another on one GPU; None for none.

        All jobs of a cell that lasts less than ``job_minutes``; of a longer one its fit is one group, and what follows
        the samples another. Cells are not taken together: one that fails would take its fellows' results with it. A
        dataset's reference has no group: what others take from it would have to come out of the middle of it.
        """
        if cell.entry["id"] == REFERENCE or "evaluations_per_second" not in self.settings(cell):
            return None
        if self.shards(cell) == 1 and self.minutes(cell) <= self.settings(cell)["job_minutes"]:
            part = "cell"
        else:
            part = "fit" if rule in FIT else "score" if rule in SCORE else None
        return part and "-".join([*map(str, cell.key), part])

    def jobs(self, cell):
        """How many jobs each rule has for a cell."""
        fit = {rule: 1 for rule in FIT if self.evaluations(rule, cell)}
        return {**fit, "sample": self.shards(cell), **dict.fromkeys(SCORE, 1)}

    def minutes(self, cell):
        """Expected minutes of all jobs of a cell, one after another."""
        return sum((self.seconds(rule, cell) + START) * count for rule, count in self.jobs(cell).items()) / 60
