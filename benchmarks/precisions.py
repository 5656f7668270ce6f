"""What TF32 and bfloat16 do to the scores of the embedded models, on a CPU. See benchmarks/README.md.

The measurement is the workflow's own (dode.benchmark.measuring), with speeds like those of a GPU, so that every
precision is compared. TF32 is rounding by software: both factors of every product to 10 binary digits.
"""

import argparse
from pathlib import Path

import torch
from torch.nn import functional

from dode.benchmark import measuring
from dode.benchmark.cells import Benchmark
from dode.benchmark.dependencies import Dependencies
from dode.benchmark.execution import settings
from dode.models import precision
from dode.models.precision import Way
from dode.validation import read_yaml

ROOT = Path(__file__).resolve().parents[1]
SPEEDS = {"float32": 1894, "tf32": 8327, "bfloat16": 9900}
DROPPED = 23 - 10


class Emulated:
    """Stands for :func:`dode.models.precision.allow_tf32` and torch's product."""

    def __init__(self):
        self.allowed, self.product = False, functional.linear

    def allow(self, allowed):
        self.allowed = allowed

    def linear(self, x, weight, bias=None):
        if self.allowed:
            x, weight = rounded(x), rounded(weight)
        return self.product(x, weight, bias)


def rounded(x):
    """To the nearest number with 10 binary digits behind the first."""
    half = 1 << (DROPPED - 1)
    return ((x.contiguous().view(torch.int32) + half) >> DROPPED << DROPPED).view(torch.float32)


def measure(benchmark, dataset, part, most):
    """The row of a part: the largest share that a score moves by, of each kind in each precision."""
    own = benchmark.datasets[dataset]
    inputs = {kind: str(ROOT / f"config/models/{own[kind]}.safetensors") for kind in ("model", "features")}
    params = {**Dependencies(benchmark).precision(dataset, part), "most": most}
    job = measuring.Measuring(params, inputs, settings(benchmark.config["execution"], dataset))
    job.speed = lambda tried: setattr(tried, "speed", SPEEDS[tried.way.kind])
    chosen, every = job.chosen()
    for kind, way in chosen.items():
        shares = {
            tried.way.kind: max(score.share for score in tried.moved[kind].values())
            for tried in every
            if kind in tried.moved
        }
        said = ", ".join(f"{name} {share:.2g}" for name, share in shares.items())
        print(f"{dataset}, {part}, {kind}: {said}; taken: {way.name}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--most", type=int, default=3200, help="images where 400 do not decide")
    parser.add_argument("--parts", nargs="+", default=["nfe5", "nfe10", "fine"], help="of each model")
    options = parser.parse_args()
    emulated = Emulated()
    precision.allow_tf32, functional.linear = emulated.allow, emulated.linear
    precision.cheaper = lambda way, device: [Way(tf32=True), Way("bfloat16")]
    measuring.COMPILING = float("inf")
    config = read_yaml(ROOT / "config" / "config.yaml")
    config["execution"] |= {"precision": "auto", "device": "cpu"}
    benchmark = Benchmark(config, ROOT)
    for dataset in benchmark.datasets:
        for part in options.parts:
            measure(benchmark, dataset, part, options.most)


if __name__ == "__main__":
    main()
