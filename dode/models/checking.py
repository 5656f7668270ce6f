"""Does a loaded model denoise real images, as one whose card is right does? One set of images, a few calls.

Files do not say everything that their networks need: the order of attention's channels, the scale of the index. A wrong
flag loads without a word, and the network then computes something else. Noise is added to real images, and the model's
error is held against two others (:class:`Level`).
"""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from dode.images import noise
from dode.models.denoiser import facts_of
from dode.solvers.base import Denoise

#: Noise levels, and the largest right error / chance there. At 3 little of an image is left to be known.
MARGINS = MappingProxyType({0.1: 0.8, 0.3: 0.8, 1.0: 0.8, 3.0: 1.05})
#: The same for images that the model was not trained on: how neighbouring pixels are alike, all photographs share.
LOCAL_MARGINS, LOCAL_SLACK = MappingProxyType({0.1: 0.8, 0.3: 0.8}), 0.1
TOLD = (0.7, 1.4)
#: At a card's sigma_min: the largest right error as a root mean square, four of the levels that a byte has, and as a
#: share of the noise. Models are hardly trained there, and a right one is hardly better than leaving the noise.
LEFT, WORSE = 4 / 127.5, 1.25
#: At a card's sigma_max, where sampling begins without an image: the share of the images' variance that the model may
#: know, and the largest right error as a share of that variance (also of images other than the model's own), or for a
#: network that predicts noise, of the noise.
KNOWN, BEYOND, BEYOND_OF_OTHERS, NOISE = 0.1, 1.3, 3.0, 0.01


@dataclasses.dataclass(frozen=True)
class Level:
    """Mean squared errors per pixel at one noise level.

    Attributes:
        sigma: the noise level, in the units of the images.
        error: of the model.
        chance: of the best estimate that knows only each pixel's mean m and variance v, ``m + v / (v + sigma^2) (x -
            m)``.
        variance: of the images, whose error it is that knows only each pixel's mean.
        told: of the model that is told 0.7 and 1.4 times the noise level. A model that was trained on squared errors is
            best where it is told the right one.
    """

    sigma: float
    error: float
    chance: float
    variance: float
    told: tuple[float, ...] = ()

    def fault(self, margin: float, slack: float = 0.0) -> str | None:
        """What is wrong, in words.

        Args:
            margin: the largest right ``error / chance``.
            slack: by how much, as a share, the error may fall if the model is told another level.
        """
        if not self.error <= margin * self.chance:
            return f"its error is {self.error / self.chance:.2f} of chance, above {margin:g}"
        for factor, error in zip(TOLD, self.told, strict=True):
            if not error >= (1 - slack) * self.error:
                return f"its error falls to {error / self.error:.2f} if it is told {factor:g} times the noise level"
        return None

    def fault_of_least(self) -> str | None:
        """What is wrong with it as the lowest level at which the model is used, in words."""
        if not self.error <= LEFT**2:
            left = 127.5 * math.sqrt(self.error)
            return (
                f"sigma_min: {self.sigma:g} is too high: {left:.1f} of 255 levels of noise are left there; allowed: at "
                f"most {127.5 * LEFT:g}"
            )
        if not self.error <= WORSE * self.sigma**2:
            left = self.error / self.sigma**2
            return (
                f"sigma_min: {self.sigma:g} is too low: {left:.2f} of the noise is left there, as by a model that does "
                f"not know the level; allowed: at most {WORSE:g}"
            )
        return None

    def fault_of_most(self, *, noise: bool, alike: bool = True) -> str | None:
        """What is wrong with it as the highest level, at which sampling begins, in words.

        Args:
            noise: whether the network predicts noise.
            alike: whether the images are said to be like those that the model was trained on.
        """
        share = self.error / self.variance
        if not share >= 1 - KNOWN:
            return (
                f"sigma_max: {self.sigma:g} is too low: the model still knows {1 - share:.2f} of the images' variance "
                f"there; allowed: at most {KNOWN:g}"
            )
        limit = NOISE * self.sigma**2 if noise else (BEYOND if alike else BEYOND_OF_OTHERS) * self.variance
        if not self.error <= limit:
            return (
                f"sigma_max: {self.sigma:g} is too high: the error there is {self.error:.3g}, as of a model that does "
                f"not know the level; allowed: at most {limit:.3g}"
            )
        return None


def levels(
    denoise: Denoise, images: Tensor, labels: Tensor | None, sigmas: Sequence[float] | Mapping[float, float]
) -> list[Level]:
    """The errors of a model on real images, at those of ``sigmas`` that it was trained on.

    Args:
        denoise: the model, of :func:`dode.models.load`.
        images: (n, C, H, W) float64 in [-1, 1].
        labels: (n,), their classes; None for a model without. Where they are not known, any will do.
        sigmas: noise levels in the units of the images.
    """
    facts, denoise = facts_of(denoise), _conditioned(denoise, labels)
    least, most = facts.sigma_min or 0, facts.sigma_max or math.inf
    known = [sigma for sigma in sigmas if least <= TOLD[0] * sigma and TOLD[1] * sigma <= most]
    return [_level(denoise, images, sigma, block, TOLD) for block, sigma in enumerate(known)]


def ends(denoise: Denoise, images: Tensor, labels: Tensor | None) -> tuple[Level, Level]:
    """The errors at the lowest and the highest noise level of a model that has both; arguments as of :func:`levels`."""
    facts: Any = facts_of(denoise)
    denoise = _conditioned(denoise, labels)
    return _level(denoise, images, facts.sigma_min, 0), _level(denoise, images, facts.sigma_max, 0)


def _conditioned(denoise, labels):
    return denoise if labels is None else denoise.conditioned(labels)


def _level(denoise, images, sigma, block, told=()):
    n = noise.latents(range(len(images)), images.shape[1:], seed=0, stream="fit", block=block).to(images)
    x, mean, variance = images + sigma * n, images.mean(0), images.var(0)

    def error(estimate):
        return float((estimate - images).square().mean())

    def of_the_model(level):
        return error(denoise(x, torch.tensor(level, dtype=torch.float64)))

    chance = error(mean + variance / (variance + sigma**2) * (x - mean))
    told = tuple(of_the_model(factor * sigma) for factor in told)
    return Level(sigma, of_the_model(sigma), chance, float(variance.mean()), told)


def speed(denoise: Any, image_shape: Sequence[int], batch: int, classes: int | None = None) -> float:
    """Evaluations of one image per second, of the second of two calls with a batch.

    Args:
        denoise: a denoiser as :func:`dode.models.loading.load` makes it.
        image_shape: (C, H, W).
        batch: images per call.
        classes: of a class-conditional model, how many there are.
    """
    if classes is not None:
        denoise = denoise.conditioned(torch.arange(batch) % classes)
    x = torch.zeros(batch, *image_shape, dtype=torch.float64, device=denoise.device)
    seconds = math.inf
    for _ in range(2):
        begun = time.perf_counter()
        float(denoise(x, torch.tensor(1.0, dtype=torch.float64)).sum())  # read, so that a GPU has done it
        seconds = time.perf_counter() - begun
    return batch / seconds
