"""The recipes of the authors' released code, to the digit (repository kim-sanghwan/D-ODE-Solvers, commit 6dc5a1c).

They are the project's own solvers and its one fit with other grids and pairings: see :func:`dode.teacher.released` for
the pairing. Kept so that a published number can be run again; for new work use the default alignment.
"""

import dataclasses
import math

import torch

from dode import distillation, grids, sampling, schedules, solvers


@dataclasses.dataclass(frozen=True)
class Released:
    """What a recipe gives, all float64.

    Attributes:
        lambdas: (K,), in the coordinates of the released code (VP for noise prediction); 0 where it has none.
        baseline_new: plain samples of ``new_latents``.
        distilled_fit, distilled_new: distilled samples of ``fit_latents`` and of ``new_latents``.
    """

    lambdas: torch.Tensor
    baseline_new: torch.Tensor
    distilled_fit: torch.Tensor
    distilled_new: torch.Tensor


class _Noise:
    """``model(x_vp, index) -> eps`` behind the denoiser contract, on the exact schedule."""

    prediction = "noise"

    def __init__(self, model, schedule):
        self.model, self.schedule = model, schedule

    def prior_std(self, sigma):
        return (1 + sigma**2) ** 0.5

    def __call__(self, x, sigma):
        index = torch.tensor(float(self.schedule.index(float(sigma))), dtype=torch.float64)
        return x - sigma * self.model(x / math.sqrt(1 + float(sigma) ** 2), index)


def run(prediction, solver, order, steps, scale, model, fit_latents, new_latents, *, schedule=None):
    """Run a released recipe.

    Args:
        prediction: ``"noise"``: ``model(x, index) -> eps`` in VP coordinates, index a 0-d float64 tensor; ``"data"``:
            ``model(x, sigma) -> D``, sigma a 0-d float64 tensor.
        solver: ``"ddim"``, or ``"heun"`` for data prediction.
        order: None (for the solvers that have an order of their own to choose).
        steps: N, the student's steps.
        scale: S, teacher steps per evaluation of the student.
        fit_latents, new_latents: unit normal (B, C, H, W); the first are fitted on.
        schedule: a :class:`dode.schedules.Schedule` for noise prediction; linear betas over 1,000 steps by default.

    Returns:
        A :class:`Released`.

    Raises:
        ValueError: for a recipe that the released code does not have.
    """
    if prediction not in ("noise", "data"):
        raise ValueError(f"prediction must be 'noise' or 'data', not '{prediction}'")
    if order is not None:
        raise ValueError(f"solver '{solver}' has no order to choose; order must be None, not {order!r}")
    if prediction == "noise":
        schedule = schedules.schedules.create("linear") if schedule is None else schedule
        sigmas = grids.uniform_index(steps=steps, schedule=schedule, spacing="leading")
        denoise = _Noise(model, schedule)
    else:
        sigmas, denoise = grids.karras(steps=steps), model
    fit_latents, new_latents = fit_latents.double(), new_latents.double()
    student = solvers.create(solver)
    fit = distillation.distill(student, denoise, fit_latents, sigmas, substeps=scale, alignment="released")

    def distilled(latents):
        return sampling.sample(student, denoise, latents, sigmas, lambdas=fit.lambdas, directions=fit.directions)

    # The fit works on x / sqrt(abar); the released code adds lambda r to x itself.
    to_vp = (1 + fit.sigmas**2).rsqrt() if prediction == "noise" else torch.ones_like(fit.sigmas)
    return Released(
        lambdas=fit.lambdas[:, 0] * to_vp,
        baseline_new=sampling.sample(student, denoise, new_latents, sigmas),
        distilled_fit=distilled(fit_latents),
        distilled_new=distilled(new_latents),
    )
