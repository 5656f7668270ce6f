"""What the lowest level of a network makes of the images, read as the network runs."""

from __future__ import annotations

from typing import Any

from dode.solvers.base import Denoise, Tensor

SIDE = 8  # larger maps are averaged to so many pixels in each direction


def module_of(denoise: Any) -> Any:
    """The module ``network.bottleneck`` of a denoiser, or of one that something is around; None where there is none."""
    for _ in range(8):  # the driver, a meter and guidance are around it
        network = getattr(denoise, "network", None)
        if network is not None:
            return getattr(network, "bottleneck", None)
        denoise = getattr(denoise, "model", None) or getattr(denoise, "denoise", None)
    return None


class Bottleneck:
    """A denoiser whose network's bottleneck is seen at every call, from ``with`` on.

    Args:
        denoise: what is called.
        within: the denoiser whose network is looked at, by default ``denoise``. One whose network has no attribute
            ``bottleneck``, a module, counts with its own estimate of the clean image.
    """

    def __init__(self, denoise: Denoise, within: Any = None):
        self.denoise, self.module, self.hook = denoise, module_of(denoise if within is None else within), None
        self.seen: list[Tensor] = []

    def __enter__(self) -> Bottleneck:
        if self.module is not None:
            self.hook = self.module.register_forward_hook(lambda _, given, output: self.seen.append(output.detach()))
        return self

    def __exit__(self, *error: object) -> None:
        if self.hook is not None:
            self.hook.remove()

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The denoiser's output."""
        self.seen = []
        return self.denoise(x, sigma)

    def features(self, denoised: Tensor, inputs: int | None = None) -> Tensor:
        """The means over the channels of what was put out in the last call, whose output is ``denoised``.

        (B, ``inputs``) without gradients; zeros where the network has not run, as in an analytic first step.

        Raises:
            ValueError: where there are not as many as ``inputs``.
        """
        import torch
        from torch.nn import functional

        if inputs is not None and self.module is not None and not self.seen:
            return denoised.new_zeros(len(denoised), inputs)
        # Guidance runs the network for twice the images, the conditional ones first.
        maps = denoised if self.module is None else torch.cat(self.seen)[: len(denoised)]
        means = maps.detach().mean(1, keepdim=True)
        if max(means.shape[2:]) > SIDE:
            means = functional.adaptive_avg_pool2d(means, SIDE)
        found = means.flatten(1)
        if inputs is not None and found.shape[1] != inputs:
            raise ValueError(f"the bottleneck has {found.shape[1]} means, but what is prepared is for {inputs}")
        return found
