"""S4S: a linear multistep method with trained weights, and S4S-Alt, which trains its levels in turn with them."""

from collections.abc import Callable
from typing import Any

from dode.distillation.backprop import settings
from dode.distillation.learned import Parts, Span, Task, fit
from dode.solvers.base import Solver


def _check(images: int, nfe: int, *, order: int, alternations: int, radius: float, **options: Any) -> None:
    for name, value, least in (("order", order, 1), ("alternations", alternations, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, not {value!r}")
    if radius < 0:
        raise ValueError(f"radius must not be below 0, not {radius!r}")
    settings.check(images, nfe, **options)


def _takes(solver: Solver, span: Span, *, alternations: int, **options: Any) -> None:
    settings.check_one_per_step("fit 's4s'", solver, span)
    if alternations:
        settings.check_lowest("s4s", solver, span)


@fit(
    "s4s",
    source="Frankel et al. 2025, arXiv:2502.17423, Alg. 1 and 2",
    images=1867,
    expense=settings.expense,
    check=_check,
    takes=_takes,
    parts=lambda **_: Parts(solvers=["dpm-solver++"]),  # where it begins
)
def s4s(
    task: Task,
    *,
    order: int = 3,
    alternations: int = 0,
    radius: float = 0.001,
    iterations: int = 10000,
    batch: int = 24,
    learning_rate: float = 1e-3,
    loss: str | Callable[..., Any] = "l2",
    held_out: float = 0.25,
    recompute: bool = False,
) -> Any:
    """Train the form of :class:`dode.distillation.backprop.s4s.Multistep` by Adam, on the soft objective.

    It begins as DPM-Solver++ (3M) on the task's levels; the task's solver gives the number of evaluations alone.

    Args:
        order: outputs that a step combines.
        alternations: 0 for S4S, which has the task's levels; more for S4S-Alt, which trains levels, told levels with
            them, and weights in turn so many times.
        radius: how far noise may move, times the number of its elements over that of evaluations squared (LD3's);
            0 for the plain objective.
        iterations, batch, learning_rate: the paper's own were not available: GS's.
        loss: ``"l2"`` (the paper: LPIPS), ``"l1"``, ``"log"``, or a function of two batches that gives a number per
            image.
        held_out: share of the images on which the best of twenty iterates is chosen.
        recompute: whether activations are computed again for the gradients and not kept.
    """
    from dode.distillation.backprop.runs import Pairs
    from dode.distillation.backprop.s4s import Multistep
    from dode.distillation.backprop.training import train

    pairs = Pairs(task, loss=loss, held_out=held_out, recompute=recompute)
    lowest = settings.lowest(pairs.facts, task.sigmas)
    parameters = Multistep(task.sigmas, pairs.facts, order=order, lowest=lowest, alternations=alternations)
    how: dict[str, Any] = {"iterations": iterations, "batch": batch, "learning_rate": learning_rate}
    return train("s4s", task, parameters, pairs, soft=settings.soft(radius, task.latents[0].numel(), task.nfe), **how)
