"""Student networks on an embedded model: the tables of docs/learned-methods.md.

``python benchmarks/students.py sfd ect`` trains with the defaults; ``--options '{"iterations": 5000}'`` and
``--images`` choose others, ``--nfe``, ``--seeds``, ``--model`` and ``--grid`` the rest. It prints paired FID and
trajectory RMSE of 2,500 images x 3 seeds, what the training cost without the end states that it learns from, and CPU
seconds of one thread. Where the training does not depend on the number of evaluations, all have one.
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
from dode.distillation.task import Task
from dode.images import noise, pixels
from dode.metrics import distances, features
from dode.metrics.distances import Statistics
from dode.models import loading

STUDENTS = [name for name in learned.preparations.names() if solvers.create(name).method.network]
GRIDS = {  # by default, of solvers with a network like the model's and of those with a consistency function
    "own": {"name": "karras", "options": {"end": "sigma_min"}},
    "consistency": {"name": "karras", "options": {"sigma_min": 0.4}},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("solvers", nargs="+", choices=STUDENTS)
    parser.add_argument("--model", default="digits-edm", choices=["digits-edm", "digits-ddpm"])
    parser.add_argument("--nfe", type=int, nargs="+", default=[1, 2, 4, 5, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--grid", type=json.loads, help="name and options, as JSON")
    parser.add_argument("--images", type=int, help="noises; by default the method's own")
    parser.add_argument("--options", type=json.loads, default={}, help="of the training, as JSON")
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
    print("| method | NFE | seed | images | options | paired FID | RMSE | evaluations | with gradients | CPU seconds |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in chosen.solvers:
        method, solver = learned.preparations.get(name), solvers.create(name)
        images, kind = chosen.images or method.images, solver.method.network
        grid = chosen.grid or GRIDS[kind]
        for seed in chosen.seeds:
            latents = noise.latents(range(images), SHAPE, seed=seed, stream="fit")
            ends, student = fine(denoise, latents), None
            for nfe in chosen.nfe:
                options = grid.get("options", {})
                sigmas = grids.for_model(denoise, grid["name"], grids.intervals(solver, nfe, options), **options)
                if student is None or kind == "own":
                    task, began = Task(solver, denoise, latents, sigmas, ends=ends, seed=seed), time.process_time()
                    weights = method(task, **chosen.options)
                    seconds, student = time.process_time() - began, denoise.trainable()
                    student.network.load_state_dict(weights)
                    student = student.as_consistency_function() if kind == "consistency" else student
                with torch.no_grad():
                    made = [dode.sample(solver, student, each, sigmas) for each in scored]
                paired = np.mean([distances.fid(gaussian(x), aim) for x, aim in zip(made, aims, strict=True)])
                squares = [(x - y).square().mean().item() for x, y in zip(made, references, strict=True)]
                print(
                    f"| {name} | {nfe} | {seed} | {images} | {json.dumps(chosen.options)} | {paired:.4f} "
                    f"| {np.mean(np.sqrt(squares)):.4f} | {task.meter.evaluations:,} | {task.meter.gradients:,} "
                    f"| {seconds:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
