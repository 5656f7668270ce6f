"""The numbers of a solver by stochastic gradients, through all of its evaluations."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from dode.calls import NonFiniteError
from dode.distillation.backprop import settings
from dode.distillation.backprop.runs import Pairs, Soft, gradients
from dode.distillation.linear_form import LinearForm
from dode.distillation.task import Task
from dode.sampling import Student

log = logging.getLogger(__name__)

CLIPPED = 1.0  # the norm that gradients are clipped to
BETAS = 0.9, 0.999  # of Adam
KEPT = "iteration", "held_out", "best_error", "first_error", "average", "best"  # of a state


class Parameters(Protocol):
    """What is trained: numbers z, and the solver that they mean.

    Attributes:
        start: z where the training begins, (P,) float64.
    """

    start: Tensor

    def form(self, z: Tensor) -> LinearForm:
        """The solver of z; gradients flow."""
        ...

    def student(self, z: Tensor) -> Student:
        """The same to sample with."""
        ...

    def trained(self, share: float) -> Tensor | None:
        """Which entries of z are trained at this share of the training, (P,) bool; None for all."""
        return None


def cosine(share: float, *, warm_up: float = 0.0, last: float = 0.0) -> float:
    """The factor on a learning rate at a share of the training: a linear warm-up from 0.1, then half a cosine."""
    if share < warm_up:
        return 0.1 + 0.9 * share / warm_up
    return last + (1 - last) * (1 + math.cos(math.pi * (share - warm_up) / (1 - warm_up))) / 2


def train(
    name: str,
    task: Task,
    parameters: Parameters,
    pairs: Pairs,
    *,
    iterations: int,
    batch: int,
    learning_rate: float,
    decay: Callable[[float], float] = lambda share: 1.0,
    averaging: float = 0.0,
    soft: tuple[float, float] | None = None,
) -> Student:
    """The student that is best on the held-out images, of those that Adam gets to.

    Args:
        name: of the fit, for its progress.
        task: with the place where the training goes on after a kill.
        parameters, pairs: the problem.
        iterations: each of one ``batch`` of images; gradients are clipped to norm 1.
        learning_rate: of Adam; ``decay`` gives a factor on it at a share of the training.
        averaging: decay of a moving average of z, which is what counts; 0 for z itself. It is lower at first, ``(1 +
            n) / (10 + n)`` after n iterations.
        soft: radius of the :class:`~dode.distillation.backprop.runs.Soft` objective, and the rate at which noise moves
            down the gradient of its image's loss; None without.

    Raises:
        ValueError: for a model without gradients.
        NonFiniteError: where not even the beginning has a finite loss.
    """
    size, every = min(batch, pairs.fitted), settings.interval(iterations)
    run = _Training(task, parameters, pairs, size, averaging, soft)
    with tqdm(total=iterations, initial=run.iteration, desc=name, mininterval=5) as bar:
        if math.isinf(run.first_error):
            run.look()
        while run.iteration < iterations and run.finite:
            share = run.iteration / iterations
            run.step(pairs.batch(run.iteration, size), share, learning_rate * decay(share))
            if run.iteration % every == 0 or run.iteration == iterations:
                run.look()
                bar.set_postfix_str(f"held out {run.held_out:.4g}, best {run.best_error:.4g}")
            if task.checkpoint.due:
                task.checkpoint.write(run.state())
            bar.update()
    if not math.isfinite(run.best_error):
        raise NonFiniteError(f"fit '{name}': the loss is {run.first_error} from the beginning on")
    log.info("%s: loss of the held-out images %.4g, at first %.4g", name, run.best_error, run.first_error)
    return parameters.student(run.best)


class _Training:
    """How far a training is."""

    def __init__(self, task, parameters, pairs, size, averaging, soft):
        self.parameters, self.pairs, self.size, self.averaging = parameters, pairs, size, averaging
        self.z = parameters.start.clone().requires_grad_(True)
        self.adam = torch.optim.Adam([self.z], betas=BETAS)
        self.average, self.best = parameters.start.clone(), parameters.start.clone()
        self.iteration, self.finite = 0, True
        self.held_out = self.best_error = self.first_error = math.inf
        self.soft, self.rate = (Soft(pairs.images.latents, soft[0]), soft[1]) if soft else (None, 0.0)
        found = task.checkpoint.read()
        if found is not None:
            self._restore(found)

    def state(self) -> dict[str, Any]:
        """What it needs to go on."""
        kept = {name: getattr(self, name) for name in KEPT}
        noise = {} if self.soft is None else {"noise": self.soft.noise}
        return {**kept, "z": self.z.detach(), "adam": self.adam.state_dict(), **noise}

    def _restore(self, state):
        for name in KEPT:
            setattr(self, name, state[name])
        with torch.no_grad():
            self.z.copy_(state["z"])
        self.adam.load_state_dict(state["adam"])
        if self.soft is not None:
            self.soft.noise.copy_(state["noise"])

    def look(self) -> None:
        """Judge the present numbers by the held-out images."""
        z = self.average if self.averaging else self.z.detach()
        self.held_out = self.pairs.error(self.pairs.form(self.parameters.form(z)), self.size)
        if math.isinf(self.first_error):
            self.first_error = self.held_out
        if self.held_out < self.best_error:
            self.best, self.best_error = z.clone(), self.held_out

    def step(self, part: slice, share: float, learning_rate: float) -> None:
        """One iteration; what is not finite ends the training before it."""
        form = self.pairs.form(self.parameters.form(self.z))
        noise = None if self.soft is None else self.soft.leaf(part)
        loss = self.pairs.losses(form, part, noise).mean()
        found = gradients(loss, [self.z] if noise is None else [self.z, noise], form)
        if not all(bool(each.isfinite().all()) for each in (loss, *found)):
            log.warning("the loss is not finite after %d iterations: a lower learning_rate may help", self.iteration)
            self.finite = False
            return
        before, trained = self.z.detach().clone(), self.parameters.trained(share)
        self.z.grad = found[0] if trained is None else found[0] * trained
        torch.nn.utils.clip_grad_norm_([self.z], CLIPPED)
        self.adam.param_groups[0]["lr"] = learning_rate
        self.adam.step()
        with torch.no_grad():
            if trained is not None:  # Adam would move the others by its momentum
                self.z.copy_(torch.where(trained, self.z, before))
            if self.soft is not None:
                self.soft.noise[part] = self.soft.moved(part, -self.rate * found[1])
        self.iteration += 1
        if self.averaging:
            weight = 1 - min(self.averaging, (1 + self.iteration) / (10 + self.iteration))
            self.average = self.average.lerp(self.z.detach(), weight)
