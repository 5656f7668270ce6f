"""The statistics of a model that DPM-Solver-v3 reads."""

from typing import Any

from dode.distillation.learned import Expense, Parts, Span, Task, preparation
from dode.solvers.base import Solver

BATCH = 50  # images at once; a part of the result's rounding, so that it is fixed
PROBE = 1e-3  # of a central difference, in sizes of the state
CONSTANT = 1e-8  # a variance below this share of the largest says nothing of a pixel


def _check(images: int, nfe: int, *, levels: int) -> None:
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 2 * nfe:
        raise ValueError(
            f"preparation 'dpm-solver-v3': levels must be an integer of at least {2 * nfe}, twice the evaluations, not "
            f"{levels!r}"
        )


def _takes(solver: Solver, span: Span, **options: Any) -> None:
    if span.steps == 1 and span.end == 0:
        raise ValueError(
            "preparation 'dpm-solver-v3': the only step is that to 0, which is Euler's and has no statistics; allowed: "
            "at least 2 steps, or an end above 0"
        )


@preparation(
    "dpm-solver-v3",
    source="Zheng et al. 2023, arXiv:2310.13268, App. C.1.1",
    expense=lambda images, nfe, *, levels: Expense(3 * images * (levels + 1)),
    images=256,
    check=_check,
    takes=_takes,
    parts=lambda **_: Parts(solvers=["dpm-solver++"]),  # of the fine trajectories
)
def dpm_solver_v3(task: Task, *, levels: int = 240) -> dict[str, Any]:
    """l, s and b at ``levels`` + 1 noise levels, equidistant in ``lambda = -log sigma``, each (levels + 1, C, H, W).

    Zheng et al. 2023, arXiv 2310.13268, Eq. 6, 9 and App. C.1.1: over the states of fine trajectories from the noise
    (multistep DPM-Solver++ on those levels), pixel by pixel, ``l`` is the mean of the diagonal of ``d(sigma eps)/dx``,
    by a random direction of signs and a central difference, so that a network without gradients serves too; ``s`` and
    ``b`` are the regression of the derivative of ``f = sigma eps - l x`` along the trajectory on f. Those of the paper
    are of 1,200 levels and 4,096 images of CIFAR-10. From the grid's first level to its last above 0.
    """
    import numpy as np
    import torch

    from dode.models.denoiser import for_images

    positive = task.sigmas[task.sigmas > 0]
    first, last = float(positive[0]), float(positive[-1])
    places = torch.linspace(-torch.log(positive[0]), -torch.log(positive[-1]), levels + 1, dtype=torch.float64)
    sigmas = torch.exp(-places)
    sigmas[0], sigmas[-1] = first, last
    state = task.checkpoint.read()
    if state is None:
        shape = (levels + 1, *task.latents.shape[1:])
        names = ("diagonal", "x", "u", "xx", "xu", "uu", "xx_next", "xu_next", "ux_next", "uu_next")
        state = {"done": 0, "sums": {name: torch.zeros(shape, dtype=torch.float64) for name in names}}
    while state["done"] < len(task.latents):
        start, stop = state["done"], min(state["done"] + BATCH, len(task.latents))
        own = np.random.SeedSequence([task.seed, start])  # other probes for other images and for other seeds
        generator = torch.Generator().manual_seed(int(own.generate_state(1, np.uint64)[0]))
        _add(state["sums"], for_images(task.denoise, start, stop), task.latents[start:stop], sigmas, generator)
        state["done"] = stop
        if task.checkpoint.due:
            task.checkpoint.write(state)
    return _statistics(places, {name: total / len(task.latents) for name, total in state["sums"].items()})


def _add(sums, denoise, noise, sigmas, generator):
    """Add the moments of some images to the sums over images."""
    import torch

    from dode import calls, driver, solvers
    from dode.grids.facts import ModelFacts

    outputs, before = [], None

    def watched(x, sigma):
        outputs.append(calls.evaluate(denoise, x, sigma, noise.dtype, to=torch.float64))
        return outputs[-1]

    def output(x, sigma):
        return calls.evaluate(denoise, x, sigma, noise.dtype, to=torch.float64)

    def add(index, x, denoised):
        nonlocal before
        sigma = sigmas[index]
        signs = 2.0 * torch.randint(0, 2, x.shape, generator=generator).to(x) - 1
        probe = PROBE * float((1 + sigma**2) ** 0.5)
        change = (output(x + probe * signs, sigma) - output(x - probe * signs, sigma)) / (2 * probe)
        u = x - denoised
        moments = {"diagonal": 1 - signs * change, "x": x, "u": u, "xx": x * x, "xu": x * u, "uu": u * u}
        for name, moment in moments.items():
            sums[name][index] += moment.sum(dim=0).cpu()
        if before is not None:
            old, older = before
            pairs = {"xx_next": old * x, "xu_next": old * u, "ux_next": older * x, "uu_next": older * u}
            for name, pair in pairs.items():
                sums[name][index - 1] += pair.sum(dim=0).cpu()
        before = x, u

    with torch.no_grad():
        start = noise.to(torch.float64) * ModelFacts.of(denoise).prior_std(sigmas[0])
        end = start
        for step in driver.steps(solvers.create("dpm-solver++"), watched, noise, sigmas, start=start):
            add(step.index, step.x, outputs.pop())
            end = step.proposal.x
        add(len(sigmas) - 1, end, output(end, sigmas[-1]))


def _statistics(places, means):
    """l, s and b of the means over images: f = u - l x, u = sigma eps, with f' by central differences in lambda."""
    import torch

    diagonal = means["diagonal"]

    def mean(at):
        return means["u"][at] - diagonal[at] * means["x"][at]

    def product(one, other):
        """E f f at two neighbouring or equal places."""
        if one > other:
            one, other = other, one
        ends = diagonal[one], diagonal[other]
        if one == other:
            return means["uu"][one] - 2 * ends[0] * means["xu"][one] + ends[0] ** 2 * means["xx"][one]
        return (
            means["uu_next"][one]
            - ends[1] * means["ux_next"][one]
            - ends[0] * means["xu_next"][one]
            + ends[0] * ends[1] * means["xx_next"][one]
        )

    slopes, constants = torch.zeros_like(diagonal), torch.zeros_like(diagonal)
    last = len(places) - 1
    for at in range(last + 1):
        ahead, behind = min(at + 1, last), max(at - 1, 0)
        width = places[ahead] - places[behind]
        own, derivative = mean(at), (mean(ahead) - mean(behind)) / width
        variance = product(at, at) - own**2
        covariance = (product(at, ahead) - product(at, behind)) / width - own * derivative
        known = variance > CONSTANT * variance.max()
        slopes[at] = torch.where(known, covariance / torch.where(known, variance, 1.0), 0.0)
        constants[at] = derivative - slopes[at] * own
    return {"log_snr": places, "l": diagonal, "s": slopes, "b": constants}
