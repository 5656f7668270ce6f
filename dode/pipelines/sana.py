"""Sana (Xie et al. 2025, arXiv 2410.10629): flow matching with linear attention, on latents of 32 by 32 pixels each."""

import inspect
from typing import Any

from torch import Tensor

from dode.pipelines.family import Family, families


@families.register("SanaPipeline")
class Sana(Family):
    """A transformer that attends to what Gemma makes of an instruction and the prompt.

    The instruction is the pipeline's default. Images have the size that is asked for (diffusers'
    ``use_resolution_binning=False``).
    """

    conditioned_on = ("words", "mask")

    def predict(self, x: Tensor, time: Tensor, *, words: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """:meth:`Family.predict`."""
        return self.denoises(
            x,
            encoder_hidden_states=words,
            encoder_attention_mask=mask,
            timestep=(time * self.denoises.config.timestep_scale).expand(len(x)),
            return_dict=False,
        )[0]

    def encoded(
        self, prompts: list[str], negative: list[str] | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """:meth:`Family.encoded`."""
        default: Any = inspect.signature(type(self.pipe).__call__).parameters["complex_human_instruction"].default
        words, mask, none, none_mask = self.pipe.encode_prompt(
            prompts,
            negative_prompt="" if negative is None else negative,
            device=self.encoder.device,
            max_sequence_length=self.given(300),
            complex_human_instruction=default,
        )
        return {"words": words, "mask": mask}, {"words": none, "mask": none_mask}

    def length_of(self, tokenizer: str) -> int | None:
        """:meth:`Family.length_of`: of a prompt after the instruction, which takes two from it, marks not counted."""
        return self.given(300) - 2 + self.pipe.tokenizer.num_special_tokens_to_add()
