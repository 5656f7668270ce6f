"""What benchmarks of fits share: an embedded model, its fine solution, and scores beside that."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import yaml
from fits_cells import ENDINGS, GRIDS
from fits_cells import MODELS as MEASURED

import dode
from dode import grids, solvers
from dode.images import noise, pixels
from dode.metrics import distances, features
from dode.metrics.distances import Statistics
from dode.models import loading

CARDS = Path(__file__).parents[1] / "config" / "models"
#: Models, and of how many images their scores are, for each of :data:`BLOCKS` seeds.
MODELS = {"digits-edm": 2500, "digits-ddpm": 2500, "mnist-ddpm": 200}
BLOCKS = 3


def card(name):
    """A card, and the path of its weights."""
    return yaml.safe_load((CARDS / f"{name}.yaml").read_text(encoding="utf-8")), CARDS / f"{name}.safetensors"


def fine(model, denoise, latents):
    """End states of the fine solution, as in the model's configuration."""
    name, nfe, grid = MEASURED[model].fine
    solver = solvers.create(name)
    return dode.sample(solver, denoise, latents, grids.for_model(denoise, grid, solver.steps(nfe)))


def on_grid(name, denoise, solver, nfe):
    """The grid of a name in ``fits_cells.GRIDS``, with one in ``ENDINGS``, on which a solver makes ``nfe``."""
    kind, comma, ending = name.partition(",")
    (kind, options), ending = GRIDS[kind], ENDINGS[comma + ending]
    return grids.for_model(denoise, kind, grids.intervals(solver, nfe, ending), **options, **ending)


class Scores(NamedTuple):
    """Means over the seeds.

    Attributes:
        self_fid: against the fine solution of the next seed's noise.
        paired_fid: against that of the same noise.
        rmse: distance of the end states, per pixel.
        saved: the same of the images as they are saved, clipped to [-1, 1].
    """

    self_fid: float
    paired_fid: float
    rmse: float
    saved: float


class Scored:
    """A model, and noise with the fine solution, on one thread."""

    def __init__(self, model):
        torch.set_num_threads(1)
        self.model, measured = model, MEASURED[model]
        self.shape = measured.shape
        self.denoise = loading.load(*card(model), batch_size=measured.batch)
        self.extractor = features.create(*card(measured.features))
        self.noise = [
            noise.latents(range(MODELS[model]), self.shape, seed=0, stream="sample", block=block)
            for block in range(BLOCKS)
        ]
        self.references = [fine(model, self.denoise, latents) for latents in self.noise]
        self.aims = [self._gaussian(ends) for ends in self.references]

    def fitting(self, images, seed):
        """Noise to fit on, and its end states."""
        latents = noise.latents(range(images), self.shape, seed=seed, stream="fit")
        return latents, fine(self.model, self.denoise, latents)

    def scores(self, sample):
        """:class:`Scores` of what ``sample`` makes of the noise."""
        made = [sample(latents) for latents in self.noise]
        own = [self._gaussian(x) for x in made]
        self_fid, paired = (
            np.mean([distances.fid(x, aim) for x, aim in zip(own, others, strict=True)])
            for others in ([*self.aims[1:], self.aims[0]], self.aims)
        )
        pairs = list(zip(made, self.references, strict=True))
        rmse = np.mean([_distance(x, y) for x, y in pairs])
        saved = np.mean([_distance(x.clamp(-1, 1), y.clamp(-1, 1)) for x, y in pairs])
        return Scores(self_fid, paired, rmse, saved)

    def _gaussian(self, ends):
        return Statistics.of(features.stream(self.extractor, pixels.to_bytes(ends), 1000)).gaussian


def _distance(x, y):
    return (x - y).square().mean().sqrt().item()
