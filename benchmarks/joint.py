"""The joint fit on an embedded model, with several fitting seeds: the table of docs/method.md.

``python benchmarks/joint.py`` fits on 200 images from iPNDM and DPM-Solver++ (2M) at 5, 8 and 10 evaluations and
prints paired FID and trajectory RMSE of 2,500 images x 3 seeds, what was kept, evaluations, and CPU seconds of one
thread. ``--model``, ``--nfe``, ``--seeds``, ``--images``, ``--family`` and ``--budget`` choose others.
"""

import argparse
import time
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
SOLVERS = {"iPNDM": ("ipndm", {}), "DPM-Solver++ (2M)": ("dpm-solver++", {"variant": "2M"})}
SHAPE, SCORED, BLOCKS = (1, 8, 8), 2500, 3


def card(name):
    """A card, and the path of its weights."""
    return yaml.safe_load((CARDS / f"{name}.yaml").read_text(encoding="utf-8")), CARDS / f"{name}.safetensors"


def fine(denoise, latents):
    """End states of 79 evaluations of Heun's method, as in the configuration."""
    return dode.sample(solvers.create("heun"), denoise, latents, grids.for_model(denoise, "karras", 40))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="digits-edm", choices=["digits-edm", "digits-ddpm"])
    parser.add_argument("--nfe", type=int, nargs="+", default=[5, 8, 10])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--family", default="auto")
    parser.add_argument("--budget", type=int, help="network evaluations of a fit")
    options = parser.parse_args()
    torch.set_num_threads(1)
    denoise = loading.load(*card(options.model), batch_size=2000)
    extractor = features.create(*card("digits-classifier"))

    def gaussian(ends):
        return Statistics.of(features.stream(extractor, pixels.to_bytes(ends), 1000)).gaussian

    scored = [noise.latents(range(SCORED), SHAPE, seed=0, stream="sample", block=block) for block in range(BLOCKS)]
    references = [fine(denoise, latents) for latents in scored]
    aims = [gaussian(ends) for ends in references]
    print("| NFE | from | seed | kept | paired FID | RMSE | evaluations | CPU seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for nfe in options.nfe:
        for label, (name, own) in SOLVERS.items():
            solver = solvers.create(name, **own)
            sigmas = grids.for_model(denoise, "karras", solver.steps(nfe))
            for seed in options.seeds:
                latents = noise.latents(range(options.images), SHAPE, seed=seed, stream="fit")
                ends, began = fine(denoise, latents), time.process_time()
                how = {"ends": ends, "clip": True, "family": options.family, "budget": options.budget}
                fit = dode.distill(solver, denoise, latents, sigmas, **how)
                seconds, made = time.process_time() - began, [fit.student.sample(denoise, each) for each in scored]
                paired = np.mean([distances.fid(gaussian(x), aim) for x, aim in zip(made, aims, strict=True)])
                squares = [(x - y).square().mean().item() for x, y in zip(made, references, strict=True)]
                spent = sum(rung.evaluations for rung in fit.rungs)
                print(
                    f"| {nfe} | {label} | {seed} | {fit.family} | {paired:.4f} | {np.mean(np.sqrt(squares)):.4f} "
                    f"| {spent:,} | {seconds:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
