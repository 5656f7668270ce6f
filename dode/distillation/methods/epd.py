"""EPD: ensemble parallel directions, several evaluations of every step at once."""

import functools
from collections.abc import Callable
from typing import Any

from dode.distillation.backprop import settings
from dode.distillation.learned import Task, fit
from dode.registry import finite


def _check(images: int, nfe: int, *, points: int, order: int, scale_dir: float, scale_time: float, **own: Any) -> None:
    for name, value, most in (("points", points, 8), ("order", order, 4)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise ValueError(f"{name} must be an integer from 1 to {most}, not {value!r}")
    for name, scale in (("scale_dir", scale_dir), ("scale_time", scale_time)):
        if not finite(scale) or not 0 <= scale < 1:
            raise ValueError(f"{name} must be a number of at least 0 and below 1, not {scale!r}")
    if (nfe + 1) % (points + 1) > 1:
        below = (nfe + 1) // (points + 1) * (points + 1)
        around = " or ".join(str(count) for count in (below, below + points) if count)
        raise ValueError(
            f"epd with points {points} makes {points + 1} evaluations per step, and one less with an analytic first "
            f"slope, so {nfe} are impossible; the nearest possible: {around}"
        )
    settings.check(images, nfe, **own)


@fit(
    "epd",
    source="Zhu et al. 2025, arXiv:2507.14797, Sec. 3.2, and the authors' code (BeierZhu/EPD)",
    images=1000,
    expense=settings.expense,
    check=_check,
    takes=functools.partial(settings.check_lowest, "epd"),
)
def epd(
    task: Task,
    *,
    points: int = 2,
    order: int = 1,
    scale_dir: float = 0.05,
    scale_time: float = 0.05,
    iterations: int = 79,
    batch: int = 128,
    learning_rate: float = 0.2,
    loss: str | Callable[..., Any] = "l2",
    held_out: float = 0.02,
    recompute: bool = False,
) -> Any:
    """Train the form of :class:`dode.distillation.backprop.epd.ParallelDirections` by Adam.

    ``N`` steps on levels that are uniform in the variable of the task's grid, from its first to its lowest and not to
    0. All evaluations count: there are ``(points + 1) N``, or one less, and then the first slope is analytic. The
    task's solver gives the number of evaluations alone.

    Args:
        points: evaluations that a step makes at once.
        order: 1 for EPD; 2 to 4 for the plugin for iPNDM of this order.
        scale_dir, scale_time: how far the factors on slopes and on told levels may be from 1. The authors' for CIFAR-10
            are 0.05 and 0.05; with order 4, 0.05 and 0.2.
        iterations, batch, learning_rate: the rate falls as half a cosine to a twentieth. The authors draw new noise for
            each of 10,000 images; here it comes again where there is less.
        loss: ``"l2"``, ``"l1"``, ``"log"``, or a function of two batches that gives a number per image. The authors
            compare end states by Inception's features.
        held_out: share of the images on which the best of twenty iterates is chosen.
        recompute: whether activations are computed again for the gradients and not kept.
    """
    import numpy as np
    import torch

    from dode.distillation.backprop.epd import ParallelDirections
    from dode.distillation.backprop.runs import Pairs
    from dode.distillation.backprop.training import cosine, train
    from dode.distillation.teacher import variable_of

    pairs = Pairs(task, loss=loss, held_out=held_out, recompute=recompute)
    ends = np.array([float(task.sigmas[0]), settings.lowest(pairs.facts, task.sigmas)])
    steps, left = divmod(task.nfe + 1, points + 1)
    analytic = left == 0
    sigmas = torch.as_tensor(variable_of(task.sigmas).refine(ends, steps))
    own: Any = {"points": points, "analytic": analytic, "order": order, "generator": task.generator()}
    parameters = ParallelDirections(sigmas, pairs.facts, scale_dir=scale_dir, scale_time=scale_time, **own)
    how: Any = {"iterations": iterations, "batch": batch, "learning_rate": learning_rate}
    return train("epd", task, parameters, pairs, decay=lambda share: cosine(share, last=0.05), **how)
