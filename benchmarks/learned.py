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

from embedded import MODELS, Scored
from safetensors.torch import save_file

import dode
from dode import grids, solvers
from dode.distillation import learned
from dode.distillation.task import Task

PREPARED = [name for name in learned.preparations.names() if not solvers.create(name).method.network]


def learn(name, base, denoise, grid, nfe, latents, ends, seed, options):
    """``(sample, cost)`` of a fit to the solver ``base``, or of a solver that is prepared."""
    solver, own = solvers.create(name if name in PREPARED else base), grid.get("options", {})
    sigmas = grids.for_model(denoise, grid["name"], grids.intervals(solver, nfe, own), **own)
    if name not in PREPARED:
        followed = {"ends": ends, "clip": True} if learned.fits.get(name).follows == "ends" else {}
        fit = dode.distill(solver, denoise, latents, sigmas, fit=name, seed=seed, options=options, **followed)
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
    parser.add_argument("--model", default="digits-edm", choices=MODELS)
    parser.add_argument("--nfe", type=int, nargs="+", default=[5, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--solver", default="ipndm")
    parser.add_argument("--grid", type=json.loads, default={"name": "karras"}, help="name and options, as JSON")
    parser.add_argument("--images", type=int, help="noises; by default the method's own")
    parser.add_argument("--options", type=json.loads, default={}, help="of the method, as JSON")
    chosen = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    scored = Scored(chosen.model)
    columns = "method", "NFE", "seed", "images", "options", "self-FID", "paired FID", "RMSE", "evaluations"
    print("|", " | ".join([*columns, "with gradients", "CPU seconds"]), "|")
    print("|---" * (len(columns) + 2) + "|")
    for name in chosen.methods:
        method = (learned.preparations if name in PREPARED else learned.fits).get(name)
        images = method.images if chosen.images is None else chosen.images
        for nfe in chosen.nfe:
            for seed in chosen.seeds:
                (latents, ends), began = scored.fitting(images, seed), time.process_time()
                sample, cost = learn(
                    name, chosen.solver, scored.denoise, chosen.grid, nfe, latents, ends, seed, chosen.options
                )
                seconds, scores = time.process_time() - began, scored.scores(sample)
                print(
                    f"| {name} | {nfe} | {seed} | {images} | {json.dumps(chosen.options)} | {scores.self_fid:.4f} "
                    f"| {scores.paired_fid:.4f} | {scores.rmse:.4f} | {cost.evaluations:,} | {cost.gradients:,} "
                    f"| {seconds:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
