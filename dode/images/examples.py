"""A few real images to try a model on."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dode.images import data
from dode.validation import from_home
from dode.weights import npz_files

PIXELS, FEWEST, MOST = 2**15, 4, 128
REDUCED = 4.0  # so many pixels of a photograph become one, which hides its own noise


@dataclasses.dataclass(frozen=True)
class Examples:
    """Images and where they are from.

    Attributes:
        images: (n, C, H, W) uint8.
        labels: (n,) int64, or None where they are not known.
        whose: where they are from, in words.
        alike: whether they are said to be like those that the model was trained on; photographs are only natural.
    """

    images: np.ndarray
    labels: np.ndarray | None
    whose: str
    alike: bool = True


def of_card(
    card: Mapping[str, Any], *, named: str | None = None, statistics: Path | None = None, count: int | None = None
) -> Examples:
    """Images for a diffusion model's card.

    Args:
        card: the card; of what it says only ``image_shape`` counts.
        named: where from: a name in :mod:`dode.images.data`, a folder, a zip file, or an ``.npz`` file with ``arr_0``.
        statistics: such an ``.npz`` file that the card's statistics have, taken where nothing is named. Otherwise 8x8
            grey images are scikit-learn's digits, and colour images are parts of scikit-learn's photographs.
        count: how many; None for 4 to 128, by their size.

    Raises:
        ValueError: where there are none, or they have another shape.
        OSError: where they cannot be read.
    """
    shape = tuple(card["image_shape"])
    count = count or max(FEWEST, min(MOST, PIXELS // int(np.prod(shape))))
    if named is None and statistics is None:
        if shape[0] == 3:
            return Examples(photographs(shape, count), None, "scikit-learn's photographs, in parts", alike=False)
        if shape != (1, 8, 8):
            raise ValueError(f"no images of the shape {shape} are at hand; name a folder, a zip file or an .npz file")
        named = "digits"
    place, names = from_home(named or str(statistics)), data.sources.names()
    if place not in names and not Path(place).exists():
        allowed = f"{', '.join(names)}, a folder, a zip file or an .npz file"
        raise ValueError(
            f"there is no '{place}'; allowed: {allowed}, whose path may be relative to the working directory"
        )
    if place.endswith(".npz"):
        images, labels = _of_file(Path(place), shape, count)
    else:
        source = place if place in names else {"folder" if Path(place).is_dir() else "zip": place}
        data.check(source)
        whole, labels = data.load(source, shape)
        chosen = _chosen(len(whole), count)  # each is read alone
        images = np.concatenate([whole[index : index + 1] for index in chosen])
        labels = None if labels is None else np.asarray(labels)[chosen]
    return Examples(images, labels, place)


def _chosen(total, count):
    """Indices all over a set, which may be in the order of its classes."""
    return np.linspace(0, total - 1, min(count, total)).astype(int)


def _of_file(path, shape, count):
    with npz_files.opened(path) as archive:
        images, labels = (npz_files.member(path, archive, name) for name in ("arr_0", "labels"))
        if (
            images is None
            or len(images.shape) != 4
            or images.dtype != np.uint8
            or images.fortran
            or not images.shape[0]
        ):
            raise ValueError(f"{path} has no images, arr_0 (n, H, W, C) uint8")
        if (own := (images.shape[3], *images.shape[1:3])) != shape:
            raise ValueError(f"{path} has images of the shape {own}, but the card says {shape}")
        if labels is not None and (labels.shape != images.shape[:1] or labels.dtype.kind not in "iu"):
            raise ValueError(f"{path}: labels must be a class for each of the {images.shape[0]} images")
        chosen = _chosen(images.shape[0], count)
        found = npz_files.rows(path, images, chosen).transpose(0, 3, 1, 2)
        return found, None if labels is None else npz_files.array(path, labels)[chosen].astype(np.int64)


def photographs(shape: Sequence[int], count: int) -> np.ndarray:
    """(count, 3, H, W) uint8: parts of scikit-learn's two photographs, made smaller; shape is (3, H, W)."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    height, width = shape[1:]
    random, found = np.random.default_rng(0), []
    for index in range(count):
        photograph = Image.fromarray(load_sample_images().images[index % 2])
        scale = min(REDUCED, photograph.width / width, photograph.height / height)
        size = int(scale * width), int(scale * height)
        left = int(random.integers(photograph.width - size[0] + 1))
        top = int(random.integers(photograph.height - size[1] + 1))
        part = photograph.crop((left, top, left + size[0], top + size[1]))
        found.append(np.asarray(part.resize((width, height), Image.Resampling.BOX)).transpose(2, 0, 1))
    return np.stack(found)
