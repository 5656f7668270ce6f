"""Feature extractors: images as bytes in, one vector per image out. Each dataset names the card of its extractor."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from dode.images.data import Images
from dode.metrics.extractors import extractors
from dode.models import precision
from dode.models.batches import Batches


def create(
    card: Mapping[str, Any], checkpoint: str | Path, *, device: str | torch.device = "cpu"
) -> Callable[[np.ndarray], torch.Tensor]:
    """The extractor of a card with the role ``features``: a function of images (B, C, H, W) uint8 to (B, F)."""
    precision.allow_tf32(card.get("precision", {}).get("tf32", False))
    return extractors.create(card["network"]["name"], card=card, checkpoint=checkpoint, device=device)


def stream(
    extract: Callable[[np.ndarray], torch.Tensor],
    images: np.ndarray | Images,
    batch_size: int,
    description: str | None = None,
) -> Iterator[np.ndarray]:
    """Generate features (b, F) float64 (numpy) batch by batch; ``images`` may be mapped from disk.

    Where memory runs out the batches become smaller.
    """
    batches = Batches(batch_size)
    for start in tqdm(range(0, len(images), batch_size), desc=description, disable=description is None, mininterval=5):
        part = torch.from_numpy(np.array(images[start : start + batch_size]))
        with torch.inference_mode():
            yield batches.map(lambda some: extract(some.numpy()), part).double().cpu().numpy()
