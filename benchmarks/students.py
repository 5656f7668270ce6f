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
from functools import partial

import torch
from embedded import MODELS, Scored

import dode
from dode import grids, solvers
from dode.distillation import learned
from dode.distillation.task import Task

STUDENTS = [name for name in learned.preparations.names() if solvers.create(name).method.network]
GRIDS = {  # by default, of solvers with a network like the model's and of those with a consistency function
    "own": {"name": "karras", "options": {"end": "sigma_min"}},
    "consistency": {"name": "karras", "options": {"sigma_min": 0.4}},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("solvers", nargs="+", choices=STUDENTS)
    parser.add_argument("--model", default="digits-edm", choices=MODELS)
    parser.add_argument("--nfe", type=int, nargs="+", default=[1, 2, 4, 5, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--grid", type=json.loads, help="name and options, as JSON")
    parser.add_argument("--images", type=int, help="noises; by default the method's own")
    parser.add_argument("--options", type=json.loads, default={}, help="of the training, as JSON")
    chosen = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    scored = Scored(chosen.model)
    print("| method | NFE | seed | images | options | paired FID | RMSE | evaluations | with gradients | CPU seconds |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in chosen.solvers:
        method, solver = learned.preparations.get(name), solvers.create(name)
        images, kind = chosen.images or method.images, solver.method.network
        grid = chosen.grid or GRIDS[kind]
        for seed in chosen.seeds:
            (latents, ends), student = scored.fitting(images, seed), None
            for nfe in chosen.nfe:
                options = grid.get("options", {})
                sigmas = grids.for_model(scored.denoise, grid["name"], grids.intervals(solver, nfe, options), **options)
                if student is None or kind == "own":
                    task = Task(solver, scored.denoise, latents, sigmas, ends=ends, seed=seed)
                    began = time.process_time()
                    weights = method(task, **chosen.options)
                    seconds, student = time.process_time() - began, scored.denoise.trainable()
                    student.network.load_state_dict(weights)
                    student = student.as_consistency_function() if kind == "consistency" else student
                with torch.no_grad():
                    scores = scored.scores(partial(dode.sample, solver, student, sigmas=sigmas))
                print(
                    f"| {name} | {nfe} | {seed} | {images} | {json.dumps(chosen.options)} | {scores.paired_fid:.4f} "
                    f"| {scores.rmse:.4f} | {task.meter.evaluations:,} | {task.meter.gradients:,} "
                    f"| {seconds:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
