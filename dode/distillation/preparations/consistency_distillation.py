"""Consistency distillation: a network learns to end where the next point of its trajectory ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dode.distillation.learned import Expense, Task, preparation

if TYPE_CHECKING:
    from torch import Tensor

RHO = 7.0  # of the levels that it learns at


def _check(
    images: int, nfe: int, *, scales: int, iterations: int, batch: int, target: float, average: float, **_: Any
) -> None:
    if scales < 2:
        raise ValueError(f"scales: {scales} noise levels have no neighbours; allowed: at least 2")
    if min(iterations, batch) < 1:
        raise ValueError(f"iterations and batch must be at least 1, not {iterations} and {batch}")
    for name, value in (("target", target), ("average", average)):
        if not 0 <= value < 1:
            raise ValueError(f"{name}: {value} is no decay of an average; allowed: from 0 to below 1")


def _expense(images: int, nfe: int, *, iterations: int, batch: int, **others: Any) -> Expense:
    return Expense(evaluations=4 * iterations * batch, gradients=iterations * batch)


@preparation(
    "consistency-distillation",
    source="Song et al. 2023, arXiv:2303.01469, Alg. 2",
    follows="ends",
    images=1000,
    expense=_expense,
    check=_check,
)
def consistency_distillation(
    task: Task,
    *,
    scales: int = 40,
    iterations: int = 3000,
    batch: int = 128,
    rate: float = 1e-3,
    target: float = 0.95,
    average: float = 0.999,
) -> dict[str, Tensor]:
    """The weights of a network that behind the boundary scalings is a consistency function of the model's trajectories.

    Consistency distillation with the squared distance (Song et al. 2023, arXiv 2303.01469, Alg. 2): the student at one
    of ``scales`` levels of EDM's grid is held against the target network at the next level, where a step of Heun's
    method by the model leads (:func:`loss_of`). The target network is an average of the student, of decay ``target``;
    what is returned is another one, of decay ``average``. On ImageNet 64x64 the authors trained for 600,000 iterations
    on batches of 2,048 at a rate of 8e-6 with RAdam, on data in the place of the task's end states.
    """
    import torch

    from dode import grids
    from dode.distillation import students

    training = students.Training(task, torch.optim.RAdam, rate, ("target", "average"))
    lowest, highest = training.range
    grid = torch.as_tensor(grids.rho_space(RHO).between(highest, lowest, scales))
    student, behind = training.student.as_consistency_function(), training.behind("target").as_consistency_function()
    for step in training.steps(iterations):
        rows, which = training.rows(batch), training.choice(scales - 1, batch)
        images = training.images(rows)
        sigma, sigma_next = (students.levels(grid, which + later, images) for later in (0, 1))
        x = images + sigma * training.noise(*images.shape)
        loss = loss_of(student.of_rows(rows), behind.of_rows(rows), training.model.of_rows(rows), x, sigma, sigma_next)
        training.descend(loss)
        training.follow("target", target)
        training.follow("average", min(average, (step + 1) / (step + 10)))
    return training.weights("average")


def loss_of(student: Any, target: Any, teacher: Any, x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """``E ||f(x; sigma) - f_target(x'; sigma')||^2`` per value, x' by one step of Heun's method with the teacher.

    x (B, C, H, W), levels (B, 1, 1, 1), the weight 1 at every level as in the authors' runs.
    """
    import torch

    with torch.no_grad():
        slope = (x - teacher(x, sigma)) / sigma
        state = x + (sigma_next - sigma) * slope
        other = (state - teacher(state, sigma_next)) / sigma_next
        state = x + (sigma_next - sigma) * (slope + other) / 2
        aim = target(state, sigma_next)
    return (student(x, sigma) - aim).square().mean()
