"""Statistics of reference images in files: published ones read, own ones written, and of which features they are.

A published file is an ``.npz`` with ``mu`` (F,) and ``sigma`` (F, F) (pytorch-fid, EDM). OpenAI's reference batches
have ``mu_s, sigma_s`` (of spatial features, not used here) and images ``arr_0`` (n, H, W, 3) uint8 besides, or images
alone. Own files have ``mu``, ``sigma``, where there were images some of their ``features`` and their number ``images``,
and ``extractor``, what the features are. A file of fine-step samples has ``mu`` and ``sigma`` of each seed block,
``<block>/mu``, and ``images`` is one number per block.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dode.metrics.distances import Gaussian, Statistics
from dode.weights import npz_files

AT_ONCE, MAX_IMAGES = 2**26, 10_000_000  # bytes of images in memory; images of a file


class Reference(NamedTuple):
    """What an own file says: (mean, covariance), some features and number of images; None for what it does not."""

    moments: tuple[np.ndarray, np.ndarray]
    features: np.ndarray | None
    images: int | None


def extractor_of(card: Mapping[str, Any]) -> str:
    """What features of a card are, in one line: its network and checkpoint. Statistics with another line differ."""
    return json.dumps({key: card[key] for key in ("network", "sha256") if key in card}, sort_keys=True)


def write(
    path: str | Path,
    *,
    mu: np.ndarray,
    sigma: np.ndarray,
    card: Mapping[str, Any],
    features: np.ndarray | None = None,
    images: int | None = None,
) -> None:
    """Write statistics of the features of a card."""
    optional = {"features": features, "images": images}
    arrays: dict[str, Any] = {name: value for name, value in optional.items() if value is not None}
    np.savez(path, mu=mu, sigma=sigma, extractor=extractor_of(card), **arrays)


def read(path: str | Path, card: Mapping[str, Any]) -> Reference:
    """The :class:`Reference` of a file that :func:`write` made.

    Raises:
        ValueError: where it is of other features than those of ``card``, naming both.
    """
    with np.load(path, allow_pickle=False) as arrays:
        _check_extractor(path, arrays, card)
        images = int(arrays["images"]) if "images" in arrays else None
        return Reference((arrays["mu"], arrays["sigma"]), arrays.get("features"), images)


def write_blocks(path: str | Path, blocks: Sequence[Statistics], card: Mapping[str, Any]) -> None:
    """Write the statistics of each seed block of images, of a single block with its kept features."""
    arrays: dict[str, Any] = {"images": [block.count for block in blocks]}
    for index, block in enumerate(blocks):
        arrays |= {f"{index}/mu": block.mean, f"{index}/sigma": block.covariance}
    if len(blocks) == 1:  # several have their spread, and no score asks for an error by images
        arrays["features"] = blocks[0].features
    np.savez(path, extractor=extractor_of(card), **arrays)


def read_blocks(path: str | Path, card: Mapping[str, Any], images: Sequence[int]) -> list[Reference]:
    """The blocks that :func:`write_blocks` wrote, a :class:`Reference` each.

    Args:
        path: of the file.
        card: of the features.
        images: how many images each block must have, to be those of the same noise.

    Raises:
        ValueError: as :func:`read`, or where the file is of other blocks.
    """
    with np.load(path, allow_pickle=False) as arrays:
        _check_extractor(path, arrays, card)
        counts = arrays["images"].tolist() if "images" in arrays else []
        if counts != list(images):
            raise ValueError(f"{path} has blocks of {counts} images, but the cell has blocks of {list(images)}")
        moments = [(arrays[f"{index}/mu"], arrays[f"{index}/sigma"]) for index in range(len(counts))]
        return [Reference(each, arrays.get("features"), count) for each, count in zip(moments, counts, strict=True)]


def identity(path: str | Path, reference: Reference) -> dict[str, Any]:
    """Which file a :class:`Reference` was read from, for a record of what was done with it."""
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"file": str(path), "sha256": digest, "images": reference.images}


def _check_extractor(path, arrays, card):
    """Raise ValueError where the arrays of an own file are of other features than those of ``card``."""
    found, wanted = str(arrays["extractor"]) if "extractor" in arrays else "unknown", extractor_of(card)
    if found != wanted:
        raise ValueError(
            f"{path} was made with the features {found}, but the images here have {wanted}; they cannot be compared"
        )


def published(
    path: str | Path, stream: Callable[[np.ndarray], Iterable[np.ndarray]], image_shape: Sequence[int]
) -> Reference:
    """Mean, covariance and, where it has images, some features of a published file.

    Args:
        path: of the ``.npz``.
        stream: function of images (n, C, H, W) uint8 that generates their features batch by batch.
        image_shape: (C, H, W) of the images that the statistics are for.

    Returns:
        A :class:`Reference`. Mean and covariance are the file's where it has them, and those of its images otherwise;
        ``features`` are of a random sample of its images, None without images. How many images are behind a file's own
        mean and covariance it does not say.

    Raises:
        ValueError: where the file has neither, or they are not what such arrays are.
    """
    moments, own = None, None
    with npz_files.opened(path) as archive:
        mu, sigma, images = (npz_files.member(path, archive, name) for name in ("mu", "sigma", "arr_0"))
        if mu is not None and sigma is not None:
            (width,) = (features.shape[1] for features in stream(np.zeros((1, *image_shape), np.uint8)))
            moments = _moments(path, mu, sigma, width)
        if images is not None:
            _check_images(path, images, image_shape)
            total = images.shape[0]
            own = Statistics.of((each for some in _batches(path, images) for each in stream(some)), total=total)
    if moments:
        return Reference(moments, None if own is None else own.features, None)
    if own is None:
        raise ValueError(f"{path}: expected the arrays mu and sigma, or the images arr_0")
    return Reference(own.moments, own.features, own.count)


def _batches(path, images):
    """The images (n, C, H, W) of an array, some at a time: the files of large ones have ten gigabytes."""
    each = math.prod(images.shape[1:])
    at_once = max(1, AT_ONCE // each)
    for start in range(0, images.shape[0], at_once):
        with npz_files.told(path):
            count = min(at_once, images.shape[0] - start)
            part = images.read(count * each).reshape(count, *images.shape[1:]).transpose(0, 3, 1, 2)
        yield part
    with npz_files.told(path):
        if images.stream.read(1):
            raise ValueError("more elements")


def _check_images(path, images, image_shape):
    channels, height, width = image_shape
    right = images.dtype == np.uint8 and images.shape[1:] == (height, width, channels) and not images.fortran
    if not right or not 2 <= images.shape[0] <= MAX_IMAGES:
        raise ValueError(
            f"{path}: arr_0 must be images (n, {height}, {width}, {channels}) uint8, at least two, not "
            f"{images.shape} {images.dtype}, and in rows; at most {MAX_IMAGES}"
        )


def _moments(path, mu, sigma, width):
    """Both in float64; refused is what the scores would refuse, each of them after all sampling."""
    kinds = {mu.dtype.kind, sigma.dtype.kind}
    if kinds != {"f"} or len(mu.shape) != 1 or sigma.shape != (mu.shape[0], mu.shape[0]):
        raise ValueError(
            f"{path}: mu (F,) and sigma (F, F) must be numbers, not {mu.shape} {mu.dtype} and "
            f"{sigma.shape} {sigma.dtype}"
        )
    if mu.shape[0] != width:
        raise ValueError(f"{path} is of {mu.shape[0]} features per image, but the dataset's extractor gives {width}")
    mu, sigma = (npz_files.array(path, member).astype(np.float64) for member in (mu, sigma))
    try:
        Gaussian.of_moments(mu, sigma)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return mu, sigma
