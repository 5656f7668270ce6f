"""How much of a run is work that need not be done: two of the figures of benchmarks/README.md.

The share of all evaluations of samples that is the first of a cell, where another cell begins at the same noise and
level; and the CPU milliseconds that an image costs besides its network.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from dode import storage
from dode.benchmark.cells import Benchmark
from dode.images import noise, pixels
from dode.validation import read_yaml

ROOT = Path(__file__).resolve().parents[1]
SHAPES = {(3, 32, 32): 500, (3, 64, 64): 200, (3, 256, 256): 25}


def shared(name):
    """Print the share of first evaluations that another cell of the dataset makes too."""
    benchmark = Benchmark(read_yaml(ROOT / "config" / f"{name}.yaml"), ROOT)
    evaluations = saved = 0
    begun = set()
    for cell in benchmark.cells.values():
        images = cell.dataset["images"] * cell.dataset["seeds"]
        evaluations += images * cell.nfe
        if cell.is_joint or cell.method:  # their first level is their own
            continue
        start = cell.dataset["id"], cell.entry["grid"]["name"] == "released"
        saved += images * (start in begun)
        begun.add(start)
    print(f"{name}: {evaluations:,} evaluations, {100 * saved / evaluations:.1f} % are another cell's first one")


def seconds_of(work):
    """CPU seconds, at the fourth time."""
    for _ in range(3):
        work()
    begun = time.process_time()
    work()
    return time.process_time() - begun


def besides(shape, images):
    """Print what an image costs besides its network."""
    x = noise.latents(range(images), shape, seed=0)
    kept = pixels.to_bytes(x)

    def write():
        with (
            tempfile.TemporaryDirectory() as folder,
            storage.growing_array(f"{folder}/x.npy", kept.shape, np.uint8) as append,
        ):
            append(kept)

    parts = {"noise": lambda: noise.latents(range(images), shape, seed=0), "bytes": lambda: pixels.to_bytes(x)}
    found = {name: 1e3 * seconds_of(work) / images for name, work in {**parts, "writing": write}.items()}
    print(f"{shape}: " + ", ".join(f"{name} {each:.3f} ms" for name, each in found.items()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in ("paper", "config", "solvers", "mnist"):
        shared(name)
    for shape, images in SHAPES.items():
        besides(shape, images)
