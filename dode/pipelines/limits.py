"""Which latents and how long prompts the parts of a pipeline take, by its class and configurations. Imports no torch.

A card is checked by this before any job, and a pipeline in memory as it is taken apart.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

LONGEST = 8192  # tokens of a prompt, where diffusers has no bound: of more, padding alone would fill the memory
ANY, NO_CHOICE = (0, LONGEST), None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Of the pipelines of one class, what its network's configuration does not say.

    Attributes:
        patch: entries of a latent that the network takes as one, in each dimension, where the configuration has no
            ``patch_size``.
        packed: entries that the pipeline packs into one before it calls the network, in each dimension.
        most: the largest side in patches, where the configuration has no ``pos_embed_max_size``; None for no largest.
        size: the only side in entries, where the configuration has no ``sample_size``; None for a network of any size.
        tokens: least and most ``max_sequence_length``; :data:`NO_CHOICE` of a pipeline without one.
    """

    patch: int = 1
    packed: int = 1
    most: int | None = None
    size: int | None = None
    tokens: tuple[int, int] | None = ANY


#: By the pipeline's class in diffusers, whose defaults these are; of one that is not here nothing is known.
KNOWN = {
    "DiTPipeline": Limits(patch=2, size=32, tokens=NO_CHOICE),
    "FluxPipeline": Limits(packed=2, tokens=(1, 512)),
    "PixArtAlphaPipeline": Limits(patch=2, tokens=(1, LONGEST)),
    "PixArtSigmaPipeline": Limits(patch=2, tokens=(1, LONGEST)),
    "SanaPipeline": Limits(tokens=(1, LONGEST)),
    "StableDiffusionPipeline": Limits(tokens=NO_CHOICE),
    "StableDiffusionXLPipeline": Limits(tokens=NO_CHOICE),
    "StableDiffusion3Pipeline": Limits(patch=2, most=96, tokens=(0, 512)),
}


class Sides(NamedTuple):
    """The heights and widths of latents that a network takes, in entries.

    Attributes:
        unit: they are multiples of it.
        most: the largest one; None for no largest.
        only: the only one; None for any.
    """

    unit: int
    most: int | None = None
    only: int | None = None

    def allows(self, side: int) -> bool:
        """Whether a height or a width is one of them."""
        return side > 0 and not side % self.unit and side <= (self.most or side) and side == (self.only or side)

    def of_images(self, scale: int) -> str:
        """In words those of images, whose entries are ``scale`` pixels."""
        if self.only is not None:
            return f"{self.only * scale}"
        upto = "" if self.most is None else f" up to {self.most * scale}"
        return f"multiples of {self.unit * scale}{upto}"


def of_class(name: str) -> Limits:
    """Those of a pipeline's class."""
    return KNOWN.get(name, Limits())


def sides(name: str, config: Mapping[str, Any] | None) -> Sides:
    """The sides of latents by a pipeline's class and its network's configuration; None where that is not at hand."""
    own = of_class(name)
    if config is None:
        return Sides(own.packed)
    patch = own.packed * _integer(config, "patch_size", own.patch)
    most = None if own.most is None else patch * _integer(config, "pos_embed_max_size", own.most)
    only = None if own.size is None else _integer(config, "sample_size", own.size)
    return Sides(patch, most, only)


def channels(name: str, config: Mapping[str, Any]) -> int:
    """Channels of the latents of a network; 0 where its configuration does not say."""
    return _integer(config, "in_channels", 0) // of_class(name).packed ** 2


def fault_of_length(name: str, length: int | None) -> str | None:
    """What is wrong with a ``max_sequence_length`` for a pipeline's class, in words; None leaves the choice to it."""
    allowed = of_class(name).tokens
    if length is None:
        return None
    if allowed is None:
        return f"{name} has no such choice; leave it out"
    least, most = allowed
    if type(length) is not int or not least <= length <= most:
        return f"{length!r} is not allowed for {name}; allowed: an integer from {least} to {most}"
    return None


def _integer(config, key, default):
    value = config.get(key)
    return value if type(value) is int and value > 0 else default
