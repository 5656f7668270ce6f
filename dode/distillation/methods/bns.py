"""Bespoke Non-Stationary solvers (BNS): every state any combination of the noise and all velocities so far."""

from collections.abc import Callable
from typing import Any

from dode.distillation.backprop import settings
from dode.distillation.learned import Expense, Task, fit


def _expense(images: int, nfe: int, **options: Any) -> Expense:
    own = settings.expense(images, nfe, **options)
    return Expense(own.evaluations + settings.of_check(images, nfe), own.gradients)


@fit(
    "bns",
    source="Shaul et al. 2024, arXiv:2403.01329, Eq. 10 and Alg. 2",
    images=693,  # of which 520 are fitted
    expense=_expense,
    check=settings.check,
)
def bns(
    task: Task,
    *,
    iterations: int = 15000,
    batch: int = 40,
    learning_rate: float = 5e-4,
    loss: str | Callable[..., Any] = "log",
    held_out: float = 0.25,
    recompute: bool = False,
) -> Any:
    """Train the form of :class:`dode.distillation.backprop.bns.BespokeNonStationary` by Adam.

    It begins as the task's solver on its levels; the first told level and the last level stay. The paper begins at
    Euler's method or the midpoint method on equal steps in time, which are ``ddim`` and ``flow-midpoint`` on the grid
    ``flow-linear`` with ``spacing="trailing"``.

    Args:
        iterations, batch, learning_rate: the rate falls as half a cosine to 0.
        loss: ``"log"``, of the mean squared error of an image, which is the paper's: its PSNR. ``"l2"``, ``"l1"``, or a
            function of two batches that gives a number per image.
        held_out: share of the images on which the best of twenty iterates is chosen.
        recompute: whether activations are computed again for the gradients and not kept.
    """
    from dode.distillation.backprop.bns import BespokeNonStationary
    from dode.distillation.backprop.runs import Pairs, checked_form
    from dode.distillation.backprop.training import cosine, train

    pairs = Pairs(task, loss=loss, held_out=held_out, recompute=recompute)
    form = checked_form(task, pairs.facts)
    parameters = BespokeNonStationary(form, pairs.facts, float(task.sigmas[0]), float(task.sigmas[-1]))
    how: dict[str, Any] = {"iterations": iterations, "batch": batch, "learning_rate": learning_rate, "decay": cosine}
    return train("bns", task, parameters, pairs, **how)
