"""Levenberg-Marquardt on the end states of a few-step solver: all of its numbers at once, without back-propagation.

The Jacobian is by forward differences. Evaluations before the first that a parameter touches are taken from the record
of the unchanged run, which is exact and saves about half of the cost. The normal equations are summed up over parts of
the images, so that no Jacobian of all of them is ever in memory.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import torch

from dode import calls
from dode.distillation.comparison import Comparison
from dode.distillation.damped_steps import Damping, normal_equations
from dode.distillation.linear_form import LinearForm
from dode.models.denoiser import for_images
from dode.solvers.base import Denoise
from dode.solvers.formulas import combine

STEP = 1e-3  # of a forward difference in a coefficient, in units that move the state by its own size
LOG_LEVEL_STEP = 2 * STEP  # and in the logarithm of a noise level
# A step is at least the root of what the network's rounding moves the end states by, which balances rounding and
# curvature: 1e-3 serves float32, half precision needs more. With more than this nothing can be measured on images of 64
# entries; of larger ones more is averaged out, but curvature is not.
TOO_ROUGH, OF_ENTRIES, ROUGHEST = 3e-3, 64, 0.05
PROBED = 16  # images on which the rounding is measured
FARTHEST = 1.0  # the most by which the logarithm of a level moves in one iteration
# ``flat``: a flat direction is not followed into the network's rounding.
DAMPING = Damping(first=1e-2, stiffest=1e6, least=1e-6, flat=1e-6, smallest=1e-300)
# Weight of a coefficient's square beside the squared error, at least: large coefficients of opposite sign on nearly
# equal outputs magnify the rounding of the network and of the state.
RIDGE = 1e-8
PATIENCE = 3  # iterations that are worse on the held-out images
# What an end state has beyond [-1, 1] is not seen in a saved image. It counts for this share, so that a pixel keeps a
# derivative where it is clipped, and unclipped states stay near the fine solution's.
BEYOND = 0.1
VALUES = 2**25  # float64 values of a Jacobian, or of the states of a run, in memory: 256 MiB
KEPT = 2**26  # values of network outputs that are kept from one iteration to the next


class OutOfBudget(Exception):
    """The network evaluations that a fit may take are used up."""


class Parameters(Protocol):
    """What is fitted: a vector z, and the solver that it means.

    Attributes:
        start: z where the fit begins, (P,) float64. One unit of an entry moves the state by its own size; entries of
            ``levels`` are logarithms of noise levels.
        levels: which entries are, (P,) bool.
        bounds: logarithms of the lowest and the highest noise level.
    """

    start: torch.Tensor
    levels: torch.Tensor
    bounds: tuple[float, float]

    def form(self, z: torch.Tensor) -> LinearForm | None:
        """The solver of z; None where there is none, as for levels out of order."""


class Images:
    """Fitting images: their noise, the end states that the solver should reach, and the network.

    Args:
        denoise: bound to all of the images.
        latents: (N, C, H, W); their dtype is that in which the network is called.
        ends: the fine solution's end states, (N, C, H, W).
        clip: whether end states are compared as images are saved, with little weight on what is clipped off.
        budget: most network evaluations, each of one image; what is not ``limited`` goes on beyond it.
    """

    def __init__(
        self, denoise: Denoise, latents: torch.Tensor, ends: torch.Tensor, *, clip: bool, budget: float = math.inf
    ):
        if not ends.is_floating_point() or not bool(ends.isfinite().all()):
            raise ValueError(
                f"ends must be finite floating-point numbers, not {ends.dtype} with NaN, infinity or bytes"
            )
        self.denoise, self.latents, self.clip, self.budget = denoise, latents, clip, budget
        if ends.shape != latents.shape:
            raise ValueError(f"ends of shape {tuple(ends.shape)} do not match latents of shape {tuple(latents.shape)}")
        self.targets = self.seen(ends.to(latents.device, torch.float64))
        # The scale of an error: that of an image which knows nothing but the mean.
        self.spread = float((self.targets - self.targets.mean(0)).square().mean().sqrt()) or 1.0
        self.evaluations = 0
        self.step, self.ridge = STEP, RIDGE

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        """End states as they are compared."""
        if not self.clip:
            return x
        saved = x.clamp(-1, 1)
        return saved + BEYOND * (x - saved)

    def bound(self, part: slice, *, limited: bool = True) -> Denoise:
        """The network for some of the images; counts its evaluations."""
        own = for_images(self.denoise, part.start, part.stop)

        def counted(x, sigma):
            if limited and self.evaluations + len(x) > self.budget:
                raise OutOfBudget
            self.evaluations += len(x)
            return own(x, sigma)

        return counted

    def run(
        self,
        form: LinearForm,
        part: slice,
        outputs: list[torch.Tensor] | None = None,
        first: int = 0,
        *,
        limited: bool = True,
    ) -> Run:
        """Run a form on some images; outputs before evaluation ``first`` are taken from ``outputs``."""
        denoise, noise = self.bound(part, limited=limited), self.latents[part]
        rows, told = form.coefficients.tolist(), form.told
        own = [] if outputs is None else outputs[:first]
        basis = [noise.to(torch.float64), *(output.to(torch.float64) for output in own)]
        for index in range(len(own), len(told)):
            x = combine(basis, rows[index])
            own.append(calls.evaluate(denoise, x, told[index], noise.dtype))
            basis.append(own[-1].to(torch.float64))
        return Run(combine(basis, rows[-1]), own)

    def measure(self, form: LinearForm) -> None:
        """Measure on a form how long the steps of forward differences must be, and how large coefficients may become.

        An output that is known to a relative precision r adds ``(r z)^2`` to the squared error by its coefficient z.

        Raises:
            ValueError: for a network that is too rough for any, which half precision is on images of few entries.
        """
        part = slice(0, min(PROBED, len(self.latents)))
        # A third difference: slope and curvature fall out, and rounding is left, in the root of 20 sizes.
        moved = (LinearForm(form.coefficients * (1 + share / 3 * STEP), form.told) for share in range(4))
        ends = [self.run(each, part).end for each in moved]
        difference = ends[0] - 3 * ends[1] + 3 * ends[2] - ends[3]
        rounding = float(difference.square().mean().sqrt()) / 20**0.5 / self.spread
        limit = min(max(TOO_ROUGH, TOO_ROUGH * (self.latents[0].numel() / OF_ENTRIES) ** 0.5), ROUGHEST)
        if rounding > limit:
            raise ValueError(
                f"the network's rounding alone moves the end states by {rounding:.2g} of their spread, but a joint fit "
                f"needs at most {limit:.2g}; fit in a higher precision, or with fit='greedy'"
            )
        self.step, self.ridge = max(STEP, rounding**0.5), max(RIDGE, rounding**2)

    def errors(self, form: LinearForm, part: slice, *, limited: bool = False) -> torch.Tensor:
        """Mean squared error of each image, (B,), in units of the spread squared; infinite after a breakdown."""
        size, found = max(1, VALUES // (self.latents[0].numel() * (len(form.told) + 1))), []
        for start in range(part.start, part.stop, size):
            some = slice(start, min(start + size, part.stop))
            end = self.run(form, some, limited=limited).end
            own = (self.seen(end) - self.targets[some]).square().flatten(1).mean(1) / self.spread**2
            found.append(torch.where(end.isfinite().flatten(1).all(1), own, math.inf).cpu())
        return torch.cat(found)


class Run(NamedTuple):
    """The end state, float64, and the network's outputs of a run."""

    end: torch.Tensor
    outputs: list[torch.Tensor]


@dataclasses.dataclass
class Progress:
    """The state of :func:`minimise` after an iteration: enough to go on from there to the same result.

    Attributes:
        z, error, damping: of the last iterate.
        best, best_error: the last iterate that was not worse on the held-out images than the one before it.
        held_out: its squared errors on those images; empty without any.
        iteration, since: iterations so far, and since ``best``.
        done: whether the fit has ended.
    """

    z: list[float]
    error: float
    damping: float
    best: list[float]
    best_error: float
    held_out: list[float] = dataclasses.field(default_factory=list)
    iteration: int = 0
    since: int = 0
    done: bool = False


def minimise(
    images: Images,
    parameters: Parameters,
    fitted: slice,
    held_out: slice | None = None,
    *,
    iterations: int,
    enough: float,
    damping: float = DAMPING.first,
    state: Progress | None = None,
    report: Callable[[Progress], object] = lambda progress: None,
) -> Progress:
    """Minimise the mean squared error of the end states on the images ``fitted``.

    The step is ``-(J^T J + damping diag(J^T J))^-1 J^T r``; the damping is eased after a step that lowers the error and
    stiffened after one that does not, and such a step is not taken.

    Args:
        images, parameters: the problem.
        fitted, held_out: which images. An iterate that is worse on the held-out ones beyond the error is not kept;
            several of these end the fit.
        iterations: at most.
        enough: a smaller relative gain ends the fit.
        damping: at first.
        state: where a fit was that is to go on.
        report: called after every iteration.

    Returns:
        The last state; ``best`` is the result. On :class:`OutOfBudget` it is that of the last finished iteration.
    """
    problem = _Problem(images, parameters, fitted)

    def held(z):
        return [] if held_out is None else images.errors(parameters.form(z), held_out, limited=True).tolist()

    z = parameters.start if state is None else torch.tensor(state.z, dtype=torch.float64)
    current = Progress(z.tolist(), math.inf, damping, z.tolist(), math.inf, done=True) if state is None else state
    try:
        if state is None:
            error = problem.begin(z)
            current = Progress(z.tolist(), error, damping, z.tolist(), error, held(z))
        elif not state.done:
            # What was interrupted has counted this run: the budget ends both at the same iteration.
            counted = images.evaluations
            problem.begin(z, limited=False)
            images.evaluations = counted
        while not current.done and current.iteration < iterations and math.isfinite(current.error):
            current = _iterate(problem, current, held, enough)
            report(current)
    except OutOfBudget:
        pass
    return dataclasses.replace(current, done=True)


def _iterate(problem, state, held, enough):
    """One iteration: a Jacobian, and steps until one lowers the error."""
    z = torch.tensor(state.z, dtype=torch.float64)
    moved = functools.partial(problem.moved, z, *problem.normal_equations(z))
    found = DAMPING.lower(state.error, state.damping, moved, problem.attempt)
    if found is None:
        return dataclasses.replace(state, iteration=state.iteration + 1, done=True)
    candidate, error, damping = found
    problem.accept()
    own = held(candidate)
    worse = Comparison.of(torch.tensor(state.held_out).double(), torch.tensor(own).double()).worse if own else False
    since = state.since + 1 if worse else 0
    return Progress(
        z=candidate.tolist(),
        error=error,
        damping=damping,
        best=state.best if worse else candidate.tolist(),
        best_error=state.best_error if worse else error,
        held_out=state.held_out if worse else own,
        iteration=state.iteration + 1,
        since=since,
        done=since == PATIENCE or 1 - error / state.error < enough,
    )


class _Problem:
    """Residuals and their derivatives on some of the images, a part of them at a time."""

    def __init__(self, images, parameters, fitted):
        self.images, self.parameters = images, parameters
        pixels, count = images.latents[0].numel(), fitted.stop - fitted.start
        size = max(1, min(count, VALUES // (pixels * (len(parameters.start) + 1))))
        self.parts = [slice(at, min(at + size, fitted.stop)) for at in range(fitted.start, fitted.stop, size)]
        # Such that the sum of squares of all residuals is the mean squared error in units of the spread.
        self.scale = 1 / (images.spread * math.sqrt(count * pixels))
        self.keeps = count * pixels * len(parameters.form(parameters.start).told) <= KEPT
        self.kept = self.tried = None

    def begin(self, z, *, limited=True):
        """The error at z, where the iterations begin."""
        error = self.attempt(z, limited=limited)
        self.accept()
        return error

    def attempt(self, z, *, limited=True):
        """The error at z; infinite where there is no solver or it breaks down."""
        form = self.parameters.form(z)
        if form is None or not bool(form.coefficients.isfinite().all()):
            return math.inf
        total, self.tried = 0.0, []
        for part in self.parts:
            run = self.images.run(form, part, limited=limited)
            total += float(self.residual(run.end, part).square().sum())
            if self.keeps:
                self.tried.append(run)
        total += self.images.ridge * float(z[~self.parameters.levels].square().sum())
        return total if math.isfinite(total) else math.inf

    def accept(self):
        """Go on from the last attempt."""
        self.kept = self.tried if self.keeps else None

    def residual(self, end, part):
        return ((self.images.seen(end) - self.images.targets[part]) * self.scale).flatten()

    def normal_equations(self, z):
        """``J^T J`` and ``J^T r``."""
        gram, gradient = normal_equations(self._linearised(z), len(z))
        gram.diagonal()[~self.parameters.levels] += self.images.ridge
        gradient[~self.parameters.levels] += self.images.ridge * z[~self.parameters.levels]
        # Next to a breakdown of the solver there is no derivative; such a parameter stays.
        broken = ~gram.diagonal().isfinite()
        gram[broken], gram[:, broken], gradient[broken] = 0, 0, 0
        return gram, gradient

    def _linearised(self, z):
        """Of each part the Jacobian and the residuals."""
        form, shifted = self.parameters.form(z), list(self._shifted(z))
        for index, part in enumerate(self.parts):
            run = self.kept[index] if self.kept else self.images.run(form, part)
            here = self.residual(run.end, part)
            jacobian = here.new_zeros(len(here), len(z))
            for column, (other, change, first) in enumerate(shifted):
                if other is not None:
                    there = self.residual(self.images.run(other, part, run.outputs, first).end, part)
                    jacobian[:, column] = (there - here) / change
            yield jacobian, here

    def _shifted(self, z: torch.Tensor) -> Iterator[tuple[Any, float, int]]:
        """For each parameter the form a step away, the step, and the first evaluation that differs."""
        form: Any = self.parameters.form(z)
        own = self.images.step
        of_level = own * LOG_LEVEL_STEP / STEP
        for column, level in enumerate(self.parameters.levels.tolist()):
            # Levels go down first, as the upper ones are at their bound.
            for change in (-of_level, of_level) if level else (own, -own):
                moved = z.clone()
                moved[column] += change
                other = self.parameters.form(moved)
                if other is not None:
                    yield other, change, _first_difference(form, other)
                    break
            else:
                yield None, 1.0, 0

    def moved(self, z, gram, gradient, damping):
        """z after a step, within the bounds; None where the equations cannot be solved."""
        levels, step = self.parameters.levels, DAMPING.step(gram, gradient, damping)
        if step is None:
            return None
        if bool(levels.any()):
            step = step * min(1.0, FARTHEST / max(float(step[levels].abs().max()), 1e-300))
        z = z + step
        z[levels] = z[levels].clamp(*self.parameters.bounds)
        return z


def _first_difference(form, other):
    """The first evaluation that two forms make at another point; their number where all are the same."""
    rows = (form.coefficients[:-1] != other.coefficients[:-1]).any(1) | (form.told != other.told)
    return int(rows.to(torch.int8).argmax()) if bool(rows.any()) else len(rows)
