"""Does a loaded model denoise real images, as one whose card is right does? One set of images, a few calls.

Files do not say everything that their networks need: the order of attention's channels, the scale of the index. A wrong
flag loads without a word, and the network then computes something else. Noise is added to real images, and the model's
error is held against two others (:class:`Level`).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

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


@dataclasses.dataclass(frozen=True)
class Level:
    """Mean squared errors per pixel at one noise level.

    Attributes:
        sigma: the noise level, in the units of the images.
        error: of the model.
        chance: of the best estimate that knows only each pixel's mean m and variance v, ``m + v / (v + sigma^2) (x -
            m)``.
        told: of the model that is told 0.7 and 1.4 times the noise level. A model that was trained on squared errors is
            best where it is told the right one.
    """

    sigma: float
    error: float
    chance: float
    told: tuple[float, ...]

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
    facts = facts_of(denoise)
    if labels is not None:
        denoise = denoise.conditioned(labels)  # type: ignore[attr-defined]
    least, most = facts.sigma_min or 0, facts.sigma_max or math.inf
    known = [sigma for sigma in sigmas if least <= TOLD[0] * sigma and TOLD[1] * sigma <= most]
    return [_level(denoise, images, sigma, block) for block, sigma in enumerate(known)]


def _level(denoise, images, sigma, block):
    n = noise.latents(range(len(images)), images.shape[1:], seed=0, stream="fit", block=block).to(images)
    x, mean, variance = images + sigma * n, images.mean(0), images.var(0)

    def error(estimate):
        return float((estimate - images).square().mean())

    def of_the_model(told):
        return error(denoise(x, torch.tensor(told, dtype=torch.float64)))

    chance = error(mean + variance / (variance + sigma**2) * (x - mean))
    return Level(sigma, of_the_model(sigma), chance, tuple(of_the_model(factor * sigma) for factor in TOLD))
