"""Sampling with any solver, plain or distilled, and the same for a caller that runs the network itself."""

import dataclasses
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from numpy.typing import ArrayLike

from dode import calls
from dode.directions import Directions, DirectionsLike, History, Step
from dode.driver import (
    Advance,
    check_solver,
    drive,
    evaluated_levels,
    first_state,
    on_grid,
    steps,
    told_levels,
    without_gradients,
)
from dode.grids.facts import ModelFacts, ve_prior
from dode.grids.of_model import check_levels
from dode.grids.tensor import Levels, checked
from dode.solvers.base import Denoise, Solver


class Fitted(Protocol):
    """A fit as :func:`dode.distill` returns it: it knows the student that was fitted."""

    @property
    def student(self) -> "Student": ...

    def check(self, solver: Solver, sigmas: Levels, facts: ModelFacts, latents: torch.Tensor) -> None: ...


class Correction:
    """``advance`` function of a distilled run: ``proposal + R_k lambda_k``; ``prediction`` is the model's."""

    def __init__(self, lambdas: ArrayLike, directions: DirectionsLike | None, prediction: str, *, evaluations: int):
        try:
            self.lambdas = torch.as_tensor(lambdas, dtype=torch.float64, device="cpu")
        except (TypeError, RuntimeError):  # torch's, of what is no number
            raise ValueError(
                f"lambdas must be a fit, or its coefficients (K, m), not {type(lambdas).__name__}; an exported result "
                "samples by itself (dode.load)"
            ) from None
        if self.lambdas.ndim == 1:
            self.lambdas = self.lambdas[:, None]
        if self.lambdas.ndim != 2 or len(self.lambdas) != evaluations:
            raise ValueError(
                f"lambdas of shape {tuple(self.lambdas.shape)} do not match {evaluations} evaluations; "
                f"expected ({evaluations}, m)"
            )
        if not bool(self.lambdas.isfinite().all()):
            raise ValueError("lambdas contain NaN or infinity")
        if directions is None:
            directions = Directions.of(self.lambdas.shape[1], prediction)
            # A first evaluation that has a coefficient on a difference was fitted with pure noise as its predecessor.
            directions = dataclasses.replace(directions, from_noise=bool(self.lambdas[0, 0] != 0))
        self.directions = Directions.of(directions, prediction)
        if self.directions.count != self.lambdas.shape[1]:
            raise ValueError(
                f"lambdas have {self.lambdas.shape[1]} columns, but the number of directions is {self.directions.count}"
            )
        self.history = History(self.directions)

    def __call__(self, step: Step) -> torch.Tensor:
        x, found = step.proposal.x, self.history.at(step)
        for column, coefficient in enumerate(self.lambdas[step.index].tolist()):
            if column in found:
                x = torch.add(x, found[column], alpha=coefficient)
            elif coefficient != 0:
                raise ValueError(
                    f"lambdas[{step.index}, {column}] is {coefficient:.3g}, but evaluation {step.index} has no such "
                    "direction yet; give the directions of the fit too (fit.directions)"
                )
        return x


class _Watched:
    """``advance`` function around another that shows the state ``x`` at the first level and that after every step."""

    def __init__(self, advance, watch, sigma, x):
        self.advance, self.watch = advance, watch
        self.first = sigma
        watch(sigma.clone(), x.clone())

    def __call__(self, step):
        begun = step.proposal.sigma - step.h
        if step.index == 0 and not torch.allclose(begun, self.first.expand_as(begun), rtol=1e-9, atol=0):
            self.watch(step.sigma.clone(), step.x.clone())  # an analytic first step has been made
        x = step.proposal.x if self.advance is None else self.advance(step)
        if not step.proposal.stage:
            self.watch(step.proposal.sigma.clone(), x.clone())
        return x


@dataclasses.dataclass(frozen=True)
class Student:
    """A solver with all that its run needs besides the model and the noise.

    Attributes:
        solver: from :func:`dode.solvers.create`, or fitted (:mod:`dode.solvers.non_stationary`).
        sigmas: its noise levels, descending.
        lambdas, directions: the coefficients of a distilled solver, (K, m), and what they belong to; None for a plain
            one.
        told: the noise level that the network is told at each evaluation, (K,); None: the solver's own.
    """

    solver: Solver
    sigmas: Levels
    lambdas: ArrayLike | None = None
    directions: DirectionsLike | None = None
    told: ArrayLike | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "solver", on_grid(self.solver, self.sigmas))

    @property
    def nfe(self) -> int:
        """Number of network evaluations."""
        return self.solver.nfe(len(self.sigmas) - 1, end=self.sigmas[-1])

    @property
    def depth(self) -> int:
        """Number of network evaluations that must wait for one another (:meth:`dode.solvers.Solver.depth`)."""
        return self.solver.depth(len(self.sigmas) - 1, end=self.sigmas[-1])

    def correction(self, prediction: str) -> Correction | None:
        """The ``advance`` function of a run, for a model of this ``prediction``; None for a plain solver."""
        if self.lambdas is None:
            return None
        return Correction(self.lambdas, self.directions, prediction, evaluations=self.nfe)

    def run(
        self,
        denoise: Denoise,
        latents: torch.Tensor,
        *,
        start: torch.Tensor | None = None,
        prediction: str | None = None,
        watch: Callable[[torch.Tensor, torch.Tensor], object] | None = None,
    ) -> torch.Tensor:
        """The end states in float64; ``start`` and ``watch`` as of :func:`steps` and :func:`sample`.

        ``prediction`` is by default what the model says.
        """
        facts, first = ModelFacts.of(denoise), checked(self.sigmas)[0]
        advance: Advance | None = self.correction(prediction or facts.prediction)
        if start is None:
            start = calls.noise(latents).to(torch.float64) * facts.prior_std(first)
        if watch is not None:
            advance = _Watched(advance, watch, first, start)
        return drive(steps(self.solver, denoise, latents, self.sigmas, start=start, told=self.told), advance)

    def sample(
        self,
        denoise: Denoise,
        latents: torch.Tensor,
        *,
        watch: Callable[[torch.Tensor, torch.Tensor], object] | None = None,
    ) -> torch.Tensor:
        """The end states in the type of ``latents``: :func:`sample` of this solver."""
        return self.run(denoise, latents, watch=watch).to(latents.dtype)

    def own_levels(self) -> list[float]:
        """The noise level of the solver's state at each evaluation, in order."""
        return evaluated_levels(self.solver, self.sigmas)

    def evaluated_levels(self) -> list[float]:
        """The noise level that the network is told at each evaluation, in order."""
        told = told_levels(self.told, self.nfe)
        return self.own_levels() if told is None else told.tolist()


def sample(
    solver: Solver,
    denoise: Denoise,
    latents: torch.Tensor,
    sigmas: Levels,
    *,
    lambdas: ArrayLike | Fitted | None = None,
    directions: DirectionsLike | None = None,
    told: ArrayLike | None = None,
    watch: Callable[[torch.Tensor, torch.Tensor], object] | None = None,
) -> torch.Tensor:
    """Solve the probability-flow ODE ``dx/dsigma = (x - D(x; sigma)) / sigma`` from noise to images.

    Args:
        solver: from :func:`dode.solvers.create`.
        denoise: ``denoise(x, sigma)``, x (B, C, H, W) in the dtype of ``latents``, sigma a 0-d float64 tensor, or of
            shape (B, 1, 1, 1) where a solver chooses its levels by image (``solver.per_image``): the estimate of the
            clean image, same shape. It may write to both, and return the same memory at every call. A single tensor
            in a tuple or in an output object of diffusers, or a NumPy array, is taken too.
        latents: (B, C, H, W), unit normal, float16 to float64, as a tensor or a NumPy array; scaled to the first noise
            level here.
        sigmas: noise levels, descending, e.g. from :mod:`dode.grids`.
        lambdas: what makes it a distilled solver. A :class:`~dode.distillation.fitted.Fit` (:func:`dode.distill`),
            made from ``solver``, ``sigmas`` and the model: then the fitted solver runs, on the fitted levels. Or bare
            coefficients, (K,) or (K, m) for K evaluations: x becomes ``proposal_k + sum_j lambdas[k, j] r_kj`` after
            each (Kim, Tang & Yu 2024, arXiv 2309.16421).
        directions: which directions r bare lambdas belong to, an integer or a :class:`dode.directions.Directions`; by
            default those that the greedy fit with ``directions=m`` has.
        told: the noise level that the network is told at each evaluation, (K,), where it is not the state's.
        watch: called as ``watch(sigma, x)`` with the first noise level and state, and with those after every step of
            the solver (not after inner stages); x is a copy, float64.

    Returns:
        The end states, a tensor in the dtype of ``latents``; images in [-1, 1] for the models of this project. The
        state itself is kept in float64.

    Raises:
        NonFiniteError: where the network returns NaN or infinity, naming the evaluation, or an end state holds them.
        ValueError: lambdas that do not fit the number of evaluations or the directions; a fit of another solver, grid
            or model; latents that are no unit-normal noise; timesteps in the place of noise levels, or levels above
            the model's own.

    >>> import torch, dode
    >>> denoise = lambda x, sigma: x / (1 + sigma**2)                      # data: unit normal
    >>> x = dode.sample(dode.solvers.create("heun"), denoise, torch.ones(1, 1, 2, 2), dode.grids.karras(steps=20))
    >>> round(x.mean().item(), 1)                                         # exact: sigma / sqrt(1 + sigma^2) = 1.00
    1.0
    """
    latents = calls.noise(latents)
    student = _student(solver, sigmas, lambdas, directions, told, ModelFacts.of(denoise), latents)
    return student.sample(denoise, latents, watch=watch)


def _student(solver, sigmas, lambdas, directions, told, facts, latents):
    """The :class:`Student` of what :func:`sample` is given, checked."""
    calls.check_unit(latents)
    check_levels(checked(sigmas).numpy(), facts)
    fit = getattr(lambdas, "fit", lambdas)  # coefficients that were taken from a fit know it
    if not hasattr(fit, "student"):
        student = Student(solver, sigmas, lambdas, directions, told)
        levels = told_levels(told, student.nfe)
        if levels is not None:
            check_levels(levels.sort(descending=True).values.numpy(), facts, "told")
        return student
    fit.check(solver, sigmas, facts, latents)
    if fit is not lambdas:  # the same numbers along other directions would be another solver
        own = fit.student.directions
        if directions is not None and Directions.of(directions, facts.prediction) != own:
            raise ValueError(f"directions: the lambdas were fitted along {own}; leave directions out")
        if told is not None:
            raise ValueError("told: the lambdas' fit has its own; leave told out")
        return fit.student
    if directions is not None or told is not None:
        raise ValueError("directions and told: a fit has its own; leave them out, or give the bare coefficients")
    return fit.student


class Evaluation(NamedTuple):
    """A point at which a run waits for the network: the state x, in the precision of the latents, and its sigma.

    Both are copies, which the caller may write to.
    """

    x: torch.Tensor
    sigma: torch.Tensor


#: It yields points, is sent the clean image's estimate at each, and returns the end states.
Evaluations: TypeAlias = Generator[Evaluation, torch.Tensor, torch.Tensor]


class _Answer:
    """Stands in a denoiser's place and gives out what was found for the one point that is due."""

    due: Evaluation
    denoised: torch.Tensor

    def __init__(self, facts):
        self.facts = facts

    def __call__(self, x, sigma):
        if float(sigma) != float(self.due.sigma) or not torch.equal(x, self.due.x):
            raise RuntimeError(
                f"the solver evaluates the network at another point (sigma = {float(sigma):g}) than the state that it "
                f"was given last (sigma = {float(self.due.sigma):g}); such a solver runs only in dode.sample"
            )
        return self.denoised


@without_gradients
def evaluations(
    solver: Solver,
    latents: torch.Tensor,
    sigmas: Levels,
    *,
    prediction: str = "data",
    prior_std: Callable[[Any], Any] | None = None,
    sigma_min: float | None = None,
    lambdas: ArrayLike | Fitted | None = None,
    directions: DirectionsLike | None = None,
    told: ArrayLike | None = None,
) -> Evaluations:
    """:func:`sample` turned inside out: yield each :class:`Evaluation`, be sent the clean image's estimate there.

    For programs that call the network themselves. Every solver evaluates the network at the state that it was given
    last, at the noise level that it proposed it for; so the point is known before the solver goes on, and no thread
    waits inside it.

    Args:
        solver, latents, sigmas, lambdas, directions, told: as of :func:`sample`.
        prediction, prior_std, sigma_min: what the model would say of itself (:class:`dode.models.ModelFacts`);
            ``prior_std`` is sigma itself by default.

    Returns:
        A generator whose return value is what :func:`sample` returns, to the bit.

    >>> import torch, dode
    >>> run = evaluations(dode.solvers.create("ddim"), torch.ones(1, 1, 2, 2), [10.0, 1.0, 0.0])
    >>> x, sigma = next(run)
    >>> x, sigma = run.send(x / (1 + sigma**2))
    >>> sigma.item()
    1.0
    """
    known: Any = {"prediction": prediction, "prior_std": prior_std or ve_prior, "sigma_min": sigma_min}
    facts, latents = ModelFacts(**known), calls.noise(latents)
    check_solver(solver)
    solver.check_shared_levels()
    student = _student(solver, sigmas, lambdas, directions, told, facts, latents)
    solver, levels, correction = student.solver, checked(student.sigmas), student.correction(facts.prediction)
    answer, reply = _Answer(facts), None
    start = latents.to(torch.float64) * facts.prior_std(levels[0])
    x = first_state(solver, start, levels)
    stepper = steps(solver, answer, latents, levels, start=start, told=student.told)
    for sigma in student.evaluated_levels():
        answer.due = Evaluation(x.to(latents.dtype), levels.new_tensor(sigma))
        answer.denoised = yield Evaluation(*(each.clone() for each in answer.due))
        step = stepper.send(reply)
        x = reply = step.proposal.x if correction is None else correction(step)
    try:
        stepper.send(reply)
    except StopIteration as end:
        return end.value.to(latents.dtype)
    raise RuntimeError(f"{solver} makes a number of evaluations that depends on the state")
