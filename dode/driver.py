"""The one loop around every solver: evaluation count, analytic first step, finite-value check."""

import functools
from collections.abc import Callable, Generator
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

import torch
from numpy.typing import ArrayLike

from dode import calls
from dode.calls import NonFiniteError
from dode.directions import Step
from dode.grids.facts import ModelFacts
from dode.grids.tensor import Levels, checked
from dode.solvers.base import Denoise, Solver

P = ParamSpec("P")
Y = TypeVar("Y")
S = TypeVar("S")
R = TypeVar("R")

#: A run: it yields steps, is sent the states to go on with (None: what is proposed), and returns the end state.
Steps: TypeAlias = Generator[Step, torch.Tensor | None, torch.Tensor]
#: Gives the state to go on with after a step.
Advance: TypeAlias = Callable[[Step], torch.Tensor]


def without_gradients(function: Callable[P, Generator[Y, S, R]]) -> Callable[P, Generator[Y, S, R]]:
    """Decorator: a generator that computes without gradients.

    As torch's own for generators, but for a run that is given up: that one needs torch when it is closed, and torch may
    be gone at the end of a program.
    """

    @functools.wraps(function)
    def run(*arguments: P.args, **options: P.kwargs) -> Generator[Y, S, R]:
        generator, reply = function(*arguments, **options), cast(S, None)  # which begins it
        while True:
            with torch.no_grad():
                try:
                    value = generator.send(reply)
                except StopIteration as end:
                    return end.value
            reply = yield value

    return run


class _Recorder:
    """Calls the denoiser in the precision of the latents and remembers the point and number of the calls."""

    def __init__(self, denoise, dtype, told, evaluations):
        self.denoise, self.dtype, self.told, self.evaluations = denoise, dtype, told, evaluations
        self.calls = 0
        self.x = self.sigma = None

    def __call__(self, x, sigma):
        self.x, self.sigma = x, sigma
        told = sigma if self.told is None else self.told[self.calls]
        self.calls += 1
        denoised = calls.evaluate(self.denoise, x, told, self.dtype, to=x.dtype)
        if not calls.finite(denoised):
            raise calls.breakdown(denoised, x, self.where(told), [self.dtype, *calls.dtypes(self.denoise)])
        return denoised

    def where(self, sigma):
        """The present evaluation in words."""
        if sigma.numel() > 1:
            lowest, highest = float(sigma.min()), float(sigma.max())
            return f"evaluation {self.calls} of {self.evaluations} (noise levels {lowest:.6g} to {highest:.6g})"
        schedule = ModelFacts.of(self.denoise).schedule
        timestep = "" if schedule is None else f", timestep {ModelFacts.of(self.denoise).index(float(sigma)):.6g}"
        return f"evaluation {self.calls} of {self.evaluations} (noise level {float(sigma):.6g}{timestep})"


def analytic(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """``x - sigma x / sqrt(1 + sigma^2)``: the clean image's estimate of which the slope is ``x / sqrt(1 + sigma^2)``.

    That of an analytic first step (Dockhorn, Vahdat & Kreis 2022, arXiv 2210.05475, App. C.1), x (B, C, H, W) at the
    level sigma, a 0-d tensor.
    """
    # 1 - sigma / sqrt(1 + sigma^2), without cancellation.
    root = (1 + float(sigma) ** 2) ** 0.5
    return x / (root * (root + float(sigma)))


class Begun:
    """In a denoiser's place where a solver runs: gives the first evaluation analytically where the solver says so.

    Attributes:
        analytic: whether the last evaluation was the analytic one, in which no network has run.
    """

    analytic = False

    def __init__(self, denoise: Denoise, solver: Solver):
        self.denoise, self.first = denoise, solver.afs

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """The estimate of the clean image."""
        self.analytic, self.first = self.first, False
        return analytic(x, sigma) if self.analytic else self.denoise(x, sigma)


def check_solver(solver: Any) -> None:
    """Raise ValueError for what is no solver, such as the name of one."""
    if not isinstance(solver, Solver):
        raise ValueError(
            f"solver: {str(solver)[:60]!r} is not allowed; allowed: what dode.solvers.create(name) returns"
        )


def on_grid(solver: Solver, sigmas: Levels) -> Solver:
    """The solver as it runs on these levels: with the analytic first step where their grid asks for it."""
    check_solver(solver)
    return solver.with_afs() if getattr(sigmas, "afs", False) else solver


def first_state(solver: Solver, x: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """The state at the solver's first network evaluation, from x at the first level: x, or that after ``afs``."""
    return next(solver(Begun(analytic, solver), x, levels)).x if solver.afs else x


@without_gradients
def steps(
    solver: Solver,
    denoise: Denoise,
    latents: torch.Tensor,
    sigmas: Levels,
    *,
    start: torch.Tensor | None = None,
    told: ArrayLike | None = None,
) -> Steps:
    """Run ``solver`` as a generator of :class:`Step`: send the state to go on with, or None for the proposal.

    A step is one evaluation of the network; an analytic first step (``solver.afs``) is none.
    The generator's return value is the end state (float64). This is the loop under :func:`sample`, the teacher and the
    fit; use it to watch or to steer a run from outside. ``start``: the state at ``sigmas[0]``, where the run does not
    begin with ``latents``. ``told``: the noise level that the network is told at each evaluation, (K,), where it is
    another than that of the solver's state; the solver knows nothing of it.
    """
    facts, levels, latents = ModelFacts.of(denoise), checked(sigmas), calls.noise(latents)
    solver = on_grid(solver, sigmas).of_model(facts.sigma_min)
    latents_exact, evaluations = latents.to(torch.float64), solver.nfe(len(levels) - 1, end=levels[-1])
    recorder = _Recorder(denoise, latents.dtype, told_levels(told, evaluations), evaluations)
    x = latents_exact * facts.prior_std(levels[0]) if start is None else start
    proposals = solver(Begun(recorder, solver), x, levels)
    index, begun = 0, levels[0]
    reply: Any = None  # begins the generator
    if solver.afs:  # nobody corrects what no network has said
        proposal = next(proposals)
        reply, begun = proposal.x, begun if proposal.stage else proposal.sigma
    while True:
        try:
            proposal = proposals.send(reply)
        except StopIteration:
            break
        index += 1
        if recorder.calls != index:
            raise RuntimeError(
                f"{solver} made {recorder.calls} evaluations before its proposal {index}; it must make exactly one"
            )
        h = proposal.sigma - begun
        step = Step(index - 1, proposal, recorder.x, recorder.sigma, latents_exact, h if h.ndim else float(h))
        sent = yield step
        x = reply = proposal.x if sent is None else sent
        if not proposal.stage:
            begun = proposal.sigma
    if recorder.calls != index:
        raise RuntimeError(f"{solver} made an evaluation without a proposal after it")
    if recorder.calls != evaluations:
        raise RuntimeError(
            f"{solver} made {recorder.calls} evaluations on {len(levels)} levels that end at {float(levels[-1]):g}, "
            f"but it declares {evaluations}"
        )
    finite = x.isfinite().flatten(1).all(dim=1)
    if not bool(finite.all()):
        raise NonFiniteError(f"{int((~finite).sum())} of {len(x)} end states contain NaN or infinity ({solver})")
    return x


def told_levels(told: ArrayLike | None, evaluations: int) -> torch.Tensor | None:
    """The told levels as a checked tensor; None where the network is told the state's own."""
    if told is None:
        return None
    told = torch.as_tensor(told, dtype=torch.float64, device="cpu")
    if told.shape != (evaluations,) or not bool((told > 0).all() and told.isfinite().all()):
        raise ValueError(
            f"told must be {evaluations} positive noise levels, one per evaluation, not {told.flatten().tolist()}"
        )
    return told


def drive(stepper: Steps, advance: Advance | None = None) -> torch.Tensor:
    """Drive a :func:`steps` generator to its end; ``advance(step)`` gives the state to go on with."""
    reply = None
    while True:
        try:
            step = stepper.send(reply)
        except StopIteration as end:
            return end.value
        reply = None if advance is None else advance(step)


def evaluated_levels(solver: Solver, sigmas: Levels) -> list[float]:
    """The noise level of each network evaluation of a run, in order, which need not be levels of the grid.

    Raises:
        ValueError: for a solver that chooses its levels by image.
    """
    solver.check_shared_levels()
    return [float(step.sigma) for step in _on_a_pixel(solver, sigmas)]


def proposal_levels(solver: Solver, sigmas: Levels) -> list[float]:
    """The noise level of each of the solver's proposals, as :func:`evaluated_levels`."""
    return [float(step.proposal.sigma) for step in _on_a_pixel(solver, sigmas)]


def _on_a_pixel(solver, sigmas):
    """A run on one pixel without a network, with what was prepared for the solver: that may move levels."""
    return steps(solver, lambda x, sigma: torch.zeros_like(x), torch.zeros(1, 1, 1, 1, dtype=torch.float64), sigmas)
