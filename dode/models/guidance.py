"""Guidance: denoisers made of a conditional denoiser, towards the classes or the prompts of the images.

A guided denoiser is bound to conditions like any other. One call of it is one evaluation of the solver (NFE), which is
the convention of the papers' tables: the second half of the batch and the classifier's gradient are not counted. How
often a network runs on an image is counted apart (:meth:`Guided.passes`).
"""

import contextlib
import copy
from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from dode.grids.facts import Described, ModelFacts
from dode.grids.schedules import Schedule
from dode.models import levels
from dode.models.conditions import Conditions
from dode.models.denoiser import Denoiser
from dode.models.passes import passes
from dode.registry import Registry

guidances = Registry("guidance")


def check_guidance(interval: Sequence[float] | None = None, rescale: float = 0.0) -> None:
    """Raise ValueError for an interval of noise levels or a share that is none."""
    if interval is not None and not (len(interval) == 2 and 0 <= interval[0] < interval[1]):
        raise ValueError(f"interval of guidance must be two noise levels, 0 <= low < high, not {list(interval)}")
    if not 0 <= rescale <= 1:
        raise ValueError(f"rescale of guidance must be from 0 to 1, not {rescale!r}")


class Guided(Described):
    """A denoiser around another one, with the facts that grids, solvers and fits need to know of a model."""

    def __init__(self, denoise: Denoiser, *, scale: float):
        self.model, self.scale = denoise, scale

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The estimate of the clean image; x (B, C, H, W), sigma a 0-d tensor or (B, 1, 1, 1)."""
        with torch.set_grad_enabled(self.model.gradients and torch.is_grad_enabled()):
            return self.denoise(x, sigma)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The guided estimate; arguments as of a call."""
        raise NotImplementedError

    @property
    def facts(self) -> ModelFacts:  # type: ignore[override]
        """The model's (:class:`dode.grids.facts.ModelFacts`)."""
        return self.model.facts

    @property
    def labels(self) -> Tensor | None:
        """The classes that the model is bound to, or None."""
        return self.model.labels

    def passes(self, sigma: float) -> int:
        """How often an evaluation at this noise level runs a network on an image; a classifier's gradient is none."""
        return 2

    def differentiable(self, *, recompute: bool = False) -> Self:
        """With gradients, to x and to sigma (:meth:`dode.models.Denoiser.differentiable`)."""
        return self._around(self.model.differentiable(recompute=recompute))

    def trainable(self) -> Denoiser:
        """The guided model alone, with a network of its own (:meth:`dode.models.Denoiser.trainable`).

        It can learn what guidance of a fixed scale does (Meng et al. 2023, arXiv 2210.03142).
        """
        return self.model.trainable()

    def of_rows(self, rows: Tensor) -> Self:
        """Bound to the conditions of those images with these indices (:meth:`dode.models.Denoiser.of_rows`)."""
        return self._around(self.model.of_rows(rows))

    def conditioned(self, conditions: Conditions | Tensor | Sequence[int]) -> Self:
        """Bound to the conditions of a batch (:meth:`dode.models.Denoiser.conditioned`)."""
        return self._around(self.model.conditioned(conditions))

    def for_images(self, start: int, stop: int) -> Self:
        """Bound to the conditions of images ``start`` to ``stop`` of those it is bound to."""
        return self._around(self.model.for_images(start, stop))

    def at(self, schedule: Schedule, shift: float, time: float | None = None) -> Self:
        """Called at another index (:meth:`dode.models.NoisePrediction.at`)."""
        return self._around(self.model.at(schedule, shift, time))

    def _around(self, model):
        bound = copy.copy(self)
        bound.model = model
        return bound

    def _labels(self):
        if self.model.labels is None:
            raise ValueError(
                "guidance needs the classes of the images: bind them first with denoise.conditioned(labels)"
            )
        return self.model.labels


@guidances.register("classifier-free")
class ClassifierFree(Guided):
    """``D = D_none + scale (D_with - D_none)`` (Ho & Salimans 2022, arXiv 2207.12598, in its scale 1 + w).

    Both are evaluated in one batch of twice the images. The network must have been trained without conditions too.

    Args:
        denoise: the model.
        scale: 1 is the conditional model alone.
        interval: (low, high) noise levels: guided for ``low < sigma <= high`` alone, elsewhere the conditional model
            in one pass (Kynkaanniemi et al. 2024, arXiv 2404.07724). None: everywhere.
        rescale: share, 0 to 1, by which the guided output of the network is scaled to the standard deviation that the
            conditional one has within an image (Lin et al. 2024, arXiv 2305.08891, Eq. 15 and 16).

    Raises:
        ValueError: for an interval or a share that is none.
    """

    def __init__(
        self,
        denoise: Denoiser,
        *,
        scale: float,
        interval: Sequence[float] | None = None,
        rescale: float = 0.0,
    ):
        super().__init__(denoise, scale=scale)
        check_guidance(interval, rescale)
        self.interval, self.rescale = interval, rescale

    def passes(self, sigma: float) -> int:
        """:meth:`Guided.passes`."""
        return passes("classifier-free", sigma, self.interval, scale=self.scale)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """:meth:`Guided.denoise`."""
        level = levels.level_of(sigma, x)
        differ = isinstance(level, Tensor) and level.ndim > 0
        if self.scale == 1 or (not differ and self.passes(float(level)) == 1):
            return self.model(x, sigma)
        both = torch.cat([level, level]) if differ else sigma  # type: ignore[list-item]
        own, none = self.model.with_and_without()(torch.cat([x, x]), both).chunk(2)
        guided = self._guided(x, level, own, none)
        if not differ or self.interval is None:
            return guided
        # Where levels differ, an image that is not guided has both passes all the same.
        low, high = self.interval
        return torch.where((level > low) & (level <= high), guided, own)  # type: ignore[arg-type, operator]

    def _guided(self, x, level, own, none):
        guided = none + self.scale * (own - none)
        if not self.rescale:
            return guided
        output, of_own = self.model.output(x, level, guided), self.model.output(x, level, own)
        dims = tuple(range(1, x.ndim))
        factor = of_own.std(dims, keepdim=True) / output.std(dims, keepdim=True).clamp(min=1e-30)
        return self.model.estimated(x, level, output * (self.rescale * factor + 1 - self.rescale)).to(x.dtype)


@guidances.register("autoguidance")
class Autoguidance(Guided):
    """``D = D_guide + scale (D_model - D_guide)`` (Karras et al. 2024, arXiv 2406.02507): guided by a worse model.

    The guide is of the same images and classes, but smaller or trained for a shorter time. Both are evaluated for the
    same classes, if the model has any.

    Args:
        denoise: the model.
        scale: 1 is the model alone, more moves away from the guide.
        guide: the other :class:`dode.models.Denoiser`.
    """

    def __init__(self, denoise: Denoiser, *, scale: float, guide: Denoiser):
        super().__init__(denoise, scale=scale)
        self.guide = guide

    def differentiable(self, *, recompute: bool = False) -> Self:
        """:meth:`Guided.differentiable`, of both."""
        found = super().differentiable(recompute=recompute)
        found.guide = self.guide.differentiable(recompute=recompute)
        return found

    def passes(self, sigma: float) -> int:
        """:meth:`Guided.passes`."""
        return passes("autoguidance", sigma, scale=self.scale)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """:meth:`Guided.denoise`."""
        if self.scale == 1:
            return self.model(x, sigma)
        guide = self.guide
        if guide.facts.classes is not None:
            guide = guide.conditioned(self._labels())
        elif guide.conditioned_on and self.model.conditions is not None:
            guide = guide.conditioned(self.model.conditions)
        of_guide = guide(x, sigma)
        return of_guide + self.scale * (self.model(x, sigma) - of_guide)


@guidances.register("classifier")
class Classifier(Guided):
    """Classifier guidance (Dhariwal & Nichol 2021, arXiv 2105.05233, Alg. 2) of a denoiser on a VP schedule.

    ``eps' = eps - sqrt(1 - abar) scale grad_(x_vp) ln p(y | x_vp, index)``, in the coordinates here
    ``D' = D + scale sigma^2 / sqrt(1 + sigma^2) grad``. Only the gradient is computed with autograd.

    Args:
        denoise: a :class:`dode.models.predictions.VariancePreserving` of classes.
        scale: factor on the gradient.
        classifier: ``classifier(x_vp, index) -> logits`` (B, classes), index 0-d; called with as many images at once as
            the model, in the precision of its first parameter (single without parameters).
    """

    def __init__(self, denoise: Denoiser, *, scale: float, classifier: Callable[[Tensor, Tensor], Tensor]):
        super().__init__(denoise, scale=scale)
        self.classifier = classifier
        parameters = getattr(classifier, "parameters", tuple)
        self.dtype = next((parameter.dtype for parameter in parameters()), torch.float32)

    def passes(self, sigma: float) -> int:
        """:meth:`Guided.passes`."""
        return 1

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """:meth:`Guided.denoise`."""
        labels, level = self._labels(), levels.level_of(sigma, x)
        if isinstance(level, Tensor) and level.ndim:
            gradient = self.model.batches.map(self._gradient, x, level, labels)
        else:
            gradient = self.model.batches.map(lambda part, of: self._gradient(part, level, of), x, labels)
        weight = self.scale * level**2 / levels.sqrt(1 + level**2)
        return levels.add(self.model(x, sigma), gradient.to(x.dtype), weight)

    def _gradient(self, x, level, labels):
        """``grad_(x_vp) ln p(y | x_vp, index)``, of x's shape."""
        facts, flows = self.model.facts, self.model.gradients and torch.is_grad_enabled()
        # Of attention's implementations only this one can be differentiated twice.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH) if flows else contextlib.nullcontext():
            x_vp = ((x if flows else x.detach()) / levels.sqrt(1 + level**2)).to(self.dtype)
            x_vp = x_vp if x_vp.requires_grad else x_vp.requires_grad_(True)
            index = levels.condition(levels.mapped(level, facts.index, facts.index_slope), self.dtype, x.device)
            log_p = torch.log_softmax(self.classifier(x_vp, index).float(), dim=1)
            return torch.autograd.grad(log_p.gather(1, labels[:, None]).sum(), x_vp, create_graph=flows)[0]
