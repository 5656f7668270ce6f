"""DC-Solver: UniPC whose newest output is moved along the trajectory by a ratio of its own at each step."""

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from dode.distillation.learned import Expense, Span, Task, fit
from dode.solvers.base import Solver

if TYPE_CHECKING:
    from dode.sampling import Student

log = logging.getLogger(__name__)

DEGREE = 2  # of the interpolation in time
BOUNDS = (-1.0, 3.0)  # of a ratio: 1 is UniPC, 0 the output before


def _check(images: int, nfe: int, *, tries: int) -> None:
    if isinstance(tries, bool) or not isinstance(tries, int) or tries < 4:
        raise ValueError(f"fit 'dc-solver': tries must be an integer of at least 4, not {tries!r}")
    if nfe <= DEGREE:
        raise ValueError(
            f"fit 'dc-solver': a solver of {nfe} evaluations has nothing to compensate; at least {DEGREE + 1} "
            "are needed"
        )


def _expense(images: int, nfe: int, *, tries: int) -> Expense:
    """The first three evaluations, then those of every ratio that is tried; the last step needs none."""
    return Expense(images * (DEGREE + 1 + (nfe - DEGREE - 1) * (tries + 1)))


def _takes(solver: Solver, span: Span, **options: Any) -> None:
    if solver.name != "unipc" or solver.afs:
        raise ValueError(f"fit 'dc-solver': the solver must be 'unipc' without afs, not {solver}")


@fit(
    "dc-solver",
    source="Zhao et al. 2024, arXiv:2409.03755, Eq. 9 and Alg. 1",
    expense=_expense,
    follows="states",
    images=10,
    check=_check,
    takes=_takes,
)
def dc_solver(task: Task, *, tries: int = 25) -> "Student":
    """Compensation ratios of the solver ``unipc``, one after the other, each for the state after its own step.

    Zhao et al. 2024, arXiv 2409.03755: from the third evaluation on, the newest output is replaced by the parabola in
    time through it and the two before, at ``t = r t_i + (1 - r) t_{i-1}``, for the predictor, the corrector and all
    steps after. r minimises the distance of the corrected state (of the last step, the predicted) to the teacher's:
    here by at most ``tries`` of a bounded search in [-1, 3] instead of gradients through the network, which end at the
    same minimum, and 1 where no other is better. t is the time of the linear VP SDE, whatever the model. The regression
    of ratios over other numbers of evaluations and guidance scales is left out. The result is linear in the outputs and
    is kept as that (:mod:`dode.solvers.non_stationary`); the log has the ratios.
    """
    import torch
    from scipy.optimize import minimize_scalar

    from dode import calls
    from dode.grids.facts import ModelFacts
    from dode.sampling import Student
    from dode.solvers.formulas import combine
    from dode.solvers.non_stationary import NonStationary

    levels, options = task.sigmas.tolist(), task.solver.options
    facts, count = ModelFacts.of(task.denoise), len(task.sigmas) - 1
    first = float(facts.prior_std(task.sigmas[0]))
    state = task.checkpoint.read() or {"ratios": [], "outputs": []}
    ratios, outputs, targets = state["ratios"], state["outputs"], dict(task.states or ())
    noise = task.latents.to(torch.float64)

    def form(given):
        return rows(levels, [*given, *[1.0] * (count - len(given))], first, **options)

    def combined(row):
        return combine([noise, *(output.to(noise) for output in outputs)], row[: len(outputs) + 1])

    def evaluated(index, given):
        x = combined(form(given)[0][index])
        return calls.evaluate(task.denoise, x, task.sigmas[index], task.latents.dtype)

    while len(outputs) < min(DEGREE + 1, count):
        outputs.append(evaluated(len(outputs), []))
        ratios.append(1.0)
    while len(ratios) <= count:
        index = len(ratios) - 1  # whose output is moved, for the step to the next level
        best = (float("inf"), 1.0, None)

        def error(ratio, index=index):
            nonlocal best
            given = [*ratios[:index], float(ratio)]
            ahead = None if index + 1 == count else evaluated(index + 1, given)
            if ahead is not None:
                outputs.append(ahead)
            states, corrected = form(given)
            reached = combined(states[-1] if ahead is None else corrected[index + 1])
            if ahead is not None:
                outputs.pop()
            found = float((reached - targets[levels[index + 1]].to(noise)).square().mean())
            if found < best[0]:
                best = (found, float(ratio), ahead)
            return found

        error(1.0)
        minimize_scalar(error, bounds=BOUNDS, method="bounded", options={"maxiter": tries, "xatol": 1e-4})
        ratios[index] = best[1]
        if best[2] is not None:
            outputs.append(best[2])
        log.info("evaluation %d: ratio %.4f, error %.4g", index, best[1], best[0] ** 0.5)
        ratios.append(1.0)
        task.checkpoint.write(state)
    coefficients, _ = form(ratios[:count])
    return Student(NonStationary(coefficients.tolist()), task.sigmas)


def rows(
    levels: list[float], ratios: list[float], first: float, *, order: int, variant: str
) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and corrected states as combinations of the unit noise and the outputs, both (K + 1, K + 1).

    Args:
        levels: K + 1 noise levels.
        ratios: K of them, one an evaluation; those of the first two count for nothing.
        first: standard deviation of the first state.
        order, variant: as of ``unipc``.
    """
    from dode.solvers.formulas import vp_time
    from dode.solvers.unipc import corrector, predictor

    count = len(levels) - 1
    unit, states, corrected = np.eye(count + 1), np.zeros((count + 1, count + 1)), np.zeros((count + 1, count + 1))
    states[0, 0] = corrected[0, 0] = first
    history: list[np.ndarray] = []
    last_order = 0
    for index in range(count):
        here, output = levels[: index + 1][::-1], unit[index + 1]
        if index:
            of_state, newest, *behind = corrector(here, last_order, variant)
            corrected[index] = of_state * corrected[index - 1] + newest * output
            corrected[index] += sum(weight * old for weight, old in zip(behind, history, strict=False))
        history.insert(0, output)
        if index >= DEGREE and ratios[index] != 1:
            times = [float(vp_time(level)) for level in here[: DEGREE + 1]]
            at = times[0] * ratios[index] + times[1] * (1 - ratios[index])
            history[0] = sum(weight * old for weight, old in zip(lagrange(times, at), history, strict=False))  # type: ignore[assignment]  # of arrays
        left = count - index if levels[-1] == 0 else count
        last_order = min(order, index + 1, left)
        weights = predictor(here[:last_order], levels[index + 1], variant)
        states[index + 1] = levels[index + 1] / levels[index] * corrected[index]
        states[index + 1] += sum(weight * old for weight, old in zip(weights, history, strict=False))
    return states, corrected


def lagrange(places: list[float], at: float) -> list[float]:
    """Weights of the values at ``places`` in their interpolation ``at`` another."""
    return [
        float(np.prod([(at - other) / (own - other) for k, other in enumerate(places) if k != j]))
        for j, own in enumerate(places)
    ]
