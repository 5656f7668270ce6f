"""What benchmarks of fits share: an embedded model of the digits, its fine solution, and scores beside that."""

from pathlib import Path

import numpy as np
import torch
import yaml

import dode
from dode import grids, solvers
from dode.images import noise, pixels
from dode.metrics import distances, features
from dode.metrics.distances import Statistics
from dode.models import loading

CARDS = Path(__file__).parents[1] / "config" / "models"
MODELS = "digits-edm", "digits-ddpm"
SHAPE, SCORED, BLOCKS = (1, 8, 8), 2500, 3


def card(name):
    """A card, and the path of its weights."""
    return yaml.safe_load((CARDS / f"{name}.yaml").read_text(encoding="utf-8")), CARDS / f"{name}.safetensors"


def fine(denoise, latents):
    """End states of 79 evaluations of Heun's method, as in the configuration."""
    return dode.sample(solvers.create("heun"), denoise, latents, grids.for_model(denoise, "karras", 40))


class Scored:
    """A model, and noise of 2,500 images x 3 seeds with the fine solution, on one thread."""

    def __init__(self, model):
        torch.set_num_threads(1)
        self.denoise = loading.load(*card(model), batch_size=2000)
        self.extractor = features.create(*card("digits-classifier"))
        self.noise = [
            noise.latents(range(SCORED), SHAPE, seed=0, stream="sample", block=block) for block in range(BLOCKS)
        ]
        self.references = [fine(self.denoise, latents) for latents in self.noise]
        self.aims = [self._gaussian(ends) for ends in self.references]

    def fitting(self, images, seed):
        """Noise to fit on, and its end states."""
        latents = noise.latents(range(images), SHAPE, seed=seed, stream="fit")
        return latents, fine(self.denoise, latents)

    def scores(self, sample):
        """Self-FID, against the fine solution of the next seed's noise, paired FID, and trajectory RMSE."""
        made = [sample(latents) for latents in self.noise]
        own = [self._gaussian(x) for x in made]
        self_fid, paired = (
            np.mean([distances.fid(x, aim) for x, aim in zip(own, others, strict=True)])
            for others in ([*self.aims[1:], self.aims[0]], self.aims)
        )
        squares = [(x - y).square().mean().item() for x, y in zip(made, self.references, strict=True)]
        return self_fid, paired, np.mean(np.sqrt(squares))

    def _gaussian(self, ends):
        return Statistics.of(features.stream(self.extractor, pixels.to_bytes(ends), 1000)).gaussian
