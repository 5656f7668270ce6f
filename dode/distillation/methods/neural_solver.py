"""NeuralSolver: coefficients and times that a search has found on other models, as its authors print them."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dode.distillation.learned import Expense, Parts, Task, fit
from dode.registry import unknown

if TYPE_CHECKING:
    from dode.sampling import Student

TABLES = Path(__file__).with_suffix(".yaml")
LOWEST_TIME = 1e-3  # of the VP SDE, at which the table of noise prediction ends


@functools.cache
def tables() -> dict[str, Any]:
    """``{table: {evaluations: {"steps": ..., "weights": ...}}}``."""
    import yaml

    return yaml.safe_load(TABLES.read_text(encoding="utf-8"))


def _check(images: int, nfe: int, *, table: str) -> None:
    if table not in tables():
        raise ValueError(f"fit 'neural-solver': {unknown('table', table, tables())}")
    if nfe not in tables()[table]:
        known = ", ".join(map(str, tables()[table]))
        raise ValueError(f"fit 'neural-solver': table '{table}' has {known} evaluations, not {nfe}")


@fit(
    "neural-solver",
    source="Wang et al. 2025, arXiv:2505.21114, their tables",
    expense=lambda images, nfe, *, table: Expense(0),
    follows="nothing",
    images=1,
    check=_check,
    parts=lambda **_: Parts(files=[TABLES]),
)
def neural_solver(task: Task, *, table: str = "flow") -> "Student":
    """The table of this many evaluations, whatever the solver, its levels and the model: nothing is fitted here.

    Row i has weights ``w_ij`` on the outputs before the newest, whose own is ``1 - sum_j w_ij`` (Wang et al. 2025,
    arXiv 2505.21114, Sec. 4). ``table``: ``"flow"``, found on SiT-XL: ``x_t' = x_t + (t' - t) sum_j w_ij v_j`` from
    t = 1 to 0, v the velocity of flow matching, 5 to 10 or 15 evaluations; ``"noise"``, found on DiT-XL: Euler's step
    in sigma with ``sum_j w_ij D_j`` for D, at the times of the linear VP SDE from 0.999 to 0.001, 5 to 10 evaluations.
    A model that begins lower begins there.
    """
    import torch

    from dode.grids.facts import ModelFacts
    from dode.grids.schedules import level_at_time
    from dode.sampling import Student
    from dode.solvers.formulas import PURE_NOISE, vp_sigma
    from dode.solvers.non_stationary import NonStationary

    own, facts = tables()[table][task.nfe], ModelFacts.of(task.denoise)
    ahead = np.cumsum([0.0, *own["steps"]])
    if table == "flow":
        levels = np.asarray(level_at_time(1 - ahead))
        levels[-1] = 0.0  # where the printed digits do not quite get
    else:
        levels = np.asarray(vp_sigma(np.maximum(0.999 - ahead, LOWEST_TIME)))
    highest = facts.sigma_max if facts.schedule is None else facts.schedule.noisiest
    levels[0] = min(levels[0], PURE_NOISE if highest is None else highest)
    rows = _coefficients(levels, own["weights"], float(facts.prior_std(levels[0])), of_velocity=table == "flow")
    return Student(NonStationary(rows.tolist()), torch.tensor(levels, dtype=torch.float64))


def _coefficients(levels, weights, size, *, of_velocity):
    """Rows of the states on the unit noise and the outputs, (K + 1, K + 1); ``size`` of the first state."""
    count = len(weights)
    unit, rows, outputs = np.eye(count + 1), np.zeros((count + 1, count + 1)), []
    rows[0, 0] = size
    for index, given in enumerate(weights):
        sigma, sigma_next = levels[index], levels[index + 1]
        image, scale = unit[index + 1], 1 + sigma if of_velocity else 1.0
        # The velocity (x_t - D) / t, or the image itself.
        outputs.append((rows[index] / scale - image) * scale / sigma if of_velocity else image)
        whole = [*given, 1 - sum(given)]
        mean = sum(weight * output for weight, output in zip(whole, outputs, strict=True))
        if of_velocity:
            step = 1 / (1 + sigma) - 1 / (1 + sigma_next)  # t' - t
            rows[index + 1] = (1 + sigma_next) * (rows[index] / scale + step * mean)
        else:
            rows[index + 1] = sigma_next / sigma * rows[index] + (1 - sigma_next / sigma) * mean
    return rows
