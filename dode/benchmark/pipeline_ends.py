"""What jobs do at both ends of a pipeline: prompts are encoded before cells are sampled, latents decoded after.

Cells do neither, so that an edit here samples none of them again unless what is encoded depends on it.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dode import storage
from dode.benchmark import records
from dode.benchmark.pipeline_jobs import WITH, WITHOUT
from dode.images import prompts
from dode.models.batches import Batches
from dode.pipelines import family
from dode.weights import safetensors_files

log = logging.getLogger(__name__)


def rows(datasets: Sequence[Mapping[str, Any]], name: str, encoding: Mapping[str, Any], images: int) -> list[str]:
    """The prompts of the first images of a stream of noise.

    Args:
        datasets: of the configuration.
        name: the dataset's id.
        encoding: which rows, as :meth:`dode.benchmark.dependencies.Dependencies.encoding` has it.
        images: their number.

    Raises:
        ValueError: where the file is another one by now.
    """
    own = next(dataset["prompts"] for dataset in datasets if dataset["id"] == name)
    found = prompts.read(**own)[encoding["first"] : encoding["first"] + images]
    if records.digest(found) != encoding["rows"]:
        raise ValueError(f"'{own['file']}' has been changed since this run began; start the run again")
    return found


def write_conditions(
    path: str | Path,
    encoders: family.Family,
    texts: Sequence[str],
    negative: str,
    batch_size: int,
    made: Mapping[str, Any],
    *,
    first: int = 0,
    without: bool = False,
    say: Callable[[str], object] = log.warning,
) -> None:
    """Encode prompts batch by batch into a safetensors file, that of no prompt (``negative``) once.

    ``without`` is as of :meth:`dode.pipelines.family.Family.encode`.

    Its header has which prompts an encoder cuts, as ``cut``, by their rows in the file of prompts, of which ``first``
    come before these, besides what it was ``made`` of. ``say`` is called with a line about them.
    """
    found = {row: encoders.too_long(text) for row, text in enumerate(texts, first + 1)}
    cut = {row: fault for row, fault in found.items() if fault is not None}
    if cut:
        row, fault = next(iter(cut.items()))
        say(f"{len(cut)} of {len(texts)} prompts are cut; row {row}: {fault}")
    size, batches = min(batch_size, len(texts)), Batches(batch_size)
    batch = encoders.encode(texts[:size], negative, without=without, batches=batches)
    tensors = {f"{WITH}.{name}": value for name, value in batch.values.items()}
    kinds = {name: (_dtype(value), (len(texts), *value.shape[1:])) for name, value in tensors.items()}
    none = {f"{WITHOUT}.{name}": value[:1] for name, value in (batch.without or {}).items()}
    kinds |= {name: (_dtype(value), tuple(value.shape)) for name, value in none.items()}
    header = {"encoded": json.dumps({"cut": cut, "made": made})}
    with storage.atomic(path) as temporary, safetensors_files.growing(temporary, kinds, header) as append:
        for name, value in none.items():
            append(name, value.cpu().contiguous())
        for start in range(0, len(texts), size):
            if start > 0:
                batch = encoders.encode(texts[start : start + size], negative, without=without, batches=batches)
            for name, value in batch.values.items():
                append(f"{WITH}.{name}", value.cpu().contiguous())


def decoded(decoder: family.Family, latents: np.ndarray, batch_size: int) -> Iterator[torch.Tensor]:
    """Images (n, C, H, W) in [-1, 1] of latents, batch by batch, float32 on the CPU.

    Raises:
        ValueError: where the decoder makes NaN or infinity, with which images and what to change in the card.
    """
    batches, vae = Batches(batch_size), getattr(decoder.pipe, decoder.decoder)
    for start in range(0, len(latents), batch_size):
        batch = torch.from_numpy(latents[start : start + batch_size].copy())
        try:
            images = batches.map(decoder.decode, batch)
        except ValueError as error:
            how = "" if vae.dtype == torch.float32 else ", with precision: {decoder: float32} in the model's card"
            raise ValueError(f"images {start + 1} to {start + len(batch)}: {error}{how}") from error
        yield images.cpu()


def _dtype(value: torch.Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
