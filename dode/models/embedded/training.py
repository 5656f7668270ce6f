"""How the embedded digit networks were trained. Nobody needs to run it; `make train-digits` does it again.

Training counts steps, not time, so that a seed gives the same network on the same software and number of threads.
"""

import copy
import hashlib
import logging
import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from dode.grids import schedules
from dode.grids.schedules import Schedule
from dode.images import data, pixels
from dode.models.networks import networks

log = logging.getLogger(__name__)

SCHEDULE: dict[str, Any] = {"name": "linear", "steps": 1000}
MLP = {"image_shape": [1, 8, 8], "width": 256, "blocks": 5, "embedding": 64}


def edm_loss(network: nn.Module, images: torch.Tensor, generator: torch.Generator, sigma_data: float) -> torch.Tensor:
    """The EDM loss of Karras et al. 2022: ``E ||F - (x_0 - c_skip x) / c_out||^2`` with ln sigma ~ N(-1.2, 1.2^2)."""
    sigma = torch.randn(len(images), 1, 1, 1, generator=generator).mul(1.2).sub(1.2).exp()
    x = images + sigma * torch.randn(images.shape, generator=generator)
    variance = sigma**2 + sigma_data**2
    target = (images - x * sigma_data**2 / variance) * variance.sqrt() / (sigma * sigma_data)
    output = network(x / variance.sqrt(), sigma.flatten().log() / 4)
    return (output - target).square().mean()


def velocity_loss(network: Any, images: torch.Tensor, generator: torch.Generator, schedule: Schedule) -> torch.Tensor:
    """``E ||F - v||^2``, v = (eps - sqrt(1 - abar) x) / sqrt(abar): the noise loss of DDPM weighted by 1 / abar."""
    index = torch.randint(len(schedule), (len(images),), generator=generator)
    abar = torch.from_numpy(schedule.alphas_cumprod).float()[index].view(-1, 1, 1, 1)
    noise = torch.randn(images.shape, generator=generator)
    x = abar.sqrt() * images + (1 - abar).sqrt() * noise
    output = network.inner(x, (index + 1) / len(schedule))
    return (output - (abar.sqrt() * noise - (1 - abar).sqrt() * images)).square().mean()


def train_diffusion(name: str, images: np.ndarray, steps: int, seed: int) -> tuple[nn.Module, dict[str, Any]]:
    """Adam, batch 256, cosine decay, moving average of the weights. Returns the network and its card's facts."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    real = torch.from_numpy(pixels.from_bytes(images))
    if name == "digits-edm":
        sigma_data = round(float(real.std()), 3)
        network_card: dict[str, Any] = {"name": "residual-mlp", "options": MLP}
        facts: dict[str, Any] = {
            "image_shape": MLP["image_shape"],
            "prediction": "data",
            "preconditioning": {"name": "edm", "sigma_data": sigma_data},
        }
        facts |= {"sigma_min": 0.002, "sigma_max": 80.0}
    else:
        schedule = schedules.schedules.create(**SCHEDULE)
        network_card = {"name": "residual-mlp-velocity", "options": {**MLP, "schedule": SCHEDULE}}
        facts = {"image_shape": MLP["image_shape"], "prediction": "noise", "schedule": SCHEDULE}
    network = networks.create(network_card["name"], **network_card["options"])
    averaged = copy.deepcopy(network).requires_grad_(False)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    decay = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min(1, (s + 1) / 500) * (0.02 + 0.98 * (1 + math.cos(math.pi * s / steps)) / 2)
    )
    losses = []
    for step in tqdm(range(steps), desc=name, mininterval=10):
        batch = real[torch.randint(len(real), (256,), generator=generator)]
        if name == "digits-edm":
            loss = edm_loss(network, batch, generator, sigma_data)
        else:
            loss = velocity_loss(network, batch, generator, schedule)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
        rate = min(0.9995, (step + 1) / (step + 100))
        torch._foreach_lerp_(list(averaged.parameters()), list(network.parameters()), 1 - rate)
        losses.append(loss.item())
    facts |= {"network": network_card, "loss": round(float(np.mean(losses[-1000:])), 4)}
    return averaged, facts


def train_classifier(images: np.ndarray, labels: np.ndarray, steps: int, seed: int) -> tuple[nn.Module, dict[str, Any]]:
    """Cross-entropy with one-pixel shifts and noise on 80 % of the digits; accuracy on the other 20 %."""
    from sklearn.model_selection import train_test_split

    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    train_rows, test_rows = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=seed)
    real, targets = torch.from_numpy(pixels.from_bytes(images)), torch.from_numpy(labels)
    network = networks.create("digit-classifier")
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in tqdm(range(steps), desc="digits-classifier", mininterval=10):
        rows = torch.from_numpy(train_rows)[torch.randint(len(train_rows), (128,), generator=generator)]
        shift = torch.randint(-1, 2, (2,), generator=generator).tolist()
        padded = torch.nn.functional.pad(real[rows], (1, 1, 1, 1), value=-1.0)
        batch = padded[:, :, 1 + shift[0] : 9 + shift[0], 1 + shift[1] : 9 + shift[1]]
        batch = batch + 0.1 * torch.randn(batch.shape, generator=generator)
        loss = torch.nn.functional.cross_entropy(network(batch), targets[rows], label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
    network.eval().requires_grad_(False)
    accuracy = (network(real[test_rows]).argmax(1) == targets[test_rows]).double().mean().item()
    facts: dict[str, Any] = {"network": {"name": "digit-classifier", "options": {}}}
    facts |= {"test_accuracy": round(accuracy, 4), "test_images": len(test_rows)}
    return network, facts


RECIPES = {
    "digits-edm": {"steps": 20_000, "seed": 1},
    "digits-ddpm": {"steps": 20_000, "seed": 2},
    "digits-classifier": {"steps": 3_000, "seed": 3},
}


def train(name: str, *, output: Path, steps: int | None = None) -> None:
    """Train ``name`` and write ``{name}.safetensors`` (half precision) and its card ``{name}.yaml`` to ``output``."""
    recipe = RECIPES[name]
    steps, seed = steps or recipe["steps"], recipe["seed"]
    images, labels = data.sources.create("digits")
    if name == "digits-classifier":
        network, facts = train_classifier(images, labels, steps, seed)
    else:
        network, facts = train_diffusion(name, images, steps, seed)
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{name}.safetensors"
    halves = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    save_file({key: value.contiguous() for key, value in halves.items()}, path)
    command = shlex.join(["python", "scripts/train_digits.py", name, "--steps", str(steps)])
    card = {
        "role": "features" if name == "digits-classifier" else "diffusion",
        "urls": [f"file:{path.name}"],
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "licence": "Apache-2.0 (weights trained by this project)",
        **facts,
        "training": {
            "command": command,
            "seed": seed,
            "data": "1,797 handwritten 8x8 digits, scikit-learn load_digits (UCI ML hand-written digits, CC BY 4.0)",
            "torch": str(torch.__version__),
            "threads": torch.get_num_threads(),
        },
    }
    (output / f"{name}.yaml").write_text(yaml.safe_dump(card, sort_keys=False, width=110))
    log.info("%s: %s", name, facts)
