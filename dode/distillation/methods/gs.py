"""Generalized Solver (GS): DPM-Solver++ with a trained correction to every coefficient, its grid and told times."""

import functools
from collections.abc import Callable
from typing import Any

from dode.distillation.backprop import settings
from dode.distillation.learned import Task, fit


@fit(
    "gs",
    source="Oganov et al. 2025, arXiv:2510.17699, Eq. 20 and Alg. 1, in the authors' code (3145tttt/GAS)",
    images=1867,  # of which 1,400 are fitted
    expense=settings.expense,
    check=settings.check,
    takes=functools.partial(settings.check_lowest, "gs"),
)
def gs(
    task: Task,
    *,
    iterations: int = 10000,
    batch: int = 24,
    learning_rate: float = 1e-3,
    averaging: float = 0.999,
    loss: str | Callable[..., Any] = "l1",
    held_out: float = 0.25,
    recompute: bool = False,
) -> Any:
    """Train the form of :class:`dode.distillation.backprop.gs.GeneralizedSolver` by Adam.

    It begins as DPM-Solver++ (3M) on levels uniform in VP time, from the first of the task's levels to that of
    t = 0.001, where it ends. The task's solver gives the number of evaluations alone.

    Args:
        iterations, batch, learning_rate: of the authors; gradients are clipped to norm 1.
        averaging: decay of the moving average that counts.
        loss: ``"l1"`` is the authors' on latents; on images they have LPIPS. ``"l2"``, ``"log"`` (its logarithm), or a
            function of two batches that gives a number per image.
        held_out: share of the images on which the best of twenty iterates is chosen.
        recompute: whether activations are computed again for the gradients and not kept.
    """
    from dode.distillation.backprop.gs import GeneralizedSolver
    from dode.distillation.backprop.runs import Pairs
    from dode.distillation.backprop.training import train

    pairs = Pairs(task, loss=loss, held_out=held_out, recompute=recompute)
    highest, lowest = float(task.sigmas[0]), settings.lowest(pairs.facts, task.sigmas)
    parameters = GeneralizedSolver(task.nfe, pairs.facts, highest, lowest)
    how: dict[str, Any] = {
        "iterations": iterations,
        "batch": batch,
        "learning_rate": learning_rate,
        "averaging": averaging,
    }
    return train("gs", task, parameters, pairs, **how)
