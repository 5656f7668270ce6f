"""LD3: the levels of a given solver, and those that the network is told, on the soft objective."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dode.calls import NonFiniteError
from dode.distillation.backprop.levels import FreeLevels, differentiated, offsets
from dode.distillation.backprop.runs import Pairs, Soft, gradients, known
from dode.distillation.linear_form import LinearForm, level_of, linear_form
from dode.distillation.task import Task
from dode.grids.facts import ModelFacts
from dode.sampling import Student
from dode.solvers.base import Solver

log = logging.getLogger(__name__)

CLIPPED = 1.0  # the norm that gradients of either kind are clipped to
MOMENTUM = 0.9  # of RMSprop
PATIENCE, EASED = 5, 0.8  # looks without a gain that lower both rates, and the factor
LEAST_RATE, LEAST_TOLD_RATE = 5e-5, 1e-6
AT_LEAST = 5  # times that the told levels' rate was to fall below its least, which end the training
HALVED = 0.5  # the noise's rate after a round that moved no held-out noise


class Discretisation:
    """A given solver on levels of its own, told others (Tong et al. 2025, arXiv 2405.15506, Sec. 4.1 and 4.3).

    z: theta of the levels (:class:`FreeLevels`), then the deltas of the told levels of all evaluations but the first.
    Any linear solver will do: its coefficients are differentiated by the levels in differences of runs on symbols.

    Args:
        solver: the solver.
        facts: of the model.
        levels: where they begin.
        within: the most that a told level may be away, a share of the smallest step.
        estimate: which estimate of the network at a told level the solver goes on with, ``"data"``, or ``"noise"``.
    """

    def __init__(self, solver: Solver, facts: ModelFacts, levels: FreeLevels, *, within: float, estimate: str = "data"):
        self.solver, self.facts, self.levels, self.within, self.estimate = solver, facts, levels, within, estimate
        self.steps = len(levels.start)
        evaluations = len(self._form(levels.sigmas(levels.start))[1])
        self.start = torch.cat([levels.start, torch.zeros(evaluations - 1, dtype=torch.float64)])

    def _form(self, sigmas):
        return linear_form(Student(self.solver, sigmas), self.facts)

    def form(self, z: Tensor) -> LinearForm:
        """The solver of z."""
        coefficients, own = differentiated(self._form, self.levels.sigmas(z[: self.steps]))
        told = offsets(own, z[self.steps :], self.within)
        return LinearForm(coefficients if self.estimate == "data" else _of_noise(coefficients, own, told), told)

    def student(self, z: Tensor) -> Student:
        """The same to sample with."""
        form, sigmas = known(self.form(z.detach()), self.facts), self.levels.sigmas(z[: self.steps].detach())
        if self.estimate == "data":
            return Student(self.solver, sigmas, told=form.told)
        first = level_of(float(form.coefficients[0, 0]), float(sigmas[0]), self.facts)
        return form.student(first, float(sigmas[-1]))


def _of_noise(coefficients, own, told):
    """Coefficients for outputs whose noise estimate, and not whose image, is kept from the told level.

    ``x - (sigma / told) (x - D)`` takes the place of D.
    """
    unit, ratios = torch.eye(len(coefficients), dtype=torch.float64), own / told
    rows, basis = [], [unit[0]]
    for index, ratio in enumerate(ratios):
        rows.append(coefficients[index, : len(basis)] @ torch.stack(basis))
        basis.append((1 - ratio) * rows[-1] + ratio * unit[index + 1])
    return torch.stack([*rows, coefficients[-1] @ torch.stack(basis)])


def rounds(
    task: Task,
    parameters: Discretisation,
    pairs: Pairs,
    *,
    coupled: int,
    decoupled: int,
    batch: int,
    learning_rate: float,
    told_learning_rate: float,
    radius: float,
    noise_rate: float,
) -> Student:
    """The student that is best on the held-out images (arXiv 2405.15506, Alg. 1, with the authors' schedule).

    A round goes once over the fitted images, and then over the held-out ones. With the numbers, the noise of an image
    takes a step down its loss within its ball, and keeps it if that lowers the loss. Five looks at the held-out images
    without a gain take everything back to the best so far and lower the rates.

    Args:
        task: with the place where it goes on after a kill.
        parameters, pairs: the problem.
        coupled, decoupled: rounds in which the network is told the states' own levels, and rounds after those in which
            what it is told is fitted too.
        batch: images of an iteration.
        learning_rate, told_learning_rate: of the levels, by RMSprop with momentum 0.9, and of the told ones, by
            gradient descent.
        radius, noise_rate: of the :class:`~dode.distillation.backprop.runs.Soft` objective, and the step of the noise.
    """
    size = min(batch, pairs.fitted)
    run = _Rounds(task, parameters, pairs, coupled, size, learning_rate, told_learning_rate, radius, noise_rate)
    each = pairs.fitted // size + 1  # the last is for the held-out images
    with tqdm(total=(coupled + decoupled) * each, initial=run.iteration, desc="ld3", mininterval=5) as bar:
        while run.iteration < (coupled + decoupled) * each and run.at_least < AT_LEAST:
            number, index = divmod(run.iteration, each)
            if index == 0:
                run.begin_round()
            if index < each - 1:
                run.step(pairs.batch(number * (each - 1) + index, size), number)
            else:
                run.move_held_out()
            run.iteration += 1
            bar.update()
            bar.set_postfix_str(f"held out {run.held_out:.4g}, best {run.best_error:.4g}")
            if task.checkpoint.due:
                task.checkpoint.write(run.state())
    if not math.isfinite(run.best_error):
        raise NonFiniteError(f"fit 'ld3': the loss is {run.first_error} from the beginning on")
    log.info("ld3: loss of the held-out images %.4g, at first %.4g", run.best_error, run.first_error)
    return parameters.student(run.best)


class _Rounds:
    """How far the rounds are."""

    KEPT = (
        *("iteration", "held_out", "best_error", "first_error", "worse", "at_least"),
        *("noise_rate", "told_rate", "moved", "best", "best_noise"),
    )

    def __init__(self, task, parameters, pairs, coupled, size, learning_rate, told_learning_rate, radius, noise_rate):
        self.parameters, self.pairs, self.coupled = parameters, pairs, coupled
        self.z = parameters.start.clone()
        self.theta = self.z[: parameters.steps].clone().requires_grad_(True)
        self.rmsprop = torch.optim.RMSprop([self.theta], lr=learning_rate, momentum=MOMENTUM)
        self.told_rate, self.noise_rate = told_learning_rate, noise_rate
        self.soft, self.size = Soft(pairs.images.latents, radius), size
        self.iteration = self.worse = self.at_least = 0
        self.held_out = self.best_error = self.first_error = math.inf
        self.best, self.best_noise, self.moved = self.z.clone(), self.soft.noise.clone(), True
        found = task.checkpoint.read()
        if found is not None:
            self._restore(found)

    def state(self) -> dict[str, Any]:
        """What it needs to go on."""
        own = {name: getattr(self, name) for name in self.KEPT}
        return {**own, "z": self.z, "noise": self.soft.noise, "rmsprop": self.rmsprop.state_dict()}

    def _restore(self, state):
        for name in self.KEPT:
            setattr(self, name, state[name])
        self.z = state["z"]
        with torch.no_grad():
            self.theta.copy_(self.z[: self.parameters.steps])
        self.soft.noise.copy_(state["noise"])
        self.best_noise = self.best_noise.to(self.soft.noise.device)
        self.rmsprop.load_state_dict(state["rmsprop"])

    @property
    def present(self) -> LinearForm:
        """The form of the present numbers."""
        return self.pairs.form(self.parameters.form(self.z))

    def begin_round(self) -> None:
        """From the best so far."""
        if self.iteration:
            self.take(self.best)
            self.noise_rate *= 1 if self.moved else HALVED
            self.worse = 0
        self.moved = False
        self.look()

    def take(self, z: Tensor) -> None:
        """Go on from these numbers."""
        self.z = z.clone()
        with torch.no_grad():
            self.theta.copy_(z[: self.parameters.steps])

    def step(self, part: slice, number: int) -> None:
        """One iteration on some of the fitted images, in round ``number``."""
        decoupled = number >= self.coupled
        deltas = self.z[self.parameters.steps :].clone().requires_grad_(decoupled)
        form = self.pairs.form(self.parameters.form(torch.cat([self.theta, deltas])))
        noise = self.soft.leaf(part)
        losses = self.pairs.losses(form, part, noise)
        by = [self.theta, noise, *([deltas] if decoupled and len(deltas) else [])]
        of_theta, of_noise, *of_deltas = gradients(losses.mean(), by, form)
        if bool(of_theta.isfinite().all()):
            self.theta.grad = of_theta
            torch.nn.utils.clip_grad_norm_([self.theta], CLIPPED)
            self.rmsprop.step()
        for each in of_deltas:
            shorter = CLIPPED / each.norm().clamp(min=CLIPPED)
            deltas = deltas.detach() - self.told_rate * shorter * each.nan_to_num(0, 0, 0)
        self.z = torch.cat([self.theta.detach(), deltas.detach()])
        self.move(part, of_noise, losses.detach())
        self.look(decoupled)

    def move(self, part: slice, slope: Tensor, losses: Tensor) -> bool:
        """Step with the noise of some images, and keep the steps that lower their losses; whether there are any."""
        candidate = self.soft.moved(part, -self.noise_rate * slope)
        with torch.no_grad():
            lower = self.pairs.losses(self.present, part, candidate) < losses
        self.soft.noise[part][lower] = candidate[lower]
        return bool(lower.any())

    def move_held_out(self) -> None:
        """Let the noise of the held-out images move too."""
        form, size = self.present, self.size
        for start in range(self.pairs.fitted, len(self.soft.noise), size):
            part = slice(start, min(start + size, len(self.soft.noise)))
            noise = self.soft.leaf(part)
            losses = self.pairs.losses(form, part, noise)
            (slope,) = torch.autograd.grad(losses.sum() / size, noise)
            self.moved |= self.move(part, slope, losses.detach())

    def look(self, decoupled: bool = False) -> None:
        """Judge the present numbers by the held-out images, at their moved noise."""
        self.held_out = self.pairs.error(self.present, self.size, self.soft.noise)
        if math.isinf(self.first_error):
            self.first_error = self.held_out
        if self.held_out < self.best_error:
            self.best, self.best_error, self.best_noise = self.z.clone(), self.held_out, self.soft.noise.clone()
            self.worse = 0
            return
        self.worse += 1
        if self.worse < PATIENCE:
            return
        self.take(self.best)
        self.soft.noise, self.worse = self.best_noise.clone(), 0
        group = self.rmsprop.param_groups[0]
        group["lr"] = max(EASED * group["lr"], LEAST_RATE)
        if decoupled:
            self.told_rate = max(EASED * self.told_rate, LEAST_TOLD_RATE)
            self.at_least += self.told_rate == LEAST_TOLD_RATE
