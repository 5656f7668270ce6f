"""The exact toy as a noise-prediction model."""

from dode.grids.facts import vp_prior
from dode.models import mixture


class NoiseMixture:
    """The mixture behind the contract of a noise-prediction model: its sampler starts from ``sqrt(1 + sigma^2)``."""

    prediction = "noise"
    prior_std = staticmethod(vp_prior)

    def __call__(self, x, sigma):
        return mixture.denoise(x, sigma)
