"""A pipeline as a denoiser: ``denoise(x, sigma)`` on latents, guided, bound to prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from dode.models import loading
from dode.models.conditions import Conditions
from dode.models.denoiser import Denoiser
from dode.models.guidance import ClassifierFree
from dode.models.hub import repository
from dode.models.passes import guides
from dode.pipelines.family import Family, Network

EMBEDDED = "guidance"  # the name of the scale among the conditions of a network that takes it as an input


def trained(pipe: Any) -> dict[str, Any]:
    """``prediction`` and ``schedule`` of a pipeline, by its scheduler's configuration.

    Raises:
        ValueError: where these are none that this project has.
    """
    return repository.trained({**pipe.scheduler.config, "_class_name": type(pipe.scheduler).__name__})


def denoiser(family: Family, *, batch_size: int | None = None) -> Denoiser:
    """The denoiser of a pipeline's latents, to be bound to :meth:`Family.encode` of prompts or to classes."""
    return loading.of_card(trained(family.pipe), Network(family), batch_size=batch_size, classes=family.classes)


def guided(
    family: Family,
    denoise: Denoiser,
    conditions: Conditions | Sequence[int],
    *,
    scale: float | None = None,
    true_cfg_scale: float | None = None,
    interval: Sequence[float] | None = None,
    rescale: float = 0.0,
) -> Denoiser | ClassifierFree:
    """The denoiser bound to conditions and guided.

    Args:
        family: of the pipeline.
        denoise: its denoiser.
        conditions: what the images are of.
        scale: of the guidance, in diffusers' ``guidance_scale``. Of a network that takes it as an input, that input;
            else of classifier-free guidance, and none with None or up to 1, as the pipelines have it.
        true_cfg_scale: of classifier-free guidance of a network that was distilled (FLUX), and none with None or up to
            1; the conditions are then those of ``family.encode(..., without=True)``.
        interval, rescale: as of :class:`dode.models.guidance.ClassifierFree`.

    Raises:
        ValueError: for an interval or a rescaling without classifier-free guidance, or a scale that the network cannot
            take.
    """
    distilled = family.guided != "classifier-free"
    if true_cfg_scale is not None and not distilled:
        raise ValueError("guidance: true_cfg_scale is of networks that were distilled; give this one its scale")
    free = true_cfg_scale if distilled else scale
    if distilled and not guides(free) and (interval is not None or rescale):
        raise ValueError(
            "guidance: the network was distilled and has no classifier-free guidance without true_cfg_scale; interval "
            "and rescale are not allowed"
        )
    if family.guided == "never" and scale not in (None, 1):
        raise ValueError(
            f"guidance: the network was distilled at one scale and takes none, so {scale} is not allowed; leave it out"
        )
    if family.guided == "embedded":
        conditions = with_scale(conditions, scale)
    if free is None or not guides(free):
        return denoise.conditioned(conditions)
    return ClassifierFree(denoise, scale=free, interval=interval, rescale=rescale).conditioned(conditions)


def with_scale(conditions: Conditions | Sequence[int], scale: float | None) -> Conditions:
    """Conditions of a network that takes a guidance scale, with that scale."""
    if not isinstance(conditions, Conditions) or scale is None:
        raise ValueError("guidance: this pipeline needs a scale, which its network takes as an input")
    embedded = {EMBEDDED: torch.full((len(conditions),), float(scale))}
    without = None if conditions.without is None else {**conditions.without, **embedded}
    return Conditions({**conditions.values, **embedded}, without)
