"""The joint fit on an embedded model, with several fitting seeds: the table of docs/method.md.

``python benchmarks/joint.py`` fits on 200 images from iPNDM and DPM-Solver++ (2M) at 5, 8 and 10 evaluations and
prints, of these solvers plain and fitted, paired FID and trajectory RMSE of 2,500 images x 3 seeds (200 x 3 of MNIST),
the RMSE of the images as they are saved, what was kept, evaluations, and CPU seconds of one thread. ``--model``,
``--grid``, ``--nfe``, ``--seeds``, ``--images``, ``--family`` and ``--budget`` choose others.
"""

import argparse
import time
from functools import partial

from embedded import MODELS, Scored, on_grid

import dode
from dode import solvers

SOLVERS = {"iPNDM": ("ipndm", {}), "DPM-Solver++ (2M)": ("dpm-solver++", {"variant": "2M"})}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="digits-edm", choices=MODELS)
    parser.add_argument("--grid", default="karras", help="its name in docs/solvers.md: 'trailing, afs'")
    parser.add_argument("--nfe", type=int, nargs="+", default=[5, 8, 10])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--family", default="auto")
    parser.add_argument("--budget", type=int, help="network evaluations of a fit")
    options = parser.parse_args()
    scored = Scored(options.model)
    print("| NFE | from | seed | kept | paired FID | RMSE | as saved | evaluations | CPU seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for nfe in options.nfe:
        for label, (name, own) in SOLVERS.items():
            solver = solvers.create(name, **own)
            sigmas = on_grid(options.grid, scored.denoise, solver, nfe)
            plain = scored.scores(partial(dode.sample, solver, scored.denoise, sigmas=sigmas))
            show(nfe, label, "", "plain", plain, "", "")
            for seed in options.seeds:
                (latents, ends), began = scored.fitting(options.images, seed), time.process_time()
                how = {"ends": ends, "clip": True, "family": options.family, "budget": options.budget}
                fit = dode.distill(solver, scored.denoise, latents, sigmas, **how)
                seconds = time.process_time() - began
                scores = scored.scores(partial(fit.student.sample, scored.denoise))
                spent = sum(rung.evaluations for rung in fit.rungs)
                show(nfe, label, seed, fit.family, scores, f"{spent:,}", f"{seconds:.1f}")


def show(nfe, label, seed, kept, scores, spent, seconds):
    """Print a row."""
    found = f"{scores.paired_fid:.4f} | {scores.rmse:.4f} | {scores.saved:.4f}"
    print(f"| {nfe} | {label} | {seed} | {kept} | {found} | {spent} | {seconds} |", flush=True)


if __name__ == "__main__":
    main()
