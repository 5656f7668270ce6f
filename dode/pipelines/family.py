"""How the pipelines of a family are taken apart: what encodes prompts, what denoises, what decodes.

One file per family, ``stable_diffusion_3.py`` and the like, found by the names of the pipelines' classes that are
registered in it. A pipeline of diffusers calls its network inside of a loop of its own; here the network is called by
this project's solvers, and the rest of the pipeline stays as it is: prompts go through ``pipe.encode_prompt`` and
latents through the pipeline's decoder.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from dode.models.batches import Batches
from dode.models.conditions import Conditions
from dode.models.hub import flow
from dode.pipelines import limits
from dode.pipelines.registry import families

log = logging.getLogger(__name__)


class Family:
    """The pipelines of one family; a subclass says how its network is called and what it is conditioned on.

    Attributes:
        network: name of the component that denoises.
        encoders: names of the tokenizers, each with its text encoder.
        decoder: name of the component that makes images of latents.
        conditioned_on: what :meth:`predict` takes besides, ``("labels",)`` for classes.
        classes: number of classes, None for prompts.
        guided: how a guidance scale acts: ``"classifier-free"``, ``"embedded"`` for a network that was distilled for
            it and takes the scale as an input, ``"never"`` for one that was distilled at one scale.

    Args:
        pipe: a pipeline of diffusers. Components that are not used may be missing (None).
        length: most tokens of a prompt, of the encoders that have a choice (``max_sequence_length``).

    Raises:
        ValueError: for a length that the encoders do not take (:mod:`dode.pipelines.limits`).
    """

    network = "transformer"
    encoders: tuple[tuple[str, str], ...] = (("tokenizer", "text_encoder"),)
    decoder = "vae"
    conditioned_on: tuple[str, ...] = ()
    classes: int | None = None
    guided = "classifier-free"

    def __init__(self, pipe: Any, *, length: int | None = None):
        if fault := limits.fault_of_length(type(pipe).__name__, length):
            raise ValueError(f"length: {fault}")
        self.pipe, self.length = pipe, length

    def given(self, usual: int) -> int:
        """The length that was given, else the usual one."""
        return usual if self.length is None else self.length

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
            (B, C or more, H, W): noise, v, image or flow velocity, as the scheduler's configuration says. Channels
            beyond the first C, such as a learned variance, are not used.
        """
        raise NotImplementedError

    def encoded(
        self, prompts: list[str], negative: list[str] | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """What the encoders make of prompts and of those that stand for none, by :attr:`conditioned_on`.

        ``negative`` None asks for the pipeline's own; of a network that was distilled it asks for None as the second.
        """
        raise NotImplementedError

    @torch.no_grad()
    def encode(
        self,
        prompts: Sequence[str],
        negative: str | None = None,
        *,
        without: bool = False,
        batches: Batches | None = None,
    ) -> Conditions:
        """The conditions of images with these prompts.

        A prompt that is longer than an encoder takes is cut, as diffusers does; a warning names the first.

        Args:
            prompts: one per image.
            negative: what classifier-free guidance leads away from. None is what the pipeline does by itself: an empty
                prompt, or zeros in place of one (SDXL).
            without: whether a network that was distilled, and so is called with prompts alone, is to be guided
                classifier-free all the same, as FLUX is by diffusers' ``true_cfg_scale``.
            batches: how many prompts go through the encoders at once; by default all, fewer where memory runs out.

        Raises:
            ValueError: for classes instead of prompts, a negative prompt without classifier-free guidance, or text
                encoders that were not loaded.
        """
        if not self.encoders:
            raise ValueError(f"prompts: {type(self.pipe).__name__} takes {self.classes} classes, not prompts")
        if self.guided != "classifier-free" and negative and not without:
            raise ValueError("negative prompt: the network has no classifier-free guidance, so none is allowed")
        if self.guided != "classifier-free":
            negative = (negative or "") if without else None
        if self.encoder is None:
            raise ValueError(f"prompts: the pipeline was loaded without its {self.encoders[0][1]}")
        self._warn_of_long([*prompts], negative)

        def part(rows):
            texts = [prompts[row] for row in rows.tolist()]
            return Conditions(*self.encoded(texts, None if negative is None else [negative] * len(texts)))

        with evaluating(*(getattr(self.pipe, name, None) for _, name in self.encoders)):
            return (batches or Batches()).map(part, torch.arange(len(prompts)))

    @property
    def encoder(self) -> Any:
        """The first text encoder; None where it is not loaded."""
        return getattr(self.pipe, self.encoders[0][1], None) if self.encoders else None

    def _warn_of_long(self, prompts, negative):
        for number, prompt in enumerate([*prompts, negative or ""]):
            fault = self.too_long(prompt)
            if fault is not None:
                where = f"prompt {number}" if number < len(prompts) else "the negative prompt"
                log.warning("%s is cut: %s", where, fault)
                return

    def too_long(self, prompt: str) -> str | None:
        """Which encoder cuts a prompt, in words; None where none does."""
        for name, _ in self.encoders:
            tokenizer = getattr(self.pipe, name, None)
            if tokenizer is None:
                continue
            most = self.length_of(name)
            if most is None:
                most = tokenizer.model_max_length
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

    @property
    def sides(self) -> limits.Sides:
        """The heights and widths of latents that the network takes."""
        return limits.sides(type(self.pipe).__name__, self.denoises.config)

    @property
    def patch(self) -> int:
        """Entries of a latent that the network takes as one, in each dimension."""
        return self.sides.unit

    @property
    def latent_size(self) -> tuple[int, int]:
        """(H, W) of the latents that the network was trained for."""
        size = self.denoises.config.sample_size
        return (size, size) if isinstance(size, int) else tuple(size)

    def latent_shape(self, height: int | None = None, width: int | None = None) -> tuple[int, int, int]:
        """(C, H, W) of the latents of images of this size; by default of the size that the network was trained for.

        Raises:
            ValueError: for a size that the network does not take (:mod:`dode.pipelines.limits`).
        """
        takes, found = self.sides, []
        for name, given, own in zip(("height", "width"), (height, width), self.latent_size, strict=True):
            pixels = own * self.scale if given is None else given
            unit = self.scale * takes.unit
            if takes.only is not None and pixels != takes.only * self.scale:
                only = takes.of_images(self.scale)
                raise ValueError(f"{name}: {pixels} is not allowed, as the network has one size; allowed: {only}")
            if pixels % unit or pixels < unit:
                raise ValueError(f"{name}: {pixels} is not a multiple of {unit}, which the pipeline needs")
            if not takes.allows(pixels // self.scale):
                raise ValueError(
                    f"{name}: {pixels} is not allowed; the network takes at most {(takes.most or 0) * self.scale}"
                )
            found.append(pixels // self.scale)
        return self.channels, found[0], found[1]

    def shift(self, height: int | None = None, width: int | None = None) -> float:
        """The ``shift`` of flow matching's grids for images of this size (:func:`flow.shift_of_size`)."""
        _, high, wide = self.latent_shape(height, width)
        return flow.shift_of_size(self.pipe.scheduler.config, high * wide / self.patch**2)

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        return limits.channels(type(self.pipe).__name__, self.denoises.config)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] of latents, float32, in the decoder's own precision.

        Raises:
            ValueError: where the decoder makes NaN or infinity, as some do in half precision.
        """
        vae, own = self.pipe.vae, self.pipe.vae.dtype
        if own == torch.float16 and getattr(vae.config, "force_upcast", False):
            vae.to(torch.float32)  # its activations overflow in float16
        try:
            with evaluating(vae):
                return self._decoded(vae, latents)
        finally:
            vae.to(own)

    @staticmethod
    def _decoded(vae, latents):
        scaled = latents.double() / vae.config.scaling_factor
        mean, std = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
        if mean is not None and std is not None:
            mean, std = (scaled.new_tensor(value).view(1, -1, 1, 1) for value in (mean, std))
            scaled = scaled * std + mean
        scaled = scaled + (getattr(vae.config, "shift_factor", None) or 0.0)
        images = vae.decode(scaled.to(vae.device, vae.dtype), return_dict=False)[0]
        if not bool(images.isfinite().all()):
            kind = str(vae.dtype).removeprefix("torch.")
            cure = (
                "decode in float32" if kind != "float32" else "its weights or the latents are not what it was made for"
            )
            raise ValueError(f"the decoder of the pipeline makes NaN or infinity in {kind}; {cure}")
        return images.float()


class Network(nn.Module):
    """The network of a pipeline as denoisers call one: ``network(x, time, **conditions)``.

    A denoiser puts its network out of training for good. That of a pipeline is someone else's, so it is put out for
    each call alone, and its weights keep what they say of gradients, which nothing here computes.
    """

    def __init__(self, family: Family):
        super().__init__()
        self.inner = family.denoises
        self.predict = family.predict
        if family.classes is None:
            self.conditioned_on = family.conditioned_on

    @property
    def bottleneck(self) -> nn.Module | None:
        """The module in the middle of a U-Net (:mod:`dode.solvers.bottleneck`); None for a transformer."""
        return getattr(self.inner, "mid_block", None)

    def train(self, mode: bool = True) -> Self:
        """Nothing: see the class."""
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Nothing: see the class."""
        return self

    def forward(self, x: Tensor, time: Tensor, **conditions: Tensor) -> Tensor:
        """The output, (B, C, H, W)."""
        with evaluating(self.inner):
            return self.predict(x, time, **conditions)[:, : x.shape[1]]


@contextlib.contextmanager
def evaluating(*parts: Any) -> Iterator[None]:
    """Parts of a pipeline out of training, in which they drop out at random; None and other things are passed over."""
    modules = [module for part in parts if isinstance(part, nn.Module) for module in part.modules()]
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


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
