"""Stable Diffusion XL (Podell et al. 2024, arXiv 2307.01952): a U-Net of two CLIPs, told the size of the image."""

from typing import Any

from torch import Tensor

from dode.pipelines.family import Family, families
from dode.pipelines.stable_diffusion import check_without_scale


@families.register("StableDiffusionXLPipeline")
class StableDiffusionXL(Family):
    """A U-Net that is also told the original and the wanted size, here both the image's, and a crop, here none."""

    network = "unet"
    encoders = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))
    conditioned_on = ("words", "pooled")

    def __init__(self, pipe: Any, *, length: int | None = None):
        super().__init__(pipe, length=length)
        check_without_scale(self)

    def predict(self, x: Tensor, time: Tensor, *, words: Tensor, pooled: Tensor) -> Tensor:  # type: ignore[override]
        """:meth:`Family.predict`."""
        size = [entries * self.scale for entries in x.shape[2:]]
        sizes = pooled.new_tensor([*size, 0, 0, *size]).expand(len(x), -1)
        return self.denoises(
            x,
            time,
            encoder_hidden_states=words,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes},
            return_dict=False,
        )[0]

    def encoded(
        self, prompts: list[str], negative: list[str] | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """:meth:`Family.encoded`."""
        words, none, pooled, none_pooled = self.pipe.encode_prompt(
            prompts, device=self.encoder.device, negative_prompt=negative
        )
        return {"words": words, "pooled": pooled}, {"words": none, "pooled": none_pooled}
