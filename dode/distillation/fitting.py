"""Fitting the coefficients of a distilled solver (D-ODE) in closed form."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dode import calls, sampling
from dode.directions import OUTPUTS, Directions, DirectionsLike, History
from dode.distillation import fit_checks, joint, learned
from dode.distillation import teacher as teachers
from dode.distillation.fine_solution import fine_ends
from dode.distillation.refinement import Refinement, refine_jointly
from dode.distillation.task import Checkpoint, Meter, Task
from dode.grids.facts import ModelFacts
from dode.grids.of_model import check_levels, listed
from dode.grids.tensor import Grid, Levels, checked
from dode.models.denoiser import for_images
from dode.solvers.base import Denoise, Solver

# For m >= 2: a direction shorter than what this share of the network's output makes of it is left out. A half-precision
# network knows its output no better, and a coefficient on so short a direction blows up fresh images.
ROUNDING = 1e-4
# For m >= 2: the Tikhonov term relative to directions of unit length. It keeps nearly parallel directions from sharing
# their effect between huge coefficients of opposite sign.
RIDGE = 1e-6
REFINED = 12  # iterations of a refinement


class FitError(ValueError):
    """A coefficient cannot be determined; the message names the evaluation."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted solver and what is known of it; made by :func:`distill`.

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
    rungs: tuple[joint.Rung, ...] = ()
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


def align(
    solver: Solver,
    denoise: Denoise,
    sigmas: Levels,
    *,
    substeps: int = 10,
    alignment: str = "aligned",
    teacher: str | None = None,
) -> teachers.Alignment | teachers.Local:
    """The pairing of a solver with its teacher by name: ``"aligned"``, ``"local"`` or ``"released"``.

    Returns:
        A :class:`dode.teacher.Alignment`, for ``"local"`` a :class:`dode.teacher.Local`.
    """
    if isinstance(substeps, bool) or not isinstance(substeps, int) or substeps < 1:
        raise ValueError(f"substeps must be an integer of at least 1, not {substeps!r}")
    fit_checks.check_alignment(alignment, afs=sampling.on_grid(solver, sigmas).afs)
    if alignment == "aligned":
        return teachers.aligned(solver, sigmas, substeps, teacher)
    if alignment == "local":
        return teachers.local(solver, sigmas, substeps, teacher)
    if alignment == "released":
        if teacher is not None:
            raise ValueError("alignment 'released' has its own teacher; leave 'teacher' out")
        return teachers.released(solver, sigmas, substeps, ModelFacts.of(denoise).prediction)
    raise ValueError(f"alignment must be 'aligned', 'local' or 'released', not '{alignment}'")


def distill(
    solver: Solver,
    denoise: Denoise,
    latents: torch.Tensor,
    sigmas: Levels,
    *,
    fit: str = "joint",
    directions: DirectionsLike | None = None,
    family: str = "auto",
    clip: bool = False,
    budget: int | None = None,
    ends: torch.Tensor | None = None,
    substeps: int = 10,
    alignment: str = "aligned",
    teacher: str | None = None,
    stages: bool = True,
    iterations: int | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Fit:
    """Fit the distilled solver, so that with few evaluations it ends where many steps would.

    ``fit="joint"`` fits all coefficients and noise levels together on the end state, and keeps what is best on held-out
    images, the plain solver included (:mod:`dode.distillation.joint`; a quarter of the images is held out).

    ``fit="greedy"`` is the paper's: after evaluation k, ``x = proposal_k + R_k lambda_k``, on the given levels.
    ``lambda_k = argmin ||y_k - proposal_k - R_k lambda||^2`` over all images of the fitting set, in float64, with
    ``y_k`` the teacher's state for the same noise; with one direction ``r_k = O_k - O_{k-1}`` that is
    ``<r_k, y_k - proposal_k> / <r_k, r_k>`` (Kim, Tang & Yu 2024, arXiv 2309.16421, Eq. 7). The fit is greedy in the
    order of the evaluations: the corrected state is the input of the next. Teacher and student advance together, so
    that of the teacher's trajectory one state is held. ``fit="refined"`` goes on from there with all coefficients
    together (:mod:`dode.distillation.refinement`).

    Any other ``fit`` is a method of others by its name (:mod:`dode.distillation.learned`), which has ``options``.

    Args:
        solver, denoise, latents, sigmas: as in :func:`dode.sample`; ``latents`` is the whole fitting set, which should
            not be scored afterwards: 200 images for a joint fit, 100 are plenty for a greedy one.
        fit: ``"joint"``, ``"greedy"``, ``"refined"``, or the name of another method.
        directions: number m of directions per evaluation (m = 1: the paper's; m >= 2: m - 1 differences of successive
            outputs and the drift), or a :class:`dode.directions.Directions`, or a dictionary of its attributes. By
            default 3 for a joint fit, else 1.
        family: of a joint fit, the largest family that may be kept: ``"lambda"``, ``"directions"``, ``"levels"``,
            ``"told"``, ``"general"``, or ``"auto"``, which is the last as far as images and budget allow
            (:mod:`dode.distillation.families`).
        clip: whether a joint fit compares end states as images are saved, clipped to [-1, 1].
        budget: most network evaluations of a joint fit, each of one image; by default what it costs to sample 18,000
            images. Those of ``ends`` are not counted.
        ends: for a joint fit, the end states that the solver should reach, (B, C, H, W); by default those of
            :func:`fine_ends`.
        substeps: teacher steps per student interval (S of the paper).
        alignment: ``"aligned"``: targets on the teacher's trajectory, at the student's own noise levels; ``"local"``:
            the teacher begins each step at the student's state (IIA: Zhang, Niwa & Kleijn 2023, arXiv 2304.11328);
            ``"released"``: the pairing of the authors' code, at other levels.
        teacher: name of the teacher's solver; None for the solver's own choice.
        stages: whether inner stages (Heun's predictor) are corrected too.
        iterations: most iterations of a joint fit of one family (by default 20) or of a refinement (12).
        seed, options: of a method by name, for all that it draws, and the keyword options that its file in
            ``dode/distillation/methods`` has.

    ``substeps``, ``alignment``, ``teacher`` and ``stages`` belong to the greedy and the refined fit; a method that
    follows the teacher's states has ``substeps`` and ``teacher`` too, and one that follows end states ``ends``.

    Returns:
        A :class:`Fit`; give it to :func:`dode.sample` as ``lambdas``.

    Raises:
        FitError: where a direction vanishes or is not finite, naming the evaluation.
        NonFiniteError: where the network returns NaN or infinity, naming the evaluation.
        ValueError: for what :func:`dode.sample` refuses, a bad option, a solver that is not linear in the network's
            outputs (joint), or fewer images than the coefficients need
            (:func:`dode.distillation.fit_checks.check_images`).

    >>> import torch, dode
    >>> denoise = lambda x, sigma: x / (1 + sigma**2)
    >>> noise = torch.randn(64, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    >>> ddim, sigmas = dode.solvers.create("ddim"), dode.grids.karras(steps=5)
    >>> fit = dode.distill(ddim, denoise, noise, sigmas, fit="greedy")
    >>> fit.lambdas.shape
    torch.Size([5, 1])
    >>> plain = dode.sample(ddim, denoise, noise, sigmas)
    >>> distilled = dode.sample(ddim, denoise, noise, sigmas, lambdas=fit)
    >>> exact = noise * 80 / (1 + 80**2) ** 0.5
    >>> bool((distilled - exact).square().mean() < (plain - exact).square().mean() / 10)
    True
    """
    fit_checks.check_fit(fit, alignment, iterations)
    solver.check_shared_levels()
    if solver.method.stochastic:
        raise ValueError(
            f"solver '{solver.name}' adds noise on its way, so that no fit corrects it; give another solver"
        )
    latents = calls.noise(latents)
    calls.check_unit(latents)
    check_levels(checked(sigmas).numpy(), ModelFacts.of(denoise))
    solver = sampling.on_grid(solver, sigmas)
    given = {
        "directions": directions is not None,
        "family": family != "auto",
        "clip": clip,
        "budget": budget is not None,
        "ends": ends is not None,
        "substeps": substeps != fit_checks.FOLLOWING["substeps"],
        "alignment": alignment != fit_checks.FOLLOWING["alignment"],
        "teacher": teacher is not None,
        "stages": not stages,
        "iterations": iterations is not None,
        "seed": seed != 0,
        "options": options is not None,
    }
    for name, is_given in given.items():
        if is_given and name not in fit_checks.arguments(fit):
            raise ValueError(f"{name}: a fit '{fit}' has no such option; leave it out")
    if fit not in fit_checks.FITS:
        chosen: dict[str, Any] = {"seed": seed, "options": options or {}}
        if learned.fits.get(fit).follows == "ends":
            chosen["ends"] = fine_ends(denoise, latents, sigmas) if ends is None else torch.as_tensor(ends)
            return fit_by_method(fit, solver, denoise, latents, sigmas, clip=clip, **chosen)
        if learned.fits.get(fit).follows == "nothing":
            return fit_by_method(fit, solver, denoise, latents, sigmas, **chosen)
        pairing = align(solver, denoise, sigmas, substeps=substeps, teacher=teacher)
        assert isinstance(pairing, teachers.Alignment)
        chosen["states"] = list(teachers.trajectory(pairing, denoise, latents))
        return fit_by_method(fit, solver, denoise, latents, sigmas, **chosen)
    if fit == "joint":
        ends = fine_ends(denoise, latents, sigmas) if ends is None else torch.as_tensor(ends)
        return fit_jointly(
            solver,
            denoise,
            latents,
            sigmas,
            ends,
            family=family,
            directions=fit_checks.joint_directions(family) if directions is None else directions,
            clip=clip,
            budget=budget,
            iterations=joint.ITERATIONS if iterations is None else iterations,
        )
    pairing = align(solver, denoise, sigmas, substeps=substeps, alignment=alignment, teacher=teacher)
    states = teachers.trajectory(pairing, denoise, latents) if isinstance(pairing, teachers.Alignment) else ()
    refine = 0 if fit == "greedy" else REFINED if iterations is None else iterations
    own = 1 if directions is None else directions
    return fit_to(solver, denoise, latents, sigmas, pairing, states, directions=own, stages=stages, refine=refine)


def fit_jointly(
    solver: Solver,
    denoise: Denoise,
    latents: torch.Tensor,
    sigmas: Levels,
    ends: torch.Tensor,
    **options: Any,
) -> Fit:
    """:func:`distill` with ``fit="joint"``; options of :func:`dode.distillation.joint.climb_ladder`."""
    student, family, rungs = joint.climb_ladder(solver, denoise, latents, sigmas, ends, **options)
    levels = torch.tensor(teachers.proposal_levels(student.solver, student.sigmas), dtype=torch.float64)
    nothing = torch.full((len(levels),), float("nan"), dtype=torch.float64)
    own = _made_from(solver, sigmas, denoise, latents)
    return Fit(student, **own, sigmas=levels, rms_before=nothing, rms_after=nothing, family=family, rungs=rungs)


def fit_by_method(
    name: str,
    solver: Solver,
    denoise: Denoise,
    latents: torch.Tensor,
    sigmas: Levels,
    *,
    options: Mapping[str, Any],
    checkpoint: Checkpoint | None = None,
    **followed: Any,
) -> Fit:
    """The fit ``name`` of :data:`dode.distillation.learned.fits`.

    Args:
        solver, denoise, latents, sigmas: as of :func:`distill`.
        options: of the method.
        checkpoint: where an interrupted fit goes on.
        followed: ``ends`` or ``states``, ``clip`` and ``seed`` as of :class:`dode.distillation.task.Task`.
    """
    method, levels = learned.fits.get(name), checked(sigmas)
    learned.fits.check_options(name, options)
    method.check_solver(solver, len(levels) - 1, **options)
    method.check(len(latents), solver.nfe(len(levels) - 1, end=levels[-1]), **options)
    own = _made_from(solver, sigmas, denoise, latents)
    kept = sigmas if isinstance(sigmas, Grid) else levels  # which knows its family
    task = Task(solver, denoise, latents, kept, checkpoint=checkpoint or Checkpoint(), **followed)
    student = method(task, **options)
    proposed = torch.tensor(teachers.proposal_levels(student.solver, student.sigmas), dtype=torch.float64)
    nothing = torch.full((len(proposed),), float("nan"), dtype=torch.float64)
    known: dict[str, Any] = {"family": name, "cost": task.meter}
    return Fit(student, **own, sigmas=proposed, rms_before=nothing, rms_after=nothing, **known)


def _made_from(solver, sigmas, denoise, latents):
    """What a fit remembers of its making."""
    facts, shape = ModelFacts.of(denoise).said(), tuple(latents.shape[1:])
    return {"base": solver, "given": sigmas, "facts": facts, "image_shape": shape}


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
    sampling.drive(sampling.steps(solver, on_fitted, fitted, sigmas), fitter)
    greedy = Fit(
        student=sampling.Student(solver, sigmas, torch.stack(fitter.lambdas), directions),
        **_made_from(solver, sigmas, denoise, latents),
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
