"""How the pipelines of a family are taken apart: what encodes prompts, what denoises, what decodes.

One file per family, ``stable_diffusion_3.py`` and the like, found by the names of the pipelines' classes that are
registered in it. A pipeline of diffusers calls its network inside of a loop of its own; here the network is called by
this project's solvers, and the rest of the pipeline stays as it is: prompts go through ``pipe.encode_prompt`` and
latents through the pipeline's decoder.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dode.models.conditions import Conditions
from dode.registry import FileRegistry

log = logging.getLogger(__name__)


class Families(FileRegistry):
    """Families by the class of the pipeline; a file may register several classes."""

    @functools.cached_property
    def modules(self) -> dict[str, str]:
        """The dotted name of the module of each class; nothing is imported."""
        found = {}
        for path in sorted(self.folder.glob("*.py")):
            for name in re.findall(r'^@families\.register\("(\w+)"\)', path.read_text(encoding="utf-8"), re.MULTILINE):
                found[name] = f"{self.package}.{path.stem}"
        return found


families = Families("pipeline", "dode.pipelines", Path(__file__).parent)


class Family:
    """The pipelines of one family; a subclass says how its network is called and what it is conditioned on.

    Attributes:
        network: name of the component that denoises.
        encoders: names of the tokenizers, each with its text encoder.
        decoder: name of the component that makes images of latents.
        conditioned_on: what :meth:`predict` takes besides, ``("labels",)`` for classes.
        classes: number of classes, None for prompts.
        guided: how a guidance scale acts: ``"classifier-free"``, or ``"embedded"`` for a network that was distilled for
            it and takes the scale as an input.

    Args:
        pipe: a pipeline of diffusers. Components that are not used may be missing (None).
        length: most tokens of a prompt, of the encoders that have a choice (``max_sequence_length``).
    """

    network = "transformer"
    encoders: tuple[tuple[str, str], ...] = (("tokenizer", "text_encoder"),)
    decoder = "vae"
    conditioned_on: tuple[str, ...] = ()
    classes: int | None = None
    guided = "classifier-free"

    def __init__(self, pipe: Any, *, length: int | None = None):
        self.pipe, self.length = pipe, length
        for part in pipe.components.values():
            if isinstance(part, nn.Module):
                part.eval()  # one that was just made would drop out at random

    @property
    def denoises(self) -> Any:
        """The component that denoises."""
        return getattr(self.pipe, self.network)

    def predict(self, x: Tensor, time: Tensor, **conditions: Tensor) -> Tensor:
        """The network's output for the scheduler.

        Args:
            x: states as the network takes them, (B, C, H, W).
            time: what a scheduler would give as its timestep, 0-d float.
            conditions: (B, ...) each, by :attr:`conditioned_on`.

        Returns:
            (B, C, H, W): noise, v, image or flow velocity, as the scheduler's configuration says.
        """
        raise NotImplementedError

    def encoded(self, prompts: list[str], negative: list[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What the encoders make of prompts and of those that stand for none, by :attr:`conditioned_on`."""
        raise NotImplementedError

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], negative: str = "") -> Conditions:
        """The conditions of images with these prompts; ``negative`` is what guidance leads away from.

        A prompt that is longer than an encoder takes is cut, as diffusers does; a warning names the first.
        """
        for number, prompt in enumerate([*prompts, negative]):
            fault = self.too_long(prompt)
            if fault is not None:
                where = f"prompt {number}" if number < len(prompts) else "the negative prompt"
                log.warning("%s is cut: %s", where, fault)
                break
        return Conditions(*self.encoded(list(prompts), [negative] * len(prompts)))

    def too_long(self, prompt: str) -> str | None:
        """Which encoder cuts a prompt, in words; None where none does."""
        for name, _ in self.encoders:
            tokenizer = getattr(self.pipe, name, None)
            if tokenizer is None:
                continue
            most = min(tokenizer.model_max_length, self.length_of(name) or tokenizer.model_max_length)
            count = len(tokenizer(prompt, truncation=False, verbose=False).input_ids)
            if count > most:
                return f"it has {count} tokens of {name}, which takes {most}"
        return None

    def length_of(self, tokenizer: str) -> int | None:
        """The most tokens that the pipeline gives to an encoder; None: as many as the tokenizer says."""
        return None

    @property
    def scale(self) -> int:
        """Pixels of an image per entry of a latent, in each dimension."""
        return self.pipe.vae_scale_factor

    def latent_shape(self, height: int | None = None, width: int | None = None) -> tuple[int, int, int]:
        """(C, H, W) of the latents of images of this size; by default of the size that the network was trained for.

        Raises:
            ValueError: for a size that is no multiple of what the pipeline needs.
        """
        size = self.denoises.config.sample_size
        high, wide = (size, size) if isinstance(size, int) else size
        unit = self.scale * (getattr(self.denoises.config, "patch_size", None) or 1)
        found = []
        for name, given, own in (("height", height, high), ("width", width, wide)):
            pixels = own * self.scale if given is None else given
            if pixels % unit or pixels < unit:
                raise ValueError(f"{name}: {pixels} is not a multiple of {unit}, which the pipeline needs")
            found.append(pixels // self.scale)
        return self.channels, found[0], found[1]

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        return self.denoises.config.in_channels

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] of latents, float32, in the decoder's own precision.

        Raises:
            ValueError: where the decoder makes NaN or infinity, as some do in half precision.
        """
        vae = self.pipe.vae
        if vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False):
            vae.to(torch.float32)  # its activations overflow in float16
        scaled = latents / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
        images = vae.decode(scaled.to(vae.device, vae.dtype), return_dict=False)[0]
        if not bool(images.isfinite().all()):
            raise ValueError(f"the decoder of the pipeline makes NaN or infinity in {vae.dtype}; decode in float32")
        return images.float()


class Network(nn.Module):
    """The network of a pipeline as denoisers call one: ``network(x, time, **conditions)``."""

    def __init__(self, family: Family):
        super().__init__()
        self.inner = family.denoises
        self.predict = family.predict
        if family.classes is None:
            self.conditioned_on = family.conditioned_on

    def forward(self, x: Tensor, time: Tensor, **conditions: Tensor) -> Tensor:
        """The output, (B, C, H, W)."""
        return self.predict(x, time, **conditions)


def of(pipe: Any, *, length: int | None = None) -> Family:
    """The family of a pipeline.

    Raises:
        ValueError: for one of an unknown class.
    """
    name = type(pipe).__name__
    if name not in families.names():
        raise unknown_class(name)
    return families.get(name)(pipe, length=length)


def unknown_class(name: str) -> ValueError:
    """The error of a pipeline of no known family, with those that are known."""
    known = ", ".join(families.names())
    return ValueError(f"pipeline: {name} is of no known family; known: {known}; docs/pipelines.md says how to add one")
