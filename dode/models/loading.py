"""How a card becomes a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dode.grids.facts import ModelFacts
from dode.models import agreement
from dode.models.denoiser import Denoiser
from dode.models.guidance import Guided, guidances
from dode.models.networks import networks
from dode.models.precision import lowered
from dode.models.preconditioning import preconditionings
from dode.models.predictions import FlowPrediction, ImagePrediction, NoisePrediction, VelocityPrediction
from dode.weights import safetensors_files, states

ON_A_SCHEDULE = {kind.prediction: kind for kind in (NoisePrediction, VelocityPrediction, ImagePrediction)}


def load_network(card: Mapping[str, Any], checkpoint: str | Path, **how: Any) -> nn.Module:
    """The network of a card (a dictionary) with the weights of a safetensors file: :func:`with_weights`.

    Raises:
        ValueError: also where the card contradicts what the file, or those beside it, say of the network.
    """
    agreement.check_file(card, checkpoint)
    return with_weights(networks.create(card["network"]["name"], **card["network"]["options"]), card, checkpoint, **how)


def with_weights(
    network: nn.Module,
    card: Mapping[str, Any],
    checkpoint: str | Path,
    *,
    device: str | torch.device = "cpu",
    channels_last: bool = False,
    compile: bool = False,
) -> nn.Module:
    """A card's network with the weights of a safetensors file, ready for inference.

    It computes in the precision of the card, ``precision: {dtype: ...}``, float32 by default. ``channels_last`` lays
    images out as GPUs' half-precision convolutions like them, ``compile`` has torch compile the network as it first
    runs (a minute or so); neither changes more than float rounding.

    The names in the file may have the card's ``prefix``, or one that is found by itself where it is the only one.

    Raises:
        ValueError: naming the tensor or both sides' names, where the weights are not those of the network: of other
            names, shapes or kinds of numbers, quantized, or with NaN.
    """
    _fill(network, card, checkpoint)
    network = lowered(network, card.get("precision", {}).get("dtype", "float32"))
    network = network.to(torch.device(device)).eval().requires_grad_(False)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return torch.compile(network) if compile else network  # type: ignore[return-value]


def _fill(network, card, checkpoint):
    """Put the weights of a file into a network."""
    own = network.state_dict()
    named = safetensors_files.tensors(checkpoint, wanted=own, prefix=card.get("prefix"))
    does_not_fit = f"{checkpoint} does not fit the network '{card['network']['name']}' with its options"
    for name, weight in named.items():
        if name in own and own[name].is_floating_point() and not weight.is_floating_point():
            raise ValueError(
                f"{does_not_fit}: {name} is {weight.dtype} in the file, but {own[name].dtype} in the network"
            )
    try:
        network.load_state_dict(
            {key: value.float() if value.is_floating_point() else value for key, value in named.items()}
        )
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        words = states.both_sides(named, own) or " ".join(lines[1:4])
        raise ValueError(f"{does_not_fit}: {words[:600]}") from None


def load(
    card: Mapping[str, Any],
    checkpoint: str | Path,
    *,
    batch_size: int | None = None,
    guidance: Mapping[str, Any] | None = None,
    classifier: str | Path | None = None,
    guide: str | Path | None = None,
    **how: Any,
) -> Denoiser | Guided:
    """The denoiser of a diffusion model's card.

    That of a class-conditional one (``classes`` in the card) is bound to labels before it is called:
    ``denoise.conditioned(labels)``.

    Args:
        card: dictionary as in ``config/models/*.yaml``.
        checkpoint: its safetensors file.
        batch_size: images per call of the network; None for all at once.
        guidance: ``{name, scale}`` of :mod:`dode.models.guidance`, for ``classifier`` and ``autoguidance`` with the
            card of the other network as ``classifier`` or ``guide``.
        classifier, guide: the safetensors file of that card.
        how: the device and the options of :func:`with_weights`.

    Raises:
        ValueError: where the card contradicts its network's options, or what its file says of it.
    """
    denoise = _unguided(card, checkpoint, batch_size, how)
    if guidance is None:
        return denoise
    options = dict(guidance)
    if classifier is not None:
        options["classifier"] = load_network(guidance["classifier"], classifier, **how)
    if guide is not None:
        options["guide"] = _unguided(guidance["guide"], guide, batch_size, how)
    return guidances.get(options.pop("name"))(denoise, **options)


def retrained(card: Mapping[str, Any]) -> dict[str, Any]:
    """The card of a model for other weights of its network, as :meth:`dode.models.Denoiser.trainable` names them.

    What says how the published file is read is left out.
    """
    of_file = ("format", "key", "prefix", "names", "sha256", "md5", "size", "file")
    return {**{key: value for key, value in card.items() if key not in of_file}, "format": "safetensors"}


def _unguided(card, checkpoint, batch_size, how):
    agreement.check_options(card)
    network = load_network(card, checkpoint, **how)
    return of_card(card, network, batch_size=batch_size, classes=card.get("classes"))


def of_card(card: Mapping[str, Any], network: nn.Module, **options: Any) -> Denoiser:
    """The network behind its card's preconditioning, or on its schedule where it has none."""
    if "preconditioning" not in card:
        facts = ModelFacts.of_card(card)
        if facts.prediction == FlowPrediction.prediction:
            return FlowPrediction(network, schedule=facts.schedule, **options)  # type: ignore[arg-type]
        if facts.prediction not in ON_A_SCHEDULE:
            allowed = ", ".join(map(repr, ON_A_SCHEDULE))
            raise ValueError(
                f"prediction '{facts.prediction}' needs a preconditioning; allowed on a schedule: {allowed}"
            )
        known: Any = {"schedule": facts.schedule, "round_sigma": facts.round_sigma, "index_scale": facts.index_scale}
        return ON_A_SCHEDULE[facts.prediction](network, **known, **options)
    own = dict(card["preconditioning"])
    preconditioned = preconditionings.get(own.pop("name"))
    return preconditioned(network, sigma_min=card["sigma_min"], sigma_max=card["sigma_max"], **own, **options)
