"""Joint refinement of all coefficients of a distilled solver for the end state, without back-propagation.

The greedy fit makes each evaluation's error small; what matters is the end. Levenberg-Marquardt on
``sum ||x_end(c) - y_end||^2`` over all coefficients c at once, from the greedy ones: the Jacobian by forward
differences, one student run per coefficient, so that any black-box denoiser and any solver will do.
"""

import dataclasses
import functools
from collections.abc import Callable

import torch

from dode.calls import NonFiniteError
from dode.distillation.damped_steps import Damping, normal_equations

RELATIVE_STEP = 1e-3  # of the forward differences, in sizes of the state at the coefficient's noise level
DAMPING = Damping(first=1e-3, stiffest=1e8, flat=1e-12)
ENOUGH = 1e-4  # a smaller relative gain ends the refinement
# Iterations without a gain on the held-out images; their error, a few images' mostly, does not fall evenly.
PATIENCE = 4
VALUES = 2**24  # float64 values in a Jacobian: 128 MiB


@dataclasses.dataclass(frozen=True)
class Refinement:
    """What a refinement did.

    Attributes:
        iterations: Jacobians that were made.
        runs: student runs over the fitted images that it cost: one for the error at the start, one for each coefficient
            and one more for a Jacobian, one for each step that was tried. The held-out images take one run at the start
            and one for each step that was accepted.
        rmse_fitted: root-mean-square error of the end state on the fitted images, (before, after).
        rmse_held_out: the same on the images that were held out; the iteration that was best here is kept.
    """

    iterations: int
    runs: int
    rmse_fitted: tuple[float, float]
    rmse_held_out: tuple[float, float]


def refine_jointly(
    student: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor],
    lambdas: torch.Tensor,
    scales: torch.Tensor,
    latents: torch.Tensor,
    ends: torch.Tensor,
    held_out: int,
    *,
    iterations: int,
) -> tuple[torch.Tensor, Refinement]:
    """Levenberg-Marquardt from ``lambdas``.

    Args:
        student: ``student(lambdas, latents, start) -> end states``, float64, of images ``start`` and following.
        lambdas: (K, m), the start.
        scales: (K, m), by how much each coefficient must change to move the state by its own size; 0: left as it is.
        latents, ends: noise of all images and their targets; the last ``held_out`` of them only decide when to stop.
        iterations: at most.

    Returns:
        ``(lambdas, Refinement)``.
    """
    fitted = len(latents) - held_out
    ends = ends.to(torch.float64)
    problem = _Problem(student, scales, latents[:fitted], ends[:fitted], 0)
    unseen = _Problem(student, scales, latents[fitted:], ends[fitted:], fitted)
    current, error = lambdas, problem.error(lambdas)
    best, best_held = lambdas, unseen.error(lambdas)
    record = {"rmse_fitted": [error, error], "rmse_held_out": [best_held, best_held]}
    damping, made, since = DAMPING.first, 0, 0
    for _ in range(iterations):
        if not bool((scales != 0).any()):
            break
        try:
            equations = problem.normal_equations(current)
        except NonFiniteError:  # next to a breakdown of the student there is no derivative
            break
        made += 1
        lower = DAMPING.lower(error, damping, functools.partial(problem.moved, current, *equations), problem.error)
        if lower is None:
            break
        before, (current, error, damping) = error, lower
        held = unseen.error(current)
        if held < best_held:
            best, best_held, since = current, held, 0
            record = {key: [values[0], new] for (key, values), new in zip(record.items(), (error, held), strict=True)}
        else:
            since += 1
        if since == PATIENCE or 1 - error / before < ENOUGH:
            break
    return best, Refinement(made, problem.runs, *(tuple(values) for values in record.values()))


class _Problem:
    """The least-squares problem on some images, image ``first`` and following, a few of them at a time."""

    def __init__(self, student, scales, latents, ends, first):
        self.student, self.latents, self.ends, self.first = student, latents, ends, first
        self.active = (scales != 0).nonzero().tolist()
        self.changes = [RELATIVE_STEP * float(scales[row, column]) for row, column in self.active]
        per_image = (len(self.active) + 1) * latents[0].numel()
        self.chunk = max(1, min(len(latents), VALUES // per_image))
        self.runs = 0

    def _chunks(self):
        starts = range(self.first, self.first + len(self.latents), self.chunk)
        return zip(self.latents.split(self.chunk), self.ends.split(self.chunk), starts, strict=True)

    def error(self, lambdas):
        """Root-mean-square error of the end states; infinite if a run breaks down or a coefficient is not finite."""
        if not bool(lambdas.isfinite().all()):
            return float("inf")
        self.runs += 1
        try:
            total = sum(
                float((self.student(lambdas, noise, start) - end).square().sum())
                for noise, end, start in self._chunks()
            )
        except NonFiniteError:
            return float("inf")
        return (total / self.ends.numel()) ** 0.5

    def normal_equations(self, lambdas):
        """``J^T J`` and ``J^T r`` by forward differences, summed over the chunks."""
        self.runs += 1 + len(self.active)
        return normal_equations(self._linearised(lambdas), len(self.active))

    def _linearised(self, lambdas):
        """Of each chunk the Jacobian and the residuals."""
        for noise, end, start in self._chunks():
            here = self.student(lambdas, noise, start)
            jacobian = here.new_zeros(here.numel(), len(self.active))
            for index, ((row, column), change) in enumerate(zip(self.active, self.changes, strict=True)):
                shifted = lambdas.clone()
                shifted[row, column] += change
                jacobian[:, index] = ((self.student(shifted, noise, start) - here) / change).flatten()
            yield jacobian, (here - end).flatten()

    def moved(self, lambdas, gram, gradient, damping):
        """``lambdas`` after a step; None where there is no such step."""
        step = DAMPING.step(gram, gradient, damping)
        if step is None:
            return None
        lambdas = lambdas.clone()
        for (row, column), change in zip(self.active, step.tolist(), strict=True):
            lambdas[row, column] += change
        return lambdas
