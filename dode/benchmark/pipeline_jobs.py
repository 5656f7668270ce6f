"""Jobs of cells of a pipeline, whose solvers work in latents: its network alone is in memory.

What the images are conditioned on has been encoded before, and what comes out is decoded afterwards
(:mod:`dode.benchmark.pipeline_ends`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from dode.benchmark.jobs import CellJob
from dode.models.conditions import Conditions
from dode.models.guidance import guidances
from dode.pipelines import family, folder, manifests, model

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


def read_conditions(path: str | Path, indices: Sequence[int]) -> Conditions:
    """What :func:`dode.benchmark.pipeline_ends.write_conditions` wrote of consecutive images.

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
