"""At which noise levels a scheduler of diffusers steps, as a grid of this project. Imports no torch.

``scheduler_config.json`` says it in part: what it leaves out is the default of the scheduler's class, and a pipeline
may give its scheduler a shift or times of its own. docs/solvers.md has the table.
"""

import math
from collections.abc import Mapping
from typing import Any

from dode.models.hub import flow

Grid = dict[str, Any]

LINSPACE, LEADING, TRAILING = SPACINGS = ("linspace", "leading", "trailing")
EULER, HEUN = flow.WITH_GRIDS
MULTISTEP, SINGLESTEP = flow.TRAILING
(UNIPC,), ANCESTRAL = flow.UNIFORM, "EulerAncestralDiscreteScheduler"
#: Schedulers on a VP schedule with their usual spacing, by which of the evenly spaced timesteps they take: whole ones,
#: all of them, or whole ones but for the lowest.
WHOLE = dict.fromkeys(
    ("DDIMScheduler", "DDIMParallelScheduler", "DDPMScheduler", "DDPMParallelScheduler", "PNDMScheduler"), LEADING
)
FRACTIONAL = dict.fromkeys(
    (
        *("EulerDiscreteScheduler", ANCESTRAL, "HeunDiscreteScheduler", "LMSDiscreteScheduler"),
        *("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"),
    ),
    LINSPACE,
)
WITHOUT_LOWEST = dict.fromkeys((MULTISTEP, SINGLESTEP, UNIPC), LINSPACE)
USUAL = {**WHOLE, **FRACTIONAL, **WITHOUT_LOWEST}
KINDS = ("exponential", "linear")  # of a shift that depends on the size

#: Options for levels that are no evenly spaced timesteps, with their grid on a VP schedule.
CURVED: dict[str, str | None] = {
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "exponential",
    "use_beta_sigmas": None,  # quantiles of sigma, and not of the index as those of "beta" are
    "use_lu_lambdas": "log-snr",
}
#: Which of them a scheduler reads; one that is not here reads none.
READ: dict[str, tuple[str, ...]] = {
    **{name: (*CURVED,)[:3] for name in (*FRACTIONAL, SINGLESTEP, UNIPC, EULER) if name != ANCESTRAL},
    MULTISTEP: (*CURVED,),
}
#: Options with which the levels are those of no grid here, with the values that change nothing.
ELSEWHERE: dict[str, tuple[Any, ...]] = {
    "final_sigmas_type": (None, "zero"),
    "interpolation_type": (None, "linear"),
    "sigma_min": (None,),
    "sigma_max": (None,),
}
ON_A_SCHEDULE = {**ELSEWHERE, "lambda_min_clipped": (None, -math.inf)}
OF_FLOW = {**ELSEWHERE, **flow.OWN_GRID}
del OF_FLOW["use_dynamic_shifting"]


class NotServedError(ValueError):
    """A scheduler steps at levels that are those of no grid here, or that its configuration does not say."""


def of(scheduler: Mapping[str, Any], *, tokens: float | None = None, own_times: bool = False) -> Grid:
    """The grid of a scheduler, ``{name, options}`` as of a card's ``sampling``.

    Args:
        scheduler: its configuration.
        tokens: as how many tokens the pipeline's network takes an image, where the pipeline tells its scheduler the
            shift for that (``mu``); None where it tells none.
        own_times: whether the pipeline gives its scheduler the times to step at, uniform from 1 to 1/N.

    Raises:
        NotServedError: where there is no such grid, naming the option.
        ValueError: for a value that the option cannot have.
    """
    name = scheduler.get("_class_name")
    if flow.is_flow(scheduler):
        return _in_flow(scheduler, name, tokens, own_times)
    if not isinstance(name, str) or name not in USUAL:
        raise _none(name)
    _refuse(scheduler, ON_A_SCHEDULE, name)
    spacing = _spacing(scheduler, name)
    if (option := _curved(scheduler, name)) is not None:
        if name in FRACTIONAL and spacing != LINSPACE:
            raise _none(name, f"{option} and timestep_spacing {spacing}")  # the number of steps decides on the first
        if scheduler.get("rescale_betas_zero_snr"):
            raise _none(name, f"{option} from pure noise")
        grid = CURVED[option]
        if grid is None:
            raise _none(name, option)
        return {"name": grid, "options": {}}
    if name in WHOLE and spacing == LINSPACE:
        raise _none(name, "timestep_spacing linspace, which it rounds")
    options: dict[str, Any] = {} if spacing == LINSPACE else {"spacing": spacing}
    if spacing == LEADING and (offset := _offset(scheduler)):
        options["steps_offset"] = offset
    if name in WITHOUT_LOWEST and spacing != TRAILING:
        options["leave_lowest"] = True
    return {"name": "timesteps", "options": options}


def _in_flow(scheduler, name, tokens, own_times):
    """In flow matching: what :func:`dode.models.hub.flow.grid` has for a fixed shift, with the shift of the size."""
    _refuse(scheduler, OF_FLOW, name)
    key, dynamic = "shift" if name in flow.WITH_GRIDS else "flow_shift", bool(scheduler.get("use_dynamic_shifting"))
    unread = dict.fromkeys({*CURVED} - {*READ.get(name, ())}, False)
    shift = _shift(scheduler, name, tokens) if dynamic else scheduler.get(key, 1.0)
    option = _curved(scheduler, name)
    found = flow.grid({**scheduler, **unread, key: shift, "use_dynamic_shifting": False})
    if found is None or option == "use_lu_lambdas" or (option and own_times):
        raise _none(name, f"{f'{option} in ' if option else ''}flow matching")
    if own_times and name != EULER and not dynamic:
        raise NotServedError(f"{name} can take neither times nor a shift from the pipeline")
    options = dict(found["options"])
    if name == EULER and own_times:
        options["spacing"] = TRAILING
    elif name == EULER and dynamic:
        # Its end is multiplied by the shift once, and not twice as by a fixed one and by flow-linear.
        last = shift / (scheduler.get("num_train_timesteps", 1000) - 1)
        options["sigma_min"] = last / shift**2 if found["name"] == "flow-linear" else last
    return {"name": found["name"], "options": options}


def _shift(scheduler, name, tokens):
    """The factor on the noise levels for so many tokens."""
    kind = scheduler.get("time_shift_type", KINDS[0])
    if kind not in KINDS:
        raise ValueError(f"time_shift_type: {repr(kind)[:100]} is not allowed; allowed: {', '.join(map(repr, KINDS))}")
    if name == HEUN:
        raise _none(name, "use_dynamic_shifting")
    if tokens is None:
        raise NotServedError("the shift depends on the size of the image (use_dynamic_shifting), and nothing says how")
    if name != EULER and (missing := next((key for key in flow.DYNAMIC if key not in scheduler), None)):
        raise NotServedError(
            f"use_dynamic_shifting of {name} needs {missing}, of which pipelines have defaults that differ"
        )
    if name in flow.TRAILING and kind == "linear":
        raise _none(name, "time_shift_type linear")
    return flow.shift_of_size(scheduler, tokens)


def _curved(scheduler, name):
    """The option of :data:`CURVED` that a scheduler has; None for none."""
    found = [option for option in READ.get(name, ()) if scheduler.get(option)]
    if len(found) > 1:
        raise _none(name, " and ".join(found))
    return next(iter(found), None)


def _spacing(scheduler, name):
    spacing = LINSPACE if name == SINGLESTEP else scheduler.get("timestep_spacing", USUAL[name])  # it has no choice
    if spacing not in SPACINGS:
        allowed = ", ".join(map(repr, SPACINGS))
        raise ValueError(f"timestep_spacing: {repr(spacing)[:100]} is not allowed; allowed: {allowed}")
    return spacing


def _offset(scheduler):
    offset = scheduler.get("steps_offset", 0)
    known = scheduler.get("num_train_timesteps", 1000)
    if isinstance(offset, bool) or not isinstance(offset, int) or not 0 <= offset < known:
        raise ValueError(f"steps_offset must be an integer from 0 to {known - 1}, not {repr(offset)[:100]}")
    return offset


def _refuse(scheduler, options, name):
    for key, unchanged in options.items():
        if scheduler.get(key) not in unchanged:
            raise _none(name, f"{key} {repr(scheduler[key])[:100]}")


def _none(name, what=None):
    return NotServedError(f"no grid has the noise levels of {str(name)[:100]}{f' with {what}' if what else ''}")
