"""What the lowest level of a network makes of the images, read as the network runs."""

from __future__ import annotations

from typing import Any

from dode.solvers.base import Denoise, Tensor

SIDE = 8  # larger maps are averaged to so many pixels in each direction


def owner_of(denoise: Any) -> Any:
    """The denoiser that has a ``network``: a denoiser itself, or what is within; None where there is none."""
    for _ in range(8):  # the driver, a meter and guidance are around it
        if getattr(denoise, "network", None) is not None:
            return denoise
        denoise = getattr(denoise, "model", None) or getattr(denoise, "denoise", None)
    return None


class Bottleneck:
    """A denoiser whose network's bottleneck is seen at every call, from ``with`` on.

    A compiled network runs without its compiler meanwhile, which knows no hook that comes later than its compilation.

    Args:
        denoise: what is called. Where its attribute ``analytic`` is true after a call, no network has run in that.
        within: the denoiser whose network is looked at, by default ``denoise``. One whose network has no attribute
            ``bottleneck``, a module, counts with its own estimate of the clean image.
    """

    def __init__(self, denoise: Denoise, within: Any = None):
        owner = owner_of(denoise if within is None else within)
        self.denoise, self.hook = denoise, None
        self.module = getattr(getattr(owner, "network", None), "bottleneck", None)
        self.batches = getattr(owner, "batches", None)
        self.seen: list[Tensor] = []

    def __enter__(self) -> Bottleneck:
        if self.module is not None:
            self.hook = self.module.register_forward_hook(lambda _, given, output: self.seen.append(output.detach()))
            if self.batches is not None:
                self.batches.beside.append(self.seen)
        return self

    def __exit__(self, *error: object) -> None:
        if self.hook is not None:
            self.hook.remove()
            if self.batches is not None:
                self.batches.beside = [each for each in self.batches.beside if each is not self.seen]

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The denoiser's output."""
        self.seen.clear()
        if self.module is None:
            return self.denoise(x, sigma)
        import torch

        with torch.compiler.set_stance("force_eager"):
            return self.denoise(x, sigma)

    def features(self, denoised: Tensor, inputs: int | None = None) -> Tensor:
        """The means over the channels of what was put out in the last call, whose output is ``denoised``.

        (B, ``inputs``) without gradients; zeros in an analytic first step, as the authors of AMED have it.

        Raises:
            ValueError: where there are not as many as ``inputs``, or not as many images as in ``denoised``.
        """
        from torch.nn import functional

        if self.module is not None and inputs is not None and getattr(self.denoise, "analytic", False):
            return denoised.new_zeros(len(denoised), inputs)
        maps = denoised if self.module is None else self._maps(len(denoised))
        means = maps.detach().mean(1, keepdim=True)
        if max(means.shape[2:]) > SIDE:
            means = functional.adaptive_avg_pool2d(means, SIDE)
        found = means.flatten(1)
        if inputs is not None and found.shape[1] != inputs:
            raise ValueError(f"the bottleneck has {found.shape[1]} means, but what is prepared is for {inputs}")
        return found

    def _maps(self, images):
        """What was put out for so many images."""
        import torch

        seen = sum(map(len, self.seen))
        # Guidance runs the network for twice the images, the conditional ones first.
        if seen not in (images, 2 * images):
            raise ValueError(
                f"the network's bottleneck, {type(self.module).__name__}, put something out for {seen} images in an "
                f"evaluation of {images}; a network runs its attribute 'bottleneck' once for each image"
            )
        return torch.cat(self.seen)[:images]
