"""The joint fit: all noise levels and coefficients of a few-step solver together, on the end state.

A ladder of families (:mod:`dode.distillation.families`). Each rung begins at the best of the rungs before and at starts
of its own, is fitted by Levenberg-Marquardt (:mod:`dode.distillation.levenberg_marquardt`), and is taken only if it is
better on held-out images beyond the standard error of the difference. So a fit is not worse than the plain
solver, and a larger family not worse than a smaller one, as far as the held-out images can tell.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from tqdm import tqdm

from dode.directions import OUTPUTS, Directions, DirectionsLike
from dode.distillation import families, fit_checks
from dode.distillation.comparison import Comparison
from dode.distillation.families import APART
from dode.distillation.fitted import Fit, made_from, of_student
from dode.distillation.levenberg_marquardt import Images, OutOfBudget, Progress, minimise
from dode.distillation.linear_form import check_linear, level_of, linear_form
from dode.distillation.task import Checkpoint
from dode.grids.facts import ModelFacts
from dode.grids.of_model import for_facts
from dode.grids.tensor import Levels, checked
from dode.models.denoiser import for_images
from dode.sampling import Student
from dode.solvers.base import Denoise, Solver

log = logging.getLogger(__name__)

ITERATIONS = 20
ENOUGH = 0.002  # a smaller relative gain of an iteration ends the fit of a family
# A start is judged after so many iterations on so many images.
SCREENED, SCREENING, SCREENED_ENOUGH = 32, 5, 0.02
SCREENED_LEAST = 2  # iterations that the budget must allow a start, or else it is not tried beside others
AFFORDED = 4  # iterations that the budget must allow, else fewer images are fitted
FEWEST = 24  # images that are fitted however small the budget
SCREENING_SHARE = 0.5  # the most of a family's budget that its starts may use together
# Of the budget that is left, the share that a family may use where a larger one comes after it.
SHARE = 0.6
#: First and last positive level of the geometric grids that a fit begins on, in units of the images' spread.
STARTS = ((10.0, 0.15), (16.0, 0.1))
FEW = 6  # up to so many evaluations, one that is made where there is nothing but noise is missed
#: With more evaluations plain solvers come so near to fits that it is tried on which of these grids they are best.
MANY = 12
GRIDS_SHARE = 0.1  # the most of the budget that this may take
NAMED = ("karras", "log-snr", "quadratic")


@dataclasses.dataclass(frozen=True)
class Rung:
    """What became of one family.

    Attributes:
        family: of :data:`dode.distillation.fit_checks.RUNGS`, or ``"plain"``.
        start: which of its starts was followed; of the plain solver the grid, where it is not the given one.
        numbers: how many are fitted.
        iterations: Jacobians of the start that was followed.
        evaluations: network evaluations of one image each, with those of starts that were given up.
        rmse_fitted, rmse_held_out: root-mean-square error of the end state per element, clipped as images are saved
            where the fit compares them so; None where nothing was fitted.
        compared: with the best rung before, on held-out images; None for the first.
        taken: whether it became the best, as it is better beyond the error of the comparison.
        skipped: why nothing was fitted, else None.
    """

    family: str
    start: str
    numbers: int
    iterations: int
    evaluations: int
    rmse_fitted: float | None
    rmse_held_out: float | None
    compared: Comparison | None
    taken: bool
    skipped: str | None = None


@dataclasses.dataclass(frozen=True)
class Best:
    """A solver and its squared errors on the held-out images."""

    student: Student
    family: str
    errors: torch.Tensor


def check(
    solver: Solver,
    facts: ModelFacts,
    levels: torch.Tensor,
    images: int,
    *,
    family: str,
    directions: DirectionsLike,
    budget: int | None,
) -> Directions:
    """The directions of a joint fit that can be made; ValueError for one that cannot, before any evaluation."""
    own, steps = Directions.of(directions, facts.prediction), len(levels) - 1
    evaluations = solver.nfe(steps, end=levels[-1])
    fit_checks.check_basis(own.basis, "joint", solver, steps, evaluations)
    fit_checks.check_joint(images, family, own.count, evaluations, steps, budget)
    return own


def climb_ladder(
    solver: Solver,
    denoise: Denoise,
    latents: torch.Tensor,
    sigmas: Levels,
    ends: torch.Tensor,
    *,
    family: str = "auto",
    directions: DirectionsLike = 3,
    clip: bool = False,
    budget: int | None = None,
    iterations: int = ITERATIONS,
    checkpoint: Checkpoint | None = None,
) -> tuple[Student, str, tuple[Rung, ...]]:
    """The fitted student, its family, and what became of each family; arguments as of :func:`dode.distill`.

    An interrupted fit goes on from its ``checkpoint`` to the same result.
    """
    checkpoint = Checkpoint() if checkpoint is None else checkpoint
    facts, levels = ModelFacts.of(denoise), checked(sigmas)
    own = check(solver, facts, levels, len(latents), family=family, directions=directions, budget=budget)
    steps = len(levels) - 1
    ladder = _Ladder(solver, denoise, latents, levels, ends, facts, checkpoint, iterations, clip=clip, budget=budget)
    ladder.check()
    rungs = fit_checks.rungs(family)
    ladder.begin(other_grids=bool(set(rungs) & set(fit_checks.MOVED)))
    for rung in rungs:
        of = dataclasses.replace(own, from_noise=True)
        if rung == "lambda":
            of = Directions(outputs=OUTPUTS[facts.prediction], from_noise=True)
        needed = fit_checks.joint_numbers(rung, of.count, ladder.nfe, steps)
        if needed > ladder.fitted.stop:
            ladder.skip(rung, needed, f"more numbers than the {ladder.fitted.stop} fitted images can carry")
            continue
        before = ladder.images.evaluations
        try:
            ladder.climb(rung, of, share=1 if rung == rungs[-1] else SHARE)
        except OutOfBudget:
            ladder.skip(rung, needed, "the budget of network evaluations was used up", before)
    log.info("kept: %s", kept(ladder.rungs))
    return ladder.best.student, ladder.best.family, tuple(ladder.rungs)


def fit_jointly(
    solver: Solver,
    denoise: Denoise,
    latents: torch.Tensor,
    sigmas: Levels,
    ends: torch.Tensor,
    **options: Any,
) -> Fit:
    """:func:`dode.distill` with ``fit="joint"``; options of :func:`climb_ladder`."""
    student, family, rungs = climb_ladder(solver, denoise, latents, sigmas, ends, **options)
    return of_student(student, made_from(solver, sigmas, denoise, latents), family=family, rungs=rungs)


class _Ladder:
    """The rungs so far, and the best of them."""

    def __init__(self, solver, denoise, latents, sigmas, ends, facts, checkpoint, iterations, *, clip, budget):
        self.solver, self.sigmas, self.facts, self.iterations = solver, sigmas, facts, iterations
        self.checkpoint, self.parts = checkpoint, checkpoint.read() or {}  # how far each part is, by its name
        self.denoise = denoise
        self.nfe = solver.nfe(len(sigmas) - 1, end=sigmas[-1])
        self.allowed = fit_checks.BUDGET * self.nfe if budget is None else budget
        self.images = Images(denoise, latents, ends, clip=clip)
        held_out = fit_checks.held_out(len(latents))
        self.fitted, self.held_out = slice(0, len(latents) - held_out), slice(len(latents) - held_out, len(latents))
        self.all = slice(0, len(latents))
        self.limits = families.bounds(facts, sigmas)
        self.best = Best(Student(solver, sigmas), "plain", torch.full((held_out,), math.inf))
        self.rungs = []

    def check(self):
        """Refuse a solver that is not linear."""
        student, part = self.best.student, slice(0, min(fit_checks.CHECKED, len(self.images.latents)))
        own, noise = for_images(self.denoise, part.start, part.stop), self.images.latents[part]
        end = self.images.run(linear_form(student, self.facts), part).end
        check_linear(student, end, student.run(own, noise))
        self.images.evaluations = 0  # what is only checked takes nothing of the budget

    def begin(self, other_grids):
        """The plain solver is the ground, on the grid where it is best on the fitted images."""
        student, name = self.best.student, ""
        form = linear_form(student, self.facts)
        self.images.measure(form)
        errors, fitted = (self.images.errors(form, part) for part in (self.held_out, self.fitted))
        if not bool(errors.isfinite().all() and fitted.isfinite().all()):
            student.run(self.denoise, self.images.latents)  # says at which evaluation it breaks down
        for other, sigmas in self._named() if other_grids and self.nfe > MANY else ():
            tried = Student(self.solver, sigmas)
            form = linear_form(tried, self.facts)
            found = self.images.errors(form, self.fitted)
            if bool(found.isfinite().all()) and found.mean() < fitted.mean():
                student, name, fitted, errors = tried, other, found, self.images.errors(form, self.held_out)
        self.sigmas = student.sigmas
        self._add("plain", name, 0, 0, 0, float(fitted.mean()), student, errors)

    def skip(self, family, numbers, why, before=None):
        """Record that nothing of a family was fitted, though evaluations may have been made since ``before``."""
        log.info("family %s: left out, %s", family, why)
        spent = 0 if before is None else self.images.evaluations - before
        self.rungs.append(Rung(family, "", numbers, 0, spent, None, None, None, taken=False, skipped=why))

    def climb(self, family, directions, share):
        """Fit one family from the best of its starts, for a share of what is left of the budget."""
        before = self.images.evaluations
        limit = before + share * (self.allowed - before)
        self.images.budget = limit
        found, starts = [], list(self._starts(family, directions))
        # What judging the result takes goes on beyond what a fit may use.
        limit -= len(self.best.errors) * self.nfe
        del starts[self._screened(len(starts[0][1].start), limit - before) :]
        limit -= len(starts) * len(self.images.latents) * self.nfe  # so does judging the starts
        for name, parameters in starts:
            here = self.images.evaluations
            self.images.budget = min(limit, here + SCREENING_SHARE * (limit - before) / len(starts))
            screened = self._minimise(f"{family} {name}", parameters, slice(0, min(SCREENED, self.fitted.stop)), None)
            z = torch.tensor(screened.best, dtype=torch.float64)
            form = parameters.form(z)
            if math.isfinite(screened.error) and form is not None:
                found.append((self.images.errors(form, self.all), name, parameters, z))
        found = [entry for entry in found if bool(entry[0].isfinite().all())]
        if not found:
            raise OutOfBudget
        # The held-out images judge what comes of it, so they choose no start.
        judged, name, parameters, parameters.start = min(found, key=lambda entry: float(entry[0][self.fitted].mean()))
        self.images.budget = limit
        fitted = self._minimise(family, parameters, self._affordable(len(parameters.start), limit), self.held_out)
        z = torch.tensor(fitted.best, dtype=torch.float64)
        error, errors = float(judged[self.fitted].mean()), judged[self.held_out]
        if math.isfinite(fitted.best_error):  # else the budget has not allowed a single run, and the start is the fit
            error, errors = fitted.best_error, self.images.errors(parameters.form(z), self.held_out)
        self._add(family, name, len(z), fitted.iteration, before, error, parameters.student(z), errors)

    def _screened(self, numbers, allowed):
        """How many starts the budget allows to be fitted far enough to be told apart; at least one."""
        images = min(SCREENED, self.fitted.stop)
        of_start = (SCREENED_LEAST * (numbers / 2 + 2) * images + len(self.images.latents)) * self.nfe
        return max(1, int(SCREENING_SHARE * allowed / of_start))

    def _affordable(self, numbers, limit):
        """As many of the fitted images as the budget allows some iterations on.

        Many iterations on few images end at better solvers than one on many.
        """
        of_image = (numbers / 2 + 2) * self.best.student.nfe  # of an iteration: half of a run per number, two attempts
        count = int((limit - self.images.evaluations) / (AFFORDED * of_image))
        return slice(0, min(max(count, FEWEST), self.fitted.stop))

    def _starts(self, family: str, directions: Directions) -> Iterator[tuple[str, Any]]:
        """Named parameters to begin with, the most promising first: a small budget allows no others."""
        if family == "general":
            yield from self._general_starts()
            return
        free = {"levels": family in ("levels", "told"), "told": family == "told"}
        ground = self.rungs[0].start or "given"
        students = {ground: families.begun(self.solver, self.sigmas, directions, float(self.sigmas[0]))}
        if family == "directions" and self.best.family == "lambda":
            students["lambda"] = families.widened(self.best.student, directions)
        if self.best.family == "levels":  # on the way to told: from there alone
            students = {"levels": self.best.student}
        elif free["levels"]:
            others = {
                name: families.begun(self.solver, levels, directions, float(self.sigmas[0]))
                for name, levels in self._grids()
            }
            students = {**others, **students}
        for name, student in students.items():
            yield name, families.Corrections(student, self.images, self.facts, self.limits, **free)

    def _general_starts(self):
        student = self.best.student
        form, last = linear_form(student, self.facts), float(self.sigmas[-1])
        first = level_of(float(form.coefficients[0, 0]), float(student.sigmas[0]), self.facts)
        yield self.best.family, families.General(form, first, self.images, self.facts, self.limits, last=last)

    def _grids(self):
        """Geometric grids from where the image begins to show to where its details are done, and one of the model's.

        Many a model's own grid begins where there is nothing but noise, and no derivative leads away from there. With
        few evaluations it is therefore tried without its first level too.
        """
        steps, (lowest, highest) = len(self.sigmas) - 1, (math.exp(limit) for limit in self.limits)
        for first, last in STARTS:
            begin = min(first * self.images.spread, highest)
            end = max(last * self.images.spread, lowest)
            if begin > end and end * (1 - 2 * APART) > float(self.sigmas[-1]) and steps > 1:
                levels = torch.logspace(math.log10(begin), math.log10(end), steps, dtype=torch.float64)
                yield f"geometric {begin:.3g} to {end:.3g}", torch.cat([levels, self.sigmas[-1:]])
        if steps > 1 and self.nfe <= FEW and not self.solver.afs:
            yield "given, begun later", begun_later(self.sigmas)

    def _named(self):
        """Grids of :data:`NAMED` that end as the given one does, within the levels that the model is known to have."""
        lowest, highest = (math.exp(limit) for limit in self.limits)
        own = {"sigma_min": self.facts.sigma_min or lowest, "sigma_max": self.facts.sigma_max or highest}
        facts = dataclasses.replace(self.facts, **own)
        affordable = len(NAMED) * len(self.images.latents) * self.nfe <= GRIDS_SHARE * self.allowed
        for name in NAMED if affordable and float(self.sigmas[-1]) == 0 else ():
            levels = torch.as_tensor(for_facts(facts, name, len(self.sigmas) - 1)).as_subclass(torch.Tensor)
            descends = bool((levels.diff() < 0).all())  # or a model with few levels has one of them twice
            if descends and levels[0] <= highest * (1 + APART) and levels[-2] >= lowest * (1 - APART):
                yield name, levels

    def _minimise(self, part, parameters, fitted, held_out):
        """A part of the fit, from where the checkpoint has it."""
        state = None
        if part in self.parts:
            state = Progress(**self.parts[part]["progress"])
            self.images.evaluations = max(self.images.evaluations, self.parts[part]["evaluations"])
        screening = held_out is None
        most = SCREENING if screening else self.iterations
        with tqdm(total=most, desc=part, mininterval=5, disable=screening) as bar:

            def report(progress):
                bar.update()
                held = (sum(progress.held_out) / max(len(progress.held_out), 1)) ** 0.5
                bar.set_postfix_str(f"error {progress.error**0.5:.4f}, held out {held:.4f}")
                self._keep(part, progress)

            enough = SCREENED_ENOUGH if screening else ENOUGH
            state = minimise(
                self.images,
                parameters,
                fitted,
                held_out,
                iterations=most,
                enough=enough,
                state=state,
                report=report,
            )
        self._keep(part, state)
        return state

    def _keep(self, part, progress):
        self.parts[part] = {"progress": dataclasses.asdict(progress), "evaluations": self.images.evaluations}
        self.checkpoint.write(self.parts)

    def _add(self, family, start, numbers, iterations, before, fitted, student, errors):
        """Record a rung, and take it if it is better than the best so far beyond the error of the difference."""
        compared = Comparison.of(self.best.errors, errors) if self.rungs else None
        taken = compared is None or compared.better
        self.rungs.append(
            Rung(
                family=family,
                start=start,
                numbers=numbers,
                iterations=iterations,
                evaluations=self.images.evaluations - before,
                rmse_fitted=fitted**0.5 * self.images.spread,
                rmse_held_out=float(errors.mean()) ** 0.5 * self.images.spread,
                compared=compared,
                taken=taken,
            )
        )
        if taken:
            self.best = Best(student, family, errors)


def begun_later(sigmas: torch.Tensor) -> torch.Tensor:
    """A grid's levels above 0 with one more between them, interpolated in the logarithm, and then without the first.

    (N + 1,) noise levels to as many, with the same end.
    """
    levels = torch.as_tensor(sigmas, dtype=torch.float64).as_subclass(torch.Tensor)
    logs, count = levels[levels > 0].log(), int((levels > 0).sum())
    places = torch.arange(1, count + 1, dtype=torch.float64) * (count - 1) / count
    before = places.long().clamp(max=count - 2)
    return torch.cat([torch.lerp(logs[before], logs[before + 1], places - before).exp(), levels[count:]])


def kept(rungs: Sequence[Rung]) -> str:
    """Why the family that was kept was kept, in one sentence."""
    best = [rung for rung in rungs if rung.taken][-1]
    if best.compared is None:
        grid = f" on the grid {best.start}" if best.start else ""
        return f"plain{grid}, as no fit was better on the held-out images beyond the error of the difference"
    return (
        f"{best.family}: the squared error of a held-out image is typically {1 - math.exp(best.compared.change):.0%} "
        "lower than with the best before"
    )
