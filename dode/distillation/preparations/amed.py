"""The network of AMED, trained step by step against a teacher on the same levels."""

from typing import Any

from dode import solvers
from dode.distillation.learned import Expense, Parts, Task, preparation
from dode.registry import finite


def _check(images: int, nfe: int, *, learning_rate: float, teacher: str, **options: Any) -> None:
    if nfe < 2:
        raise ValueError(
            f"preparation 'amed': {nfe} evaluation is the step to 0, in which nothing is chosen; allowed: at least 2"
        )
    for name in ("iterations", "batch", "substeps"):
        value = options[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")
    if not (finite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate must be a number above 0, not {learning_rate!r}")
    for name in ("scale_dir", "scale_time"):
        if not finite(options[name]) or not 0 <= options[name] < 1:
            raise ValueError(f"{name} must be a number of at least 0 and below 1, not {options[name]!r}")
    if solvers.create_teacher(teacher).method.prepare:
        raise ValueError(f"teacher: '{teacher}' must be prepared itself; take another teacher")


def _expense(
    images: int, nfe: int, *, iterations: int, batch: int, substeps: int, teacher: str, **options: Any
) -> Expense:
    seen, steps = iterations * min(batch, images), nfe // 2 + 1  # there are so many to 0 with an analytic first step
    followed = solvers.create_teacher(teacher).nfe(steps * substeps, end=1.0)
    return Expense(1 + seen * (followed + nfe), seen * ((nfe + 1) // 2))


@preparation(
    "amed",
    source="Zhou et al. 2024, arXiv:2312.00094, Alg. 1, and the authors' code (zju-pi/diff-sampler)",
    images=10_000,
    expense=_expense,
    check=_check,
    parts=lambda *, teacher, **_: Parts(solvers=[teacher]),
)
def amed(
    task: Task,
    *,
    iterations: int = 79,
    batch: int = 128,
    learning_rate: float = 5e-3,
    teacher: str = "heun",
    substeps: int = 2,
    scale_dir: float = 0.01,
    scale_time: float = 0.0,
) -> dict[str, Any]:
    """Train the tensors of :func:`dode.solvers.amed.chosen` by Adam, one iteration per step of the solver and batch.

    The loss is the squared distance of the state after a step from the teacher's. A step begins at the teacher's state,
    that of a multistep method at the student's own. Defaults are the authors' for CIFAR-10; theirs for the plugin for
    iPNDM are ``teacher="ipndm"``, ``substeps=3``, ``scale_time=0.2``.

    Args:
        iterations, batch, learning_rate: batches, each gone through step by step; images of one; of Adam. Images come
            again where there are fewer than ``iterations batch``.
        teacher, substeps: solver, and its steps in one of the student's.
        scale_dir, scale_time: how far the factors on slopes and on told levels may be from 1.
    """
    from dode.distillation.backprop import amed as training

    followed = training.followed(task.sigmas, teacher, substeps)
    scales = scale_dir, scale_time
    return training.train(task, followed, scales, iterations=iterations, batch=batch, learning_rate=learning_rate)
