"""Fitting a distilled solver (D-ODE) by any of the ways there are: :func:`dode.distill`."""

from collections.abc import Mapping
from typing import Any

import torch

from dode import calls, driver
from dode.directions import DirectionsLike
from dode.distillation import fit_checks, joint, learned
from dode.distillation import teacher as teachers
from dode.distillation.by_method import check_method, fit_by_method
from dode.distillation.fine_solution import fine_ends
from dode.distillation.fitted import Fit
from dode.distillation.greedy import fit_to
from dode.grids.facts import ModelFacts
from dode.grids.of_model import check_levels
from dode.grids.tensor import Levels, checked
from dode.solvers.base import Denoise, Solver

REFINED = 12  # iterations of a refinement


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
    for name, value in (("clip", clip), ("stages", stages)):
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, not {value!r}")
    driver.check_solver(solver)
    solver.check_shared_levels()
    if solver.options.get("prepared") is not None and fit not in fit_checks.STEPWISE:
        raise ValueError(f"solver '{solver.name}' was prepared for its model; a fit '{fit}' takes other solvers")
    fit_checks.check_noiseless(solver)
    latents = calls.noise(latents)
    calls.check_unit(latents)
    check_levels(checked(sigmas).numpy(), ModelFacts.of(denoise))
    solver = driver.on_grid(solver, sigmas)
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
        check_method(fit, solver, denoise, checked(sigmas), len(latents), options or {})
        if learned.fits.get(fit).follows == "ends":
            chosen["ends"] = fine_ends(denoise, latents, sigmas) if ends is None else torch.as_tensor(ends)
            return fit_by_method(fit, solver, denoise, latents, sigmas, clip=clip, **chosen)
        if learned.fits.get(fit).follows == "nothing":
            return fit_by_method(fit, solver, denoise, latents, sigmas, **chosen)
        pairing = teachers.align(solver, denoise, sigmas, substeps=substeps, teacher=teacher)
        assert isinstance(pairing, teachers.Alignment)
        chosen["states"] = list(teachers.trajectory(pairing, denoise, latents))
        return fit_by_method(fit, solver, denoise, latents, sigmas, **chosen)
    if fit == "joint":
        directions = fit_checks.joint_directions(family) if directions is None else directions
        what: dict[str, Any] = {"family": family, "directions": directions, "budget": budget}
        joint.check(solver, ModelFacts.of(denoise), checked(sigmas), len(latents), **what)
        ends = fine_ends(denoise, latents, sigmas) if ends is None else torch.as_tensor(ends)
        return joint.fit_jointly(
            solver,
            denoise,
            latents,
            sigmas,
            ends,
            **what,
            clip=clip,
            iterations=joint.ITERATIONS if iterations is None else iterations,
        )
    pairing = teachers.align(solver, denoise, sigmas, substeps=substeps, alignment=alignment, teacher=teacher)
    states = teachers.trajectory(pairing, denoise, latents) if isinstance(pairing, teachers.Alignment) else ()
    refine = 0 if fit == "greedy" else REFINED if iterations is None else iterations
    own = 1 if directions is None else directions
    return fit_to(solver, denoise, latents, sigmas, pairing, states, directions=own, stages=stages, refine=refine)
