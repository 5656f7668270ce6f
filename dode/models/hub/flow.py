"""What the configuration of a diffusers scheduler says of flow matching. Imports no torch."""

import math
from collections.abc import Mapping
from typing import Any

from dode.grids import spellings
from dode.grids.schedules import check_steps
from dode.registry import finite

#: The schedulers that are of flow matching alone.
SCHEDULERS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler")
#: Those whose grid is this project's, and others whose grid is, with ``use_flow_sigmas``; that of DEIS ends above 0.
WITH_GRIDS = SCHEDULERS[:2]
TRAILING, UNIFORM = ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"), ("UniPCMultistepScheduler",)
FAMILIES = {"use_karras_sigmas": "flow-karras", "use_exponential_sigmas": "exponential", "use_beta_sigmas": "beta"}
#: Options with which the network is another one, and those with which the grid is none of this project's or depends on
#: the image's size, with the values that change nothing.
ELSEWHERE: dict[str, tuple[Any, ...]] = {"invert_sigmas": (None, False)}
OWN_GRID: dict[str, tuple[Any, ...]] = {
    "use_dynamic_shifting": (None, False),
    "shift_terminal": (None, 0),
    "final_sigmas_type": (None, "zero"),
    **ELSEWHERE,
}

#: Keys of a shift that depends on the number of tokens, with diffusers' values where a configuration has none.
DYNAMIC = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}
LARGEST = 700  # exponent in float64


def shift_of_size(scheduler: Mapping[str, Any], tokens: float) -> float:
    """The ``shift`` s of flow matching's grids for images of so many tokens, by a scheduler's configuration.

    Where it depends on the size (``use_dynamic_shifting``): ``s = e^mu`` with mu linear in the number of tokens (Esser
    et al. 2024, arXiv 2403.03206, Sec. 5.3.2; Black Forest Labs' FLUX), or mu itself where ``time_shift_type`` is
    "linear".

    Raises:
        ValueError: for a key that is no finite number, one number of tokens in both, or a shift that is none.
    """
    if not scheduler.get("use_dynamic_shifting"):
        return float(scheduler.get("shift") or scheduler.get("flow_shift") or 1.0)
    for key in (known := {**DYNAMIC, **{key: scheduler[key] for key in DYNAMIC if key in scheduler}}):
        if not finite(known[key]):
            raise ValueError(f"{key} must be a finite number, not {repr(known[key])[:100]}")
    least, most, low, top = known.values()
    if least == most:
        raise ValueError(f"base_image_seq_len and max_image_seq_len must differ, and both are {least}")
    mu = low + (top - low) * (tokens - least) / (most - least)
    shift = mu if scheduler.get("time_shift_type") == "linear" else math.exp(min(mu, LARGEST))
    if not 0 < shift < math.exp(LARGEST):
        raise ValueError(
            f"the shift of {tokens:g} tokens must be a finite number above 0; by {', '.join(DYNAMIC)} it is not"
        )
    return shift


def is_flow(scheduler: Mapping[str, Any]) -> bool:
    """Whether a network is of flow matching: that of the schedulers for it, and of others with ``use_flow_sigmas``."""
    predicts_flow = spellings.prediction(scheduler.get("prediction_type")) == "flow"
    return scheduler.get("_class_name") in SCHEDULERS or (scheduler.get("use_flow_sigmas") is True and predicts_flow)


def schedule(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """The schedule of a network of flow matching, as a card has it."""
    return {"name": "flow", "steps": scheduler.get("num_train_timesteps", 1000)}


def grid(scheduler: Mapping[str, Any]) -> dict[str, Any] | None:
    """The grid of a scheduler of flow matching as of a card's ``sampling``; None where it is none of this project's.

    The schedulers for flow matching have ``flow-linear``, ``flow-karras``, ``exponential`` or ``beta``, which
    end at ``shift^2 / (T - 1)``, as the end is shifted twice. Of the others, UniPC has ``sgm-uniform``, and DPM-Solver
    ``flow-linear`` from ``t = 1 - 1/T``, shifted.

    Raises:
        ValueError: for a shift that is no finite number above 0, or other steps than a schedule may have.
    """
    name, steps = scheduler.get("_class_name"), scheduler.get("num_train_timesteps", 1000)
    if not is_flow(scheduler) or name not in (*WITH_GRIDS, *TRAILING, *UNIFORM):
        return None
    if any(scheduler.get(key) not in unchanged for key, unchanged in OWN_GRID.items()):
        return None
    key = "shift" if name in WITH_GRIDS else "flow_shift"
    shift = scheduler.get(key, 1.0)
    if not finite(shift) or shift <= 0:
        raise ValueError(f"{key} must be a finite number above 0, not {repr(shift)[:100]}")
    check_steps(steps)
    family = next((option for option in FAMILIES if scheduler.get(option)), None)
    if family is not None:
        ended = {"name": FAMILIES[family], "options": {"sigma_min": shift**2 / (steps - 1)}}
        return ended if name in WITH_GRIDS else None
    if name in UNIFORM:
        return {"name": "sgm-uniform", "options": {"shift": shift}}
    begun = {"spacing": "trailing", "sigma_max": shift * (steps - 1)} if name in TRAILING else {}
    return {"name": "flow-linear", "options": {"shift": shift, **begun}}
