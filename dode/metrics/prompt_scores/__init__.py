"""Scorers of images by their prompts, by the name that a card gives them, a file each: ``clip`` is in ``clip.py``.

A scorer is a function of images (B, C, H, W) uint8, on the CPU as a numpy array, and of their B prompts that returns a
score of each (B,). It is made with the keyword options ``card``, ``folder`` (of the model) and ``device``. Imports no
torch.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dode.registry import FileRegistry

scorers = FileRegistry("prompt scorer", "dode.metrics.prompt_scores", Path(__file__).parent)

CONFIG = "config.json"
DEFAULT = "clip_score"
#: What a folder must have besides its weights: one file of each line.
NEEDED = ((CONFIG,), ("preprocessor_config.json",), ("tokenizer.json", "vocab.json"))


def metric(card: Mapping[str, Any]) -> str:
    """Which metric the card of a scorer gives, as the catalogue and ``score.json`` call it."""
    return card["network"]["options"].get("score", DEFAULT)


def fault(names: Collection[str]) -> str | None:
    """What is missing among the names of a folder's files, in one sentence, or None."""
    for each in NEEDED:
        if not any(name in names for name in each):
            return (
                f"it has no {' or '.join(each)}; a folder needs the configuration of its model, and the tokenizer and "
                "preprocessor_config.json of the CLIP that it was trained from"
            )
    return None
