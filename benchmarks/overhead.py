"""What dode costs beside the network: in sampling, in the fit, and in memory. Prints two Markdown tables.

Every time is compared with the network's own time in the same run, so that the shares hold on a busy machine too. See
benchmarks/README.md.
"""

import argparse
import os
import platform
import statistics
import time
import weakref

# Idle OpenMP threads spin by default, which multiplies every time on a machine that does something else too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from unet import UNet

import dode
from dode.models import DataPrediction

SUBSTEPS = 2  # of the timed fits: the more there are, the smaller is the fit's share
DIRECTIONS = (1, 3)


class Timed(nn.Module):
    """A network that adds up the seconds and the calls spent in it."""

    def __init__(self, network, device):
        super().__init__()
        self.network, self.device = network, device
        self.seconds, self.calls = 0.0, 0

    def now(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def forward(self, *arguments, **options):
        start = self.now()
        result = self.network(*arguments, **options)
        self.seconds += self.now() - start
        self.calls += 1
        return result


class Live(TorchDispatchMode):
    """Within it: the largest number of bytes in live tensors of at least ``size`` bytes."""

    def __init__(self, size):
        super().__init__()
        self.size, self.bytes, self.peak = size, 0, 0
        self.seen = weakref.WeakValueDictionary()

    def _ended(self, count):
        self.bytes -= count

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage.nbytes() >= self.size and self.seen.get(id(storage)) is not storage:
                    self.seen[id(storage)] = storage
                    weakref.finalize(storage, self._ended, storage.nbytes())
                    self.bytes += storage.nbytes()
                    self.peak = max(self.peak, self.bytes)
        return result


def timed(network, work):
    """``(calls, seconds in the network, seconds outside it, result)`` of ``work()``."""
    network.seconds, network.calls = 0.0, 0
    start = network.now()
    result = work()
    return network.calls, network.seconds, network.now() - start - network.seconds, result


def measure(network, shape, steps, repeats):
    """Rows ``(what, calls, seconds in the network, share outside)``, medians over ``repeats``."""
    denoise = DataPrediction(network, sigma_data=0.5)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(network.device)
    timed(network, lambda: denoise(latents, torch.tensor(1.0)))  # warm
    for name in steps:
        solver, sigmas = dode.solvers.create(name), dode.grids.karras(steps=steps[name])

        def repeated(function, _solver=solver, _sigmas=sigmas, **options):
            def work():
                return function(_solver, denoise, latents, _sigmas, **options)

            runs = [timed(network, work) for _ in range(repeats)]
            share = statistics.median(outside / (outside + inside) for _, inside, outside, _ in runs)
            return runs[0][0], statistics.median(run[1] for run in runs), share, runs[0][3]

        yield f"`sample`, {name}, plain", *repeated(dode.sample)[:3]
        for m in DIRECTIONS:
            *row, fit = repeated(dode.distill, fit="greedy", substeps=SUBSTEPS, directions=m)
            yield f"`distill`, {name}, m={m}", *row
            row = repeated(dode.sample, lambdas=fit.lambdas, directions=fit.directions)[:3]
            yield f"`sample`, {name}, m={m}", *row


def peaks(shape):
    """Rows ``(what, peak for a short teacher's trajectory, for a long one)``: float64 states held, with no network."""
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def peak(function, name, steps, **options):
        solver, sigmas = dode.solvers.create(name), dode.grids.karras(steps=steps)
        with Live(latents.nbytes) as live:
            function(solver, lambda x, sigma: x / (1 + sigma**2), latents, sigmas, **options)
        return live.peak / (2 * latents.nbytes)

    for name in ("ddim", "heun"):
        yield f"`sample`, {name}, plain", *(peak(dode.sample, name, steps) for steps in (5, 10))
        for m in DIRECTIONS:
            lengths = ((5, 2), (10, 20))
            found = (
                peak(dode.distill, name, steps, fit="greedy", substeps=substeps, directions=m)
                for steps, substeps in lengths
            )
            yield f"`distill`, {name}, m={m}", *found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--batch", type=int, default=12, help="images; a fit of three directions needs twelve")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each row")
    parser.add_argument("--threads", type=int, help="CPU threads (default torch's own choice)")
    parser.add_argument("--quick", action="store_true", help="a tiny network: shows that the benchmark runs, no more")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    torch.manual_seed(0)
    size = 8 if options.quick else 32
    network = UNet(width=32, multipliers=(1, 1), blocks=1, size=size) if options.quick else UNet()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    shape = (options.batch, 3, size, size)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{parameters / 1e6:.1f} million parameters, states {shape}, {where}, torch {torch.__version__}, ", end="")
    print(f"Python {platform.python_version()}\n")
    print("| What | Network calls | In the network (s) | Outside it (%) |\n| --- | --- | --- | --- |")
    rows = measure(Timed(network.to(device), device), shape, {"ddim": 4, "heun": 3}, options.repeats)
    for what, calls, inside, share in rows:
        print(f"| {what} | {calls} | {inside:.2f} | {100 * share:.2f} |", flush=True)
    print("\n| What | Peak states, N = 5 (S = 2) | N = 10 (S = 20) |\n| --- | --- | --- |")
    for what, short, long in peaks(shape):
        print(f"| {what} | {short:g} | {long:g} |")


if __name__ == "__main__":
    main()
