"""Statistics of reference images in files: published ones read, own ones written, and of which features they are.

A published file is an ``.npz`` with ``mu`` (F,) and ``sigma`` (F, F) (pytorch-fid, EDM). OpenAI's reference batches
have ``mu_s, sigma_s`` (of spatial features, not used here) and images ``arr_0`` (n, H, W, 3) uint8 besides, or images
alone. Own files have ``mu``, ``sigma``, where there were images their first ``features``, and ``extractor``, what the
features are.
"""

import json

import numpy as np

from dode.metrics.distances import Statistics


def extractor_of(card):
    """What features of a card are, in one line: its network and checkpoint. Statistics with another line differ."""
    return json.dumps({key: card[key] for key in ("network", "sha256") if key in card}, sort_keys=True)


def write(path, *, mu, sigma, card, features=None):
    """Write statistics of the features of a card."""
    arrays = {"mu": mu, "sigma": sigma, "extractor": extractor_of(card)}
    np.savez(path, **arrays, **({} if features is None else {"features": features}))


def read(path, card):
    """``(moments, features)`` of a file that :func:`write` made; features are None where it has none.

    Raises:
        ValueError: where it is of other features than those of ``card``, naming both.
    """
    with np.load(path, allow_pickle=False) as arrays:
        check_extractor(path, arrays, card)
        return (arrays["mu"], arrays["sigma"]), arrays.get("features")


def check_extractor(path, arrays, card):
    """Raise ValueError where the arrays of an own file are of other features than those of ``card``."""
    found, wanted = str(arrays["extractor"]) if "extractor" in arrays else "unknown", extractor_of(card)
    if found != wanted:
        raise ValueError(f"{path} is of the features {found}, the images here have {wanted}; they cannot be compared")


def published(path, stream, image_shape):
    """Mean, covariance and, where it has images, some features of a published file.

    Args:
        path: of the ``.npz``.
        stream: function of images (n, C, H, W) uint8 that generates their features batch by batch.
        image_shape: (C, H, W) of the images that the statistics are for.

    Returns:
        ``(mu, sigma, features)``. Mean and covariance are the file's where it has them, and those of its images
        otherwise; ``features`` are the first of its images', None without images.

    Raises:
        ValueError: where the file has neither, or they are not what such arrays are.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in ("mu", "sigma", "arr_0") if name in arrays}
    except Exception as error:  # of a hostile archive numpy lets more than its own errors through
        raise ValueError(f"{path}: no .npz of plain arrays ({type(error).__name__})") from None
    own = None
    if "arr_0" in found:
        own = Statistics.of(stream(_images(path, found["arr_0"], image_shape)))
    if "mu" not in found or "sigma" not in found:
        if own is None:
            raise ValueError(f"{path}: expected are the arrays mu and sigma, or the images arr_0")
        return own.mean, own.covariance, own.features
    mu, sigma = _moments(path, found["mu"], found["sigma"])
    (width,) = (features.shape[1] for features in stream(np.zeros((1, *image_shape), np.uint8)))
    if len(mu) != width:
        raise ValueError(f"{path} is of {len(mu)} features an image, those of the dataset are {width}")
    return mu, sigma, None if own is None else own.features


def _images(path, images, image_shape):
    channels, height, width = image_shape
    if images.dtype != np.uint8 or images.shape[1:] != (height, width, channels) or len(images) < 2:
        raise ValueError(
            f"{path}: arr_0 must be images (n, {height}, {width}, {channels}) uint8, at least two, not "
            f"{images.shape} {images.dtype}"
        )
    return images.transpose(0, 3, 1, 2)


def _moments(path, mu, sigma):
    if mu.dtype.kind != "f" or sigma.dtype.kind != "f" or mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise ValueError(
            f"{path}: mu (F,) and sigma (F, F) must be numbers, not {mu.shape} {mu.dtype} and "
            f"{sigma.shape} {sigma.dtype}"
        )
    mu, sigma = mu.astype(np.float64), sigma.astype(np.float64)
    if not np.isfinite(mu).all() or not np.isfinite(sigma).all():
        raise ValueError(f"{path}: mu or sigma hold NaN or infinity")
    spread = np.sqrt(np.abs(np.diag(sigma)))
    if (np.diag(sigma) < 0).any() or (np.abs(sigma - sigma.T) > 1e-3 * np.outer(spread, spread) + 1e-12).any():
        raise ValueError(f"{path}: sigma is no covariance: not symmetric, or with negative variances")
    return mu, sigma
