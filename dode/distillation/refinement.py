"""Joint refinement of all coefficients of a distilled solver for the end state, without back-propagation.

The greedy fit makes each evaluation's error small; what matters is the end. Levenberg-Marquardt on
``sum ||x_end(c) - y_end||^2`` over all coefficients c at once, from the greedy ones: the Jacobian by forward
differences, one student run per coefficient, so that any black-box denoiser and any solver will do.
"""

import dataclasses
from collections.abc import Callable

import torch

from dode.calls import NonFiniteError

RELATIVE_STEP = 1e-3  # of the forward differences, in sizes of the state at the coefficient's noise level
DAMPING, EASED, STIFFENED, STIFFEST = 1e-3, 0.2, 5.0, 1e8
ENOUGH = 1e-4  # a smaller relative gain ends the refinement
# Iterations without a gain on the held-out images; their error, a few images' mostly, does not fall evenly.
PATIENCE = 4
# Float64 values in a Jacobian. It is there twice while its columns are put together: 256 MiB of a job's 1,000.
VALUES = 2**24


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
    damping, made, since = DAMPING, 0, 0
    for _ in range(iterations):
        if not bool((scales != 0).any()):
            break
        try:
            gram, gradient = problem.normal_equations(current)
        except NonFiniteError:  # next to a breakdown of the student there is no derivative
            break
        made += 1
        accepted = None
        while accepted is None and damping <= STIFFEST:
            candidate = problem.moved(current, gram, gradient, damping)
            candidate_error = problem.error(candidate)
            if candidate_error < error:
                accepted = candidate
            damping *= EASED if accepted is not None else STIFFENED
        if accepted is None:
            break
        gain, current, error = 1 - candidate_error / error, accepted, candidate_error
        held = unseen.error(current)
        if held < best_held:
            best, best_held, since = current, held, 0
            record = {key: [values[0], new] for (key, values), new in zip(record.items(), (error, held), strict=True)}
        else:
            since += 1
        if since == PATIENCE or gain < ENOUGH:
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
        gram = torch.zeros(len(self.active), len(self.active), dtype=torch.float64)
        gradient = torch.zeros(len(self.active), dtype=torch.float64)
        for noise, end, start in self._chunks():
            here = self.student(lambdas, noise, start)
            columns = []
            for (row, column), change in zip(self.active, self.changes, strict=True):
                shifted = lambdas.clone()
                shifted[row, column] += change
                columns.append(((self.student(shifted, noise, start) - here) / change).flatten())
            jacobian = torch.stack(columns, dim=1)
            gram += (jacobian.T @ jacobian).cpu()
            gradient += (jacobian.T @ (here - end).flatten()).cpu()
        return gram, gradient

    def moved(self, lambdas, gram, gradient, damping):
        """``lambdas`` after the step ``-(J^T J + damping diag)^-1 J^T r``; NaN where there is no such step."""
        diagonal = gram.diagonal()
        diagonal = diagonal.clamp(min=1e-12 * float(diagonal.max()))
        step, failed = torch.linalg.solve_ex(gram + damping * torch.diag(diagonal), -gradient)
        if bool(failed):
            step.fill_(float("nan"))
        lambdas = lambdas.clone()
        for (row, column), change in zip(self.active, step.tolist(), strict=True):
            lambdas[row, column] += change
        return lambdas
