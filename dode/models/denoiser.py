"""The one contract for models: ``denoise(x, sigma) -> denoised``.

``x`` is ``x_0 + sigma * n`` (variance-exploding coordinates, images in [-1, 1]), shape (B, C, H, W); ``sigma`` is a 0-d
tensor in the units of the images; the result, of x's shape and dtype, estimates the clean image. Any callable of this
form serves. What the solvers and the distillation may want to know beyond that, they read from these attributes, with
the defaults of a data-prediction model for a plain function:

- ``prediction``: ``"data"`` or ``"noise"``, the quantity the network was trained to output (:func:`prediction_of`);
- ``prior_std(sigma)``: the standard deviation of the state at the first noise level (:func:`prior_std`);
- ``schedule``, or ``sigma_min`` and ``sigma_max``: what grids for this model are made of.
"""

import math

import torch


def prediction_of(denoise):
    """``"data"`` or ``"noise"``: which output the model was trained for; ``"data"`` for a plain function."""
    return getattr(denoise, "prediction", "data")


def prior_std(denoise, sigma):
    """Standard deviation of the starting state: ``sigma``, or what the model says (``sqrt(1 + sigma^2)`` for VP)."""
    own = getattr(denoise, "prior_std", None)
    return own(sigma) if own is not None else sigma


class Denoiser:
    """A network behind the contract: casts to the network's precision and splits large sets into batches.

    Args:
        network: a module, called as the subclass says.
        batch_size: images per call of the network; None for all at once.
    """

    prediction = "data"
    schedule = None

    def __init__(self, network, *, batch_size=None):
        self.network = network.eval().requires_grad_(False)
        self.batch_size = batch_size
        parameter = next(network.parameters())
        self.dtype, self.device = parameter.dtype, parameter.device

    @torch.no_grad()
    def __call__(self, x, sigma):
        """The estimate of the clean image; x (B, C, H, W), sigma a 0-d tensor."""
        if self.batch_size is None or len(x) <= self.batch_size:
            return self.denoise(x, float(sigma))
        return torch.cat([self.denoise(part, float(sigma)) for part in x.split(self.batch_size)])

    def _scalar(self, value):
        return torch.tensor(value, dtype=self.dtype, device=self.device)


class DataPrediction(Denoiser):
    """A network under EDM preconditioning (Karras et al. 2022, arXiv 2206.00364, Table 1).

    ``D(x; sigma) = c_skip x + c_out F(c_in x; ln(sigma) / 4)`` with ``v = sigma^2 + sigma_data^2``,
    ``c_skip = sigma_data^2 / v``, ``c_out = sigma sigma_data / sqrt(v)``, ``c_in = 1 / sqrt(v)``.
    """

    prediction = "data"

    def __init__(self, network, *, sigma_data, sigma_min=0.002, sigma_max=80.0, batch_size=None):
        super().__init__(network, batch_size=batch_size)
        self.sigma_data, self.sigma_min, self.sigma_max = sigma_data, sigma_min, sigma_max

    def denoise(self, x, sigma):
        """One batch."""
        variance = sigma**2 + self.sigma_data**2
        output = self.network((x / math.sqrt(variance)).to(self.dtype), condition=self._scalar(math.log(sigma) / 4))
        denoised = x * (self.sigma_data**2 / variance)
        return denoised.add_(output, alpha=sigma * self.sigma_data / math.sqrt(variance))


class NoisePrediction(Denoiser):
    """A network that predicts noise, ``eps = network(x_vp, index)``, on a discrete VP schedule.

    ``D(x; sigma) = x - sigma * eps(sqrt(abar) x, index)`` with ``abar = 1 / (1 + sigma^2)`` and the (fractional) index
    of that noise level. A noise level below that of index 0 is given to the network as index 0.
    """

    prediction = "noise"

    def __init__(self, network, *, schedule, batch_size=None):
        super().__init__(network, batch_size=batch_size)
        self.schedule = schedule
        self.sigma_min, self.sigma_max = schedule.sigma_min, schedule.sigma_max

    def prior_std(self, sigma):
        """``sqrt(1 + sigma^2)``: the VP sampler starts from a unit normal, which is this in VE coordinates."""
        return (1 + sigma**2) ** 0.5

    def denoise(self, x, sigma):
        """One batch."""
        index = max(float(self.schedule.index(sigma)), 0.0)
        noise = self.network((x / math.sqrt(1 + sigma**2)).to(self.dtype), self._scalar(index))
        return torch.add(x, noise.to(x.dtype), alpha=-sigma)
