"""A scheduler for a pipeline in memory: ``pipe.scheduler = dode.distill_pipeline(pipe, prompts, steps=6)``."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dode import calls, grids, portable, registry, solvers
from dode.diffusers_scheduler import DodeScheduler
from dode.distillation import fine_solution, fit_checks, fitting
from dode.grids.facts import Described, ModelFacts
from dode.models.batches import Batches
from dode.models.passes import guides
from dode.pipelines import family as families
from dode.pipelines import limits, model
from dode.pipelines.family import Family
from dode.solvers.base import Denoise
from dode.solvers.formulas import PURE_NOISE

log = logging.getLogger(__name__)

SOLVER = "ipndm"  # that a fit begins at; with its noise levels free, it hardly matters which
FAMILY = "auto"
DIRECTIONS = fit_checks.joint_directions(FAMILY)
FEWEST = 32  # images
RUNS = 3  # of all fitting images for each number that the largest family fits
LAST_SEED = 2**63 - 1
BATCH = 8  # images at once through a network whose size is not known; without memory for them, fewer
PACKAGES = ("dode", "torch", "diffusers", "transformers")


def distill_pipeline(
    pipe: Any,
    prompts: Sequence[str] | None = None,
    *,
    steps: int,
    classes: Sequence[int] | None = None,
    negative_prompt: str | None = None,
    guidance_scale: float | None = None,
    true_cfg_scale: float | None = None,
    height: int | None = None,
    width: int | None = None,
    max_sequence_length: int | None = None,
    images: int | None = None,
    seed: int = 0,
    solver: str = SOLVER,
    budget: int | None = None,
    batch_size: int | None = BATCH,
) -> DodeScheduler:
    """Fit a solver of few evaluations to a pipeline of diffusers: a joint fit (:mod:`dode.distillation.joint`).

    The fine solution of each fitting image (Heun's method, some 80 evaluations) is what the fit aims at, in latents;
    nothing is decoded. The pipeline itself is left as it was, also after an error.

    Args:
        pipe: a pipeline of a known family (:mod:`dode.pipelines.family`), on its device and in its precision.
        prompts: at least one per fitting image, of the kind that will be asked for; the first ``images`` are taken.
        steps: network evaluations of the scheduler, 2 or more; with classifier-free guidance each runs the network
            twice on an image.
        classes: in place of prompts, for a pipeline of classes; integers from 0.
        negative_prompt: for all images; by default the pipeline's own, which is an empty one for most.
        guidance_scale: as of the pipeline's call, and by default that of its signature. The fit is for this scale.
        true_cfg_scale: likewise, of a pipeline that has it (FLUX): with a negative prompt, classifier-free guidance.
        height, width: of the images in pixels, by default the pipeline's. The fit is for this size alone.
        max_sequence_length: as of the pipeline's call: the most tokens of a prompt, where there is a choice.
        images: number of fitting images, of which a quarter is held out to judge the fit on. By default as few as
            the largest family of solvers needs, one per number that it fits (:func:`least_images`): as a latent has
            thousands of entries, more cost time and give little.
        seed: of the fitting images' noise.
        solver: name of the solver that the fit begins at.
        budget: most evaluations of one image that the fit may take, besides the fine solution's; by default
            :func:`usual_budget`.
        batch_size: how many images go through the network at once, and prompts through the text encoders; halved where
            memory runs out, None for all. With classifier-free guidance an image counts twice, with and without its
            prompt, so that 8 are 4 images.

    Returns:
        The scheduler; called with ``num_inference_steps=steps``. Its ``sampler.record`` is the result, with what
        became of each family in ``["fit"]``; ``sampler.save("my.json")`` writes it for :func:`dode.load`.

    Raises:
        ValueError: before any work, in one sentence: for a pipeline of an unknown class, without its text encoders or
            on a schedule that is not supported; too few prompts, empty ones or other things than text; a guidance scale
            or a negative prompt that the network cannot use; fewer than two steps; images or a budget that cannot carry
            a fit. Later: for a network whose rounding is too rough for a fit.
        NonFiniteError: where the network returns NaN or infinity.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
        raise ValueError(f"steps must be an integer of at least 2, not {steps!r}")
    _check_length(pipe, max_sequence_length)
    family = families.of(pipe, length=max_sequence_length)
    begun = _begun(solver)
    count = least_images(steps) if images is None else images
    _check_numbers(steps, begun.steps(steps), images=count, seed=seed, batch_size=batch_size)
    allowed = usual_budget(steps, count) if budget is None else budget
    fit_checks.check_joint(count, FAMILY, DIRECTIONS, steps, begun.steps(steps), allowed)
    conditions = _checked(family, prompts, classes, count, fewest_images(steps, begun.steps(steps)))
    scale, true_scale = _scales(family, guidance_scale, true_cfg_scale, negative_prompt)
    _check_size(pipe, height=height, width=width)
    shape = family.latent_shape(height, width)
    denoise = model.denoiser(family, batch_size=batch_size)
    _check_network(denoise)
    grid = _grid(family, denoise.facts, height, width)
    sigmas = grids.for_model(denoise, grid["name"], begun.steps(steps), **grid["options"])
    try:
        if family.classes is None:
            without = true_scale is not None
            conditions = family.encode(conditions, negative_prompt, without=without, batches=Batches(batch_size))
        guided = model.guided(family, denoise, conditions, scale=scale, true_cfg_scale=true_scale)
        noise = torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed)).to(denoise.device)
        ends = _fine(pipe, guided, noise, sigmas)
        fit = fitting.distill(begun, guided, noise, sigmas, ends=ends, budget=allowed)
    finally:
        pipe.maybe_free_model_hooks()  # what was brought to the device for the fit
    for rung in fit.rungs:
        log.info("family %s: error %s, held out %s", rung.family, rung.rmse_fitted, rung.rmse_held_out)
    if fit.family == "plain":
        why = [f"{rung.family}: {rung.skipped or 'not better on the held-out images'}" for rung in fit.rungs[1:]]
        log.warning("nothing was fitted, the scheduler is plain %s (%s)", solver, "; ".join(why))
    record = portable.of_fit(
        fit,
        grid=grid,
        model={"card": _name(pipe), "sha256": None, **model.trained(pipe), **_classes(family)},
        made={"images": count, "seed": seed, "budget": allowed},
        conditions={
            "guidance_scale": scale,
            **({} if true_scale is None else {"true_cfg_scale": true_scale}),
            "negative_prompt": negative_prompt,
            "max_sequence_length": max_sequence_length,
        },
        packages=PACKAGES,
    )
    return DodeScheduler.from_config(pipe.scheduler.config, result=record)  # type: ignore[return-value]


def largest(steps: int) -> int:
    """How many numbers the largest family of solvers fits."""
    return fit_checks.joint_numbers(fit_checks.rungs(FAMILY)[-1], DIRECTIONS, steps, steps)


def least_images(steps: int) -> int:
    """The least number of fitting images of which the fitted part can carry the largest family of solvers."""
    return max(FEWEST, fit_checks.fewest_images(largest(steps)))


def usual_budget(steps: int, images: int) -> int:
    """Evaluations of one image that a fit may take by default.

    Three runs of all fitting images for each number of the largest family of solvers, but no more than what it costs to
    sample 18,000 images.
    """
    return steps * max(fit_checks.FIRST * images, min(RUNS * images * largest(steps), fit_checks.BUDGET))


def fewest_images(steps: int, intervals: int) -> int:
    """The least number of fitting images with which anything is fitted: what the smallest family of solvers needs.

    Args:
        steps: network evaluations.
        intervals: of the grid, on the solver that the fit begins at.
    """
    smallest = fit_checks.joint_numbers(fit_checks.rungs(FAMILY)[0], DIRECTIONS, steps, intervals)
    return max(fit_checks.LEAST_JOINT_IMAGES, fit_checks.fewest_images(smallest))


def _begun(name):
    """The solver that a fit begins at: one of the differential equation, for which nothing is prepared."""
    found = solvers.create(name)
    found.check_shared_levels()
    fit_checks.check_noiseless(found)
    if found.method.prepare or found.method.network:
        raise ValueError(
            f"solver: '{name}' needs what is prepared for a model, so that no fit begins at it; 'ipndm' or 'unipc' "
            "suit most pipelines"
        )
    return found


def _check_numbers(steps, intervals, *, images, seed, batch_size):
    """Refuse what is no number of images, no seed or no size of a batch, and fewer images than a fit needs."""
    fewest = fewest_images(steps, intervals)
    for key, value, (least, most), also in (
        ("images", images, (fewest, math.inf), f" of at least {fewest} for {steps} steps, each with a prompt or class"),
        ("seed", seed, (0, LAST_SEED), f" from 0 to {LAST_SEED}"),
        ("batch_size", 1 if batch_size is None else batch_size, (1, math.inf), " of at least 1, or None for all"),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"{key}: {value!r} is not allowed; allowed: an integer{also}")


def _checked(family: Family, prompts: Any, classes: Any, count: int, fewest: int) -> Any:
    """The prompts or the classes of the fitting images, of which a fit needs at least ``fewest``."""
    name = type(family.pipe).__name__
    if family.classes is not None:
        if prompts is not None or classes is None:
            raise ValueError(
                f"classes: {name} takes classes, 0 to {family.classes - 1}, not prompts; give classes=[...]"
            )
        found = [*classes]
        for value in found:
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < family.classes:
                raise ValueError(f"classes: {value!r} is not allowed; allowed: integers from 0 to {family.classes - 1}")
    else:
        if classes is not None:
            raise ValueError(f"classes: {name} takes prompts, not classes; give a list of texts")
        if prompts is None:
            raise ValueError(f"prompts: {name} needs them; give a list of texts, one for each fitting image")
        if isinstance(prompts, str):
            raise ValueError("prompts: a list of texts is needed, one for each fitting image, not one text")
        found = [*prompts]
        for number, value in enumerate(found):
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"prompts: entry {number} is {value!r}; allowed: text that is not empty")
        # A third encoder may be left out, as SD 3's T5 is.
        for _, encoder in family.encoders[:2]:
            if getattr(family.pipe, encoder, None) is None:
                raise ValueError(f"pipeline: {name} has no {encoder}, which is needed for prompts; load it with that")
    if len(found) < count:
        kind = "prompts" if family.classes is None else "classes"
        few = max(len(found), fewest)
        fewer = "" if few >= count else f", or {few} with images={few}" if few > len(found) else f", or images={few}"
        raise ValueError(
            f"{kind}: {len(found)} are too few for {count} fitting images, each of which has its own; give {count}"
            f"{fewer}"
        )
    return found[:count]


def _scales(
    family: Family, given: float | None, true: float | None, negative: str | None
) -> tuple[float | None, float | None]:
    """The scale of the guidance, and that of a distilled network's classifier-free guidance; None for none."""
    for key, value in (("guidance_scale", given), ("true_cfg_scale", true)):
        if value is not None and (not registry.finite(value) or value < 0):
            raise ValueError(f"{key}: {value!r} is not allowed; allowed: a number of at least 0")
    known = inspect.signature(type(family.pipe).__call__).parameters
    if true is not None and (family.guided == "classifier-free" or "true_cfg_scale" not in known):
        raise ValueError(f"true_cfg_scale: {type(family.pipe).__name__} has no such scale; leave it out")
    if negative is not None and not isinstance(negative, str):
        raise ValueError(f"negative_prompt: {negative!r} is not allowed; allowed: a text for all images")
    if family.guided == "never":
        if given is not None:
            raise ValueError(
                f"guidance_scale: {given} is not allowed, as the network was distilled and takes none; leave it out"
            )
        scale = None
    else:
        scale = float(known["guidance_scale"].default if given is None else given)
    if family.guided == "classifier-free" and not guides(scale):
        scale = None
    if guides(true) and negative is None:
        raise ValueError(
            f"true_cfg_scale: {true} is not allowed without negative_prompt, without which the pipeline leaves it out; "
            "give one, which may be empty"
        )
    free = float(true) if true is not None and guides(true) else None
    without = free is None and (family.guided != "classifier-free" or scale is None)
    if negative is not None and (without or family.classes is not None):
        raise ValueError("negative_prompt: it has no effect without classifier-free guidance of prompts; leave it out")
    return scale, free


def _check_length(pipe, length):
    """Refuse a number of tokens for a pipeline that has no choice, and one that its encoders do not take."""
    name, fault = type(pipe).__name__, limits.fault_of_length(type(pipe).__name__, length)
    if length is not None and "max_sequence_length" not in inspect.signature(type(pipe).__call__).parameters:
        fault = f"{name} has no such choice; leave it out"
    if fault:
        raise ValueError(f"max_sequence_length: {fault}")


def _check_size(pipe, **sizes):
    """Refuse a size for a pipeline that has no choice, and one that is no number."""
    known = inspect.signature(type(pipe).__call__).parameters
    for key, value in sizes.items():
        if value is not None and key not in known:
            raise ValueError(f"{key}: {type(pipe).__name__} makes images of one size alone; leave it out")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise ValueError(f"{key}: {value!r} is not allowed; allowed: an integer, in pixels")


def _check_network(denoise):
    """Refuse weights that are not there or are no numbers to compute in."""
    if denoise.device.type == "meta":
        raise ValueError(
            "pipeline: the weights of its network are not in memory (enable_sequential_cpu_offload, or a part that was "
            "not loaded); allowed: a pipeline on a device, or with enable_model_cpu_offload"
        )
    if denoise.dtype not in calls.FLOATS:
        raise ValueError(
            f"pipeline: the weights of its network are {denoise.dtype} (quantized), which is not supported; allowed: "
            "float16, bfloat16, float32 or float64"
        )


def _grid(family: Family, facts: ModelFacts, height: int | None, width: int | None) -> dict[str, Any]:
    """The grid that the fit begins on: uniform in the network's own time, from pure noise where it knows that."""
    if facts.prediction != "flow":
        return {"name": "uniform-index", "options": {}}
    return {"name": "flow-linear", "options": {"shift": family.shift(height, width), "spacing": "trailing"}}


class _Counted(Described):
    """A denoiser that moves a progress bar on."""

    def __init__(self, denoise: Any, bar: Any):
        self.denoise, self.bar, self.facts = denoise, bar, denoise.facts

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        found = self.denoise(x, sigma)
        self.bar.update()
        return found


def _fine(pipe: Any, denoise: Denoise, noise: Tensor, sigmas: Any) -> Tensor:
    """The fine solution, with the pipeline's own progress bar."""
    pure = bool(sigmas[0] >= PURE_NOISE)
    with pipe.progress_bar(total=2 * (fine_solution.STEPS + pure) - 1) as bar:
        return fine_solution.fine_ends(_Counted(denoise, bar), noise, sigmas)


def _classes(family):
    return {} if family.classes is None else {"classes": family.classes}


def _name(pipe):
    """The pipeline's class, and the last part of where it is from."""
    origin = getattr(pipe.config, "_name_or_path", None)
    return f"{type(pipe).__name__} {Path(origin).name}" if origin else type(pipe).__name__
