"""DyWeight: free weights of the last slopes and factors on the told levels, on given levels."""

from collections.abc import Callable
from typing import Any

from dode.distillation.backprop import settings
from dode.distillation.learned import Parts, Span, Task, fit
from dode.solvers.base import Solver


def _check(images: int, nfe: int, *, history: int, afs: bool, **options: Any) -> None:
    if isinstance(history, bool) or history not in (1, 2, 3, 4):
        raise ValueError(f"history must be an integer from 1 to 4, not {history!r}")
    if not isinstance(afs, bool):
        raise ValueError(f"afs must be True or False, not {afs!r}")
    settings.check(images, nfe, **options)


def _takes(solver: Solver, span: Span, *, afs: bool, **options: Any) -> None:
    if afs:
        settings.check_lowest("dyweight", solver, span)
    else:
        settings.check_one_per_step("fit 'dyweight' without afs", solver, span)


@fit(
    "dyweight",
    source="Zhao et al. 2026, arXiv:2603.11607, Sec. 4, in the authors' code (Westlake-AGI-Lab/DyWeight)",
    images=10000,
    expense=settings.expense,
    check=_check,
    takes=_takes,
    parts=lambda *, afs, **_: Parts(grids=["karras"] if afs else []),
)
def dyweight(
    task: Task,
    *,
    history: int = 3,
    afs: bool = True,
    iterations: int = 625,
    batch: int = 16,
    learning_rate: float = 3e-2,
    loss: str | Callable[..., Any] = "l2",
    held_out: float = 0.02,
    recompute: bool = False,
) -> Any:
    """Train the form of :class:`dode.distillation.backprop.dyweight.DyWeight` by Adam.

    It begins as iPNDM of the given history. The task's solver gives the number of evaluations alone.

    Args:
        history: slopes that a step combines, 1 to 4.
        afs: whether there is an analytic first step, on EDM's levels (rho = 7) of one step more, from the first level
            to the lowest and not to 0, as the authors have it on images; else the task's own levels are taken.
        iterations, batch, learning_rate: the rate rises over a tenth of the iterations and then falls as half a cosine
            to a hundredth. The authors draw new noise for each; here it comes again where there is less.
        loss: ``"l2"`` is the authors' on latents; on images they have Inception's features. ``"l1"``, ``"log"``, or a
            function of two batches that gives a number per image.
        held_out: share of the images on which the best of twenty iterates is chosen.
        recompute: whether activations are computed again for the gradients and not kept.
    """
    from dode import grids
    from dode.distillation.backprop.dyweight import DyWeight
    from dode.distillation.backprop.runs import Pairs
    from dode.distillation.backprop.training import cosine, train
    from dode.solvers.formulas import PURE_NOISE

    if float(task.sigmas[0]) >= PURE_NOISE:
        raise ValueError("dyweight weighs slopes in sigma, which pure noise has none of; let the grid begin below it")
    pairs = Pairs(task, loss=loss, held_out=held_out, recompute=recompute)
    sigmas = task.sigmas
    if afs:
        ends = {"sigma_max": float(sigmas[0]), "sigma_min": settings.lowest(pairs.facts, sigmas)}
        sigmas = grids.grids.create("karras", steps=task.nfe + 2, **ends)[:-1]
    parameters = DyWeight(sigmas, pairs.facts, history=history, analytic=afs)
    how: dict[str, Any] = {"iterations": iterations, "batch": batch, "learning_rate": learning_rate}
    return train("dyweight", task, parameters, pairs, decay=lambda share: cosine(share, warm_up=0.1, last=0.01), **how)
