"""Fits and preparations by methods of others on an embedded model: the tables of docs/learned-methods.md.

``python benchmarks/learned.py gs amed`` learns with the authors' settings; ``--options '{"iterations": 1000}'`` and
``--images`` choose others, ``--nfe``, ``--seeds``, ``--model``, ``--solver`` (of a fit) and ``--grid`` the rest. It
prints FIDs and trajectory RMSE of 2,500 images x 3 seeds, what the method cost without the fine solution that it
follows, and CPU seconds of one thread. Self-FID is against the fine solution of the next seed's noise.
"""

import argparse
import json
import logging
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from joint import BLOCKS, SCORED, SHAPE, card, fine
from safetensors.torch import save_file

import dode
from dode import grids, solvers
from dode.distillation import learned
from dode.distillation.task import Task
from dode.images import noise, pixels
from dode.metrics import distances, features
from dode.metrics.distances import Statistics
from dode.models import loading

PREPARED = [name for name in learned.preparations.names() if not solvers.create(name).method.network]


def learn(name, base, denoise, grid, nfe, latents, ends, seed, options):
    """``(sample, cost)`` of a fit to the solver ``base``, or of a solver that is prepared."""
    solver, own = solvers.create(name if name in PREPARED else base), grid.get("options", {})
    sigmas = grids.for_model(denoise, grid["name"], grids.intervals(solver, nfe, own), **own)
    if name not in PREPARED:
        fit = dode.distill(solver, denoise, latents, sigmas, fit=name, ends=ends, clip=True, seed=seed, options=options)
        return lambda noise: fit.student.sample(denoise, noise), fit.cost
    task = Task(grids.placed(solver, own), denoise, latents, sigmas, ends=ends, clip=True, seed=seed)
    tensors = learned.preparations.get(name)(task, **options)
    path = Path(tempfile.mkdtemp()) / "prepared.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    prepared = solvers.create(name, prepared=str(path))
    return lambda noise: dode.sample(prepared, denoise, noise, sigmas), task.meter


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+", choices=[*learned.fits.names(), *PREPARED])
    parser.add_argument("--model", default="digits-edm", choices=["digits-edm", "digits-ddpm"])
    parser.add_argument("--nfe", type=int, nargs="+", default=[5, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--solver", default="ipndm")
    parser.add_argument("--grid", type=json.loads, default={"name": "karras"}, help="name and options, as JSON")
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
    columns = "method", "NFE", "seed", "images", "options", "self-FID", "paired FID", "RMSE", "evaluations"
    print("|", " | ".join([*columns, "with gradients", "CPU seconds"]), "|")
    print("|---" * (len(columns) + 2) + "|")
    for name in chosen.methods:
        method = (learned.preparations if name in PREPARED else learned.fits).get(name)
        images = method.images if chosen.images is None else chosen.images
        for nfe in chosen.nfe:
            for seed in chosen.seeds:
                latents = noise.latents(range(images), SHAPE, seed=seed, stream="fit")
                ends, began = fine(denoise, latents), time.process_time()
                sample, cost = learn(
                    name, chosen.solver, denoise, chosen.grid, nfe, latents, ends, seed, chosen.options
                )
                seconds, made = time.process_time() - began, [sample(each) for each in scored]
                own = [gaussian(x) for x in made]
                fids = [
                    np.mean([distances.fid(x, aim) for x, aim in zip(own, others, strict=True)])
                    for others in ([*aims[1:], aims[0]], aims)
                ]
                squares = [(x - y).square().mean().item() for x, y in zip(made, references, strict=True)]
                print(
                    f"| {name} | {nfe} | {seed} | {images} | {json.dumps(chosen.options)} | {fids[0]:.4f} "
                    f"| {fids[1]:.4f} | {np.mean(np.sqrt(squares)):.4f} | {cost.evaluations:,} | {cost.gradients:,} "
                    f"| {seconds:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
