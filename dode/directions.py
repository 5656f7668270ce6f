"""The directions along which a proposal is corrected, shared by the fit and by sampling."""

import dataclasses
from collections import deque

import torch

from dode.models.denoiser import prediction_of

KINDS = {"data": ("data",), "noise": ("noise",), "both": ("data", "noise")}


@dataclasses.dataclass(frozen=True)
class Directions:
    """``R_k = [O_k - O_{k-1}, O_{k-1} - O_{k-2}, ..., h_k eps_k]``.

    Attributes:
        differences: number of differences of successive denoising outputs, of each kind in ``outputs``.
        drift: whether the drift term ``h_k eps_k`` (the step in sigma times the noise estimate) is the last column.
        outputs: ``"data"`` (O = D), ``"noise"`` (O = eps), or ``"both"``: the differences of D, then those of eps.
        from_noise: whether pure noise counts as the output before the first evaluation (``eps = latents``), so that the
            first evaluation has a difference too; else the first evaluation's differences are left out.
    """

    differences: int = 1
    drift: bool = False
    outputs: str = "data"
    from_noise: bool = False

    def __post_init__(self):
        if self.outputs not in KINDS:
            raise ValueError(f"directions: outputs must be {', '.join(map(repr, KINDS))}, not {self.outputs!r}")
        if isinstance(self.differences, bool) or not isinstance(self.differences, int) or self.differences < 0:
            raise ValueError(f"directions: differences must be an integer of at least 0, not {self.differences!r}")
        if self.count < 1:
            raise ValueError("directions: at least one is needed, not 0 differences without drift")

    @property
    def kinds(self):
        """The kinds of output whose differences are columns."""
        return KINDS[self.outputs]

    @property
    def count(self):
        """Number m of columns."""
        return self.differences * len(self.kinds) + self.drift

    @classmethod
    def of(cls, directions, denoise):
        """From what a user gives.

        An integer m: one difference for m = 1 (the paper's), m - 1 differences and the drift for m >= 2, of the output
        that the model predicts. A dictionary: attributes; ``outputs`` is by default what the model predicts.
        """
        if isinstance(directions, cls):
            return directions
        if isinstance(directions, dict):
            return cls(**{"outputs": prediction_of(denoise), **directions})
        if isinstance(directions, bool) or not isinstance(directions, int) or directions < 1:
            raise ValueError(f"directions must be an integer of at least 1 or a Directions, not {directions!r}")
        drift = directions > 1
        return cls(differences=directions - drift, drift=drift, outputs=prediction_of(denoise))


class History:
    """The last denoising outputs of a run, and the directions they span at the present step."""

    def __init__(self, directions):
        self.directions = directions
        self.outputs = {kind: deque(maxlen=directions.differences + 1) for kind in directions.kinds}

    def at(self, step):
        """``{column: direction}`` after this step's evaluation; columns without history yet are absent."""
        found, differences = {}, self.directions.differences
        for group, (kind, outputs) in enumerate(self.outputs.items()):
            if step.index == 0 and self.directions.from_noise:
                outputs.appendleft(step.latents if kind == "noise" else step.x - step.sigma * step.latents)
            outputs.appendleft(step.output(kind))
            for lag in range(min(differences, len(outputs) - 1)):
                found[group * differences + lag] = outputs[lag] - outputs[lag + 1]
        if self.directions.drift:
            found[self.directions.count - 1] = step.h * step.output("noise")
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
