"""The measurement that chooses a precision: in which ways a network is fast, and what these do to scores."""

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from dode import sampling
from dode.benchmark import jobs
from dode.benchmark.parameters import Trajectory
from dode.benchmark.precision_rule import FINE, FITTED, LOADS, NEARER, SHARE
from dode.images import pixels
from dode.metrics import deviation, features
from dode.models import precision
from dode.models.precision import Way

log = logging.getLogger(__name__)

TIED = 0.05  # share by which speeds differ from one measurement to the next
SECONDS = 1.0  # that each speed is measured for
COMPILING = 20.0  # seconds that a compilation takes at the very least, for which work must be left to save


@dataclasses.dataclass
class Tried:
    """What is known of a way: its speed, what its first call takes, and by kind how scores move in it."""

    way: Way
    speed: float | None = None
    first: float = 0.0
    moved: dict[str, dict[str, deviation.Deviation]] = dataclasses.field(default_factory=dict)
    fault: str | None = None

    def seconds(self, evaluations: int, loads: int) -> float:
        """Expected of so many evaluations, with the compilation in each job that loads the network."""
        if self.speed is None:
            return math.inf
        return evaluations / self.speed + self.way.compile * loads * self.first

    def passes(self, kind: str) -> bool:
        """Whether no score moves by more than it may."""
        return kind in self.moved and all(each.share <= SHARE for each in self.moved[kind].values())

    def fails(self, kind: str) -> bool:
        """Whether a score does, for all that chance may have to do with it."""
        return any(each.least > SHARE for each in self.moved[kind].values())


class Measuring:
    """The measurement of a part.

    Args:
        measured: as :meth:`dode.benchmark.dependencies.Dependencies.precision` has it.
        inputs: ``model`` and ``features``, files of weights, and those of guiding networks.
        execution: the settings ``execution`` for the dataset.
    """

    def __init__(self, measured: Mapping[str, Any], inputs: Mapping[str, str], execution: Mapping[str, Any]):
        self.measured, self.inputs, self.execution = measured, inputs, execution
        self.card = Way.of_card(measured["cell"]["model"])
        self._ends: dict[tuple[str, Way], np.ndarray] = {}
        self._held: dict[tuple[str, Way], jobs.CellJob] = {}
        self._extract: Callable[[np.ndarray], torch.Tensor] | None = None
        self.device = self._job("cell", self.card).device

    def _job(self, name: str, way: Way) -> jobs.CellJob:
        """Those of the card are kept, and the last of the others, as its network may be compiled."""
        if (name, way) not in self._held:
            self._held = {key: job for key, job in self._held.items() if key[1] == self.card}
            trajectory = dataclasses.replace(Trajectory(**self.measured[name]), precision=dataclasses.asdict(way))
            job = jobs.of_cell(trajectory.params(), self.inputs["model"], self.execution, self.inputs)
            self._held[name, way] = job
        precision.allow_tf32(way.tf32)  # features and other ways may have another setting
        return self._held[name, way]

    def ends(self, name: str, way: Way, images: int) -> np.ndarray:
        """End states of so many images of the fitting noise, of the ``cell`` or the ``other``."""
        found = [self._ends[name, way]] if (name, way) in self._ends else []
        indices = range(sum(map(len, found)), images)
        if indices:
            job, size = self._job(name, way), self.execution["batch_size"]
            for start in range(0, len(indices), size):
                part = indices[start : start + size]
                denoise, latents = job.denoise_for(part, stream="fit"), job.latents(part, stream="fit")
                ends = job.images(sampling.sample(job.solver, denoise, latents, job.sigmas))
                found.append(ends.float().cpu().numpy())
            self._ends[name, way] = np.concatenate(found)
        return self._ends[name, way][:images]

    def sample(self, ends: np.ndarray) -> deviation.Sample:
        """End states with their features."""
        if self._extract is None:
            self._extract = features.create(self.measured["features"], self.inputs["features"], device=self.device)
        precision.allow_tf32(self.measured["features"].get("precision", {}).get("tf32", False))
        found = features.stream(self._extract, pixels.to_bytes(ends), self.execution["batch_size"])
        return deviation.Sample(ends, np.concatenate(list(found)))

    def speed(self, tried: Tried) -> None:
        """Measure how fast a way is, and what its first call takes."""
        job = self._job("cell", tried.way)
        part = range(self.execution["batch_size"])
        denoise, latents = job.denoise_for(part, stream="fit"), job.latents(part, stream="fit")
        sigma = job.sigmas[(len(job.sigmas) - 1) // 2]
        x = latents * float(sigma)

        def call() -> float:
            begun = time.perf_counter()
            denoise(x, sigma)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            return time.perf_counter() - begun

        tried.first = call()
        call()
        times = [call()]
        while sum(times) < SECONDS and len(times) < 100:
            times.append(call())
        tried.speed = len(x) / float(np.median(times))

    def move(self, tried: Tried, kind: str) -> None:
        """Measure how scores move in a way, on twice as many images until that is decided, or has been enough."""
        images = self.measured["images"]
        while True:
            self._move(tried, kind, images)
            if tried.passes(kind) or tried.fails(kind) or images >= self.measured["most"]:
                return
            images = min(2 * images, self.measured["most"])

    def _move(self, tried: Tried, kind: str, images: int) -> None:
        runs = (("cell", self.card), ("cell", tried.way), ("other", self.card))
        exact, rounded, other = (self.ends(*run, images) for run in runs)
        before, after = exact, rounded
        if kind == FITTED:  # the rounding is that of the plain solver, what it adds to is nearer to the fine solution
            before = deviation.nearer(exact, other, NEARER)
            after = before + (rounded - exact)
        elif kind == FINE:  # what moves is what a fitted solver is compared with
            other = deviation.nearer(other, exact, NEARER)
        was, now, others = (self.sample(each) for each in (before, after, other))
        tried.moved[kind] = deviation.deviations(was, now, others, self.measured["of_seed"])

    def chosen(self) -> tuple[dict[str, Way], list[Tried]]:
        """The way of each kind, and all that were tried, the card's first."""
        every = [Tried(way) for way in (self.card, *precision.cheaper(self.card, self.device))]
        for tried in every:
            self._attempt(tried, self.speed)
        found = {kind: self._fastest(kind, every) for kind in self.measured["kinds"]}
        for kind, tried in found.items():
            found[kind] = self._compiled(kind, tried, every)
        return {kind: tried.way for kind, tried in found.items()}, every

    def _attempt(self, tried: Tried, measure: Callable[..., None], *arguments: Any) -> None:
        """Measure something; what a network cannot do in a way is noted there."""
        try:
            measure(tried, *arguments)
        except Exception as error:  # of whatever kind: numbers beyond float16, a kernel that a device has not
            if tried.way == self.card:
                raise
            log.warning("%s: %s", tried.way.name, error, exc_info=True)
            tried.fault = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"

    def _fastest(self, kind: str, every: list[Tried]) -> Tried:
        """The fastest way that passes; of those as fast within :data:`TIED` the one with the most digits."""
        left = [each for each in every if each.speed is not None]
        while True:
            fastest = max(each.speed or 0 for each in left)
            tied = [each for each in left if (each.speed or 0) >= (1 - TIED) * fastest]
            # Of the same digits the card's, then the layout that a network has by itself.
            tried = max(tied, key=lambda each: (each.way == self.card, each.way.digits, not each.way.channels_last))
            if tried.way == self.card or self._passes(tried, kind):
                return tried
            left.remove(tried)

    def _passes(self, tried: Tried, kind: str) -> bool:
        if kind not in tried.moved:
            self._attempt(tried, self.move, kind)
        return tried.fault is None and tried.passes(kind)

    def _compiled(self, kind: str, tried: Tried, every: list[Tried]) -> Tried:
        """The same compiled, where it passes and saves more than it costs; else the way as it is."""
        evaluations, loads = self.measured["evaluations"], 1 if kind == FINE else LOADS
        if tried.seconds(evaluations, loads) <= COMPILING * loads:
            return tried
        way = dataclasses.replace(tried.way, compile=True)
        other = next((each for each in every if each.way == way), None)
        if other is None:
            every.append(other := Tried(way, fault=precision.compiler_fault(self.device)))
            if other.fault is None:
                self._attempt(other, self.speed)
        saves = other.fault is None and other.seconds(evaluations, loads) < tried.seconds(evaluations, loads)
        return other if saves and self._passes(other, kind) else tried

    def table(self, chosen: Mapping[str, Way], every: list[Tried]) -> list[dict[str, Any]]:
        """What is written of each way: its speed, how scores move, of which kinds it is the choice, and why."""
        rows = []
        for tried in every:
            of = [kind for kind, way in chosen.items() if way == tried.way]
            moved = {
                kind: {name: {**dataclasses.asdict(each), "share": each.share} for name, each in own.items()}
                for kind, own in tried.moved.items()
            }
            facts = {"way": tried.way.name, "evaluations_per_second": tried.speed, "first_seconds": tried.first}
            why = {kind: self._why(tried, kind, chosen[kind], every) for kind in chosen}
            rows.append({**facts, "moved": moved, "chosen": of, "why": why})
        return rows

    def _why(self, tried: Tried, kind: str, chosen: Way, every: list[Tried]) -> str:
        if tried.fault is not None:
            return tried.fault
        if tried.way == chosen:
            return "the fastest that passes" if tried.way != self.card else "the card's; no faster one passes"
        if tried.way == self.card:
            return "the card's, which the others are compared with"
        if kind in tried.moved and not tried.passes(kind):
            name, worst = max(tried.moved[kind].items(), key=lambda item: item[1].share)
            return f"moves {name} by up to {worst.share:.2g} of what a seed does; at most {SHARE:g} is allowed"
        if tried.way.compile:
            return "saves less than the compilation takes"
        return "no faster than the chosen one"
