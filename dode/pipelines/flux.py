"""FLUX.1 (Black Forest Labs 2024): flow matching, a CLIP and a T5, distilled for guidance (dev) or for few steps."""

import torch
from torch import Tensor
from torch.nn import functional

from dode.pipelines.family import Family, families


@families.register("FluxPipeline")
class Flux(Family):
    """A transformer of patches of 2 by 2 entries, at places that it is told.

    FLUX.1-dev takes the guidance scale as an input, FLUX.1-schnell none. Both may be guided classifier-free besides,
    with what diffusers calls ``true_cfg_scale``.
    """

    encoders = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))

    @property
    def guided(self) -> str:  # type: ignore[override]  # the network decides
        """By the configuration of the network."""
        return "embedded" if self.denoises.config.guidance_embeds else "never"

    @property
    def conditioned_on(self) -> tuple[str, ...]:  # type: ignore[override]
        """The guidance scale too, where the network takes one."""
        return ("words", "pooled", "guidance") if self.guided == "embedded" else ("words", "pooled")

    @property
    def latent_size(self) -> tuple[int, int]:
        """(H, W) of the pipeline's default, as the network's configuration has none."""
        return (self.pipe.default_sample_size,) * 2

    def predict(  # type: ignore[override]
        self, x: Tensor, time: Tensor, *, words: Tensor, pooled: Tensor, guidance: Tensor | None = None
    ) -> Tensor:
        """:meth:`Family.predict`; the network's own time is from 0 to 1.

        In half precision it is rounded as diffusers' pipeline does, before the division and after, which makes up to
        0.8 % of a difference in bfloat16.
        """
        patches = functional.pixel_unshuffle(x, self.patch)
        rows, columns = patches.shape[2:]
        places = torch.cartesian_prod(torch.zeros(1), torch.arange(rows).float(), torch.arange(columns).float())
        output = self.denoises(
            hidden_states=patches.flatten(2).transpose(1, 2),
            timestep=(time.to(x.dtype) / 1000).expand(len(x)),
            guidance=guidance,
            pooled_projections=pooled,
            encoder_hidden_states=words,
            txt_ids=x.new_zeros(words.shape[1], 3),
            img_ids=places.to(x),
            return_dict=False,
        )[0]
        return functional.pixel_shuffle(output.transpose(1, 2).unflatten(2, (rows, columns)), self.patch)

    def encoded(
        self, prompts: list[str], negative: list[str] | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """:meth:`Family.encoded`."""
        return self._encoded(prompts), None if negative is None else self._encoded(negative)

    def _encoded(self, texts):
        words, pooled, _ = self.pipe.encode_prompt(
            texts, None, device=self.encoder.device, max_sequence_length=self.given(512)
        )
        return {"words": words, "pooled": pooled}

    def length_of(self, tokenizer: str) -> int | None:
        """:meth:`Family.length_of`: T5 alone has a choice, 512 by default."""
        return self.given(512) if tokenizer == "tokenizer_2" else None
