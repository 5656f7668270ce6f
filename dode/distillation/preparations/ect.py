"""Easy consistency tuning: a diffusion model becomes a consistency model as two points draw nearer each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dode.distillation.learned import Expense, Task, preparation

if TYPE_CHECKING:
    from torch import Tensor

SLOPE, WIDTH = 8.0, 1.0  # k and b of n(t) = 1 + k sigmoid(-b t)


def _check(
    images: int,
    nfe: int,
    *,
    q: float,
    stages: int,
    iterations: int,
    batch: int,
    spread: float,
    average: float,
    **_: Any,
) -> None:
    if not q > 1:
        raise ValueError(f"q: {q} brings the points no nearer; allowed: above 1")
    if min(stages, iterations, batch) < 1 or iterations < stages:
        raise ValueError(
            f"stages, iterations and batch must be at least 1, and iterations at least stages, not {stages}, "
            f"{iterations} and {batch}"
        )
    if spread <= 0:
        raise ValueError(f"spread: {spread} is no standard deviation; allowed: above 0")
    if not 0 <= average < 1:
        raise ValueError(f"average: {average} is no decay of an average; allowed: from 0 to below 1")


def _expense(images: int, nfe: int, *, iterations: int, batch: int, **others: Any) -> Expense:
    return Expense(evaluations=2 * iterations * batch, gradients=iterations * batch)


@preparation(
    "ect",
    source="Geng et al. 2024, arXiv:2406.14548, Sec. 3",
    follows="ends",
    images=1000,
    expense=_expense,
    check=_check,
)
def ect(
    task: Task,
    *,
    q: float = 256.0,
    stages: int = 1,
    iterations: int = 3000,
    batch: int = 128,
    rate: float = 1e-3,
    mean: float = -1.1,
    spread: float = 2.0,
    average: float = 0.9993,
) -> dict[str, Tensor]:
    """The weights of a network that behind the boundary scalings is a consistency function of the images.

    Easy consistency tuning (Geng et al. 2024, arXiv 2406.14548, Sec. 3), which has no teacher: the student at ``t``,
    log-normal with ``mean`` and ``spread``, is held against itself at ``r < t`` on the same image and noise
    (:func:`loss_of`, :func:`nearer`). r draws nearer to t over ``stages`` equal parts of the training. What is returned
    is an average of the student, of decay ``average``. The authors' setting of one A100-hour on CIFAR-10 has ``q`` 256
    in one stage, 8,000 iterations on batches of 128 at a rate of 1e-4 with RAdam and a dropout of 0.2, on data in the
    place of the task's end states.
    """
    import torch

    from dode.distillation import students

    training = students.Training(task, torch.optim.RAdam, rate, ("average",))
    for step in training.steps(iterations):
        rows = training.rows(batch)
        images = training.images(rows)
        t = (spread * training.noise(batch, 1, 1, 1) + mean).exp().clamp(*training.range)
        noise = training.noise(*images.shape)
        loss = loss_of(training.student.of_rows(rows), images, noise, t, nearer(t, q, stages * step // iterations))
        training.descend(loss)
        training.follow("average", min(average, (step + 1) / (step + 10)))
    return training.weights("average")


def nearer(t: Tensor, q: float, stage: int) -> Tensor:
    """``r = max(0, t (1 - n(t) / q^(stage + 1)))``, ``n(t) = 1 + 8 sigmoid(-t)`` (Sec. 3.3 and the authors' code)."""
    return (t * (1 - (1 + SLOPE * (-WIDTH * t).sigmoid()) / q ** (stage + 1))).clamp(min=0)


def loss_of(student: Any, images: Tensor, noise: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """``E ||D(y + t n; t) - sg D(y + r n; r)|| / (t - r)``; where r is 0 the image y itself is the aim.

    The norm is over an image, ``images`` and ``noise`` (B, C, H, W), levels (B, 1, 1, 1).
    """
    import torch

    with torch.no_grad():
        level = torch.where(r > 0, r, t)
        aim = torch.where(r > 0, student(images + level * noise, level), images)
    distance = (student(images + t * noise, t) - aim).flatten(1).norm(dim=1)
    return (distance / (t - r).flatten()).mean()
