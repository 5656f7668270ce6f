"""How a card becomes a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from dode.grids.schedules import schedules
from dode.models import agreement
from dode.models.denoiser import Denoiser, NoisePrediction
from dode.models.guidance import Guided, guidances
from dode.models.networks import networks
from dode.models.precision import lowered
from dode.models.preconditioning import preconditionings


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
    """
    weights = load_file(checkpoint)
    try:
        network.load_state_dict(
            {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
        )
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise ValueError(
            f"{checkpoint} does not fit the network '{card['network']['name']}' with its options: "
            f"{' '.join(lines[1:4])[:600]}"
        ) from None
    network = lowered(network, card.get("precision", {}).get("dtype", "float32"))
    network = network.to(torch.device(device)).eval().requires_grad_(False)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return torch.compile(network) if compile else network  # type: ignore[return-value]


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


def _unguided(card, checkpoint, batch_size, how):
    agreement.check_options(card)
    network = load_network(card, checkpoint, **how)
    return of_card(card, network, batch_size=batch_size, classes=card.get("classes"))


def of_card(card: Mapping[str, Any], network: nn.Module, **options: Any) -> Denoiser:
    """The network behind its card's preconditioning, or on its schedule where it has none."""
    if "preconditioning" not in card:
        return NoisePrediction(network, schedule=schedules.create(**card["schedule"]), **options)
    own = dict(card["preconditioning"])
    preconditioned = preconditionings.get(own.pop("name"))
    return preconditioned(network, sigma_min=card["sigma_min"], sigma_max=card["sigma_max"], **own, **options)
