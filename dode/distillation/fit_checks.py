"""What a fit can be made of, checked without torch: the configuration asks before any job, the library again.

``RELEASED`` lists the (prediction, solver) pairs that the alignment ``released`` takes on a grid of one's choice (how:
:mod:`dode.teacher`), ``RECIPES`` those of the authors' code, which go on the grid ``released`` (:mod:`dode.released`).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dode.distillation.registries import fits
from dode.grids.schedules import Schedule
from dode.registry import nearest, unknown

RELEASED = {("data", "ddim"), ("data", "heun"), ("noise", "ddim")}
# The orders that there are to choose from, by prediction and solver; none where the recipe has no such choice.
RECIPES = {
    ("noise", "ddim"): (),
    ("noise", "ipndm"): (),
    ("noise", "deis"): (1, 2, 3),
    ("noise", "dpm-solver"): (2, 3),
    ("data", "ddim"): (),
    ("data", "heun"): (),
}
LOWEST_LOG_SNR = -5.1  # half log-SNR, see uncut
STEPWISE = "greedy", "refined"
FITS = ("joint", *STEPWISE)
# The families of a joint fit, and which of them are tried where one is asked for; `auto` is all that is worthwhile.
RUNGS = {
    "lambda": ("lambda",),
    "directions": ("lambda", "directions"),
    "levels": ("levels",),
    "told": ("levels", "told"),
    "general": ("levels", "general"),
    "auto": ("levels", "general"),
}
# The keys of each kind of fit with their defaults; None: left out by default.
FOLLOWING: dict[str, Any] = {"alignment": "aligned", "substeps": 10, "directions": 1, "stages": True, "teacher": None}
OF_TEACHER = ("substeps", "teacher")  # those of them that a method of others has if it follows the teacher's states
DEFAULTS: dict[str, dict[str, Any]] = {
    "joint": {"directions": 3, "family": "auto", "budget": None, "iterations": None},
    "greedy": FOLLOWING,
    "refined": {**FOLLOWING, "iterations": 12},
}
SHARED = ("fit", "images", "seed")  # keys of every kind
JOINT_IMAGES = 200  # of a joint fit by default
LEAST_JOINT_IMAGES = 16
BUDGET = 18_000  # images: by default a joint fit may cost as much as sampling so many
FIRST = 3  # runs of all images that the least budget allows
CHECKED = 4  # images on which a solver is checked to be linear
MOVED = ("levels", "told", "general")  # families whose noise levels are fitted too
IMAGES_PER_DIRECTION = 4
HELD_OUT = 4  # one image of so many is held out of a fit that is refined


def check_released(prediction: str, solver: str) -> None:
    """Raise ValueError unless the alignment takes ``solver`` for models of this ``prediction``."""
    if (prediction, solver) not in RELEASED:
        known = ", ".join(f"{name} for {kind} prediction" for kind, name in sorted(RELEASED))
        raise ValueError(
            f"alignment 'released' has no recipe for '{solver}' with {prediction} prediction; it has {known}"
        )


def check_alignment(alignment: str, *, afs: bool) -> None:
    """Raise ValueError for a pairing that a student whose first step is analytic does not have."""
    if afs and alignment != "aligned":
        raise ValueError(
            f"alignment '{alignment}' pairs every step of the solver, also the first, which afs makes without the "
            "network; take 'aligned'"
        )


def check_model(
    said: Mapping[str, Any], made: Mapping[str, Any], shape: Sequence[int], made_shape: Sequence[int]
) -> None:
    """Raise ValueError where a fit meets another model than its own.

    Args:
        said, made: what the model and the fit's model say of themselves (:meth:`dode.models.ModelFacts.said`); what one
            of them does not say is not compared.
        shape, made_shape: (C, H, W) of the images.
    """
    if tuple(shape) != tuple(made_shape):
        raise ValueError(f"the fit is of a model of images {tuple(made_shape)}, not of {tuple(shape)}")
    for key in said:
        if not _alike(made.get(key, said[key]), said[key]):
            raise ValueError(
                f"the fit is of a model with {key} {_in_words(made[key])}, not of one with {_in_words(said[key])}"
            )


def _alike(one, other):
    """Whether two things that models say are the same but for the rounding of float32."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return math.isclose(one, other, rel_tol=1e-3) if numbers else one == other


def _in_words(value):
    if isinstance(value, list):
        steps, *levels = value
        return f"{steps} steps with noise levels {', '.join(f'{level:.4g}' for level in levels)}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def recipe_order(prediction: str, solver: str, options: Mapping[str, Any]) -> int | None:
    """The order with which the options of a solver name a recipe of the authors' code, None where it has no choice.

    Raises ValueError for what the authors' code has not.
    """
    check_recipe_of(prediction, solver)
    fixed = {"ipndm": 4}.get(solver)
    for option, value in options.items():
        if option != "order" or (not RECIPES[prediction, solver] and value != fixed):
            raise ValueError(f"the authors' recipe of '{solver}' has no option {option} {value!r}; leave it out")
    if not RECIPES[prediction, solver]:
        return None
    order = options.get("order", 3)
    check_recipe_order(prediction, solver, order)
    return order


def check_recipe_of(prediction: str, solver: str) -> None:
    """Raise ValueError unless the authors' code has a recipe for ``solver`` and models of this ``prediction``."""
    if prediction not in ("noise", "data"):
        raise ValueError(f"the authors' code has recipes for noise and data prediction, not for '{prediction}'")
    if solver not in {name for _, name in RECIPES}:
        raise ValueError(unknown("solver", solver, {name for _, name in RECIPES}))
    if (prediction, solver) not in RECIPES:
        known = ", ".join(f"'{name}'" for kind, name in RECIPES if kind == prediction)
        raise ValueError(
            f"the released code has no recipe for solver '{solver}' with {prediction} prediction; it has {known}"
        )


def check_recipe_order(prediction: str, solver: str, order: int | None) -> None:
    """Raise ValueError for an order that the recipe has not."""
    orders = RECIPES[prediction, solver]
    if not orders and order is not None:
        raise ValueError(f"solver '{solver}' has only one order; order must be None, not {order!r}")
    if orders and (type(order) is not int or order not in orders):
        raise ValueError(f"solver '{solver}': order must be one of {', '.join(map(str, orders))}, not {order!r}")


def uncut(schedule: Schedule) -> Schedule:
    """The part of a schedule that the authors' DPM-Solver works on: the indices of a half log-SNR of at least -5.1.

    It leaves out the noisiest 16 of the 4,000 steps of the cosine schedule, and nothing of the 1,000 linear betas.
    """
    return schedule.first(int(np.sum(-np.log(schedule.sigma(np.arange(len(schedule)))) >= LOWEST_LOG_SNR)))


def check_recipe_schedule(solver: str, steps: int, schedule: Schedule | None) -> None:
    """Raise ValueError for a VP schedule that has too few steps for the authors' code.

    Also for None, because a recipe for noise prediction needs a schedule.
    """
    if schedule is None:
        raise ValueError("the authors' recipes for noise prediction need the schedule of the model")
    if solver == "ddim":
        return  # its grid refuses them
    if steps > len(schedule):
        raise ValueError(f"steps must be at most {len(schedule)} on this schedule, not {steps}")
    if solver == "dpm-solver" and len(uncut(schedule)) < 2:
        raise ValueError(
            f"schedule: the authors' DPM-Solver leaves out the steps below a half log-SNR of {LOWEST_LOG_SNR}, of "
            f"which this one keeps {len(uncut(schedule))}; at least 2 are needed"
        )


def check_fit(fit: str, alignment: str, iterations: int | None = None) -> None:
    """Raise ValueError for an unknown fit, a wrong number of iterations, or a refinement without an end to aim at."""
    known = (*FITS, *fits.names())
    if fit not in known:
        raise ValueError(f"fit must be one of {', '.join(map(repr, known))}, not {fit!r}{nearest(fit, known)}")
    if fit == "refined" and alignment != "aligned":
        raise ValueError(
            f"fit 'refined': alignment '{alignment}' has no end state to aim at; take 'aligned' or fit 'greedy'"
        )
    if iterations is not None and (isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1):
        raise ValueError(f"iterations must be an integer of at least 1, not {iterations!r}")


def check_noiseless(solver: Any) -> None:
    """Raise ValueError for a solver that adds noise on its way: its end states are no function of the first noise."""
    if solver.method.stochastic:
        raise ValueError(
            f"solver '{solver.name}' adds noise on its way, so that no fit corrects it; take another, or no fit"
        )


def arguments(fit: str) -> set[str]:
    """The arguments of :func:`dode.distill` that a fit has, besides solver, model, noise and levels."""
    if fit in FITS:
        return {*DEFAULTS[fit], *(("clip", "ends") if fit == "joint" else ())}
    own = {"ends": ("clip", "ends"), "states": OF_TEACHER, "nothing": ()}
    return {"seed", "options", *own[fits.get(fit).follows]}


def moves_levels(family: str | None) -> bool:
    """Whether a fit has noise levels of its own: of a family that fits them, or by another method."""
    return family in MOVED or family in fits.names()


def held_out(images: int) -> int:
    """How many of the fitting images a refinement holds out."""
    return max(1, images // HELD_OUT)


def fewest_images(numbers: int) -> int:
    """The fewest images of which those that are not held out can carry so many numbers."""
    return next(count for count in itertools.count(numbers) if count - held_out(count) >= numbers)


def joint_directions(family: str) -> int:
    """The directions that a joint fit has by default."""
    return 1 if family == "lambda" else DEFAULTS["joint"]["directions"]


def check_basis(basis: int, fit: str, solver: Any, steps: int, evaluations: int) -> None:
    """Raise ValueError for a basis of each image's slopes where a fit or a solver cannot have one.

    Args:
        basis: vectors of the directions (:class:`dode.directions.Directions`).
        fit: the kind of fit.
        solver: the solver, of ``evaluations`` on ``steps`` intervals.
    """
    if basis and fit == "joint":
        raise ValueError("directions: a basis depends on the image, which a joint fit cannot have; take 'greedy'")
    if basis and (solver.method.spanning(**solver.options) or evaluations + solver.afs != steps):
        raise ValueError(
            f"directions: a basis of slopes needs a solver that ends a step at every evaluation, unlike '{solver.name}'"
        )


def check_images(images: int, directions: int, evaluations: int, refine: int = 0) -> None:
    """Raise ValueError for a fitting set that cannot carry its coefficients.

    Pixels of one image depend on one another, so images count, not pixels: four images per direction for the greedy fit
    of one evaluation after the other; for a refinement, which fits all at once, as many as coefficients too. Images
    that are held out do not count.
    """
    least, coefficients = IMAGES_PER_DIRECTION * directions, directions * evaluations
    if not refine and images < least:
        raise ValueError(
            f"{images} images cannot carry {directions} direction{'s' * (directions > 1)} per evaluation: "
            f"at least {least} are needed"
        )
    if not refine:
        return
    least = max(least, coefficients)
    if images - held_out(images) < least:
        needed = fewest_images(least)
        raise ValueError(
            f"{images} images, a quarter of them held out, cannot carry the refinement of {coefficients} coefficients "
            f"({directions} at each of {evaluations} evaluations): at least {needed} are needed"
        )


def check_joint_images(images: int) -> None:
    """Raise ValueError for fewer images than a joint fit can be judged on."""
    if images < LEAST_JOINT_IMAGES:
        raise ValueError(
            f"{images} images are too few for a joint fit, which holds out a quarter of them: at least "
            f"{LEAST_JOINT_IMAGES} are needed"
        )


def check_joint(
    images: int, family: str, directions: int, evaluations: int, steps: int, budget: int | None = None
) -> None:
    """Raise ValueError for a joint fit that could fit nothing.

    Args:
        images: of the fitting set; a quarter of them is held out.
        family: a name of :data:`RUNGS`.
        directions: per evaluation.
        evaluations, steps: of the solver on its grid.
        budget: most network evaluations; None for the default.
    """
    check_joint_images(images)
    if directions != 1 and family == "lambda":
        raise ValueError(f"family 'lambda' has one direction, not {directions}; leave 'directions' out")
    first = rungs(family)[0]
    numbers = joint_numbers(first, directions, evaluations, steps)
    if numbers > images - held_out(images):
        needed = fewest_images(numbers)
        raise ValueError(
            f"{images} images, a quarter of them held out, cannot carry the {numbers} numbers of family '{first}' at "
            f"{evaluations} evaluations: at least {needed} are needed, or fewer directions than {directions}"
        )
    least = FIRST * images * evaluations
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int) or budget < least):
        raise ValueError(
            f"budget must be an integer of at least {least:,} network evaluations, which are {FIRST} runs of {images} "
            f"images at {evaluations} evaluations, not {budget!r}"
        )


def rungs(family: str) -> tuple[str, ...]:
    """The families that a joint fit tries, in order; ValueError for an unknown name."""
    if family not in RUNGS:
        raise ValueError(f"family must be one of {', '.join(map(repr, RUNGS))}, not {family!r}")
    return RUNGS[family]


def joint_numbers(family: str, directions: int, evaluations: int, steps: int) -> int:
    """How many numbers a family fits at most; ``lambda`` has one direction, whatever is asked for."""
    own = directions * evaluations
    return {
        "lambda": evaluations,
        "directions": own,
        "levels": own + steps,
        "told": own + steps + evaluations,
        "general": evaluations * (evaluations + 3) // 2 + evaluations + 1,
    }[family]
