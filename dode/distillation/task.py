"""What a method that learns is given: solver, model and noise, a meter of its cost, and a place to go on from."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
import time
from pathlib import Path
from typing import Any

import torch

from dode import storage
from dode.driver import on_grid
from dode.models.denoiser import for_images
from dode.solvers.base import Denoise, Solver

log = logging.getLogger(__name__)

DIGEST = 32  # bytes before a record
EVERY = 10.0  # seconds between two records of how far a method is


@dataclasses.dataclass
class Meter:
    """What a method has cost so far, whatever has been interrupted.

    Attributes:
        evaluations: of the network, each of one image.
        gradients: those of them that were recorded for gradients.
    """

    evaluations: int = 0
    gradients: int = 0


class Metered:
    """A denoiser whose evaluations are counted; all else is the denoiser's own."""

    def __init__(self, denoise: Denoise, meter: Meter):
        self._denoise, self._meter = denoise, meter

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """The denoiser's output."""
        self._meter.evaluations += len(x)
        output = self._denoise(x, sigma)
        if isinstance(output, torch.Tensor) and output.requires_grad:
            self._meter.gradients += len(x)
        return output

    def for_images(self, start: int, stop: int) -> Metered:
        """For a part of the images (:func:`dode.models.denoiser.for_images`)."""
        return Metered(for_images(self._denoise, start, stop), self._meter)

    def conditioned(self, conditions: Any) -> Metered:
        """Bound to the conditions of images."""
        return Metered(self._denoise.conditioned(conditions), self._meter)  # type: ignore[attr-defined]

    def differentiable(self, **how: Any) -> Metered:
        """Through which gradients flow, with the options of :meth:`dode.models.Denoiser.differentiable`.

        A plain function is taken as it is.
        """
        own: Any = self._denoise
        return Metered(own.differentiable(**how) if hasattr(own, "differentiable") else own, self._meter)

    def of_rows(self, rows: torch.Tensor) -> Metered:
        """For the images with these indices (:meth:`dode.models.Denoiser.of_rows`)."""
        own: Any = self._denoise
        return Metered(own.of_rows(rows) if hasattr(own, "of_rows") else own, self._meter)

    def trainable(self) -> Metered:
        """With a network of its own whose weights are trained (:meth:`dode.models.Denoiser.trainable`)."""
        own: Any = self._denoise
        if not hasattr(own, "trainable"):
            raise ValueError(
                "denoise: a plain function has no network that could be trained; give a dode.models.Denoiser"
            )
        return Metered(own.trainable(), self._meter)

    def with_network(self, network: torch.nn.Module) -> Metered:
        """With another network in the model's (:meth:`dode.models.Denoiser.with_network`)."""
        own: Any = self._denoise
        return Metered(own.with_network(network), self._meter)

    def as_consistency_function(self) -> Metered:
        """Behind the boundary scalings (:meth:`dode.models.Denoiser.as_consistency_function`)."""
        own: Any = self._denoise
        return Metered(own.as_consistency_function(), self._meter)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._denoise, name)


def recorded(path: Path) -> dict[str, Any] | None:
    """``made``, ``meter`` and ``state`` of a file that a :class:`Checkpoint` wrote; None of none, or a damaged one."""
    if not path.exists():
        return None
    content = path.read_bytes()
    digest, record = content[:DIGEST], content[DIGEST:]
    if hashlib.sha256(record).digest() != digest:
        log.warning("%s is damaged, or of another version; beginning anew", path)
        return None
    return torch.load(io.BytesIO(record), map_location="cpu", weights_only=True)


class Checkpoint:
    """How far a method is: what it needs to go on to the same result after a kill.

    Args:
        path: of the file; None for a method that runs in memory and cannot be killed alone.
        made: what the result is made from; what another task left at the path is passed over.
        meter: whose counts are kept with the state.
    """

    def __init__(self, path: str | Path | None = None, made: Any = None, meter: Meter | None = None):
        self.path, self.made = None if path is None else Path(path), made
        self.meter = Meter() if meter is None else meter
        self._written = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last record is so old that it is time for another."""
        return self.path is not None and time.monotonic() - self._written >= EVERY

    def read(self) -> Any:
        """The state written last, tensors on the CPU; None where there is none. The meter goes on from there.

        A file that is damaged is passed over too: a method that begins anew ends in the same result.
        """
        found = None if self.path is None else recorded(self.path)
        if found is None or found["made"] != self.made:
            return None
        self.meter.evaluations, self.meter.gradients = found["meter"]
        return found["state"]

    def write(self, state: Any) -> None:
        """Keep a state: dictionaries and lists of tensors, numbers and words."""
        if self.path is not None:
            record = {"made": self.made, "meter": (self.meter.evaluations, self.meter.gradients), "state": state}
            buffer = io.BytesIO()
            torch.save(record, buffer)
            with storage.atomic(self.path) as temporary, temporary.open("wb") as file:
                file.write(hashlib.sha256(buffer.getbuffer()).digest())  # torch itself reads some damaged files
                file.write(buffer.getbuffer())
        self._written = time.monotonic()

    def remove(self) -> None:
        """Once the result is written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


@dataclasses.dataclass
class Task:
    """A cell that is to be learnt.

    Attributes:
        solver: the few-step solver that is fitted, or that is to read what is prepared.
        denoise: the model, bound to what the images are conditioned on; counted by the meter.
        latents: unit-normal noise of the fitting images, (N, C, H, W).
        sigmas: the solver's noise levels, float64.
        ends: end states of the fine solution from that noise, (N, C, H, W), where the method follows them.
        states: the teacher's ``(level, state)`` at the solver's levels, descending, where it follows these.
        clip: whether end states are compared as images are saved, clipped to [-1, 1].
        seed: of all that the method draws.
        checkpoint: where it keeps how far it is.
        meter: what it has cost.
    """

    solver: Solver
    denoise: Denoise
    latents: torch.Tensor
    sigmas: torch.Tensor
    ends: torch.Tensor | None = None
    states: list[tuple[float, torch.Tensor]] | None = None
    clip: bool = False
    seed: int = 0
    checkpoint: Checkpoint = dataclasses.field(default_factory=Checkpoint)

    def __post_init__(self) -> None:
        self.meter = self.checkpoint.meter
        self.denoise = Metered(self.denoise, self.meter)
        self.solver = on_grid(self.solver, self.sigmas)

    @property
    def nfe(self) -> int:
        """Evaluations of the solver on its levels."""
        return self.solver.nfe(len(self.sigmas) - 1, end=self.sigmas[-1])

    def generator(self) -> torch.Generator:
        """Of all random choices, on the CPU."""
        return torch.Generator().manual_seed(self.seed % 2**63)
