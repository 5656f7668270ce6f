"""Jobs of cells of a pipeline, whose solvers work in latents: its network alone is in memory.

What the images are conditioned on has been encoded before, and what comes out is decoded afterwards.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from dode import storage
from dode.benchmark import records
from dode.benchmark.jobs import CellJob
from dode.images import prompts
from dode.models.batches import Batches
from dode.models.conditions import Conditions
from dode.models.guidance import guidances
from dode.pipelines import family, folder, manifests, model
from dode.weights import safetensors_files

log = logging.getLogger(__name__)

EMBEDDED = "embedded"  # guidance by a scale that is an input of the network
WITH, WITHOUT = "with", "without"  # which of the conditions a tensor of the file is, before its name


def part(manifest: str, parts: Any, dtype: str, device: torch.device, length: int | None = None) -> family.Family:
    """The family of a fetched pipeline with the weights of one of its parts.

    Raises:
        ValueError: where its files are not those that were fetched.
    """
    known = manifests.checked(manifest)
    kinds = {parts: getattr(torch, dtype)}
    place = manifests.folder_of(manifest)
    return family.of(
        folder.load(place, parts=parts, dtype=kinds, variant=known["variant"], device=device), length=length
    )


class PipelineJob(CellJob):
    """A cell of a pipeline; arguments as of :class:`dode.benchmark.jobs.CellJob`, the checkpoint is the manifest."""

    kind: Any = np.float32
    clip = False

    def load(self, checkpoint: str, **how: Any) -> Any:
        """:meth:`CellJob.load`."""
        self.family, guidance = self._network(checkpoint, self.trajectory.model, how), self.trajectory.guidance
        denoise = model.denoiser(self.family, batch_size=how["batch_size"])
        if guidance is None or guidance["name"] == EMBEDDED:
            return denoise
        options = {key: guidance[key] for key in guidance if key not in ("name", EMBEDDED)}
        if "guide" in options:
            guide = self._network(self.inputs["guide"], guidance["guide"], how)
            options["guide"] = model.denoiser(guide, batch_size=how["batch_size"])
        return guidances.get(guidance["name"])(denoise, **options)

    def _network(self, manifest: str, card: Mapping[str, Any], how: Mapping[str, Any]) -> family.Family:
        """The family of a pipeline of these latents, with the weights of its network."""
        found = part(manifest, "network", card["precision"]["dtype"], how["device"])
        if (shape := found.latent_shape(*card["image_shape"][1:])) != self.shape:
            raise ValueError(f"latent_shape: {list(self.shape)}, but the pipeline's latents are {list(shape)}")
        network = found.denoises
        if how["channels_last"]:
            network = network.to(memory_format=torch.channels_last)
        setattr(found.pipe, found.network, torch.compile(network) if how["compile"] else network)
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the latents."""
        return tuple(self.trajectory.model["latent_shape"])

    def kept(self, x: torch.Tensor) -> np.ndarray:
        """The latents themselves."""
        return x.float().numpy()

    def conditions(self, indices: Sequence[int], **where: Any) -> torch.Tensor | Conditions | None:
        """Row i of what was encoded is of image i, whatever the seed."""
        path, guidance = self.inputs.get("conditions"), self.trajectory.guidance or {}
        if path is None:
            return super().conditions(indices, **where)
        found = read_conditions(path, indices)
        if self.family.guided != EMBEDDED:
            return found
        return model.with_scale(found, guidance.get(EMBEDDED, guidance.get("scale")))


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


def read_conditions(path: str | Path, indices: Sequence[int]) -> Conditions:
    """What :func:`write_conditions` wrote of consecutive images.

    Raises:
        ValueError: for other indices.
    """
    start, stop = (indices[0], indices[-1] + 1) if len(indices) else (0, 0)
    if list(indices) != list(range(start, stop)):
        raise ValueError(f"conditions are read of consecutive images alone, not of {list(indices)[:10]}")
    values, without = {}, {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            kind, _, own = name.partition(".")
            if kind == WITH:
                values[own] = file.get_slice(name)[start:stop]
            else:
                none = file.get_tensor(name)
                without[own] = none.expand(stop - start, *none.shape[1:])
    return Conditions(values, without or None)


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
