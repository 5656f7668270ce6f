"""The directions along which a proposal is corrected, shared by the fit and by sampling. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any, NamedTuple, TypeAlias

from dode.registry import unknown
from dode.solvers.base import Proposal, Tensor

KINDS = {"data": ("data",), "noise": ("noise",), "both": ("data", "noise")}
# The output that is corrected by default, by the prediction of the model (dode.grids.facts).
OUTPUTS = {"data": "data", "image": "data", "noise": "noise", "v": "noise", "flow": "noise"}


@dataclasses.dataclass(frozen=True)
class Directions:
    """``R_k = [O_k - O_{k-1}, O_{k-1} - O_{k-2}, ..., h_k u_1, ..., h_k u_m, h_k eps_k]``.

    Attributes:
        differences: number of differences of successive denoising outputs, of each kind in ``outputs``.
        basis: number m of vectors u of an orthonormal basis of each image's own slopes (:class:`Slopes`); a solver
            with it ends a step at every evaluation.
        drift: whether the drift term ``h_k eps_k`` (the step in sigma times the noise estimate) is the last column.
        outputs: ``"data"`` (O = D), ``"noise"`` (O = eps), or ``"both"``: the differences of D, then those of eps.
        from_noise: whether pure noise counts as the output before the first evaluation (``eps = latents``), so that the
            first evaluation has a difference too; else the first evaluation's differences are left out.
    """

    differences: int = 1
    drift: bool = False
    outputs: str = "data"
    from_noise: bool = False
    basis: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.outputs, str) or self.outputs not in KINDS:
            raise ValueError(f"outputs of directions must be {', '.join(map(repr, KINDS))}, not {self.outputs!r}")
        if isinstance(self.differences, bool) or not isinstance(self.differences, int) or self.differences < 0:
            raise ValueError(f"differences of directions must be an integer of at least 0, not {self.differences!r}")
        if isinstance(self.basis, bool) or not isinstance(self.basis, int) or self.basis < 0:
            raise ValueError(f"basis of directions must be an integer of at least 0, not {self.basis!r}")
        if not isinstance(self.drift, bool):
            raise ValueError(f"drift of directions must be True or False, not {self.drift!r}")
        if self.count < 1:
            raise ValueError("at least one direction is needed, but there are 0 differences without basis and drift")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of output whose differences are columns."""
        return KINDS[self.outputs]

    @property
    def count(self) -> int:
        """Number m of columns."""
        return self.differences * len(self.kinds) + self.basis + self.drift

    def is_basis(self, column: int) -> bool:
        """Whether the column is a vector of the basis."""
        return 0 <= column - self.differences * len(self.kinds) < self.basis

    def said(self) -> dict[str, Any]:
        """The attributes, without the basis where there is none, as files have them."""
        return {key: value for key, value in vars(self).items() if key != "basis" or value}

    def is_drift(self, column: int) -> bool:
        """Whether the column is the drift."""
        return self.drift and column == self.count - 1

    def kind_of(self, column: int) -> str:
        """The kind of output that the column is made of."""
        return "noise" if self.is_drift(column) or self.is_basis(column) else self.kinds[column // self.differences]

    @classmethod
    def of(cls, directions: DirectionsLike, prediction: str) -> Directions:
        """From what a user gives, for a model of this prediction (:class:`dode.grids.facts.ModelFacts`).

        An integer m: one difference for m = 1 (the paper's), m - 1 differences and the drift for m >= 2, of the output
        that the model predicts. A dictionary: attributes; ``outputs`` is by default what the model predicts. A model
        that predicts v, or the velocity of flow matching, counts as one that predicts noise.
        """
        if isinstance(directions, cls):
            return directions
        if isinstance(directions, dict):
            known = [field.name for field in dataclasses.fields(cls)]
            for key in directions:
                if key not in known:
                    raise ValueError(f"directions: {unknown('key', key, known)}")
            return cls(**{"outputs": OUTPUTS[prediction], **directions})
        if isinstance(directions, bool) or not isinstance(directions, int) or directions < 1:
            raise ValueError(
                "directions must be an integer of at least 1, a Directions or a dictionary of its attributes, "
                f"not {directions!r}"
            )
        drift = directions > 1
        return cls(differences=directions - drift, drift=drift, outputs=OUTPUTS[prediction])


#: What :meth:`Directions.of` takes.
DirectionsLike: TypeAlias = int | dict[str, Any] | Directions


class Step(NamedTuple):
    """One evaluation and what the solver proposes after it.

    Attributes:
        index: number of the evaluation, from 0.
        proposal: the solver's :class:`~dode.solvers.base.Proposal`.
        x, sigma: the point of the evaluation; sigma is 0-d, or (B, 1, 1, 1) where it differs by image.
        latents: the unit-normal noise that the run began with, in the precision of the state.
        h: the step in sigma from the beginning of the solver's step to the proposal, of sigma's shape where that
            differs by image.
    """

    index: int  # type: ignore[assignment]  # a tuple has a method of this name
    proposal: Proposal
    x: Tensor
    sigma: Tensor
    latents: Tensor
    h: float | Tensor

    def output(self, kind: str) -> Tensor:
        """The denoising output as ``"data"`` (an image) or ``"noise"``, ``(x - D) / sigma``."""
        if kind == "data":
            return self.proposal.denoised
        return (self.x - self.proposal.denoised) / self.sigma


class History:
    """The last denoising outputs of a run, and the directions they span at the present step."""

    def __init__(self, directions: Directions):
        self.directions = directions
        self.outputs: dict[str, deque[Tensor]] = {
            kind: deque(maxlen=directions.differences + 1) for kind in directions.kinds
        }
        self.slopes = Slopes(directions.basis) if directions.basis else None

    def at(self, step: Step) -> dict[int, Tensor]:
        """``{column: direction}`` after this step's evaluation; columns without history yet are absent."""
        found: dict[int, Tensor] = {}
        differences = self.directions.differences
        for group, (kind, outputs) in enumerate(self.outputs.items()):
            if step.index == 0 and self.directions.from_noise:
                outputs.appendleft(step.latents if kind == "noise" else step.x - step.sigma * step.latents)
            outputs.appendleft(step.output(kind))
            for lag in range(min(differences, len(outputs) - 1)):
                found[group * differences + lag] = outputs[lag] - outputs[lag + 1]
        if self.slopes is not None:
            before = differences * len(self.outputs)
            found |= {before + place: step.h * vector for place, vector in enumerate(self.slopes.at(step))}
        if self.directions.drift:
            found[self.directions.count - 1] = step.h * step.output("noise")
        return found


class Slopes:
    """An orthonormal basis of the space that each image's first state and slopes so far span.

    PAS (Wang et al. 2025, arXiv 2411.06503, Sec. 3.2): the first vector is the present slope, the others are the
    principal components of the first state, the slopes of the steps so far as they were corrected, and the present
    one, about their mean, made orthogonal to those before. A component's sign is that of its product with how far the
    image has come, or with its first state before it has. There are at most as many vectors as directions in which
    those can differ: 2 at the first step, one more at each. Where those of an image differ in fewer, it has zeros in
    the place of a vector, whatever the other images of its batch have.
    """

    NEGLIGIBLE = 1e-13  # of the largest eigenvalue: a component of rounding alone
    WITHIN = 1e-6  # of a component's length: what is left of one that lies among those before

    def __init__(self, count: int):
        self.count = count
        self.past: list[Tensor] = []
        self.begun: Tensor | None = None
        self.last: tuple[Tensor, Tensor] | None = None

    def at(self, step: Step) -> list[Tensor]:
        """The vectors at a step, of the state's shape and length 1, or 0, per image.

        Raises:
            ValueError: at an inner stage, from which no step of the trajectory begins.
        """
        if step.proposal.stage:
            raise ValueError("directions: a basis of slopes needs a solver that ends a step at every evaluation")
        if self.begun is None:
            self.begun = step.x
        if self.last is not None:
            x, sigma = self.last
            self.past.append((step.x - x) / (step.sigma - sigma))
        self.last = step.x, step.sigma
        slope = ((step.proposal.x - step.x) / (step.proposal.sigma - step.sigma)).flatten(1)
        rows = [self.begun.flatten(1), *(each.flatten(1) for each in self.past), slope]
        ahead = self.begun.flatten(1) if not self.past else (step.x - self.begun).flatten(1)
        return [vector.view(step.x.shape) for vector in self._basis(rows, slope, ahead)]

    def _basis(self, rows, slope, ahead):
        import torch

        stacked = torch.stack(rows, dim=1)
        centred = stacked - stacked.mean(dim=1, keepdim=True)
        # The principal components from the small matrix of products; of n rows about their mean, n - 1 at most.
        values, vectors = torch.linalg.eigh(centred @ centred.mT)
        found = [_unit(slope)]
        for place in range(1, min(self.count, len(rows))):
            component = _unit((vectors[:, None, :, -place] @ centred).squeeze(1))
            component = torch.where(values[:, -place, None] > self.NEGLIGIBLE * values[:, -1:], component, 0.0)
            for other in found:
                component = component - (component * other).sum(dim=1, keepdim=True) * other
            component = _unit(component, self.WITHIN)
            found.append(torch.where((component * ahead).sum(dim=1, keepdim=True) < 0, -component, component))
        return found


def _unit(vectors, least=0.0):
    """Each row (B, N) with length 1; those of a length of at most ``least`` as zeros."""
    import torch

    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return torch.where(lengths > least, vectors / torch.where(lengths > least, lengths, 1.0), 0.0)
