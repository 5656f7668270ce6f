"""Fits by methods of others on an embedded model: the tables of docs/learned-methods.md.

``python benchmarks/learned.py gs bns`` fits with the authors' settings; ``--options '{"iterations": 1000}'`` and
``--images`` choose others, ``--nfe``, ``--seeds``, ``--model``, ``--solver`` and ``--grid`` the rest. It prints paired
FID and trajectory RMSE of 2,500 images x 3 seeds, what the fit cost without its fine solution, and CPU seconds of one
thread.
"""

import argparse
import json
import logging
import time

import numpy as np
import torch
from joint import BLOCKS, SCORED, SHAPE, card, fine

import dode
from dode import grids, solvers
from dode.distillation import learned
from dode.images import noise, pixels
from dode.metrics import distances, features
from dode.metrics.distances import Statistics
from dode.models import loading


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fits", nargs="+", choices=learned.fits.names())
    parser.add_argument("--model", default="digits-edm", choices=["digits-edm", "digits-ddpm"])
    parser.add_argument("--nfe", type=int, nargs="+", default=[5, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--solver", default="ipndm")
    parser.add_argument("--grid", default="karras")
    parser.add_argument("--images", type=int, help="noises; by default the method's own")
    parser.add_argument("--options", type=json.loads, default={}, help="of the method, as JSON")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    denoise = loading.load(*card(chosen.model), batch_size=2000)
    extractor = features.create(*card("digits-classifier"))

    def gaussian(ends):
        return Statistics.of(features.stream(extractor, pixels.to_bytes(ends), 1000)).gaussian

    scored = [noise.latents(range(SCORED), SHAPE, seed=0, stream="sample", block=block) for block in range(BLOCKS)]
    references = [fine(denoise, latents) for latents in scored]
    aims = [gaussian(ends) for ends in references]
    print("| fit | NFE | seed | images | options | paired FID | RMSE | evaluations | with gradients | CPU seconds |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in chosen.fits:
        images = learned.fits.get(name).images if chosen.images is None else chosen.images
        for nfe in chosen.nfe:
            solver = solvers.create(chosen.solver)
            sigmas = grids.for_model(denoise, chosen.grid, solver.steps(nfe))
            for seed in chosen.seeds:
                latents = noise.latents(range(images), SHAPE, seed=seed, stream="fit")
                ends, began = fine(denoise, latents), time.process_time()
                how = {"ends": ends, "clip": True, "seed": seed, "options": chosen.options}
                fit = dode.distill(solver, denoise, latents, sigmas, fit=name, **how)
                seconds, made = time.process_time() - began, [fit.student.sample(denoise, each) for each in scored]
                paired = np.mean([distances.fid(gaussian(x), aim) for x, aim in zip(made, aims, strict=True)])
                squares = [(x - y).square().mean().item() for x, y in zip(made, references, strict=True)]
                print(
                    f"| {name} | {nfe} | {seed} | {images} | {json.dumps(chosen.options)} | {paired:.4f} "
                    f"| {np.mean(np.sqrt(squares)):.4f} | {fit.cost.evaluations:,} | {fit.cost.gradients:,} "
                    f"| {seconds:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
