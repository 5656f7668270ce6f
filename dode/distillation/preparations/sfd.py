"""Simple and fast distillation: a network learns to step from its own states to those of a finer trajectory."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from dode import solvers
from dode.distillation.learned import Expense, Parts, Task, preparation
from dode.solvers import Solver

if TYPE_CHECKING:
    from torch import Tensor

LATER = 0.1  # share of the rate in the second half


def followed(teacher: Any) -> Solver:
    """The solver ``{name, options}``, as a teacher."""
    if not isinstance(teacher, dict) or not isinstance(teacher.get("name"), str) or set(teacher) - {"name", "options"}:
        raise ValueError(f"teacher: must be a solver, {{name: ..., options: {{...}}}}, not {teacher!r}")
    found = solvers.create_teacher(teacher["name"], **teacher.get("options", {}))
    if found.method.prepare:
        raise ValueError(f"teacher: '{found.name}' must be prepared itself; take another solver")
    return found


def _check(images: int, nfe: int, *, substeps: int, teacher: Any, iterations: int, batch: int, **others: Any) -> None:
    followed(teacher)
    if substeps < 2:
        raise ValueError(f"substeps: {substeps} makes a trajectory no finer; allowed: at least 2")
    if min(iterations, batch) < 1:
        raise ValueError(f"iterations and batch must be at least 1, not {iterations} and {batch}")


def _expense(images: int, nfe: int, *, substeps: int, teacher: Any, iterations: int, batch: int, **_: Any) -> Expense:
    fine = followed(teacher).nfe(substeps * (nfe + 1))  # with the interval of an analytic first step
    return Expense(evaluations=iterations * batch * (fine + nfe), gradients=iterations * batch * nfe)


@preparation(
    "sfd",
    source="Zhou et al. 2024, arXiv:2409.19681, Alg. 1",
    expense=_expense,
    check=_check,
    parts=lambda *, teacher, **_: Parts(solvers=[teacher["name"]]),
)
def sfd(
    task: Task,
    *,
    substeps: int = 4,
    teacher: dict[str, Any] = {"name": "dpm-solver++", "options": {"variant": "3M"}},  # noqa: B006 - read only
    iterations: int = 500,
    batch: int = 128,
    rate: float = 1e-3,
) -> dict[str, Tensor]:
    """The weights of a network whose DDIM lands on the states of the solver ``teacher`` at the task's levels.

    Simple and fast distillation (Zhou et al. 2024, arXiv 2409.19681, Alg. 1): from new noise at every iteration the
    teacher makes a trajectory with ``substeps`` steps in each interval. Then the student makes its own, with one step
    of Adam after each of its steps, towards the teacher's state in the absolute distance, summed over an image; its
    next step begins where that one ended. The rate is a tenth in the second half. The authors' setting on CIFAR-10 has
    1,563 iterations on batches of 128, a rate of 5e-5, DPM-Solver++(3M), four substeps, an analytic first step, and an
    end at sigma = 0.006.
    """
    import torch

    from dode.distillation import students
    from dode.distillation import teacher as teachers
    from dode.driver import evaluated_levels, first_state
    from dode.grids.facts import ModelFacts
    from dode.grids.tensor import checked

    training = students.Training(task, torch.optim.Adam, rate)
    pairing = dataclasses.replace(teachers.aligned(task.solver, task.sigmas, substeps), teacher=followed(teacher))
    scale = ModelFacts.of(training.model).prior_std(float(task.sigmas[0]))
    levels = torch.tensor([*evaluated_levels(task.solver, task.sigmas), float(task.sigmas[-1])], dtype=torch.float64)
    for step in training.steps(iterations):
        rows, latents = training.rows(batch), training.noise(batch, *task.latents.shape[1:])
        states = teachers.trajectory(pairing, training.model.of_rows(rows), latents.to(training.student.dtype))
        student, x = training.student.of_rows(rows), first_state(task.solver, scale * latents, checked(task.sigmas))
        for (sigma, sigma_next), (_, state) in zip(pairwise(levels), states, strict=True):
            denoised = student(x, sigma)
            x = denoised + sigma_next / sigma * (x - denoised)
            distance = (x - state).abs().flatten(1).sum(1).mean()
            training.descend(distance, share=LATER if 2 * step >= iterations else 1)
            x = x.detach()
    return training.weights()
