"""Feature extractors: images as bytes in, one vector an image out. A dataset names the card of its own."""

from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from dode import pixels
from dode.registry import Registry

extractors = Registry("feature extractor")


@extractors.register("digit-classifier")
def digit_classifier(*, card, checkpoint, device):
    """64 penultimate activations of the embedded digit classifier."""
    from dode.models import load_network

    network = load_network(card, checkpoint, device=device)

    def extract(images):
        return network.features(torch.from_numpy(pixels.from_bytes(images)).to(device))

    return extract


@extractors.register("inception")
def inception(*, card, checkpoint, device):
    """clean-fid's 2,048 Inception features: its resizing to 299 pixels and its network, from a fetched checkpoint.

    The card's option ``mode`` is clean-fid's: ``clean`` (antialiased resizing) or ``legacy_tensorflow``. Grey images
    are repeated over three channels.
    """
    from dode.metrics.reference import InceptionV3W, build_resizer

    mode = card["network"]["options"].get("mode", "clean")
    if mode not in ("clean", "legacy_tensorflow"):
        raise ValueError(f"mode of the inception features must be 'clean' or 'legacy_tensorflow', not '{mode}'")
    # clean-fid takes the folder of a file with this very name.
    if Path(checkpoint).name != "inception-2015-12-05.pt":
        raise ValueError(f"clean-fid reads a file named inception-2015-12-05.pt, not {Path(checkpoint).name}")
    folder = str(Path(checkpoint).parent)
    network = InceptionV3W(folder, download=False, resize_inside=mode == "legacy_tensorflow").to(device).eval()
    resize = build_resizer(mode) if mode == "clean" else None

    def extract(images):
        images = images.repeat(3 // images.shape[1], axis=1).transpose(0, 2, 3, 1)
        if resize is not None:
            images = np.stack([resize(image) for image in images])
        return network(torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().to(device))

    return extract


def create(card, checkpoint, *, device="cpu"):
    """The extractor of a card with the role ``features``: a function of images (B, C, H, W) uint8 to (B, F)."""
    return extractors.create(card["network"]["name"], card=card, checkpoint=checkpoint, device=device)


def stream(extract, images, batch_size, description=None):
    """Generate features (b, F) float64 (numpy) batch by batch; ``images`` may be mapped from disk."""
    for start in tqdm(range(0, len(images), batch_size), desc=description, disable=description is None, mininterval=5):
        with torch.no_grad():
            yield extract(np.ascontiguousarray(images[start : start + batch_size])).double().cpu().numpy()
