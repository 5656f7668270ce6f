"""The one contract for models: ``denoise(x, sigma) -> denoised``.

``x`` is ``x_0 + sigma * n`` (variance-exploding coordinates, images in [-1, 1]), shape (B, C, H, W); ``sigma`` is a 0-d
tensor in the units of the images, or of shape (B, 1, 1, 1) where it differs by image; the result, of x's shape and
dtype, estimates the clean image. Any callable of this form serves. What solvers, grids and fits want to know beyond
that is its attribute ``facts``, a :class:`dode.grids.facts.ModelFacts`, or attributes of the same names
(``prediction``, ``schedule``, ``sigma_min``, ...); a plain function is taken for a data-prediction model. A denoiser
that is bound to images has a method ``for_images(start, stop)``, itself for a part of them (:func:`for_images`). One
that has a method ``differentiable()`` computes gradients only behind that (:func:`differentiable`).

A conditional model is bound to the classes of the images, or to other :class:`dode.models.conditions.Conditions`, in
their order, before it is called: ``denoise.conditioned(labels)(x, sigma)``. So solvers, fits and teachers know nothing
of either.
"""

import copy
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dode.grids.facts import Described, ModelFacts
from dode.models import levels, precision
from dode.models.batches import Batches
from dode.models.boundary import Boundary
from dode.models.conditions import Conditions
from dode.models.levels import Level
from dode.solvers.base import Denoise


def facts_of(denoise: Denoise) -> ModelFacts:
    """The :class:`dode.grids.facts.ModelFacts` of any denoiser; the defaults for a plain function."""
    return ModelFacts.of(denoise)


def prediction_of(denoise: Denoise) -> str:
    """What the model was trained to output (:class:`dode.grids.facts.ModelFacts`); ``"data"`` for a plain function."""
    return ModelFacts.of(denoise).prediction


def prior_std(denoise: Denoise, sigma: Any) -> Any:
    """Standard deviation of the starting state: ``sigma``, or what the model says.

    That is ``sqrt(1 + sigma^2)`` for VP and ``1 + sigma`` for flow matching.
    """
    return ModelFacts.of(denoise).prior_std(sigma)


def for_images(denoise: Denoise, start: int, stop: int) -> Denoise:
    """The denoiser for images ``start`` to ``stop`` of those it is bound to; itself where it is bound to none."""
    own = getattr(denoise, "for_images", None)
    return denoise if own is None else own(start, stop)


def differentiable(denoise: Denoise, **how: Any) -> Denoise:
    """The denoiser through which gradients flow to x and to sigma; a plain function as it is.

    ``how``: options of :meth:`Denoiser.differentiable`.
    """
    own = getattr(denoise, "differentiable", None)
    return denoise if own is None else own(**how)


class Denoiser(Described):
    """A network behind the contract: casts to the network's precision and splits large sets into batches.

    Args:
        network: a module, called as the subclass says; besides with the conditions that are bound, by their names,
            which for classes is ``labels=`` (B,). One with an attribute ``conditioned_on``, a tuple of names, must be
            bound to conditions of these names.
        facts: what the model says of itself. With ``classes`` the network must be bound to labels.
        batch_size: images per call of the network; None for all at once. Fewer from where memory runs out on.
    """

    conditions: Conditions | None = None
    boundary: Boundary | None = None
    #: Whether gradients flow (:meth:`differentiable`), and whether activations are computed again for them.
    gradients, recomputes = False, False

    def __init__(self, network: nn.Module, facts: ModelFacts, *, batch_size: int | None = None):
        self.network, self.facts = network.eval().requires_grad_(False), facts
        self.batches = Batches(batch_size)
        parameter = next(network.parameters())
        self.dtype, self.device = parameter.dtype, parameter.device
        self.conditioned_on: tuple[str, ...] = getattr(network, "conditioned_on", ())
        # A table of classes in a network of the hub may have one entry more, for images without a class.
        tables: list[Any] = [module.class_table for module in network.modules() if hasattr(module, "class_table")]
        self.table: int | None = tables[0] if tables else None
        if self.table and self.table not in (facts.classes, (facts.classes or 0) + 1):
            raise ValueError(
                f"classes: {facts.classes} is not allowed, as the network has a table of {self.table}; allowed: "
                f"{self.table}, or {self.table - 1} where the last one stands for no class"
            )

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The estimate of the clean image; x (B, C, H, W), sigma a 0-d tensor or (B, 1, 1, 1)."""
        self._check_conditions(len(x))
        with torch.set_grad_enabled(self.gradients and torch.is_grad_enabled()):
            level = levels.level_of(sigma, x)
            if isinstance(level, Tensor) and level.ndim:
                return self.batches.map(self._batch, x, level, self.conditions)
            return self.batches.map(lambda part, own: self._batch(part, level, own), x, self.conditions)

    def _batch(self, x, level, conditions):
        if self.recomputes and torch.is_grad_enabled():
            denoised = checkpoint(self.denoise, x, level, conditions, use_reentrant=False)
        else:
            denoised = self.denoise(x, level, conditions)
        return denoised.to(x.dtype) if self.boundary is None else self.boundary(x, level, denoised)

    def differentiable(self, *, recompute: bool = False) -> Self:
        """This denoiser with gradients, to ``x`` and to ``sigma``; without, a call computes none.

        The network's weights have none, and a model that is called at whole times alone has none through its time.

        Args:
            recompute: whether activations are computed again for the gradient and not kept, which takes memory for
                one call of the network at a time, and a third more computation.
        """
        found = copy.copy(self)
        found.gradients, found.recomputes = True, recompute
        return found

    def trainable(self) -> Self:
        """This denoiser with a network of its own, in float32, to whose weights gradients flow.

        It computes as in inference, without dropout; ``network.state_dict()`` has the names of the card's network.
        """
        return self.with_network(precision.raised(self.network).requires_grad_(True)).differentiable()

    def with_network(self, network: nn.Module) -> Self:
        """This denoiser with another network of the same kind in its network's place."""
        found = copy.copy(self)
        found.network, found.dtype = network, next(network.parameters()).dtype
        return found

    def as_consistency_function(self, sigma_data: float | None = None) -> Self:
        """This denoiser behind the boundary scalings of a consistency model: :class:`dode.models.boundary.Boundary`.

        Args:
            sigma_data: standard deviation of the data; by default that of the model's own preconditioning, and 0.5 of a
                model that has none.

        Raises:
            ValueError: for a model whose lowest noise level is not known.
        """
        if self.facts.sigma_min is None:
            raise ValueError(
                "a consistency function needs the model's lowest noise level, sigma_min, which is not known"
            )
        own = getattr(self, "sigma_data", 0.5) if sigma_data is None else sigma_data
        found = copy.copy(self)
        found.boundary = Boundary(self.facts.sigma_min, own)
        return found

    @property
    def labels(self) -> Tensor | None:
        """The classes that it is bound to, (B,), or None."""
        return None if self.conditions is None else self.conditions.values.get("labels")

    def conditioned(self, conditions: Conditions | Tensor | Sequence[int]) -> Self:
        """This denoiser bound to the conditions of a batch of images.

        Args:
            conditions: for a model of classes (B,) integers, 0 to ``classes - 1``, or -1: no class (where the network
                knows such); for others what their network takes.
        """
        if isinstance(conditions, Conditions) and "labels" not in conditions.values:
            known = ("labels",) if self.facts.classes is not None else self.conditioned_on
            if set(conditions.values) != set(known):
                raise ValueError(
                    f"the model cannot be bound to conditions {', '.join(conditions.values)}; it takes "
                    f"{', '.join(known) or 'none'}"
                )
            return self._bound(conditions.to(self.device, self.dtype))
        given = conditions.values["labels"] if isinstance(conditions, Conditions) else conditions
        labels = torch.as_tensor(given, dtype=torch.int64, device=self.device)
        if self.facts.classes is None:
            raise ValueError(
                "the model has no classes (the key 'classes' of its card), so it cannot be bound to labels"
            )
        if labels.ndim != 1 or bool(((labels < -1) | (labels >= self.facts.classes)).any()):
            raise ValueError(f"labels must be (B,) integers from 0 to {self.facts.classes - 1}, or -1 for no class")
        if self.table is not None and self.table <= self.facts.classes and bool((labels < 0).any()):
            raise ValueError(
                "labels: -1, no class, is not allowed, as the network has no entry for it beside its "
                f"{self.facts.classes} classes; classifier-free guidance needs one"
            )
        return self._bound(Conditions.of_classes(labels))

    def for_images(self, start: int, stop: int) -> Self:
        """This denoiser bound to the conditions of images ``start`` to ``stop`` of those it is bound to."""
        return self if self.conditions is None else self._bound(self.conditions.part(start, stop))

    def of_rows(self, rows: Tensor) -> Self:
        """This denoiser bound to the conditions of the images with these indices, (B,), among its own."""
        return self if self.conditions is None else self._bound(self.conditions.of_rows(rows))

    def with_and_without(self) -> Self:
        """This denoiser for each image twice: first with its condition, then without (:meth:`Conditions.both`)."""
        own = self.conditions
        if own is None:
            raise ValueError("guidance needs the classes or prompts of the images: bind them with denoise.conditioned")
        both = own.both()
        return self.conditioned(both.values["labels"]) if "labels" in both.values else self._bound(both)

    def passes(self, sigma: float) -> int:
        """How often an evaluation at this noise level runs a network on an image."""
        return 1

    def output(self, x: Tensor, sigma: Level, denoised: Tensor) -> Tensor:
        """What the network's output is where the estimate of the clean image is ``denoised``; both (B, C, H, W).

        Under EDM's preconditioning, whose network predicts data, that estimate itself.
        """
        return denoised

    def estimated(self, x: Tensor, sigma: Level, output: Tensor) -> Tensor:
        """The inverse of :meth:`output`."""
        return output

    def _bound(self, conditions):
        bound = copy.copy(self)
        bound.conditions = conditions
        return bound

    def _check_conditions(self, images):
        own = self.conditions
        if own is None and self.facts.classes is not None:
            raise ValueError(
                f"the model has {self.facts.classes} classes: bind it to labels first with denoise.conditioned(labels)"
            )
        if own is None and self.conditioned_on:
            raise ValueError(
                f"the model is conditioned on {', '.join(self.conditioned_on)}: bind it to them first with "
                "denoise.conditioned(conditions)"
            )
        if own is not None and len(own) != images:
            kind = "labels" if self.labels is not None else "conditions"
            raise ValueError(f"the model is bound to the {kind} of {len(own)} images but called with {images}")

    @staticmethod
    def _given(conditions):
        return {} if conditions is None else conditions.values

    def _index(self, sigma):
        """What a network on a schedule is told of the level."""
        return self._scalar(levels.mapped(sigma, self.facts.index, self.facts.index_slope))

    def _scalar(self, value):
        # Not in half precision, which has no index 999 (bfloat16) or 2049 (float16); networks lower its embedding.
        return levels.condition(value, torch.promote_types(self.dtype, torch.float32), self.device)
