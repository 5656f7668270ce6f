"""Stable Diffusion 1 and 2 (Rombach et al. 2022, arXiv 2112.10752): a U-Net that attends to the words of one CLIP."""

from typing import Any

from torch import Tensor

from dode.pipelines.family import Family, families


def check_without_scale(family: Family) -> None:
    """Refuse a U-Net that takes the guidance scale with its time, as latent consistency models do.

    Raises:
        ValueError: naming the option of its configuration.
    """
    given = family.denoises.config.time_cond_proj_dim
    if given is not None:
        raise ValueError(
            f"pipeline: the U-Net has time_cond_proj_dim {given}, a guidance scale embedded with its time, which is "
            "not supported; allowed: a U-Net without it"
        )


@families.register("StableDiffusionPipeline")
class StableDiffusion(Family):
    """A U-Net on a VP schedule, of noise or of v (2.1, also with pure noise at the last index)."""

    network = "unet"
    conditioned_on = ("words",)

    def __init__(self, pipe: Any, *, length: int | None = None):
        super().__init__(pipe, length=length)
        check_without_scale(self)

    def predict(self, x: Tensor, time: Tensor, *, words: Tensor) -> Tensor:  # type: ignore[override]
        """:meth:`Family.predict`."""
        return self.denoises(x, time, encoder_hidden_states=words, return_dict=False)[0]

    def encoded(
        self, prompts: list[str], negative: list[str] | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """:meth:`Family.encoded`."""
        words, none = self.pipe.encode_prompt(prompts, self.encoder.device, 1, True, negative_prompt=negative)
        return {"words": words}, {"words": none}
