"""How often a network runs for an evaluation of a guided model. Imports no torch: plans are made without networks."""

from collections.abc import Sequence

TWICE = ("classifier-free", "autoguidance")


def guides(scale: float | None) -> bool:
    """Whether classifier-free guidance of a pipeline of diffusers has an effect at ``guidance_scale``: above 1."""
    return scale is not None and scale > 1


def passes(
    name: str | None, sigma: float, interval: Sequence[float] | None = None, *, scale: float | None = None
) -> int:
    """How often an evaluation at a noise level runs a network on an image, by the name of the guidance.

    At the scale 1 the conditional model, or the one that is guided by a worse one, is alone what is wanted.
    """
    if name not in TWICE or scale == 1:
        return 1
    return 2 if interval is None or interval[0] < sigma <= interval[1] else 1
