"""The directions along which a proposal is corrected, shared by the fit and by sampling."""

import dataclasses
from collections import deque

import torch

from dode.models.denoiser import prediction_of


@dataclasses.dataclass(frozen=True)
class Directions:
    """``R_k = [O_k - O_{k-1}, O_{k-1} - O_{k-2}, ..., h_k eps_k]``.

    Attributes:
        differences: number of differences of successive denoising outputs.
        drift: whether the drift term ``h_k eps_k`` (the step in sigma times the noise estimate) is the last column.
        outputs: ``"data"`` (O = D) or ``"noise"`` (O = eps).
        from_noise: whether pure noise counts as the output before the first evaluation (``eps = latents``), so that the
            first evaluation has a difference too; else the first evaluation's differences are left out.
    """

    differences: int = 1
    drift: bool = False
    outputs: str = "data"
    from_noise: bool = False

    def __post_init__(self):
        if self.outputs not in ("data", "noise"):
            raise ValueError(f"directions: outputs must be 'data' or 'noise', not '{self.outputs}'")
        if self.differences < 0 or self.count < 1:
            raise ValueError(f"directions: at least one direction is needed, not {self.count}")

    @property
    def count(self):
        """Number of columns."""
        return self.differences + self.drift

    @classmethod
    def of(cls, directions, denoise):
        """From an integer m: one difference for m = 1 (the paper's), m - 1 differences and the drift for m >= 2."""
        if isinstance(directions, cls):
            return directions
        if isinstance(directions, bool) or not isinstance(directions, int) or directions < 1:
            raise ValueError(f"directions must be an integer of at least 1 or a Directions, not {directions!r}")
        drift = directions > 1
        return cls(differences=directions - drift, drift=drift, outputs=prediction_of(denoise))


class History:
    """The last denoising outputs of a run, and the directions they span at the present step."""

    def __init__(self, directions):
        self.directions = directions
        self.outputs = deque(maxlen=directions.differences + 1)

    def at(self, step):
        """``{column: direction}`` after this step's evaluation; columns without history yet are absent."""
        kind = self.directions.outputs
        if step.index == 0 and self.directions.from_noise:
            self.outputs.append(step.latents if kind == "noise" else step.x - step.sigma * step.latents)
        self.outputs.append(step.output(kind))
        recent = list(reversed(self.outputs))
        found = {
            column: recent[column] - recent[column + 1]
            for column in range(min(self.directions.differences, len(recent) - 1))
        }
        if self.directions.drift:
            found[self.directions.differences] = step.h * step.output("noise")
        return found


class Correction:
    """``advance`` function of a distilled run: ``proposal + R_k lambda_k``."""

    def __init__(self, lambdas, directions, denoise, *, evaluations):
        self.lambdas = torch.as_tensor(lambdas, dtype=torch.float64, device="cpu")
        if self.lambdas.ndim == 1:
            self.lambdas = self.lambdas[:, None]
        if self.lambdas.ndim != 2 or len(self.lambdas) != evaluations:
            raise ValueError(
                f"lambdas of shape {tuple(self.lambdas.shape)} do not fit {evaluations} evaluations; "
                f"({evaluations}, m) is due"
            )
        if not bool(self.lambdas.isfinite().all()):
            raise ValueError("lambdas hold NaN or infinity")
        if directions is None:
            directions = Directions.of(self.lambdas.shape[1], denoise)
            # A first evaluation that has a coefficient on a difference was fitted with pure noise as its predecessor.
            directions = dataclasses.replace(directions, from_noise=bool(self.lambdas[0, 0] != 0))
        self.directions = Directions.of(directions, denoise)
        if self.directions.count != self.lambdas.shape[1]:
            raise ValueError(f"lambdas have {self.lambdas.shape[1]} columns, the directions {self.directions.count}")
        self.history = History(self.directions)

    def __call__(self, step):
        x, found = step.proposal.x, self.history.at(step)
        for column, coefficient in enumerate(self.lambdas[step.index].tolist()):
            if column in found:
                x = torch.add(x, found[column], alpha=coefficient)
            elif coefficient != 0:
                raise ValueError(
                    f"lambdas[{step.index}, {column}] is {coefficient:.3g}, but evaluation {step.index} has no such "
                    "direction yet; give the directions of the fit too (fit.directions)"
                )
        return x
