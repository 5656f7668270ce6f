"""Contents of results' files, as of exported cells, with coefficients that nobody fitted."""

import numpy as np
import torch

from dode import grids, solvers


def of(solver, options, nfe, *, version, grid, sigmas, own, model, shape):
    """The record of a solver on levels (a tensor); ``own`` are its fitted parts, ``model`` what it says of that."""
    return {
        "format": "dode sampler",
        "version": version,
        "solver": {"name": solver, "options": options},
        "grid": {"name": grid, "options": {}},
        "sigmas": sigmas.tolist(),
        "nfe": nfe,
        **own,
        "model": {"card": "tiny", "sha256": None, "image_shape": list(shape), **model},
        "software": {},
        "citation": ["dode"],
    }


def noise(shape, seed, images=3):
    """Unit-normal noise, float64."""
    return torch.randn(images, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of_noise_model(solver, options, nfe, *, grid="karras", distilled=True, sigma_max=80.0, **model):
    """The contents of a result's file, with coefficients that nobody fitted."""
    made = solvers.create(solver, **options)
    lambdas = 0.02 * np.cos(np.arange(nfe * 3)).reshape(nfe, 3)
    lambdas[0, :2] = lambdas[1:2, 1] = 0
    fitted = {
        "lambdas": lambdas.tolist(),
        "directions": {"differences": 2, "drift": True, "outputs": "noise", "from_noise": False},
    }
    facts = {"prediction": "noise", "schedule": {"name": "linear"}, **model}
    own = fitted if distilled else {"lambdas": None, "directions": None}
    sigmas = grids.karras(steps=made.steps(nfe), sigma_min=0.02, sigma_max=sigma_max)
    how = {"version": 1, "grid": grid, "sigmas": sigmas, "own": own, "model": facts, "shape": (1, 8, 8)}
    return of(solver, options, nfe, **how)
