"""Models behind one contract, ``denoise(x, sigma) -> denoised``, and how a card becomes one."""

from dode.models.denoiser import DataPrediction, Denoiser, NoisePrediction, for_images, prediction_of, prior_std

__all__ = [
    "DataPrediction",
    "Denoiser",
    "NoisePrediction",
    "for_images",
    "load",
    "load_network",
    "prediction_of",
    "prior_std",
]


def load_network(card, checkpoint, *, device="cpu"):
    """The network of a card (a dictionary) with the weights of a safetensors file, in float32, ready for inference."""
    import torch
    from safetensors.torch import load_file

    from dode.models.networks import networks

    network = networks.create(card["network"]["name"], **card["network"]["options"])
    weights = load_file(checkpoint)
    network.load_state_dict(
        {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
    )
    return network.to(torch.device(device)).eval().requires_grad_(False)


def load(card, checkpoint, *, device="cpu", batch_size=None, guidance=None, classifier=None):
    """The denoiser of a diffusion model's card.

    That of a class-conditional one (``classes`` in the card) is bound to labels before it is called:
    ``denoise.conditioned(labels)``.

    Args:
        card: dictionary as in ``config/models/*.yaml``.
        checkpoint: its safetensors file.
        device: torch device.
        batch_size: images per call of the network; None for all at once.
        guidance: ``{name, scale}`` of :mod:`dode.models.guidance`, for ``classifier`` with its card as ``classifier``.
        classifier: the safetensors file of that card.
    """
    network = load_network(card, checkpoint, device=device)
    denoise = _denoiser(card, network, batch_size=batch_size, classes=card.get("classes"))
    if guidance is None:
        return denoise
    from dode.models.guidance import guidances

    options = dict(guidance)
    if classifier is not None:
        options["classifier"] = load_network(guidance["classifier"], classifier, device=device)
    return guidances.get(options.pop("name"))(denoise, **options)


def _denoiser(card, network, **options):
    """The network behind its card's preconditioning, or on its schedule where it has none."""
    if "preconditioning" not in card:
        from dode import schedules

        return NoisePrediction(network, schedule=schedules.schedules.create(**card["schedule"]), **options)
    from dode.models.baselines import preconditionings

    own = dict(card["preconditioning"])
    preconditioned = preconditionings.get(own.pop("name"))
    return preconditioned(network, sigma_min=card["sigma_min"], sigma_max=card["sigma_max"], **own, **options)
