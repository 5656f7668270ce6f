"""Progressive distillation: a network learns to make two steps of DDIM in one, again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dode.distillation.learned import Expense, Task, preparation

if TYPE_CHECKING:
    from torch import Tensor

NORM = 1.0  # of gradients, at most


def halvings(nfe: int, start: int) -> int:
    """How often the number of steps is halved from ``nfe 2^k``, the first that is at least ``start``."""
    count = 0
    while nfe * 2**count < start:
        count += 1
    return count


def _check(images: int, nfe: int, *, start: int, iterations: int, batch: int, **others: Any) -> None:
    if halvings(nfe, start) < 1:
        raise ValueError(f"start: {start} steps are none that could be halved to {nfe}; allowed: more than {nfe}")
    if min(iterations, batch) < 1:
        raise ValueError(f"iterations and batch must be at least 1, not {iterations} and {batch}")


def _expense(images: int, nfe: int, *, start: int, iterations: int, batch: int, **others: Any) -> Expense:
    seen = halvings(nfe, start) * iterations * batch
    return Expense(evaluations=3 * seen, gradients=seen)


@preparation(
    "progressive-distillation",
    source="Salimans & Ho 2022, arXiv:2202.00512, Alg. 2",
    follows="ends",
    images=1000,
    expense=_expense,
    check=_check,
)
def progressive_distillation(
    task: Task, *, start: int = 64, iterations: int = 1000, batch: int = 128, rate: float = 1e-3
) -> dict[str, Tensor]:
    """The weights of a network whose DDIM on the task's levels follows DDIM of at least ``start`` steps.

    The number of steps is halved from ``nfe 2^k``, the first that is at least ``start``, to nfe (Salimans & Ho 2022,
    arXiv 2202.00512, Alg. 2). In each halving the student begins as its teacher, and learns in ``iterations`` steps of
    Adam on ``batch`` images to make two of the teacher's steps in one (:func:`loss_of`); the learning rate falls
    linearly from ``rate`` to 0. The levels of a teacher lie halfway between the student's in the variable of the grid.
    On CIFAR-10 the paper has 50,000 iterations on batches of 128 and a rate of 5e-5, from 8,192 steps, and data in the
    place of the task's end states.

    Raises:
        ValueError: for no halving, or no iterations.
    """
    import torch

    from dode.distillation import students

    training = students.Training(task, torch.optim.Adam, rate, ("teacher",))
    of_halvings = students.two_in_one(task, halvings(task.nfe, start))
    for step in training.steps(len(of_halvings) * iterations):
        halving, within = divmod(step, iterations)
        if within == 0:
            training.optimiser.state.clear()
            training.follow("teacher", 0.0)
        teacher = training.model if halving == 0 else training.behind("teacher")
        steps = of_halvings[halving]
        rows, which = training.rows(batch), training.choice(len(steps), batch)
        images = training.images(rows)
        sigma, middle, sigma_next = (students.levels(each, which, images) for each in steps.T)
        x = images + sigma * training.noise(*images.shape)
        loss = loss_of(training.student.of_rows(rows), teacher.of_rows(rows), x, sigma, middle, sigma_next)
        training.descend(loss, share=1 - within / iterations, norm=NORM)
    return training.weights()


def loss_of(student: Any, teacher: Any, x: Tensor, sigma: Tensor, middle: Tensor, sigma_next: Tensor) -> Tensor:
    """``E max(1, 1 / sigma^2) ||D(x; sigma) - D'||^2``, with D' of which one step of DDIM makes two of the teacher's.

    ``D' = (x'' - r x) / (1 - r)``, ``r = sigma'' / sigma``, x'' the teacher's state at ``sigma_next``, by way of
    ``middle`` (Alg. 2 and the truncated SNR weight of Sec. 4, where ``SNR = 1 / sigma^2``). A step without a ``middle``
    has ``sigma`` in its place. x (B, C, H, W), levels (B, 1, 1, 1).
    """
    import torch

    with torch.no_grad():
        state, level = x, sigma
        for level_next in (middle, sigma_next):
            denoised = teacher(state, level)
            state, level = denoised + level_next / level * (state - denoised), level_next
        ratio = sigma_next / sigma
        target = (state - ratio * x) / (1 - ratio)
    error = (student(x, sigma) - target).square().flatten(1).mean(1)
    return ((1 / sigma.flatten().square()).clamp(min=1) * error).mean()
