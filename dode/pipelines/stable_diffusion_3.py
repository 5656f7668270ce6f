"""Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv 2403.03206): flow matching, two CLIPs and a T5."""

from torch import Tensor

from dode.pipelines.family import Family, families


@families.register("StableDiffusion3Pipeline")
class StableDiffusion3(Family):
    """An MMDiT that attends to the words, and is modulated by the pooled embedding of both CLIPs."""

    encoders = (
        ("tokenizer", "text_encoder"),
        ("tokenizer_2", "text_encoder_2"),
        ("tokenizer_3", "text_encoder_3"),
    )
    conditioned_on = ("words", "pooled")

    def predict(self, x: Tensor, time: Tensor, *, words: Tensor, pooled: Tensor) -> Tensor:  # type: ignore[override]
        """:meth:`Family.predict`."""
        return self.denoises(
            hidden_states=x,
            timestep=time.expand(len(x)),
            encoder_hidden_states=words,
            pooled_projections=pooled,
            return_dict=False,
        )[0]

    def encoded(
        self, prompts: list[str], negative: list[str] | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """:meth:`Family.encoded`."""
        how = {} if self.length is None else {"max_sequence_length": self.length}
        words, none, pooled, none_pooled = self.pipe.encode_prompt(
            prompts, None, None, negative_prompt=negative, device=self.encoder.device, **how
        )
        return {"words": words, "pooled": pooled}, {"words": none, "pooled": none_pooled}

    def length_of(self, tokenizer: str) -> int | None:
        """:meth:`Family.length_of`: T5 alone has a choice, 256 by default."""
        return self.given(256) if tokenizer == "tokenizer_3" else None
