"""The preconditionings that Karras et al. 2022 (arXiv 2206.00364, table 1) wrap published networks in, as denoisers.

All predict noise and have ``D(x; sigma) = x + c_out F(c_in x; c_noise)``, ``c_skip = 1``; noise levels are those of the
variance-exploding state, which begins as ``sigma_max`` times a unit normal.
"""

import math

import numpy as np
import torch

from dode.models.denoiser import DataPrediction, Denoiser
from dode.registry import Registry

preconditionings = Registry("preconditioning")
preconditionings.register("edm")(DataPrediction)


class Baseline(Denoiser):
    """The algebra that the three share; ``coefficients(sigma)`` gives ``(c_in, c_out, c_noise)``.

    Args:
        network: called as ``network(c_in x, condition=c_noise)``; output channels beyond the image's are ignored.
        sigma_min, sigma_max: the noise levels it was trained on.
        batch_size, classes: as of :class:`dode.models.Denoiser`.
    """

    prediction = "noise"

    def __init__(self, network, *, sigma_min, sigma_max, batch_size=None, classes=None):
        super().__init__(network, batch_size=batch_size, classes=classes)
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    def denoise(self, x, sigma, labels=None):
        """One batch."""
        c_in, c_out, c_noise = self.coefficients(sigma)
        output = self.network((x * c_in).to(self.dtype), condition=self._scalar(c_noise), **self._given(labels))
        return torch.add(x, output[:, : x.shape[1]].to(x.dtype), alpha=c_out)


@preconditionings.register("vp")
class VP(Baseline):
    """DDPM++ of Song et al. 2021 (arXiv 2011.13456), continuous in time.

    ``c_in = 1 / sqrt(1 + sigma^2)``, ``c_out = -sigma``, ``c_noise = (M - 1) t(sigma)`` with
    ``t = (sqrt(beta_min^2 + 2 beta_d ln(1 + sigma^2)) - beta_min) / beta_d``.
    """

    def __init__(self, network, *, beta_d=19.9, beta_min=0.1, steps=1000, **options):
        super().__init__(network, **options)
        self.beta_d, self.beta_min, self.steps = beta_d, beta_min, steps

    def coefficients(self, sigma):
        """``(c_in, c_out, c_noise)``."""
        root = math.sqrt(self.beta_min**2 + 2 * self.beta_d * math.log1p(sigma**2))
        return 1 / math.sqrt(1 + sigma**2), -sigma, (self.steps - 1) * (root - self.beta_min) / self.beta_d


@preconditionings.register("ve")
class VE(Baseline):
    """NCSN++ of Song et al. 2021: ``c_in = 1``, ``c_out = sigma``, ``c_noise = ln(sigma / 2)``."""

    def __init__(self, network, *, sigma_min=0.02, sigma_max=100.0, batch_size=None, classes=None):
        super().__init__(network, sigma_min=sigma_min, sigma_max=sigma_max, batch_size=batch_size, classes=classes)

    def coefficients(self, sigma):
        """``(c_in, c_out, c_noise)``."""
        return 1.0, sigma, math.log(sigma / 2)


@preconditionings.register("iddpm")
class IDDPM(Baseline):
    """Improved DDPM (Nichol & Dhariwal 2021, arXiv 2102.09672) and ADM, discrete in time.

    ``c_in = 1 / sqrt(1 + sigma^2)``, ``c_out = -sigma``, ``c_noise = M - 1 - argmin_j |u_j - sigma|``; ``u_M = 0``,
    ``u_(j-1) = sqrt((u_j^2 + 1) / max(abar_(j-1) / abar_j, C_1) - 1)``, ``abar_j = sin^2(pi j / (2 M (1 + C_2)))``.
    """

    def __init__(self, network, *, floor=0.001, offset=0.008, steps=1000, **options):
        super().__init__(network, **options)
        self.steps = steps
        self.levels = iddpm_levels(floor=floor, offset=offset, steps=steps)

    def coefficients(self, sigma):
        """``(c_in, c_out, c_noise)``."""
        return 1 / math.sqrt(1 + sigma**2), -sigma, float(self.steps - 1 - nearest(self.levels, sigma))

    def round_sigma(self, sigmas):
        """The noise level of the network's table nearest to each of ``sigmas`` (array of any shape), float64."""
        return self.levels[nearest(self.levels, sigmas)]


def iddpm_levels(*, floor=0.001, offset=0.008, steps=1000):
    """``u_0 .. u_M`` of :class:`IDDPM`, (M + 1,) float64, descending to 0. ``floor`` is C_1, ``offset`` C_2."""
    abar = np.sin(0.5 * np.pi * np.arange(steps + 1) / steps / (1 + offset)) ** 2
    ratios = np.maximum(abar[:-1] / abar[1:], floor)
    # 1 + u_j^2 is the product of 1 / ratio from j to M - 1.
    return np.append(np.sqrt(np.expm1(-np.cumsum(np.log(ratios[::-1]))[::-1])), 0.0)


def nearest(levels, sigmas):
    """Index of the entry of ``levels`` nearest to each of ``sigmas``."""
    return np.abs(np.asarray(sigmas, dtype=np.float64)[..., None] - levels).argmin(axis=-1)
