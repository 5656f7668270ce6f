"""Student networks in training: a copy of a model's network, its averages, and how it goes on after a kill."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from dode.distillation import teacher as teachers
from dode.distillation.task import Metered, Task
from dode.grids.facts import ModelFacts


class Training:
    """A student network that is trained step by step.

    Everything that changes is in the task's checkpoint every few seconds: a training that is killed and started again
    ends with the same weights, to the bit.

    Attributes:
        model: what the student is made of, and its teacher.
        student: the model with a network of its own, in float32 and without dropout.

    Args:
        task: whose model is learnt from.
        optimiser: class of the optimiser, such as ``torch.optim.Adam``.
        rate: learning rate.
        averages: further networks, copies of the student at the beginning, by name.
    """

    def __init__(self, task: Task, optimiser: type[torch.optim.Optimizer], rate: float, averages: tuple[str, ...] = ()):
        self.task, self.rate = task, rate
        self.model = cast(Metered, task.denoise)
        self.student = self.model.trainable()
        self.network: nn.Module = self.student.network
        self.averages = {name: copy.deepcopy(self.network).requires_grad_(False) for name in averages}
        self.optimiser = optimiser(self.network.parameters(), lr=rate)  # type: ignore[call-arg]
        self.generator = task.generator()
        self.done = 0
        found = task.checkpoint.read()
        if found is not None:
            self._restore(found)

    def steps(self, total: int) -> Iterator[int]:
        """The number of each step from where the training is to ``total``; the loop's body makes it."""
        for step in tqdm(range(self.done, total), initial=self.done, total=total, desc="training", mininterval=5):
            yield step
            self.done = step + 1
            if self.task.checkpoint.due:
                self.task.checkpoint.write(self._state())

    def descend(self, loss: Tensor, *, share: float = 1.0, norm: float | None = None) -> None:
        """One step of the optimiser at ``share`` of the learning rate; ``norm`` is the most that gradients may have."""
        self.optimiser.zero_grad()
        loss.backward()
        if norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), norm)
        for group in self.optimiser.param_groups:
            group["lr"] = share * self.rate
        self.optimiser.step()

    def follow(self, name: str, decay: float) -> None:
        """Move an average to the student: ``average = decay average + (1 - decay) student``."""
        with torch.no_grad():
            own, theirs = self.averages[name].state_dict(), self.network.state_dict()
            for key, value in own.items():
                value.lerp_(theirs[key], 1 - decay) if value.is_floating_point() else value.copy_(theirs[key])

    def behind(self, name: str) -> Metered:
        """The student as it is with the network ``name``, whose weights have no gradients, in its network's place."""
        return self.student.with_network(self.averages[name])

    @property
    def range(self) -> tuple[float, float]:
        """The model's lowest and highest noise level."""
        facts = ModelFacts.of(self.model)
        if facts.sigma_min is None or facts.sigma_max is None:
            raise ValueError(
                "a network is trained between the model's noise levels sigma_min and sigma_max; one is not known"
            )
        return facts.sigma_min, facts.sigma_max

    def rows(self, batch: int) -> Tensor:
        """Which of the task's images a batch has, (batch,)."""
        return torch.randint(len(self.task.latents), (batch,), generator=self.generator)

    def choice(self, count: int, batch: int) -> Tensor:
        """A number from 0 to ``count - 1`` for each image, (batch,)."""
        return torch.randint(count, (batch,), generator=self.generator)

    def noise(self, *shape: int) -> Tensor:
        """Unit-normal noise, float64 on the device of the task's."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(self.task.latents.device)

    def images(self, rows: Tensor) -> Tensor:
        """Those of the images that the fine solution made, in the place of data: float64."""
        assert self.task.ends is not None
        return self.task.ends[rows.to(self.task.ends.device)].double()

    def weights(self, name: str | None = None) -> dict[str, Tensor]:
        """Those of the student, or of an average, under the names of the model's network."""
        network = self.network if name is None else self.averages[name]
        return {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}

    def _state(self):
        networks = {"student": self.network, **self.averages}
        return {
            "done": self.done,
            "networks": {name: network.state_dict() for name, network in networks.items()},
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
        }

    def _restore(self, state):
        for name, network in {"student": self.network, **self.averages}.items():
            network.load_state_dict(state["networks"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.done = state["done"]


def levels(sigmas: Tensor, choice: Tensor, like: Tensor) -> Tensor:
    """One of the noise levels for each image, (B, 1, 1, 1) float64 on the device of ``like`` (B, C, H, W)."""
    return sigmas[choice].to(like.device, torch.float64).view(-1, *[1] * (like.ndim - 1))


def two_in_one(task: Task, halvings: int) -> list[Tensor]:
    """The steps that a student learns in each of so many halvings of their number, the last ones on its own levels.

    An analytic first step, which no network makes, is none of them.

    Each is (S, 3) float64, with the rows sigma, middle, sigma_next: levels of a step, and halfway between them in the
    variable of the grid the level that its teacher comes by. That is sigma where the model knows no level between.
    """
    variable, rounded = teachers.variable_of(task.sigmas), ModelFacts.of(task.denoise).round_sigma
    levels, found = np.asarray(task.sigmas, dtype=np.float64)[int(task.solver.afs) :], []
    for _ in range(halvings):
        fine = variable.refine(levels, 2)
        if rounded is not None:
            fine = np.unique(np.append(rounded(fine), levels))[::-1]
        steps = [(left, right, fine[(right < fine) & (fine < left)]) for left, right in itertools.pairwise(levels)]
        found.append([(left, inner[0] if len(inner) else left, right) for left, right, inner in steps])
        levels = fine
    return [torch.tensor(steps, dtype=torch.float64) for steps in reversed(found)]
