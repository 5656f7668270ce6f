"""The one contract for models: ``denoise(x, sigma) -> denoised``.

``x`` is ``x_0 + sigma * n`` (variance-exploding coordinates, images in [-1, 1]), shape (B, C, H, W); ``sigma`` is a 0-d
tensor in the units of the images; the result, of x's shape and dtype, estimates the clean image. Any callable of this
form serves. What the solvers and the distillation may want to know beyond that, they read from these attributes, with
the defaults of a data-prediction model for a plain function:

- ``prediction``: ``"data"`` or ``"noise"``, the quantity the network was trained to output (:func:`prediction_of`);
- ``prior_std(sigma)``: the standard deviation of the state at the first noise level (:func:`prior_std`);
- ``schedule``, or ``sigma_min`` and ``sigma_max``: what grids for this model are made of;
- ``for_images(start, stop)``: itself for a part of the images it is bound to (:func:`for_images`).

A class-conditional model is bound to the classes of the images, in their order, before it is called:
``denoise.conditioned(labels)(x, sigma)``. So solvers, fits and teachers know nothing of labels.
"""

import copy
import math

import torch

from dode.models.batches import Batches


def prediction_of(denoise):
    """``"data"`` or ``"noise"``: which output the model was trained for; ``"data"`` for a plain function."""
    return getattr(denoise, "prediction", "data")


def prior_std(denoise, sigma):
    """Standard deviation of the starting state: ``sigma``, or what the model says (``sqrt(1 + sigma^2)`` for VP)."""
    own = getattr(denoise, "prior_std", None)
    return own(sigma) if own is not None else sigma


def for_images(denoise, start, stop):
    """The denoiser for images ``start`` to ``stop`` of those it is bound to; itself where it is bound to none."""
    own = getattr(denoise, "for_images", None)
    return denoise if own is None else own(start, stop)


class Denoiser:
    """A network behind the contract: casts to the network's precision and splits large sets into batches.

    Args:
        network: a module, called as the subclass says; with ``labels=`` (B,) besides where labels are bound.
        batch_size: images per call of the network; None for all at once. Fewer from where memory runs out on.
        classes: number of classes of a class-conditional network, which must be bound to labels; None for others.
    """

    prediction = "data"
    schedule = None
    labels = None

    def __init__(self, network, *, batch_size=None, classes=None):
        self.network = network.eval().requires_grad_(False)
        self.batches, self.classes = Batches(batch_size), classes
        parameter = next(network.parameters())
        self.dtype, self.device = parameter.dtype, parameter.device

    @torch.no_grad()
    def __call__(self, x, sigma):
        """The estimate of the clean image; x (B, C, H, W), sigma a 0-d tensor."""
        self._check_labels(len(x))
        return self.batches.map(lambda part, labels: self.denoise(part, float(sigma), labels), x, self.labels)

    def conditioned(self, labels):
        """This denoiser bound to the classes of a batch of images.

        Args:
            labels: (B,) integers, 0 to ``classes - 1``, or -1: no class (where the network knows such).
        """
        labels = torch.as_tensor(labels, dtype=torch.int64, device=self.device)
        if self.classes is None:
            raise ValueError(
                "the model has no classes (the key 'classes' of its card), so it cannot be bound to labels"
            )
        if labels.ndim != 1 or bool(((labels < -1) | (labels >= self.classes)).any()):
            raise ValueError(f"labels must be (B,) integers from 0 to {self.classes - 1}, or -1 for no class")
        bound = copy.copy(self)
        bound.labels = labels
        return bound

    def for_images(self, start, stop):
        """This denoiser bound to the classes of images ``start`` to ``stop`` of those it is bound to."""
        return self if self.labels is None else self.conditioned(self.labels[start:stop])

    def _check_labels(self, images):
        if self.classes is not None and self.labels is None:
            raise ValueError(
                f"the model has {self.classes} classes: bind it to labels first, denoise.conditioned(labels)"
            )
        if self.labels is not None and len(self.labels) != images:
            raise ValueError(f"the model is bound to the labels of {len(self.labels)} images and called with {images}")

    @staticmethod
    def _given(labels):
        return {} if labels is None else {"labels": labels}

    def _scalar(self, value):
        return torch.tensor(value, dtype=self.dtype, device=self.device)


class DataPrediction(Denoiser):
    """A network under EDM preconditioning (Karras et al. 2022, arXiv 2206.00364, Table 1).

    ``D(x; sigma) = c_skip x + c_out F(c_in x; ln(sigma) / 4)`` with ``v = sigma^2 + sigma_data^2``,
    ``c_skip = sigma_data^2 / v``, ``c_out = sigma sigma_data / sqrt(v)``, ``c_in = 1 / sqrt(v)``.
    """

    prediction = "data"

    def __init__(self, network, *, sigma_data, sigma_min=0.002, sigma_max=80.0, batch_size=None, classes=None):
        super().__init__(network, batch_size=batch_size, classes=classes)
        self.sigma_data, self.sigma_min, self.sigma_max = sigma_data, sigma_min, sigma_max

    def denoise(self, x, sigma, labels=None):
        """One batch."""
        variance = sigma**2 + self.sigma_data**2
        scaled, condition = (x / math.sqrt(variance)).to(self.dtype), self._scalar(math.log(sigma) / 4)
        output = self.network(scaled, condition=condition, **self._given(labels))
        denoised = x * (self.sigma_data**2 / variance)
        return denoised.add_(output, alpha=sigma * self.sigma_data / math.sqrt(variance))


class NoisePrediction(Denoiser):
    """A network that predicts noise, ``eps = network(x_vp, index)``, on a discrete VP schedule.

    ``D(x; sigma) = x - sigma * eps(sqrt(abar) x, index)`` with ``abar = 1 / (1 + sigma^2)`` and the (fractional) index
    of that noise level. A noise level below that of index 0 is given to the network as index 0.
    """

    prediction = "noise"
    shift = 0

    def __init__(self, network, *, schedule, batch_size=None, classes=None):
        super().__init__(network, batch_size=batch_size, classes=classes)
        self.schedule = schedule
        self.sigma_min, self.sigma_max = schedule.sigma_min, schedule.sigma_max

    def prior_std(self, sigma):
        """``sqrt(1 + sigma^2)``: the VP sampler starts from a unit normal, which is this in VE coordinates."""
        return (1 + sigma**2) ** 0.5

    def index(self, sigma):
        """The (fractional) index at which the network is called for a noise level."""
        return max(float(self.schedule.index(sigma)), 0.0) + self.shift

    def at(self, schedule, shift):
        """This denoiser on another schedule, its network called at the index of that plus ``shift``."""
        other = copy.copy(self)
        other.schedule, other.shift = schedule, shift
        return other

    def denoise(self, x, sigma, labels=None):
        """One batch."""
        scaled, index = (x / math.sqrt(1 + sigma**2)).to(self.dtype), self._scalar(self.index(sigma))
        noise = self.network(scaled, index, **self._given(labels))
        return torch.add(x, noise.to(x.dtype), alpha=-sigma)
