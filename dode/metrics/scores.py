"""What a cell's ``score.json`` holds (docs/scores.md): every metric with its error, and what it was made with."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dode.metrics import distances, neighbours, spread
from dode.metrics.distances import Statistics
from dode.metrics.extrapolation import FEWEST, fid_infinity
from dode.metrics.statistics_files import Reference

PEAK = 2.0  # images in [-1, 1]


def summary(
    blocks: Iterable[float], error: Callable[[], float] | None = None, kind: str | None = None, **settings: Any
) -> dict[str, Any]:
    """One entry of ``metrics``.

    Args:
        blocks: the metric's value for each seed block.
        error: function without arguments that gives the error of a single block; not called for several.
        kind: what that error is; likewise not asked for several.
        settings: further keys.
    """
    blocks = [float(value) for value in blocks]
    if len(blocks) > 1:
        own, kind = spread.standard_deviation(blocks), "seeds"
    else:
        assert error is not None  # a single block has no other
        own = error()
    value = spread.mean(blocks)
    return {"value": value, "error": float(own), "error_kind": kind, "blocks": blocks, **settings}


def _of_images(blocks, **settings):
    """The entry of a metric that is the mean of one number an image, ``blocks`` (n,) each."""
    return summary([block.mean() for block in blocks], lambda: standard_error(blocks[0]), "images", **settings)


def standard_error(values: np.ndarray, count: int | None = None) -> float:
    """Of the mean of ``count`` values, of which these are some (default all)."""
    return float(spread.standard_deviation(values) / np.sqrt(count or len(values)))


GENERATED, REAL = "generated", "real"


def biased(blocks: Sequence[Statistics], real: int | None) -> list[str]:
    """Of which images there are no more than features, so that their covariance is singular: a list.

    The covariance of n images has the rank n - 1 at most.

    Args:
        blocks: :class:`Statistics` of the generated images of each seed.
        real: how many real images there are, None where that is not known.
    """
    counts = {GENERATED: min(block.count for block in blocks), REAL: real}
    return [name for name, count in counts.items() if count is not None and count <= len(blocks[0].mean)]


def frechet(
    blocks: Sequence[Statistics], references: Sequence[distances.GaussianLike], partners: np.ndarray | None = None
) -> dict[str, Any]:
    """FID of each block's statistics against its reference (as :func:`distances.fid` takes it), one each.

    ``partners``: where the reference of a single block is of images on the same noise, their features, in the same
    order. The error is then that of the pairs, in which what both have in common cancels.
    """
    pairs = list(zip(blocks, references, strict=True))
    if len(pairs) > 1:
        return summary([distances.fid(block.gaussian, real) for block, real in pairs])
    ((block, real),) = pairs
    value, psi = distances.fid_with_influences(block.features, block.gaussian, real, partners)
    return summary([value], lambda: standard_error(psi, block.count), "images")


def infinity(blocks: Sequence[Statistics], reference: distances.GaussianLike) -> dict[str, Any]:
    """``fid_infinity``, FID extrapolated to infinitely many images, by name; empty where it is not needed."""
    if not biased(blocks, None) or min(block.count for block in blocks) < FEWEST:
        return {}
    found = [fid_infinity(block.features, reference, with_error=len(blocks) == 1) for block in blocks]
    values = [each.value for each in found]
    error: Any = lambda: found[0].error  # noqa: E731 - of a single block there is one
    return {"fid_infinity": summary(values, error, "images", sizes=found[0].sizes)}


def kernel(blocks: Sequence[Statistics], real: np.ndarray, settings: Mapping[str, Any]) -> dict[str, Any]:
    """KID of each block's kept features against ``real`` (n, F)."""
    values = [distances.kid_of_subsets(real, block.features, **settings) for block in blocks]
    count = min(len(real), len(blocks[0].features))
    size = min(settings["subset_size"], count)
    used = {"subsets": settings["subsets"], "subset_size": size}
    error = lambda: distances.kid_error(values[0], size, count)  # noqa: E731 - one name less
    return summary([each.mean() for each in values], error, "subsets", **used)


def nearest(blocks: Sequence[Statistics], real: np.ndarray, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Precision, recall, density and coverage of as many kept features of each block as of ``real`` (n, F), by name.

    Where ``real`` are more, of a random sample of them, for they may be sorted. Empty where there are too few images.
    """
    count = min(settings["images"], len(real), *(len(block.features) for block in blocks))
    ks = {key: settings[key] for key in ("precision_recall", "density_coverage")}
    if count <= max(ks.values()):
        return {}
    real = real[distances.random_rows(len(real), count)]
    found = [neighbours.per_image(real, block.features[:count], **ks) for block in blocks]
    k_of = {name: k for pair, k in ks.items() for name in pair.split("_")}
    return {name: _of_images([each[name] for each in found], k=k, images=count) for name, k in k_of.items()}


def against_real(blocks: Sequence[Statistics], real: Reference, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All scores against real images, by name; those that need features of them only where these are known.

    Args:
        blocks: :class:`Statistics` of the generated images of each seed.
        real: what is known of the real images.
        settings: of KID and of the scores by neighbours, ``kid`` and ``neighbours``.
    """
    target = distances.Gaussian.of_moments(*real.moments)
    found = {"fid": frechet(blocks, [target] * len(blocks)), **infinity(blocks, target)}
    if real.features is None:
        return found
    kid = {"kid": kernel(blocks, real.features, settings["kid"])}
    return {**found, **kid, **nearest(blocks, real.features, settings["neighbours"])}


def trajectory(blocks: Sequence[np.ndarray]) -> dict[str, Any]:
    """Distance to the fine-step end state on the same noise; ``blocks`` are the mean squared errors of each image."""

    def error():
        return standard_error(blocks[0]) / (2 * np.sqrt(blocks[0].mean()))

    count, ratios = len(blocks[0]), [distances.psnr(block, PEAK) for block in blocks]
    return {
        "trajectory_rmse": summary([np.sqrt(block.mean()) for block in blocks], error, "images", images=count),
        "trajectory_psnr": _of_images(ratios, images=count, peak=PEAK),
    }


def prompted(name: str, blocks: Sequence[np.ndarray]) -> dict[str, Any]:
    """A score of images by their prompts, by its name; ``blocks`` has it for each image of each block, (n,)."""
    return {name: _of_images(blocks, images=len(blocks[0]))}


def decoded(ratios: Sequence[np.ndarray], similarities: Sequence[np.ndarray] | None) -> dict[str, Any]:
    """Similarity of decoded images to the fine-step solver's on the same noise, by name.

    Args:
        ratios: of each block the peak signal-to-noise ratios of its images, in dB.
        similarities: likewise their structural similarities; None for images that are too small.
    """
    found = {"decoded_psnr": _of_images(ratios, images=len(ratios[0]), peak=PEAK)}
    if similarities is not None:
        found["decoded_ssim"] = _of_images(similarities, images=len(similarities[0]))
    return found
