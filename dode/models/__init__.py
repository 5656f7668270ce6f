"""Models behind one contract, ``denoise(x, sigma) -> denoised``, and how a card becomes one."""

from dode.models.denoiser import DataPrediction, Denoiser, NoisePrediction, prediction_of, prior_std

__all__ = ["DataPrediction", "Denoiser", "NoisePrediction", "load", "load_network", "prediction_of", "prior_std"]


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


def load(card, checkpoint, *, device="cpu", batch_size=None):
    """The denoiser of a diffusion model's card.

    Args:
        card: dictionary as in ``config/models/*.yaml``.
        checkpoint: its safetensors file.
        device: torch device.
        batch_size: images per call of the network; None for all at once.
    """
    from dode import schedules

    network = load_network(card, checkpoint, device=device)
    if card["prediction"] == "noise":
        schedule = schedules.schedules.create(**card["schedule"])
        return NoisePrediction(network, schedule=schedule, batch_size=batch_size)
    return DataPrediction(
        network,
        sigma_data=card["preconditioning"]["sigma_data"],
        sigma_min=card["sigma_min"],
        sigma_max=card["sigma_max"],
        batch_size=batch_size,
    )
