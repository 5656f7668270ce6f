"""What makes a consistency function of a denoiser."""

import dataclasses

from torch import Tensor

from dode.models.levels import Level


@dataclasses.dataclass(frozen=True)
class Boundary:
    """The scalings by which ``f(x; sigma_min) = x`` (Song et al. 2023, arXiv 2303.01469, App. C).

    With e = sigma_min and s = sigma_data, ``f = c_skip x + c_out F`` around the network F of EDM's preconditioning has
    ``c_skip = s^2 / ((sigma - e)^2 + s^2)`` and ``c_out = (sigma - e) s / sqrt(sigma^2 + s^2)``. EDM's own denoiser is
    ``D = s^2 / (sigma^2 + s^2) x + sigma s / sqrt(sigma^2 + s^2) F``, so that

    ``f = (1 - e / sigma) D + (c_skip - (1 - e / sigma) s^2 / (sigma^2 + s^2)) x``,

    which is defined for every denoiser D, whatever its network predicts.

    Attributes:
        sigma_min: e, the level at which f is x itself.
        sigma_data: s, standard deviation of the data.
    """

    sigma_min: float
    sigma_data: float = 0.5

    def __call__(self, x: Tensor, sigma: Level, denoised: Tensor) -> Tensor:
        """f, of x's type, from x (B, C, H, W) and D."""
        share, variance = 1 - self.sigma_min / sigma, self.sigma_data**2
        skip = variance / ((sigma - self.sigma_min) ** 2 + variance) - share * variance / (sigma**2 + variance)
        return (share * denoised + skip * x).to(x.dtype)
