"""Contents of results' files, as of exported cells, with coefficients that nobody fitted."""

import torch


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
