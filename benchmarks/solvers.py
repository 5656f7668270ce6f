"""What the solvers' own arithmetic costs an evaluation, against the memory traffic that it cannot avoid and diffusers.

Prints a Markdown table. Times are CPU times and those of a row are taken in turns, so that the ratios hold on a busy
machine too. See benchmarks/README.md.
"""

import argparse
import itertools
import os
import platform
import resource
import statistics
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

import dode
from dode import driver, solvers

STEPS = 40  # grid intervals
FIRST, COUNT = 14, 12  # the timed evaluations: after every start-up, before the orders fall, whole steps of all methods
MULTISTEP = "DPMSolverMultistepScheduler"
SINGLESTEP = "DPMSolverSinglestepScheduler"


def variants():
    """``(name, options)`` of every solver of the registry with every value of its options.

    Without those that are another solver with another network, or that add noise.
    """
    for name in solvers.names():
        method = solvers.create(name).method
        if method.network:
            continue
        choices = method.choices
        for values in itertools.product(*choices.values()):
            yield name, dict(zip(choices, values, strict=True))


def arrays(name, order=None, variant=None, base=None, **_):
    """``(read, written)``: tensors that an evaluation must at least read and write, on average; None where unknown.

    Read: the state, the evaluation, the kept outputs; written: the new state, the effective output that differs from
    the evaluation, and what is kept for later that is not at hand (the noise estimate).
    """
    match name:
        case "amed":
            return {"amed": (5 / 2, 1), "dpm-solver": (3, 1), "ipndm": (5, 2)}[
                base
            ]  # the first stage (2, 1) but in ipndm
        case "ddim":
            return 2, 1
        case "heun" | "flow-heun":
            return 3, 1  # predictor (2, 1); corrector: both states and both evaluations
        case "flow-midpoint":
            return 5 / 2, 1  # the first stage (2, 1), then (3, 1)
        case "dpm-solver":
            return (3, 1) if order == 2 else (10 / 3, 1)  # the first stage (2, 1), then (4, 1)
        case "dpm-solver++":
            return {"2S": (2, 1), "2M": (3, 2), "3M": (4, 2), "3M-full": (4, 2)}[variant]
        case "res-multistep":
            return order + 1, 2
        case "gradient-estimation":
            return 3, 3
        case "pndm" | "plms":
            return 5, 3  # the four-step formula
        case "ipndm" | "ipndm_v" | "dpm-solver-multistep" | "flow-ab":
            return (order + 1, 3) if order > 1 else (2, 1)
        case "deis":
            return order + 2, 3  # a polynomial of degree ``order`` has one output more
        case "unipc":
            return order + 2, 2  # ``order`` former evaluations
        case "dpm-solver-v3":
            return order + 3, 3  # without statistics
    return None


def scheduler(name, order=None, variant=None, variable=None, stages=None, **_):
    """diffusers' scheduler for the same formula as ``(class, options)``, or None."""
    match name:
        case "ddim":
            return "DDIMScheduler", {"clip_sample": False}
        case "heun":
            return "HeunDiscreteScheduler", {}
        case "ipndm" if order == 4:
            return "IPNDMScheduler", {}
        case "pndm":
            return "PNDMScheduler", {"skip_prk_steps": False}
        case "deis" if order < 3 and variable == "log-sigma":
            return "DEISMultistepScheduler", {"solver_order": order + 1}
        case "dpm-solver-multistep":
            options = {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}
            return MULTISTEP, {"solver_order": order, **options}
        case "dpm-solver" if order == 2 and stages == "grid":
            options = {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}
            return SINGLESTEP, {"solver_order": order, **options}
        case "dpm-solver++" if variant == "2S":
            return SINGLESTEP, {"solver_order": 2, "algorithm_type": "dpmsolver++", "final_sigmas_type": "sigma_min"}
        case "dpm-solver++":
            return MULTISTEP, {"solver_order": int(variant[0]), "algorithm_type": "dpmsolver++"}
        case "unipc":
            return "UniPCMultistepScheduler", {"solver_order": order, "solver_type": variant}
    return None


class Ready:
    """Tensors that are there already: what denoisers and networks of no cost return, in turns."""

    def __init__(self, shape):
        generator = torch.Generator().manual_seed(0)
        self.double = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(8)]
        self.single = [tensor.float() for tensor in self.double]
        self.calls = 0

    def denoiser(self, dtype):
        """A denoiser of no cost in ``dtype``."""
        tensors = self.double if dtype == torch.float64 else self.single

        def denoise(x, sigma):
            self.calls += 1
            return tensors[self.calls % len(tensors)]

        return denoise

    def pass_over_one(self):
        """Seconds to read or write one float64 tensor: half of a copy's, over all eight, which no cache should hold."""
        start = time.process_time()
        for target, source in zip(self.double[::2], self.double[1::2], strict=True):
            target.copy_(source)
        return (time.process_time() - start) / len(self.double)


def ours(ready, dtype, name, options):
    """The solver's generator alone, with states in ``dtype``: a function that makes one evaluation a call."""
    x, sigmas = (ready.double[0] * 80).to(dtype), dode.grids.karras(steps=STEPS)
    proposals = solvers.create(name, **options)(ready.denoiser(dtype), x, sigmas)
    reply = None

    def evaluation():
        nonlocal reply
        proposal = proposals.send(reply)
        reply = proposal.x
        return proposal

    return evaluation


def driven(ready, dtype, name, options):
    """The same inside :func:`dode.driver.steps`, with latents and a network in ``dtype``."""
    latents = (ready.double if dtype == torch.float64 else ready.single)[0]
    stepper = driver.steps(
        solvers.create(name, **options), ready.denoiser(dtype), latents, dode.grids.karras(steps=STEPS)
    )
    return lambda: next(stepper)


def theirs(ready, dtype, name, options):
    """The same with diffusers' ``step``."""
    from diffusers import schedulers

    made = getattr(schedulers, name)(**options)
    made.set_timesteps(STEPS)
    network = ready.denoiser(dtype)
    state, timesteps = network(None, None), iter(made.timesteps)

    def evaluation():
        nonlocal state
        state = made.step(network(None, None), next(timesteps), state).prev_sample
        return state

    return evaluation


def timed(ready, make):
    """``(seconds of an evaluation, of one tensor's pass, page faults an evaluation)`` over the timed evaluations."""
    evaluation, seconds, passes = make(), [], []
    for _ in range(FIRST):
        held = evaluation()
    faults = 0
    for _ in range(COUNT):
        passes.append(ready.pass_over_one())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        start = time.process_time()
        held = evaluation()  # the one before is held until then, as in a real loop  # noqa: F841
        seconds.append(time.process_time() - start)
        faults += resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return statistics.mean(seconds), statistics.median(passes), faults / COUNT


@torch.no_grad()
def measure(shape, repeats, chosen):
    """A row of the table for each variant."""
    ready = Ready(shape)
    for name, options in variants():
        if chosen and name not in chosen:
            continue
        makers = {
            "ours": lambda: ours(ready, torch.float64, name, options),  # noqa: B023
            "ours32": lambda: ours(ready, torch.float32, name, options),  # noqa: B023
            "driver64": lambda: driven(ready, torch.float64, name, options),  # noqa: B023
            "driver32": lambda: driven(ready, torch.float32, name, options),  # noqa: B023
        }
        other = scheduler(name, **options) if _diffusers() else None
        if other:
            makers["theirs64"] = lambda: theirs(ready, torch.float64, *other)  # noqa: B023
            makers["theirs32"] = lambda: theirs(ready, torch.float32, *other)  # noqa: B023
        runs = {key: [] for key in makers}
        for _ in range(repeats):
            for key, make in makers.items():
                runs[key].append(timed(ready, make))
        yield name, options, runs


def _diffusers():
    try:
        import diffusers.schedulers  # noqa: F401
    except ImportError:
        return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--batch", type=int, default=500, help="images of 3 x 32 x 32")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each solver, of twelve timed evaluations")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--solvers", nargs="+", help="only these")
    parser.add_argument("--quick", action="store_true", help="a tiny batch: shows that the benchmark runs, no more")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shape = (2, 3, 8, 8) if options.quick else (options.batch, 3, 32, 32)
    print(f"states {shape}, CPU, {options.threads} threads, torch {torch.__version__}, ", end="")
    print(f"Python {platform.python_version()}\n")
    print("| Solver | Arrays | ms | / floor | Faults | Driver, float64 | float32 |", end="")
    print(" diffusers, float64 | float32 | float32 to ours in float32 |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, chosen, runs in measure(shape, 2 if options.quick else options.repeats, options.solvers):
        label = ", ".join([name, *(f"{key}={value}" for key, value in chosen.items())])
        read_written = arrays(name, **chosen)
        ms = statistics.median(seconds for seconds, _, _ in runs["ours"]) * 1e3
        cells = [f"{sum(read_written):.3g}" if read_written else "-", f"{ms:.2f}"]
        floors = [seconds / one / sum(read_written) for seconds, one, _ in runs["ours"]] if read_written else []
        cells.append(f"{statistics.median(floors):.2f}" if floors else "-")
        cells.append(f"{statistics.median(run[2] for run in runs['ours']):.0f}")
        pairs = [(key, "ours") for key in ("driver64", "driver32", "theirs64", "theirs32")] + [("theirs32", "ours32")]
        for key, base in pairs:
            ratios = [run[0] / own[0] for run, own in zip(runs.get(key, []), runs[base], strict=False)]
            cells.append(f"{statistics.median(ratios):.2f}" if ratios else "-")
        print(f"| {label} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
