"""What a fit is, whichever way it was made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from dode import driver, sampling
from dode.directions import DirectionsLike
from dode.distillation import fit_checks
from dode.distillation.task import Meter
from dode.grids.facts import ModelFacts
from dode.grids.of_model import listed
from dode.grids.tensor import Levels, checked
from dode.solvers.base import Denoise, Solver

if TYPE_CHECKING:  # a fit of one kind depends on nothing of another
    from dode.distillation.joint import Rung
    from dode.distillation.refinement import Refinement


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted solver and what is known of it; made by :func:`dode.distill`.

    Attributes:
        student: the fitted :class:`dode.sampling.Student`: solver, noise levels, coefficients, told levels.
        base, given: the solver and the noise levels that it was fitted from.
        facts, image_shape: what the model said of itself (:meth:`dode.models.ModelFacts.said`), and (C, H, W).
        sigmas: noise level of each proposal, (K,).
        rms_before, rms_after: root-mean-square distance per element of proposal and of corrected state to the target at
            each evaluation of the greedy fit, (K,); NaN where there is no target.
        refinement: the :class:`dode.distillation.refinement.Refinement` that changed the lambdas afterwards, or None.
        family: which family a joint fit kept, ``"plain"`` included, or by which method of others it was fitted; None
            for the greedy and the refined fit.
        rungs: what became of each family of a joint fit (:class:`dode.distillation.joint.Rung`).
        cost: what a fit by another method cost.
    """

    student: sampling.Student
    base: Solver
    given: Levels
    facts: Mapping[str, Any]
    image_shape: tuple[int, ...]
    sigmas: torch.Tensor
    rms_before: torch.Tensor
    rms_after: torch.Tensor
    refinement: Refinement | None = None
    family: str | None = None
    rungs: tuple[Rung, ...] = ()
    cost: Meter | None = None

    @property
    def lambdas(self) -> torch.Tensor:
        """The coefficients, (K, m) float64; 0 where an evaluation was not fitted or had no such direction yet.

        The tensor knows this fit as its attribute ``fit``, so that :func:`dode.sample` refuses them elsewhere too; what
        is computed from it is bare numbers.

        Raises:
            ValueError: where noise levels were fitted too, so that the coefficients alone are no solver.
        """
        if fit_checks.moves_levels(self.family):
            raise ValueError(
                f"lambdas: this fit is of the family '{self.family}', of which the coefficients alone are no solver; "
                "give the fit itself to dode.sample, or see fit.student"
            )
        lambdas = self.student.lambdas
        lambdas = torch.zeros(self.student.nfe, 1) if lambdas is None else torch.as_tensor(lambdas)
        found: Any = lambdas.to(torch.float64, copy=True)
        found.fit = self
        return found

    @property
    def directions(self) -> DirectionsLike | None:
        """What the m columns are."""
        return 1 if self.student.directions is None else self.student.directions

    def check(self, solver: Solver, sigmas: Levels, facts: ModelFacts, latents: torch.Tensor) -> None:
        """Raise ValueError unless the fit was made from this solver, these levels and such a model."""
        levels, own = checked(sigmas), [checked(self.given), checked(self.student.sigmas)]
        if (solver.name, solver.options) != (self.base.name, self.base.options):
            raise ValueError(f"the fit is of {self.base}, not of {solver}")
        # A copy in float32 is the same grid.
        if not any(levels.shape == each.shape and torch.allclose(levels, each, rtol=1e-6, atol=0) for each in own):
            raise ValueError(
                f"sigmas: the fit was made from the noise levels {listed(own[0])}, not from "
                f"{listed(levels)}; give those, or fit.student.sigmas"
            )
        fit_checks.check_model(facts.said(), self.facts, latents.shape[1:], self.image_shape)


def made_from(solver: Solver, sigmas: Levels, denoise: Denoise, latents: torch.Tensor) -> dict[str, Any]:
    """What a fit remembers of its making: arguments of :class:`Fit`."""
    facts, shape = ModelFacts.of(denoise).said(), tuple(latents.shape[1:])
    return {"base": solver, "given": sigmas, "facts": facts, "image_shape": shape}


def of_student(student: sampling.Student, made: Mapping[str, Any], **known: Any) -> Fit:
    """The fit of a student as a whole, which has no distance to a target at each evaluation.

    Args:
        student: that was fitted.
        made: of :func:`made_from`.
        known: further arguments of :class:`Fit`.
    """
    levels = torch.tensor(driver.proposal_levels(student.solver, student.sigmas), dtype=torch.float64)
    nothing = torch.full((len(levels),), float("nan"), dtype=torch.float64)
    return Fit(student, **made, sigmas=levels, rms_before=nothing, rms_after=nothing, **known)
