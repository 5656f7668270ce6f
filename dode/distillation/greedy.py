"""The greedy fit: coefficients in closed form, one evaluation after the other; and where its refinement begins."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from dode import driver, sampling
from dode.directions import OUTPUTS, Directions, DirectionsLike, History
from dode.distillation import fit_checks
from dode.distillation import teacher as teachers
from dode.distillation.fitted import Fit, made_from
from dode.distillation.refinement import refine_jointly
from dode.grids.facts import ModelFacts
from dode.grids.tensor import Levels
from dode.models.denoiser import for_images
from dode.solvers.base import Denoise, Solver

# For m >= 2: a direction shorter than what this share of the network's output makes of it is left out. A half-precision
# network knows its output no better, and a coefficient on so short a direction blows up fresh images.
ROUNDING = 1e-4
# For m >= 2: the Tikhonov term relative to directions of unit length. It keeps nearly parallel directions from sharing
# their effect between huge coefficients of opposite sign.
RIDGE = 1e-6


class FitError(ValueError):
    """A coefficient cannot be determined; the message names the evaluation."""


def fit_to(
    solver: Solver,
    denoise: Denoise,
    latents: torch.Tensor,
    sigmas: Levels,
    pairing: teachers.Alignment | teachers.Local,
    states: teachers.States,
    *,
    directions: DirectionsLike = 1,
    stages: bool = True,
    refine: int = 0,
) -> Fit:
    """The greedy and the refined fit, with the teacher's states given, as ``(level, state)`` at ``pairing.kept``."""
    prediction = ModelFacts.of(denoise).prediction
    directions = Directions.of(directions, prediction)
    if pairing.from_noise:
        directions = dataclasses.replace(directions, from_noise=True)
    evaluations = solver.nfe(len(sigmas) - 1, end=sigmas[-1])
    fit_checks.check_basis(directions.basis, "greedy", solver, len(sigmas) - 1, evaluations)
    held_out = fit_checks.held_out(len(latents)) if refine else 0
    fit_checks.check_images(len(latents), directions.count, evaluations, refine)
    fitted = latents[: len(latents) - held_out]
    on_fitted = for_images(denoise, 0, len(fitted))
    targets = pairing.targets(on_fitted, states, latents.dtype)
    fitter = _Fitter(directions, prediction, targets, stages, len(fitted))
    driver.drive(driver.steps(solver, on_fitted, fitted, sigmas), fitter)
    greedy = Fit(
        student=sampling.Student(solver, sigmas, torch.stack(fitter.lambdas), directions),
        **made_from(solver, sigmas, denoise, latents),
        sigmas=torch.tensor(fitter.sigmas, dtype=torch.float64),
        rms_before=torch.tensor(fitter.rms_before, dtype=torch.float64),
        rms_after=torch.tensor(fitter.rms_after, dtype=torch.float64),
    )
    if not refine:
        return greedy

    def student(lambdas, noise, start):
        own = for_images(denoise, start, start + len(noise))
        return sampling.Student(solver, sigmas, lambdas, directions).sample(own, noise).to(torch.float64)

    ends: Any = targets.end  # type: ignore[union-attr]  # where targets are local, nothing is refined
    lambdas, record = refine_jointly(
        student, greedy.lambdas, torch.stack(fitter.lengths), latents, ends, held_out, iterations=refine
    )
    return dataclasses.replace(greedy, student=dataclasses.replace(greedy.student, lambdas=lambdas), refinement=record)


class _Fitter:
    """``advance`` function that solves for the coefficients of each evaluation as the student gets there."""

    def __init__(self, directions, prediction, targets, stages, images):
        self.directions, self.predicted, self.targets = directions, OUTPUTS[prediction], targets
        self.stages, self.images = stages, images
        self.history = History(directions)
        self.lambdas, self.lengths, self.sigmas, self.rms_before, self.rms_after = [], [], [], [], []

    def __call__(self, step):
        target = self.targets(step)
        found = self.history.at(step)
        if step.proposal.stage and not self.stages:
            found = {}
        elif self.directions.count > 1:
            found = {
                column: r for column, r in found.items() if torch.linalg.vector_norm(r) > self.shortest(step, column)
            }
        lambdas = torch.zeros(self.directions.count, dtype=torch.float64)
        lengths = torch.zeros_like(lambdas)
        x, before, after = step.proposal.x, float("nan"), float("nan")
        if target is not None:
            residual = (target[: self.images] - x).flatten()
            before = after = _rms(residual)
            if found:
                columns = [direction.flatten() for direction in found.values()]
                solved = solve(columns, residual, step.index)
                lambdas[list(found)] = solved
                # A change of the coefficient by this moves the state by its own size at this noise level.
                scale = (1 + float(step.sigma) ** 2) ** 0.5
                lengths[list(found)] = torch.tensor([scale / _rms(column) for column in columns]).double()
                for direction, coefficient in zip(found.values(), solved.tolist(), strict=True):
                    x = torch.add(x, direction, alpha=coefficient)
                after = _rms(target[: self.images] - x)
        self.lambdas.append(lambdas)
        self.lengths.append(lengths)
        self.sigmas.append(float(step.proposal.sigma))
        self.rms_before.append(before)
        self.rms_after.append(after)
        return x

    def shortest(self, step, column):
        """The length below which a direction is left out.

        Of what the network predicts, a share; of the other kind of output, as ``D = x - sigma eps`` magnifies it too.
        """
        kind, sigma = self.directions.kind_of(column), float(step.sigma)
        length = float(torch.linalg.vector_norm(step.output(kind)))
        if kind != self.predicted:
            predicted = float(torch.linalg.vector_norm(step.output(self.predicted)))
            length = max(length, predicted / sigma if kind == "noise" else predicted * sigma)
        return (
            ROUNDING
            * length
            * (abs(step.h) if self.directions.is_drift(column) or self.directions.is_basis(column) else 1)
        )


def solve(columns: Sequence[torch.Tensor], residual: torch.Tensor, index: int) -> torch.Tensor:
    """Least-squares coefficients of ``residual`` on ``columns`` (flat tensors) by the normal equations, (m,) float64.

    One column: the exact ratio. More: columns of unit length with a relative ridge, so that nothing depends on units.

    Raises:
        FitError: for a vanishing or non-finite column, naming evaluation ``index``.
    """
    size = len(columns)
    gram = torch.stack([torch.dot(a, b) for a in columns for b in columns]).view(size, size).cpu()
    moments = torch.stack([torch.dot(column, residual) for column in columns]).cpu()
    if not bool(gram.isfinite().all() and moments.isfinite().all()):
        raise FitError(f"evaluation {index}: a direction or the residual contains NaN or infinity")
    lengths = gram.diagonal().sqrt()
    if bool((lengths == 0).any()):
        column = int((lengths == 0).nonzero()[0])
        raise FitError(
            f"evaluation {index}: direction {column} is zero on every image, so its coefficient is undetermined"
        )
    if size == 1:
        return moments / gram[0]
    unit = gram / torch.outer(lengths, lengths)
    return torch.linalg.solve(unit + RIDGE * torch.eye(size, dtype=unit.dtype), moments / lengths) / lengths


def _rms(x):
    return float(torch.linalg.vector_norm(x) / x.numel() ** 0.5)
