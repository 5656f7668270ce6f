"""The recipes of the authors' released code, to the digit (repository kim-sanghwan/D-ODE-Solvers, commit 6dc5a1c).

They are the project's own solvers and its one fit with other grids, schedules and pairings. Kept so that a published
number can be run again; for new work use the default alignment.
"""

import dataclasses
import math
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch

from dode import driver, grids, sampling, solvers
from dode.distillation import fit_checks, greedy, released_deis
from dode.distillation import teacher as teachers
from dode.grids import schedules
from dode.grids.facts import ModelFacts, vp_prior
from dode.grids.schedules import Schedule
from dode.grids.spacings.karras import karras
from dode.grids.spacings.uniform_index import uniform_index
from dode.solvers.base import Denoise

D = TypeVar("D", bound=Denoise)


@dataclasses.dataclass(frozen=True)
class Released:
    """What a recipe gives, all float64.

    Attributes:
        lambdas: (K,), of the released code's convention: in VP coordinates for noise prediction, and for ``dpm-solver``
            the factor on coefficient times difference; 0 where it has none.
        baseline_new: plain samples of ``new_latents``.
        distilled_fit, distilled_new: distilled samples of ``fit_latents`` and of ``new_latents``.

    The samples of noise prediction are in VP coordinates: clean for ``ddim``, at index 0 for the others.
    """

    lambdas: torch.Tensor
    baseline_new: torch.Tensor
    distilled_fit: torch.Tensor
    distilled_new: torch.Tensor


class _Noise:
    """``model(x_vp, index) -> eps`` behind the denoiser contract, on the exact schedule."""

    def __init__(self, model, facts):
        self.model, self.facts = model, facts

    def at(self, schedule, shift, time=None):
        """Called at another index."""
        return _Noise(self.model, self.facts.at(schedule, shift, time))

    def __call__(self, x, sigma):
        index = torch.tensor(self.facts.index(float(sigma)), dtype=torch.float64)
        return x - sigma * self.model(x / math.sqrt(1 + float(sigma) ** 2), index)


class Called(NamedTuple):
    """Where the authors' code calls a network: it embeds ``time (index + shift)``, ``index`` that of ``schedule``.

    Their networks do not rescale the index inside. For the 4,000 steps of improved DDPM the code therefore calls a
    network that was trained on times in [0, 1000) at up to 3,999.
    """

    schedule: Schedule
    shift: float = 0
    time: float = 1.0

    def bound(self, denoise: D, facts: ModelFacts) -> D:
        """A denoiser called so; what it does not say of itself is in ``facts``.

        Raises:
            ValueError: for one without a method ``at(schedule, shift)``, or ``at(schedule, shift, time)`` where the
                network rescales the index otherwise.
        """
        rescaled = self.time != ModelFacts.of(denoise, facts).index_scale
        if not self.shift and not rescaled:
            return denoise
        if not hasattr(denoise, "at"):
            raise ValueError(
                "this recipe of the authors calls the network at another index than the state's, so the denoiser needs "
                f"a method at(schedule, shift{', time' * rescaled}), which dode.models.NoisePrediction has"
            )
        return denoise.at(self.schedule, self.shift, **({"time": self.time} if rescaled else {}))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A recipe ready to be run.

    Attributes:
        student: the solver.
        facts: of the model as the student calls it.
        sigmas: the grid.
        pairing: with the teacher.
        factors: (K,), what the fitted coefficients are multiplied by in the convention of the released code.
        called, teacher_called: where student and teacher call the network; None for data prediction.
    """

    student: solvers.Solver
    facts: ModelFacts
    sigmas: torch.Tensor
    pairing: teachers.Alignment
    factors: torch.Tensor
    called: Called | None = None
    teacher_called: Called | None = None

    @property
    def to_images(self) -> float:
        """Factor on an end state: the released code takes what noise prediction ends in as it is in VP coordinates."""
        return (1 + float(self.sigmas[-1]) ** 2) ** -0.5 if self.facts.prediction == "noise" else 1.0

    def bound(self, denoise: D) -> D:
        """A denoiser as the student calls it: :meth:`Called.bound`."""
        return denoise if self.called is None else self.called.bound(denoise, self.facts)

    def bound_for_teacher(self, denoise: D) -> D:
        """A denoiser as the teacher calls it."""
        return denoise if self.teacher_called is None else self.teacher_called.bound(denoise, self.facts)


def recipe(solver: str, order: int | None, model: Denoise | ModelFacts, steps: int, scale: int) -> Recipe:
    """The recipe for a model.

    Args:
        model: a denoiser, or its :class:`dode.grids.facts.ModelFacts`; one of noise prediction has a ``schedule``.
        solver, order, steps, scale: as of :func:`run`.

    Returns:
        A :class:`Recipe`.

    Raises:
        ValueError: as :func:`run` does.
    """
    facts = ModelFacts.of(model)
    _check(facts.prediction, solver, order, steps, scale)
    if facts.prediction == "data":
        sigmas = karras(steps=steps, **grids.base.filled("karras", {}, facts))
        return _as_in_the_workflow(solver, facts, sigmas, scale)
    fit_checks.check_recipe_schedule(solver, steps, facts.schedule)
    if solver == "ddim":
        sigmas = uniform_index(steps=steps, schedule=facts.schedule, spacing="leading")
        called = Called(facts.schedule)  # type: ignore[arg-type]
        return _as_in_the_workflow(solver, facts.at(*called), sigmas, scale, called)
    if solver == "dpm-solver":
        return _dpm_solver(order, facts, steps, scale)
    return _multistep(order, facts, steps, scale)


def run(
    prediction: Literal["data", "noise"],
    solver: str,
    order: int | None,
    steps: int,
    scale: int,
    model: Denoise,
    fit_latents: torch.Tensor,
    new_latents: torch.Tensor,
    *,
    schedule: Schedule | None = None,
) -> Released:
    """Run a released recipe.

    Args:
        prediction: ``"noise"``: ``model(x, index) -> eps`` in VP coordinates, index a 0-d float64 tensor (fractional
            but for ``ddim``; down to -1 for ``ipndm`` and ``deis``; for ``dpm-solver`` times 1000 over the number of
            steps that :func:`dode.distillation.fit_checks.uncut` leaves); ``"data"``: ``model(x, sigma) -> D``, sigma a
            0-d float64 tensor.
        solver: ``"ddim"``; for data prediction ``"heun"``; for noise prediction ``"ipndm"``, ``"deis"``,
            ``"dpm-solver"``.
        order: 1, 2 or 3 for ``deis`` (degree of its polynomial); 2 or 3 for ``dpm-solver``; None for the others.
        steps: N, the student's steps (network evaluations, but for ``heun``, which makes 2 N - 1).
        scale: S, teacher steps per evaluation of the student. For noise prediction the teacher has no more steps than
            the schedule.
        fit_latents, new_latents: unit normal (B, C, H, W); the first are fitted on.
        schedule: a :class:`dode.grids.schedules.Schedule` for noise prediction; linear betas over 1,000 steps by
            default.

    Returns:
        A :class:`Released`.

    Raises:
        ValueError: for a recipe that the released code does not have, an order that the solver does not have, or a
            schedule with too few steps.
        dode.distillation.greedy.FitError: where a lambda is undetermined.
    """
    _check(prediction, solver, order, steps, scale)
    if schedule is None:
        schedule = schedules.schedules.create("linear")
    noise = ModelFacts("noise", schedule=schedule, prior_std=vp_prior)
    denoise = model if prediction == "data" else _Noise(model, noise)
    chosen = recipe(solver, order, denoise, steps, scale)
    fit_latents, new_latents = fit_latents.double(), new_latents.double()
    states = teachers.trajectory(chosen.pairing, chosen.bound_for_teacher(denoise), fit_latents)
    student, denoise, sigmas = chosen.student, chosen.bound(denoise), chosen.sigmas
    fit = greedy.fit_to(student, denoise, fit_latents, sigmas, chosen.pairing, states)

    def sampled(latents, **distilled):
        return sampling.sample(student, denoise, latents, sigmas, **distilled) * chosen.to_images

    distilled = {"lambdas": fit.lambdas, "directions": fit.directions}
    return Released(
        lambdas=fit.lambdas[:, 0] * chosen.factors,
        baseline_new=sampled(new_latents),
        distilled_fit=sampled(fit_latents, **distilled),
        distilled_new=sampled(new_latents, **distilled),
    )


def _check(prediction, solver, order, steps, scale):
    """Refuse what the released code has no recipe for."""
    fit_checks.check_recipe_of(prediction, solver)
    fit_checks.check_recipe_order(prediction, solver, order)
    for name, value in (("steps", steps), ("scale", scale)):
        if not _whole(value) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")


def _whole(value):
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _as_in_the_workflow(solver, facts, sigmas, scale, called=None):
    """The recipes that are also an alignment of :func:`dode.distill`."""
    student = solvers.create(solver)
    pairing = teachers.released(student, sigmas, scale, facts.prediction)
    factors = torch.ones(len(pairing.levels), dtype=torch.float64)
    if facts.prediction == "noise":
        factors = _to_vp(sigmas)
    return Recipe(student, facts, sigmas, pairing, factors, called, called)


def _to_vp(sigmas):
    """Factor on a lambda fitted in x / sqrt(abar) at the end of each step, for a correction of x itself."""
    return (1 + torch.as_tensor(sigmas, dtype=torch.float64)[1:].square()).rsqrt()


def _uniform(schedule, steps):
    """Levels uniform in the fractional index, from the last index to index 0: (steps + 1,).

    The product before the quotient keeps whole indices whole: a slope is taken on the right-hand side of them.
    """
    return torch.from_numpy(schedule.sigma((len(schedule) - 1) * np.arange(steps, -1, -1) / steps))


def _multistep(order, facts, steps, scale):
    """``ipndm`` (order None) or ``deis``: the teacher is the same solver; the network is called one index lower."""
    schedule = facts.schedule
    continuous = released_deis.LinearAbar(schedule)
    student = solvers.create("ipndm") if order is None else released_deis.Deis(order, continuous)
    sigmas, count = _uniform(continuous, steps), min(len(schedule), scale * steps)
    own, entries = sigmas[1:].tolist(), teachers.strided(steps, count)
    pairing = teachers.paired_in_vp(student, _uniform(continuous, count), own, entries)
    called = Called(continuous, shift=-1)
    return Recipe(student, facts.at(*called), sigmas, pairing, _to_vp(sigmas), called, called)


def _dpm_solver(order, facts, steps, scale):
    """``dpm-solver``: one proposal per evaluation, all on the uniform grid; the teacher is DDIM to the clean image.

    In the code's continuous time t = (index + 1) / T, in which log alpha is piecewise linear just as here, the grid is
    uniform from 1 to 1 / T, T being the length of what is left of the schedule; the network is called at 1000 (t - 1 /
    T). The teacher has the whole schedule and the index itself.
    """
    schedule, student = facts.schedule, solvers.create("dpm-solver", order=order, stages="grid")
    own = fit_checks.uncut(schedule)
    sigmas, called = _uniform(own, steps), Called(schedule, time=1000 / len(own))
    fine = uniform_index(steps=min(len(schedule), scale * steps), schedule=schedule, spacing="leading")
    entries = _dpm_solver_entries(order, steps, len(fine) - 1)
    pairing = teachers.paired_in_vp(solvers.create("ddim"), fine, sigmas[1:].tolist(), entries)
    factors = 1 / _gains(student, sigmas)
    return Recipe(student, facts.at(*called), sigmas, pairing, factors, called, Called(schedule))


def _dpm_solver_entries(order, steps, end):
    """Entry of the teacher's trajectory per evaluation: multiples of a stride from the start.

    The evaluations of the last solver steps, those of an order below ``order``, count back from the end state instead.
    """
    stride = end // steps
    entries = [n * stride for n in range(1, steps + 1)]
    back = {2: (0, 1), 3: (3, 1, 2)}[order][steps % order]
    return entries[: steps - back] + [end - n * stride for n in reversed(range(back))]


def _gains(solver, sigmas):
    """The factor on the newest noise estimate in each proposal, (K,); the released code multiplies differences by it.

    Read off a run on K pixels from 0, of which pixel k has a noise estimate of 1 at evaluation k and 0 at the others.
    """
    count = solver.nfe(len(sigmas) - 1, end=sigmas[-1])
    pulses = iter(torch.eye(count, dtype=torch.float64))
    zero = torch.zeros(count, 1, 1, 1, dtype=torch.float64)
    stepper = driver.steps(solver, lambda x, sigma: x - sigma * next(pulses).view(-1, 1, 1, 1), zero, sigmas)
    return torch.stack([step.proposal.x[step.index].squeeze() for step in stepper])
