"""LD3: the levels of a given solver, and those that the network is told, by gradients on the soft objective."""

from collections.abc import Callable
from typing import Any

from dode.distillation.backprop import settings
from dode.distillation.learned import Expense, Span, Task, fit
from dode.solvers.base import Solver

VARIABLES = "log-snr", "time"
END = "lowest", "given"
ESTIMATES = "data", "noise"


def _check(images: int, nfe: int, *, within: float, radius: float, **options: Any) -> None:
    for name, allowed in (("variable", VARIABLES), ("end", END), ("estimate", ESTIMATES)):
        if (value := options.pop(name)) not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
    for name, least in (("rounds", 0), ("told_rounds", 0)):
        value = options.pop(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, not {value!r}")
    if not 0 <= within <= 0.5:
        raise ValueError(f"within must be a share from 0 to 0.5, not {within!r}")
    if radius <= 0:
        raise ValueError(f"radius must be above 0, not {radius!r}")
    settings.check(images, nfe, **options)


def _expense(
    images: int, nfe: int, *, rounds: int, told_rounds: int, batch: int, held_out: float, **options: Any
) -> Expense:
    kept = images - settings.fitted(images, held_out)
    size = settings.batch_of(images, held_out, batch)
    steps = settings.fitted(images, held_out) // size
    trained = steps * size + kept  # of a round
    evaluations = 2 * trained + (steps + 1) * kept
    number = (rounds + told_rounds) * nfe
    return Expense(number * evaluations + settings.of_check(images, nfe), number * trained)


def _takes(solver: Solver, span: Span, *, end: str, **options: Any) -> None:
    if end == "lowest" and solver.nfe(span.steps, end=1.0) == solver.nfe(span.steps):
        settings.check_lowest("ld3", solver, span)


@fit(
    "ld3",
    source="Tong et al. 2025, arXiv:2405.15506, Alg. 1",
    images=100,
    expense=_expense,
    check=_check,
    takes=_takes,
)
def ld3(
    task: Task,
    *,
    rounds: int = 2,
    told_rounds: int = 5,
    batch: int = 2,
    learning_rate: float = 5e-3,
    told_learning_rate: float = 0.1,
    variable: str = "log-snr",
    end: str = "lowest",
    within: float = 0.5,
    estimate: str = "data",
    radius: float = 0.001,
    loss: str | Callable[..., Any] = "l2",
    held_out: float = 0.5,
    recompute: bool = False,
) -> Any:
    """Train levels and told levels of the task's solver (:class:`dode.distillation.backprop.ld3.Discretisation`).

    They begin uniform in the variable, between the first of the task's levels and the lowest of the model. The defaults
    are the authors' for models of images, but for LPIPS as the loss.

    Args:
        rounds: over the fitted images, with the network told the states' own levels.
        told_rounds: after those, with told levels fitted too.
        batch: images of an iteration.
        learning_rate: of the levels, by RMSprop.
        told_learning_rate: of the told levels, by gradient descent; divided by the number of evaluations.
        variable: ``"log-snr"``, or ``"time"`` of a VP SDE (the authors' on latents); from pure noise always the time of
            flow matching.
        end: ``"lowest"``, where the last step ends above 0, or ``"given"``: where the task's levels end. A solver that
            would make more evaluations above 0 ends as given.
        within: how far a told level may be from the state's own, as a share of the smallest step.
        estimate: which of the network's estimates the solver goes on with where it is told another level: ``"data"``,
            as the authors have it in DPM-Solver++ and UniPC, or ``"noise"``, as in Euler's method and iPNDM.
        radius: how far noise may move, times the number of its elements over that of evaluations squared.
        loss: ``"l2"``, ``"l1"``, ``"log"``, or a function of two batches that gives a number per image.
        held_out: share of the images on which the best iterate is chosen.
        recompute: whether activations are computed again for the gradients and not kept.
    """
    from dode.distillation.backprop import ld3 as method
    from dode.distillation.backprop.levels import FreeLevels
    from dode.distillation.backprop.runs import Pairs, checked_form

    pairs, steps = Pairs(task, loss=loss, held_out=held_out, recompute=recompute), len(task.sigmas) - 1
    checked_form(task, pairs.facts)
    first, lowest = float(task.sigmas[0]), settings.lowest(pairs.facts, task.sigmas)
    above = end == "lowest" and task.solver.nfe(steps, end=lowest) == task.nfe
    to_zero = not above and float(task.sigmas[-1]) == 0
    levels = FreeLevels(first, lowest, steps, variable=variable, to_zero=to_zero)
    size, noise_rate = settings.soft(radius, task.latents[0].numel(), task.nfe) or (0.0, 0.0)
    return method.rounds(
        task,
        method.Discretisation(task.solver, pairs.facts, levels, within=within, estimate=estimate),
        pairs,
        coupled=rounds,
        decoupled=told_rounds,
        batch=batch,
        learning_rate=learning_rate,
        told_learning_rate=told_learning_rate / task.nfe,
        radius=size,
        noise_rate=noise_rate,
    )
