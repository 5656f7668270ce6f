"""How fast the networks are and what memory they take, by card, batch, layout and precision, as a job runs them.

Weights are random: neither depends on them. Prints two Markdown tables and writes JSON. See benchmarks/README.md.
"""

import argparse
import gc
import math
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

# Idle OpenMP threads spin by default, which multiplies every time on a machine that does something else too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from dode import sampling, storage
from dode.benchmark import devices
from dode.benchmark.cells import Benchmark
from dode.benchmark.dependencies import Dependencies
from dode.benchmark.jobs import of_cell
from dode.fetching.cards import load_card, names
from dode.metrics import features
from dode.metrics.extractors import inception
from dode.models.batches import out_of_memory
from dode.models.networks import networks
from dode.validation import copied

ROOT = Path(__file__).resolve().parents[1]
STEPS = 10
PICTURE = (3, 64, 64)  # of the images that features are taken of; they are resized to 299 pixels
MIB = 2**20
# None leaves what the card says.
PRECISIONS = {
    "card": None,
    "fp32": {"dtype": "float32", "tf32": False},
    "tf32": {"dtype": "float32", "tf32": True},
    "fp16": {"dtype": "float16"},
    "bf16": {"dtype": "bfloat16"},
}


class ResizingInception(nn.Module):
    """The interface of the published TorchScript file: ``layers``, and the resizing to 299 pixels in ``forward``."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x, return_features: bool = False):
        x = nn.functional.interpolate(x, size=[299, 299], mode="bilinear", align_corners=False)
        return self.layers((x - 128) / 128)


def write_inception(card, folder):
    """The path of a file of random weights as the published one of a features card."""
    from dode.metrics.reference import inception_pytorch

    weights = inception_pytorch._inception_v3(num_classes=1008, aux_logits=False, weights=None).state_dict()
    if card["format"] != "torchscript":
        save_file(weights, folder / "model.safetensors")
        return folder / "model.safetensors"
    path = folder / "inception-2015-12-05.pt"
    layers = nn.Sequential(*inception.pytorch_inception(weights).blocks).eval()
    traced = torch.jit.trace(layers, torch.zeros(1, 3, 299, 299), check_trace=False)
    torch.jit.script(ResizingInception(traced)).save(str(path))
    return path


def write_network(card, path):
    """The path of a file of random weights for a card's network."""
    network = networks.create(card["network"]["name"], **card["network"]["options"])
    save_file(network.state_dict(), path)
    return path


class Sampled:
    """A diffusion card as a job of its dataset has it: preconditioned, labelled and guided as the card says."""

    layouts, precisions = (False, True), tuple(PRECISIONS)

    def __init__(self, name, card, folder):
        del card  # the benchmark reads it itself, and checks it
        # An evaluation costs the same at each noise level, so one grid that every model has is taken for all.
        dataset = {"id": name, "model": name, "data": "digits", "features": "digits-classifier", "images": 1000}
        dataset |= {"seeds": 1, "grid": {"name": "karras"}}
        solver = {"id": "ddim", "solver": "ddim", "nfe": [STEPS]}
        benchmark = Benchmark({"benchmark": "throughput", "datasets": [dataset], "solvers": [solver]}, ROOT)
        self.params = Dependencies(benchmark).trajectory(benchmark.cells[name, "ddim", STEPS]).params()
        self.files = {"model": write_network(self.params["model"], folder / "model.safetensors")}
        if "classifier" in self.params.get("guidance", {}):
            judge = self.params["guidance"]["classifier"]
            self.files["classifier"] = write_network(judge, folder / "classifier.safetensors")

    def run(self, device, precision, **how):
        """Its :class:`dode.benchmark.jobs.CellJob`."""
        params = copied(self.params)
        for card in (params["model"], params.get("guidance", {}).get("classifier")):
            if card is not None and precision is not None:
                card["precision"] = precision
        execution = {"device": str(device), "batch_size": None, **how}
        return of_cell(params, self.files["model"], execution, self.files)

    def prepare(self, device, precision, **how):
        """``begin(batch)``, which gives the function that evaluates so many images once."""
        run = self.run(device, precision, **how)
        sigma = run.sigmas[STEPS // 2]

        def begin(batch):
            x = sigma * torch.randn(batch, *run.shape, dtype=torch.float64, device=run.device)
            denoise = run.denoise_for(range(batch))
            batches = getattr(denoise, "model", denoise).batches
            batches.size = batch

            def evaluate():
                denoise(x, sigma)
                if batches.size < batch:  # as a job would go on
                    raise torch.OutOfMemoryError(f"{batch} images are too many")

            return evaluate

        return begin


class Described:
    """A features card; an evaluation is all from bytes to features, resizing included."""

    layouts, precisions = (False,), ("card", "fp32", "tf32")

    def __init__(self, name, card, folder):
        del name
        self.card, self.file = card, write_inception(card, folder)

    def prepare(self, device, precision, **how):
        """As of :class:`Sampled`."""
        del how
        card = self.card if precision is None else {**self.card, "precision": precision}
        extract = features.create(card, self.file, device=device)

        def begin(batch):
            images = np.random.default_rng(0).integers(0, 256, (batch, *PICTURE), dtype=np.uint8)

            def evaluate():
                with torch.no_grad():
                    extract(images).double().cpu()

            return evaluate

        return begin


def seconds_of(work, device):
    """Seconds until the device is done with ``work()``."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


def seconds_each(work, device, seconds):
    """``(of the first call, of a later one)``; calls follow one another without waiting, as in a job."""
    first, once = seconds_of(work, device), seconds_of(work, device)
    count = math.ceil(seconds / once)
    return first, once if count == 1 else seconds_of(lambda: [work() for _ in range(count)], device) / count


def peak(device):
    """The most MiB allocated and reserved since the counters were set back; the process's own on a CPU, for good."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / MIB, torch.cuda.max_memory_reserved() / MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, None


def clean(device):
    """Forget what earlier points hold."""
    gc.collect()
    if "torch._dynamo" in sys.modules:  # loading it takes seconds
        torch.compiler.reset()  # a job has one batch size, for which its network is compiled
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def measured(begin, batch, device, seconds):
    """What is measured at one batch size; ``{"out_of_memory": True}`` where the memory does not hold it."""
    clean(device)
    try:
        first, each = seconds_each(begin(batch), device, seconds)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return {"out_of_memory": True}
    allocated, reserved = peak(device)
    found = {"evaluations_per_second": batch / each, "first_seconds": first}
    return {**found, "allocated_mib": allocated, "reserved_mib": reserved}


def points(source, device, options):
    """Generate the measurements of a card, each batch size until one is too large."""
    layouts = {"both": (False, True), "yes": (True,), "no": (False,)}[options.channels_last]
    for precision in options.precision:
        if precision not in source.precisions:
            continue
        for channels_last in layouts if source.layouts != (False,) else source.layouts:
            how = {"channels_last": channels_last, "compile": options.compile}
            begin = source.prepare(device, PRECISIONS[precision], **how)
            for batch in sorted(options.batch_sizes):
                found = measured(begin, batch, device, options.seconds)
                yield {"batch": batch, "precision": precision, **how, **found}
                if "out_of_memory" in found:
                    break


class Calls:
    """Within it: the arguments of a network's calls; :meth:`repeat` makes the same calls again and nothing else."""

    def __init__(self, network):
        self.network, self.arguments = network, []

    def __enter__(self):
        self.hook = self.network.register_forward_pre_hook(
            lambda _, *arguments: self.arguments.append(arguments), with_kwargs=True
        )
        return self

    def __exit__(self, *_):
        self.hook.remove()

    @torch.no_grad()
    def repeat(self):
        for arguments, named in self.arguments:
            self.network(*arguments, **named)


def sampler(source, device, batch, seconds):
    """``dode.sample`` with ddim against the calls of the network in it, medians of runs in turns."""
    clean(device)
    run = source.run(device, None)
    latents, denoise = run.latents(range(batch)), run.denoise_for(range(batch))

    def sample():
        return sampling.sample(run.solver, denoise, latents, run.sigmas)

    with Calls(getattr(denoise, "model", denoise).network) as calls:
        sample()
    runs = [(seconds_of(sample, device), seconds_of(calls.repeat, device))]
    while sum(map(sum, runs)) < 2 * seconds or len(runs) < 3:
        runs.append((seconds_of(sample, device), seconds_of(calls.repeat, device)))
    whole, bare = (statistics.median(column) for column in zip(*runs, strict=True))
    return {"batch": batch, "network_calls": len(calls.arguments), "sample_seconds": whole, "network_seconds": bare}


def row(name, point):
    """A line of the first table."""
    cells = [name, point["batch"], "channels last" if point["channels_last"] else "contiguous", point["precision"]]
    if "out_of_memory" in point:
        return [*cells, "out of memory", "-", "-"]
    reserved = point["reserved_mib"]
    memory = f"{point['allocated_mib']:.0f}", "-" if reserved is None else f"{reserved:.0f}"
    return [*cells, f"{point['evaluations_per_second']:.4g}", *memory]


def show(cells):
    print("|", *(f"{cell} |" for cell in cells), flush=True)


def heading(*cells):
    show(cells)
    show(["---"] * len(cells))


def keep(options, result):
    if options.output is not None:
        storage.write_json(options.output, result)


def measure(name, kind, card, device, options, result):
    """Add to ``result`` what is measured of a card."""
    with tempfile.TemporaryDirectory() as folder:
        source = kind(name, card, Path(folder))
        for point in points(source, device, options):
            result["points"].append({"card": name, **point})
            show(row(name, point))
            keep(options, result)
        if kind is Sampled and (name == options.sampler or not (options.sampler or result["sampler"])):
            found = sampler(source, device, min(options.batch_sizes), options.seconds)
            result["sampler"].append({"card": name, **found})
            keep(options, result)


def known_cards():
    """The cards that can be measured, and the class that does it; those of pipelines cannot."""
    found = {}
    for name in names(ROOT):
        card = load_card(ROOT, name, "--cards")
        if card["role"] == "diffusion" and "network" in card:
            found[name] = Sampled, card
        elif card.get("network", {}).get("name") == "inception":
            found[name] = Described, card
    return found


def arguments(cards):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--device", default="auto", help="torch device; auto is CUDA where there is one")
    parser.add_argument("--cards", nargs="+", choices=cards, default=list(cards), metavar="CARD", help="default all")
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[50, 100, 250, 500], metavar="N", help="images")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement, after two calls to warm up")
    parser.add_argument("--channels-last", choices=["both", "yes", "no"], default="both", help="layout of the images")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["card"], help="instead of the card's")
    parser.add_argument("--compile", action="store_true", help="as execution.compile of the configuration")
    parser.add_argument("--sampler", choices=cards, metavar="CARD", help="whose sampler is timed; default the first's")
    parser.add_argument("--output", type=Path, help="JSON file, written anew after each point")
    return parser.parse_args()


def main():
    cards = known_cards()
    options = arguments(cards)
    if not devices.is_here(options.device):
        raise SystemExit(devices.missing(options.device, "--device"))
    device = devices.device(options.device)
    threads = torch.get_num_threads()
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {threads} threads"
    facts = {"device": where, "torch": torch.__version__, "python": platform.python_version()}
    result = {**facts, "compile": options.compile, "seconds": options.seconds}
    result |= {"points": [], "sampler": [], "not_measured": {}}
    print(f"{where}, torch {torch.__version__}, Python {platform.python_version()}", end="")
    print(", compiled\n" if options.compile else "\n")
    heading("Card", "Batch", "Layout", "Precision", "Evaluations/s", "Peak (MiB)", "Reserved (MiB)")
    for name in options.cards:
        try:
            measure(name, *cards[name], device, options, result)
        except Exception as error:  # which shall not cost the other cards' figures
            result["not_measured"][name] = f"{type(error).__name__}: {error}"
            keep(options, result)
    print()
    heading("Card", "Batch", "Network calls", "`dode.sample` (s)", "The calls alone (s)", "Outside them (%)")
    for found in result["sampler"]:
        whole, bare = found["sample_seconds"], found["network_seconds"]
        share = f"{100 * (whole - bare) / whole:.2f}"
        show([found["card"], found["batch"], found["network_calls"], f"{whole:.4g}", f"{bare:.4g}", share])
    for name, why in result["not_measured"].items():
        print(f"\n{name} was not measured (to the end): {why}")


if __name__ == "__main__":
    main()
