"""How well images fit their prompts by a CLIP of transformers: CLIP score, PickScore, HPS v2."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dode.metrics import prompt_scores
from dode.metrics.prompt_scores import scorers
from dode.models import precision, torchvision_operators
from dode.models.hub import repository

#: What each score makes of the cosine between the embeddings of image and prompt, and of the model's logit scale.
SCORES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "clip_score": lambda cosine, scale: 100 * cosine.clamp(min=0),
    "pick_score": lambda cosine, scale: scale * cosine,
    "hps_v2": lambda cosine, scale: cosine,
}


@scorers.register("clip")
def clip(
    *, card: Mapping[str, Any], folder: str | Path, device: str | torch.device
) -> Callable[[np.ndarray, Sequence[str]], Tensor]:
    """Scores by the cosine ``c`` of a CLIP's embeddings of image and prompt, in the card's precision.

    The card's option ``score``: ``clip_score``, ``100 max(c, 0)`` (Hessel et al. 2021, arXiv 2104.08718, who have 2.5
    in the place of 100); ``pick_score``, ``s c`` with the model's own logit scale s (Kirstain et al. 2023, arXiv
    2305.01569); ``hps_v2``, ``c`` (Wu et al. 2023, arXiv 2306.09341).

    Args:
        card: with the role ``prompt-score``.
        folder: of a CLIPModel with its processor, as ``save_pretrained`` of transformers writes both. Only safetensors
            and configurations are read.
        device: of the model.

    Raises:
        ValueError: for a folder that lacks a file, or is of another model than a CLIP.
    """
    folder = Path(folder)
    if missing := prompt_scores.fault([path.name for path in folder.iterdir()]):
        raise ValueError(f"{folder}: {missing}")
    kind = repository.read(lambda name: folder / name, {repository.CONFIG: (repository.CONFIG,)})[
        repository.CONFIG
    ].get("model_type")
    if kind != "clip":
        raise ValueError(f"{folder} has a model of the type {kind!r}; allowed: 'clip'")
    torchvision_operators.declare()  # before transformers asks torchvision
    from transformers import CLIPModel, CLIPProcessor

    own = card.get("precision", {})
    precision.allow_tf32(own.get("tf32", False))
    how = {"local_files_only": True, "use_safetensors": True, "dtype": getattr(torch, own.get("dtype", "float32"))}
    network = CLIPModel.from_pretrained(str(folder), **how).eval().requires_grad_(False).to(device)
    processor = CLIPProcessor.from_pretrained(str(folder), local_files_only=True)
    length = network.config.text_config.max_position_embeddings
    measure = SCORES[prompt_scores.metric(card)]

    def score(images, prompts):
        colour = torch.from_numpy(images).expand(-1, 3, -1, -1)
        pixels = processor.image_processor(images=colour, return_tensors="pt")["pixel_values"]
        words = processor.tokenizer(
            list(prompts), padding=True, truncation=True, max_length=length, return_tensors="pt"
        )
        given = {name: words[name].to(device) for name in ("input_ids", "attention_mask")}
        found = network(pixel_values=pixels.to(device, network.dtype), **given)
        cosine = (found.image_embeds.float() * found.text_embeds.float()).sum(1)
        return measure(cosine, network.logit_scale.float().exp())

    return score
