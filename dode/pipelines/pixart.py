"""PixArt-alpha and PixArt-Sigma (Chen et al. 2023, arXiv 2310.00426; 2024, arXiv 2403.04692): a DiT that reads T5."""

from torch import Tensor

from dode.pipelines.family import Family, families


@families.register("PixArtSigmaPipeline")
class PixArtSigma(Family):
    """A transformer that attends to the words of T5, with a learned variance beside the noise.

    Images have the size that is asked for (diffusers' ``use_resolution_binning=False``), and prompts are in lower case
    but not otherwise cleaned (``clean_caption=False``).
    """

    conditioned_on = ("words", "mask")
    longest = 300

    def predict(self, x: Tensor, time: Tensor, *, words: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """:meth:`Family.predict`."""
        return self.denoises(
            x,
            encoder_hidden_states=words,
            encoder_attention_mask=mask,
            timestep=time.expand(len(x)),
            added_cond_kwargs=self.sizes(x),
            return_dict=False,
        )[0]

    def sizes(self, x: Tensor) -> dict[str, Tensor | None]:
        """What the network is told of the image's size."""
        return {"resolution": None, "aspect_ratio": None}

    def encoded(
        self, prompts: list[str], negative: list[str] | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """:meth:`Family.encoded`."""
        words, mask, none, none_mask = self.pipe.encode_prompt(
            prompts,
            negative_prompt="" if negative is None else negative,
            device=self.encoder.device,
            max_sequence_length=self.length_of("tokenizer"),
        )
        return {"words": words, "mask": mask}, {"words": none, "mask": none_mask}

    def length_of(self, tokenizer: str) -> int | None:
        """:meth:`Family.length_of`."""
        return self.given(self.longest)


@families.register("PixArtAlphaPipeline")
class PixArtAlpha(PixArtSigma):
    """The same with fewer tokens; the network of 1024 pixels is told height and width, and their ratio."""

    longest = 120

    def sizes(self, x: Tensor) -> dict[str, Tensor | None]:
        """:meth:`PixArtSigma.sizes`."""
        if not self.denoises.use_additional_conditions:
            return super().sizes(x)
        high, wide = (entries * self.scale for entries in x.shape[2:])
        size, ratio = x.new_tensor([high, wide]), x.new_tensor([high / wide])
        return {"resolution": size.expand(len(x), -1), "aspect_ratio": ratio.expand(len(x), -1)}
