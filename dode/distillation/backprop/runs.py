"""Runs of a linear form with gradients, on fitting images of which some are held out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dode import calls
from dode.distillation.backprop import settings
from dode.distillation.fit_checks import CHECKED
from dode.distillation.levenberg_marquardt import Images
from dode.distillation.linear_form import LinearForm, check_linear, linear_form
from dode.distillation.task import Task
from dode.grids.facts import ModelFacts
from dode.models.denoiser import for_images
from dode.sampling import Student
from dode.solvers.base import Denoise
from dode.solvers.formulas import combine

#: Of end states and those that they should be, (B, C, H, W) both: (B,).
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]

LOSSES: dict[str, Loss] = {
    "l2": lambda x, target: (x - target).square().flatten(1).mean(1),
    "l1": lambda x, target: (x - target).abs().flatten(1).mean(1),
    "log": lambda x, target: (x - target).square().flatten(1).mean(1).log(),
}
WITHOUT = (
    "gradients must flow through the model, to its {what}, but this one gives none: let it compute with tensors and "
    "without torch.no_grad, or take fit='joint', which needs no gradients"
)


def end_states(form: LinearForm, denoise: Denoise, latents: Tensor) -> Tensor:
    """The end states (B, C, H, W), float64, of a form; gradients flow to its numbers and to the noise.

    ``x_i = c_i0 n + sum_{j<i} c_i,j+1 D(x_j; t_j)``; the network is called in the precision of ``latents``.

    Raises:
        ValueError: for a model through which no gradients flow, where they should.
    """
    rows, basis = form.coefficients, [latents.to(torch.float64)]
    for index, told in enumerate(form.told):
        x = _combined(rows[index], basis)
        basis.append(calls.evaluate(denoise, x, told, latents.dtype, to=torch.float64))
        if x.requires_grad and torch.is_grad_enabled() and not basis[-1].requires_grad:
            raise ValueError(WITHOUT.format(what="images"))
    return _combined(rows[-1], basis)


def _combined(row, basis):
    return cast(Tensor, _Combination.apply(row[: len(basis)], *basis))


class _Combination(torch.autograd.Function):
    """``sum_j row_j basis_j``, which keeps the tensors of the basis themselves for the gradient, and copies of none.

    What torch's own products keep grows with the square of the evaluations.
    """

    @staticmethod
    def forward(ctx, row, *basis):
        ctx.save_for_backward(row, *basis)
        return combine(basis, row.tolist())

    @staticmethod
    @once_differentiable
    def backward(ctx, slope):
        row, *basis = ctx.saved_tensors
        of_row, *of_basis = ctx.needs_input_grad
        products = torch.stack([torch.sum(slope * each) for each in basis]).to(row.device) if of_row else None
        weights = zip(row.tolist(), of_basis, strict=True)
        return products, *(weight * slope if needed else None for weight, needed in weights)


def known(form: LinearForm, facts: ModelFacts) -> LinearForm:
    """The form with told levels that the model knows; where it knows some alone, gradients pass by the rounding."""
    if facts.round_sigma is None:
        return form
    at = form.told.detach()
    return LinearForm(form.coefficients, form.told + (torch.as_tensor(facts.round_sigma(at.numpy())) - at))


def gradients(value: Tensor, by: list[Tensor], form: LinearForm) -> tuple[Tensor, ...]:
    """The derivatives of a loss by the tensors that a form was made of, or by noise.

    Raises:
        ValueError: where none flow through the network to its noise level, and the form's told levels are fitted.
    """
    if not form.told.requires_grad:
        return torch.autograd.grad(value, by)
    *found, of_levels = torch.autograd.grad(value, [*by, form.told], allow_unused=True)
    if of_levels is None:
        raise ValueError(WITHOUT.format(what="noise level"))
    return tuple(found)


class Soft:
    """Noise that may move within a ball around its own: what the soft objective minimises over besides.

    ``min over |n' - n| <= r of the loss of the end state of n'`` (Tong et al. 2025, arXiv 2405.15506, Eq. 8): a student
    with few numbers need not be right at each noise, but at one nearby.

    Args:
        latents: (B, C, H, W), the noise n.
        radius: r, in the Euclidean norm.

    Attributes:
        noise: n' of each image.
    """

    def __init__(self, latents: Tensor, radius: float):
        self.latents, self.radius, self.noise = latents, radius, latents.clone()

    def leaf(self, part: slice) -> Tensor:
        """The noise of some images, to which gradients flow."""
        return self.noise[part].clone().requires_grad_(True)

    def moved(self, part: slice, step: Tensor) -> Tensor:
        """The noise of some images after a step, put back into the ball where that leads out of it."""
        away = self.noise[part] + step - self.latents[part]
        length = torch.linalg.vector_norm(away.flatten(1), dim=1).view(-1, *[1] * (away.ndim - 1))
        return self.latents[part] + away * (self.radius / length.clamp(min=self.radius))


class Pairs:
    """Noise and the end states that it should lead to, in batches, and what is held out.

    Args:
        task: whose ``ends`` are followed.
        loss: of :data:`LOSSES`, or a function.
        held_out: the share of the images that is.
        recompute: whether activations are computed again for the gradient and not kept.
    """

    def __init__(self, task: Task, *, loss: str | Loss, held_out: float, recompute: bool = False):
        self.facts, self.seed = ModelFacts.of(task.denoise), task.seed % 2**63
        denoise: Any = task.denoise
        ends = task.ends
        assert ends is not None  # which a fit that follows them has
        self.images = Images(denoise.differentiable(recompute=recompute), task.latents, ends, clip=task.clip)
        self.recompute, self.batches = recompute, getattr(task.denoise, "batches", None)
        self.loss = LOSSES[loss] if isinstance(loss, str) else loss
        self.fitted = settings.fitted(len(task.latents), held_out)

    def form(self, form: LinearForm) -> LinearForm:
        """The form to run, with levels that the model knows, to which gradients flow through the network alone."""
        return known(LinearForm(form.coefficients, form.told.clone()), self.facts)

    def losses(self, form: LinearForm, part: slice, latents: Tensor | None = None) -> Tensor:
        """The loss of each of some images with a form of :meth:`form`; ``latents`` is other noise than theirs."""
        noise = self.images.latents[part] if latents is None else latents
        end = end_states(form, self.images.bound(part, limited=False), noise)
        return self.loss(self.images.seen(end), self.images.targets[part]).flatten()

    def error(self, form: LinearForm, size: int, noise: Tensor | None = None) -> float:
        """The mean loss of the held-out images, in no more memory than an iteration takes, or the model's own batch.

        Without gradients nothing is kept of one evaluation for the next, so that as many times more images go at once
        as there are evaluations.

        Args:
            form: of :meth:`form`.
            size: images of an iteration.
            noise: of all images, in the place of their own.
        """
        alike = size if self.recompute else size * len(form.told)
        most, end = max(alike, getattr(self.batches, "size", None) or 0), len(self.images.latents)
        parts = [slice(start, min(start + most, end)) for start in range(self.fitted, end, most)]
        with torch.no_grad():
            found = [self.losses(form, part, None if noise is None else noise[part]) for part in parts]
            return float(torch.cat(found).mean())

    def batch(self, iteration: int, size: int) -> slice:
        """The images of an iteration; each epoch has all that make whole batches once, in an order of its own.

        Images that follow one another stay together, because a conditional model is bound to them in their order: what
        an epoch draws is where the batches begin, and their order. Independent noise is as good in one as in another.
        """
        epoch, index = divmod(iteration, self.fitted // size)
        random = np.random.default_rng([self.seed, epoch])
        begin = int(random.integers(self.fitted % size + 1))
        start = begin + size * int(random.permutation(self.fitted // size)[index])
        return slice(start, start + size)


def checked_form(task: Task, facts: ModelFacts) -> LinearForm:
    """The linear form of the task's solver on its levels; ValueError for a solver that has none."""
    student, part = Student(task.solver, task.sigmas), slice(0, min(CHECKED, len(task.latents)))
    denoise, noise = for_images(task.denoise, part.start, part.stop), task.latents[part]
    form = known(linear_form(student, facts), facts)
    student = dataclasses.replace(student, told=form.told)
    with torch.no_grad():
        check_linear(student, end_states(form, denoise, noise), student.run(denoise, noise))
    return form
