"""The training of AMED's network: step by step against a teacher on the same levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dode import calls, driver, solvers
from dode.calls import NonFiniteError
from dode.distillation.task import Task
from dode.distillation.teacher import Alignment, trajectory, variable_of
from dode.grids.facts import ModelFacts
from dode.grids.tensor import Grid, Levels
from dode.models.denoiser import differentiable, for_images
from dode.solvers.amed import CODED, FREQUENCIES, HIDDEN, LONGEST, MULTISTEP, chosen, steps
from dode.solvers.base import Denoise
from dode.solvers.bottleneck import Bottleneck

HEADS = 3


def followed(sigmas: Levels, teacher: str, substeps: int) -> Alignment:
    """The teacher's states at the levels, on a grid with ``substeps`` of its steps in each interval."""
    levels, variable = np.array(torch.as_tensor(sigmas).tolist()), variable_of(sigmas)
    fine = Grid.of(variable.refine(levels, substeps), variable, None)
    return Alignment(solvers.create_teacher(teacher), fine, tuple(levels[1:].tolist()), (1.0,) * (len(levels) - 1))


def begun(inputs: int, scales: tuple[float, float], generator: torch.Generator) -> dict[str, Tensor]:
    """The tensors of :func:`dode.solvers.amed.chosen` where the training begins, as the authors draw them.

    Weights are normal with variance 1 / n for n inputs, those of the levels uniform with 2 / (n + m) for m outputs;
    biases are 0.
    """
    sizes = {"enter": (HIDDEN, inputs), "code": (CODED, HIDDEN), "heads": (HEADS, CODED + 4 * FREQUENCIES)}
    found = {"scales": torch.tensor(scales)}
    for name, size in sizes.items():
        found[f"{name}.weight"] = torch.randn(size, generator=generator) / size[1] ** 0.5
        found[f"{name}.bias"] = torch.zeros(size[0])
    width = 2 * FREQUENCIES
    found["levels.weight"] = (3 / width) ** 0.5 * (2 * torch.rand(width, width, generator=generator) - 1)
    found["levels.bias"] = torch.zeros(width)
    return found


def train(
    task: Task,
    pairing: Alignment,
    scales: tuple[float, float],
    *,
    iterations: int,
    batch: int,
    learning_rate: float,
) -> dict[str, Tensor]:
    """The tensors after as many iterations; arguments as of :func:`dode.distillation.preparations.amed.amed`.

    Raises:
        NonFiniteError: where the loss is not finite.
    """
    training, size = _Training(task, pairing, scales, learning_rate), min(batch, len(task.latents))
    with tqdm(total=iterations, initial=training.iteration, desc="amed", mininterval=5) as bar:
        while training.iteration < iterations:
            start = (
                training.iteration % -(-len(task.latents) // size) * size
            )  # of an epoch the last batch may be smaller
            error = training.iterate(slice(start, min(start + size, len(task.latents))))
            bar.set_postfix_str(f"error {error:.4g}")
            bar.update()
            if task.checkpoint.due:
                task.checkpoint.write(training.state())
    return {name: tensor.detach() for name, tensor in training.tensors.items()}


def _evaluated(denoise: Denoise, dtype: torch.dtype) -> Denoise:
    """The denoiser called in a precision, with states of double precision."""
    return lambda x, sigma: calls.evaluate(denoise, x, sigma, dtype, to=x.dtype)


class _Training:
    """How far a training is."""

    def __init__(self, task, pairing, scales, learning_rate):
        self.task, self.pairing, self.iteration = task, pairing, 0
        self.base, self.levels = task.solver.options["base"], torch.as_tensor(task.sigmas.tolist(), dtype=torch.float64)
        found = task.checkpoint.read()
        tensors = begun(self._inputs(), scales, task.generator()) if found is None else found["tensors"]
        self.tensors = {name: tensor.to(task.latents.device) for name, tensor in tensors.items()}
        self.inputs = self.tensors["enter.weight"].shape[1]
        trained = [tensor.requires_grad_(True) for name, tensor in self.tensors.items() if name != "scales"]
        self.adam = torch.optim.Adam(trained, lr=learning_rate)
        if found is not None:
            self.adam.load_state_dict(found["adam"])
            self.iteration = found["iteration"]

    def _inputs(self):
        """How many features an image has, from a call of the model."""
        denoise, noise = for_images(self.task.denoise, 0, 1), self.task.latents[:1]
        with Bottleneck(_evaluated(denoise, noise.dtype), within=denoise) as bottleneck, torch.no_grad():
            x = noise.double() * float(ModelFacts.of(denoise).prior_std(float(self.levels[0])))
            return bottleneck.features(bottleneck(x, self.levels[0])).shape[1]

    def state(self) -> dict[str, Any]:
        """What it needs to go on."""
        tensors = {name: tensor.detach() for name, tensor in self.tensors.items()}
        return {"iteration": self.iteration, "tensors": tensors, "adam": self.adam.state_dict()}

    def iterate(self, part: slice) -> float:
        """Go through the steps with some images; the root-mean-square error of the last."""
        denoise, noise = for_images(self.task.denoise, part.start, part.stop), self.task.latents[part]
        states, past = dict(trajectory(self.pairing, denoise, noise)), list[Tensor]()
        x = noise.double() * float(ModelFacts.of(denoise).prior_std(float(self.levels[0])))
        own = driver.Begun(_evaluated(differentiable(denoise), noise.dtype), self.task.solver)
        for step, sigma_next in enumerate(self.levels[1:].tolist()):
            if sigma_next == 0:  # where nothing is chosen
                break
            with Bottleneck(own, within=denoise) as bottleneck:
                end, slopes = self._step(bottleneck, x, self.levels[step : step + 2], past)
            loss = (end - states[sigma_next]).square().flatten(1).sum(1).mean()
            if not bool(loss.isfinite()):
                raise NonFiniteError(f"amed: the loss is {loss.item()}; a lower learning_rate may help")
            self.adam.zero_grad()
            loss.backward()
            self.adam.step()
            multistep = self.base in MULTISTEP
            x, past = (end.detach(), [*slopes, *past][:LONGEST]) if multistep else (states[sigma_next], [])
        self.iteration += 1
        return float(loss.detach() / noise[0].numel()) ** 0.5

    def _step(self, bottleneck, x, levels, past):
        """The state after a step, through which gradients flow, and its slopes, newest first."""

        def choose(denoised, *levels):
            return chosen(self.tensors, bottleneck.features(denoised, self.inputs), *levels)

        run = steps(bottleneck, x, levels, choose, base=self.base, past=past)
        inner = next(run)
        end = run.send(inner.x)
        slopes = (inner.x - end.denoised) / inner.sigma, (x - inner.denoised) / levels[0]
        return end.x, [slope.detach() for slope in slopes]
