"""Which cells a figure is of. Imports no torch."""

import json
from pathlib import Path
from typing import Any

from dode.benchmark.cells import Benchmark, Cell
from dode.benchmark.evaluations import fine_ends
from dode.benchmark.facts import Facts
from dode.benchmark.files import Files
from dode.benchmark.workloads import Workloads
from dode.metrics.catalogue import METRICS
from dode.names import REFERENCE
from dode.report import CROWD

#: The keys of ``distill`` whose effect the figure of ablations shows, in its order.
SWEPT = ("substeps", "images", "alignment", "directions", "seed")
FEWEST = 3  # values that make a sweep
FOLLOWED = 3  # methods in a figure of trajectories


def solvers(benchmark: Benchmark) -> list[dict[str, Any]]:
    """What the style of a solver follows from, of all solvers in the order of the report."""
    keys = ("method", "options", "label", "distilled")
    found: dict[tuple[str, str], dict[str, Any]] = {}
    said = Facts(benchmark)
    for cell in benchmark.cells.values():
        facts = said.of_cell(cell)
        if not facts["reference"]:
            found.setdefault((facts["method"], facts["label"]), {key: facts[key] for key in keys})
    return list(found.values())


def curves(benchmark: Benchmark) -> list[str]:
    """The scores that are drawn against NFE, of those that a dataset has; the first says which solver to take."""
    drawn = ["paired_fid", "fid", "self_fid", "trajectory_rmse"]
    return [name for name in drawn if any(has_score(benchmark, dataset, name) for dataset in benchmark.datasets)]


def panels(benchmark: Benchmark) -> list[tuple[str, str]]:
    """(score, dataset id) of the figures with a panel for each method."""
    drawn = [(name, dataset) for dataset in crowded(benchmark) for name in ("paired_fid", "fid")]
    return [(name, dataset) for name, dataset in drawn if has_score(benchmark, dataset, name)]


def has_score(benchmark: Benchmark, dataset: str, name: str) -> bool:
    """Whether the cells of a dataset id have a score: those of real images need some, self-FID a second seed.

    Those of features need an extractor.
    """
    if METRICS[name].of_features and not benchmark.has_features(dataset):
        return False
    if METRICS[name].of_real:
        return benchmark.has_real(dataset)
    return name != "self_fid" or benchmark.datasets[dataset]["seeds"] > 1


def crowded(benchmark: Benchmark) -> list[str]:
    """Ids of the datasets with more solvers than one panel shows in colour, of several methods."""
    found = []
    for name in benchmark.datasets:
        entries = {cell.entry["id"]: cell.entry["solver"] for cell in benchmark.cells_of(name)}
        del entries[REFERENCE]
        if len(entries) > CROWD and len(set(entries.values())) > 1:
            found.append(name)
    return found


def _base(cell: Cell) -> str:
    return json.dumps([cell.entry["solver"], cell.entry["options"], cell.entry["grid"]], sort_keys=True)


def followed(benchmark: Benchmark, dataset: str) -> list[Cell]:
    """The cells in a dataset's figure of trajectories, without the reference; see ``figures.trajectories``."""
    cells = [cell for cell in benchmark.cells_of(dataset) if not cell.is_reference]
    chosen = benchmark.config["figures"]["trajectories"]
    if "solvers" in chosen:
        cells = [cell for cell in cells if cell.entry["id"] in chosen["solvers"]]
    nfe = chosen.get("nfe", min((cell.nfe for cell in cells if cell.distilled), default=None))
    nfe = min((cell.nfe for cell in cells), default=None) if nfe is None else nfe
    cells = [cell for cell in cells if cell.nfe == nfe]
    if "solvers" in chosen:
        return cells
    first: dict[str, Cell] = {}
    for cell in cells:
        if cell.distilled:
            first.setdefault(cell.entry["solver"], cell)
    shown = list(first.values())[:FOLLOWED]
    bases = [_base(cell) for cell in shown]
    # The same without the fit, on a grid that may be a searched one.
    pairs = [cell for cell in cells if cell in shown or (not cell.fitted and _base(cell) in bases)]
    pairs.sort(key=lambda cell: (bases.index(_base(cell)), cell.fitted))
    return pairs or cells[:FOLLOWED]


def sweeps(benchmark: Benchmark) -> list[dict[str, Any]]:
    """The ablations that a configuration has: cells without a joint fit that differ in one key of ``distill`` alone.

    Returns:
        One dict a sweep: ``key`` (of :data:`SWEPT`), ``dataset``, ``method``, ``nfe``, and ``points``, a list of
        ``[value, name of the cell]`` in the order of the configuration. Of an absent ``seed`` the value is the
        benchmark's.
    """
    found = []
    for key in SWEPT:
        groups: dict[str, dict[str, Any]] = {}
        for cell in benchmark.stepwise():
            distill = {"seed": benchmark.config["seed"], **cell.entry["distill"]}
            value = distill.pop(key)
            rest = json.dumps([cell.dataset["id"], _base(cell), cell.nfe, distill], sort_keys=True)
            groups.setdefault(rest, {}).setdefault(json.dumps(value), (value, cell))
        for group in groups.values():
            (_, cell), *others = group.values()
            if len(others) + 1 >= FEWEST:
                facts = {"dataset": cell.dataset["id"], "method": cell.entry["solver"], "nfe": cell.nfe}
                found.append({"key": key, **facts, "points": [[value, str(own)] for value, own in group.values()]})
    return found


def _learning(cell: Cell) -> dict[str, bool]:
    """The rules that learn something for a cell, in their order, and whether a file says how much they evaluated."""
    rules = {
        "search_grid": (cell.searched, False),
        "prepare": (cell.preparation is not None, True),
        "teacher": (cell.with_teacher, False),
        "distill": (cell.fitted, cell.is_joint or cell.method is not None),
    }
    return {rule: said for rule, (there, said) in rules.items() if there}


def _times(benchmark: Benchmark, cell: Cell, logs: str) -> list[str]:
    """Where the seconds of what a cell learns are, with those of the end states that it follows, which others share."""
    names = dict.fromkeys(_learning(cell), str(cell))
    if "prepare" in names:
        names["prepare"] += "/" + Path(Files(benchmark).preparations(cell)["prepared_solver"]).stem
    paths = [f"{logs}/{rule}/{name}.json" for rule, name in names.items()]
    if not cell.follows_ends:
        return paths
    images, seed = benchmark.fine_ends(cell)
    return [f"{logs}/fine_ends/{cell.dataset['id']}/{images}-seed{seed}.json", *paths]


def _kind(cell: Cell) -> str:
    """How the numbers of a cell were learnt, in a word."""
    if cell.fitted:
        return str(cell.entry["distill"]["fit"])
    return "prepared" if cell.preparation is not None else "searched" if cell.searched else "plain"


def costs(benchmark: Benchmark, work: Workloads, logs: str) -> list[dict[str, Any]]:
    """The cells as the report of costs has them: what the learning of each evaluates, and where times are.

    ``evaluations`` are those which no file says. Times are not inputs: another number of shards would call for files
    that only sampling again could make.
    """
    said = Facts(benchmark)
    return [
        {
            **said.of_cell(cell),
            "shape": list(benchmark.image_shape(cell.dataset["id"])),
            "learnt": _kind(cell),
            "evaluations": fine_ends(benchmark, cell)
            + sum(work.evaluations(rule, cell) for rule, said_there in _learning(cell).items() if not said_there),
            "times": {"fit": _times(benchmark, cell, logs), "sample": f"{logs}/sample/{cell}"},
        }
        for cell in benchmark.cells.values()
        if not cell.is_reference
    ]
