"""The features of the embedded benchmarks."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dode.images import pixels
from dode.metrics.extractors import extractors
from dode.models.embedded.digit_classifier import DigitClassifier
from dode.models.loading import with_weights


@extractors.register("digit-classifier")
def digit_classifier(
    *, card: Mapping[str, Any], checkpoint: str | Path, device: str | torch.device
) -> Callable[[np.ndarray], torch.Tensor]:
    """64 penultimate activations of an embedded digit classifier."""
    network = with_weights(DigitClassifier(**card["network"]["options"]), card, checkpoint, device=device)

    def extract(images):
        return network.features(torch.from_numpy(pixels.from_bytes(images)).to(device))

    return extract
