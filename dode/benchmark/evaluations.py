"""How many network evaluations the jobs of a cell make, from the configuration alone. Imports no torch.

An evaluation is one call of the denoiser for one image, as in NFE and in ``evaluations_per_second``: the second half of
the batch of classifier-free guidance and the gradient of a classifier are part of it (:mod:`dode.models.guidance`).
Gradients of methods that train by back-propagation are counted apart, as in ``costs.md``.

The numbers are exact with two exceptions, which are upper bounds: for a fit on a searched grid, whose last level is not
known before the search, and for a refinement or a joint fit, which may end early.
"""

from collections.abc import Callable

from dode import grids, solvers
from dode.benchmark.cells import Benchmark, Cell
from dode.directions import Directions
from dode.distillation import fit_checks
from dode.distillation.fit_checks import BUDGET, CHECKED
from dode.distillation.learned import Expense, Learned
from dode.grids.facts import ModelFacts
from dode.models import passes as of_guidance
from dode.registry import unknown

# Steps that a refinement tries at most, besides two per iteration: each that gains nothing makes its damping five times
# as large, each that gains something five times smaller, and it ends once the damping has grown from 1e-3 to 1e8.
FURTHER_TRIES = 16


def passes(cell: Cell) -> int:
    """How often an evaluation runs a network on an image, at most: twice between the levels of an interval alone."""
    own = cell.dataset.get("guidance", {})
    return of_guidance.passes(own.get("name"), 1.0, scale=own.get("scale"))


def count(benchmark: Benchmark, rule: str, cell: Cell) -> int:
    """Evaluations in all jobs of a rule for a cell; ValueError for an unknown rule.

    Of ``distill`` with a joint fit it is the budget. With a refinement it is the number where all iterations are made,
    no direction is left out, and as many steps are tried in vain as can be. Of refinements that make all iterations it
    is within 1.3 where these are twelve and there are six coefficients or more; it may be several times too large where
    they end early, and where inner stages are not corrected (``stages: false``) of a solver whose steps span several
    intervals of the grid: their coefficients are counted all the same.
    """
    if rule not in RULES:
        raise ValueError(unknown("rule", rule, RULES))
    return RULES[rule](benchmark, cell)


def gradients(benchmark: Benchmark, rule: str, cell: Cell) -> int:
    """Through how many of these evaluations gradients flow back, at most; ValueError for an unknown rule."""
    if rule not in RULES:
        raise ValueError(unknown("rule", rule, RULES))
    learns = {"distill": cell.method, "prepare": cell.preparation}.get(rule)
    return 0 if learns is None else _expense(learns, rule, cell).gradients


def _expense(learns: Learned, rule: str, cell: Cell) -> Expense:
    own = cell.entry[rule]
    return learns.expense(own["images"], cell.nfe, **own["options"])


def _sample(benchmark: Benchmark, cell: Cell) -> int:
    return cell.dataset["images"] * cell.dataset["seeds"] * cell.nfe


def _search_grid(benchmark: Benchmark, cell: Cell) -> int:
    """The teacher's steps from candidate to candidate, and the slope at each but the last."""
    if not grids.grids.get(cell.entry["grid"]["name"]).prepare:
        return 0
    options = cell.grid_options
    steps, end = options["candidates"] - 1, float(options["end"] != "zero")
    return options["images"] * (solvers.create_teacher(options["teacher"]).nfe(steps, end=end) + steps)


def fine_ends(benchmark: Benchmark, cell: Cell) -> int:
    """Of the end states that a fit or a preparation aims at; 0 for other cells."""
    return benchmark.fine_ends(cell)[0] * benchmark.reference(cell.dataset["id"]).nfe if cell.follows_ends else 0


def _fine_ends(benchmark: Benchmark, cell: Cell) -> int:
    """Counted with the first of the cells that share them."""
    if not cell.follows_ends:
        return 0
    sharing = benchmark.with_fine_ends(cell.dataset["id"], *benchmark.fine_ends(cell))
    return fine_ends(benchmark, cell) if cell is sharing[0] else 0


def _teacher(benchmark: Benchmark, cell: Cell) -> int:
    if not cell.with_teacher:
        return 0
    return cell.entry["distill"]["images"] * _followed(benchmark, cell)


def _followed(benchmark: Benchmark, cell: Cell) -> int:
    """The teacher's evaluations per image (:mod:`dode.distillation.teacher`)."""
    grid, distill, facts = cell.entry["grid"], cell.entry["distill"], _facts(benchmark, cell)
    solver, teacher = _solver(cell), solvers.create_teacher(cell.teacher)
    steps, substeps = _steps(cell), distill["substeps"]
    options = grids.complete(grid["name"], facts, **grid["options"])
    levels, variable = grids.grids.get(grid["name"]).plan(steps=steps, **options)
    if distill.get("alignment") == "released":
        fine = substeps * (cell.nfe if facts.prediction == "data" else steps)
        return teacher.nfe(min(fine, variable.max_steps or fine))
    levels = levels if facts.round_sigma is None else facts.round_sigma(levels)
    # Every interval between proposals has all substeps but the last one, of which those below sigma_min are left out.
    end = float(levels[-1])
    whole = solver.levels(steps, end=end) - 1
    last = substeps if grids.grids.get(grid["name"]).prepare else len(variable.refine(levels[-2:], substeps)) - 1
    if distill.get("alignment") == "local":  # anew in each; the step to 0, which only the last one has, takes one
        return whole * teacher.nfe(substeps, end=1.0) + teacher.nfe(last, end=end)
    return teacher.nfe(whole * substeps + last, end=end)


def _distill(benchmark: Benchmark, cell: Cell) -> int:
    if not cell.fitted:
        return 0
    if cell.method is not None:
        return _expense(cell.method, "distill", cell).evaluations
    if cell.is_joint:
        return cell.entry["distill"].get("budget", BUDGET * cell.nfe) + CHECKED * 2 * cell.nfe
    images, iterations = cell.entry["distill"]["images"], cell.entry["distill"].get("iterations", 0)
    if not iterations:
        return images * (cell.nfe + (0 if cell.with_teacher else _followed(benchmark, cell)))
    held_out = fit_checks.held_out(images)
    jacobian = 1 + _coefficients(benchmark, cell)
    runs = 1 + 1 + iterations * (jacobian + 2) + FURTHER_TRIES  # the greedy fit, the error before, the iterations
    return cell.nfe * ((images - held_out) * runs + held_out * (1 + iterations))


def _prepare(benchmark: Benchmark, cell: Cell) -> int:
    return 0 if cell.preparation is None else _expense(cell.preparation, "prepare", cell).evaluations


def _coefficients(benchmark: Benchmark, cell: Cell) -> int:
    """The most coefficients that a refinement changes: an evaluation has as many differences as there are before it."""
    distill = cell.entry["distill"]
    directions = Directions.of(distill["directions"], _facts(benchmark, cell).prediction)
    corrected = cell.nfe if distill["stages"] else _steps(cell)
    return sum(
        min(index, directions.differences) * len(directions.kinds) + min(index + 2, directions.basis) + directions.drift
        for index in range(cell.nfe - corrected, cell.nfe)
    )


def _facts(benchmark: Benchmark, cell: Cell) -> ModelFacts:
    return ModelFacts.of_card(benchmark.cards[cell.dataset["model"]])


def _solver(cell: Cell) -> solvers.Solver:
    return solvers.create(cell.entry["solver"], **cell.entry["options"])


def _steps(cell: Cell) -> int:
    return grids.intervals(_solver(cell), cell.nfe, cell.entry["grid"]["options"])


def _none(benchmark: Benchmark, cell: Cell) -> int:
    return 0


RULES: dict[str, Callable[[Benchmark, Cell], int]] = {
    "search_grid": _search_grid,
    "fine_ends": _fine_ends,
    "prepare": _prepare,
    "teacher": _teacher,
    "distill": _distill,
    "sample": _sample,
    "gather": _none,
    "decode": _none,
    "score": _none,
    "prompt_score": _none,
    "score_pipeline": _none,
}
