"""What the configuration of a scheduler of diffusers declares: values of the right kinds, its family, its schedule."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dode.grids import spellings
from dode.grids.schedules import MAX_STEPS, Schedule, schedules
from dode.grids.spellings import SCHEDULES
from dode.models.hub import flow
from dode.models.hub.repository import EDM, ELSEWHERE
from dode.registry import unknown

# The options of all schedules but the cosine one. diffusers keeps its tables in float32; in float64 whole indices stay
# whole.
BETAS = {"beta_start": "beta_min", "beta_end": "beta_max"}


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e6 < value < 1e6


def _is_name(value):
    return isinstance(value, str) and len(value) <= 100


def _is_row(value):
    return isinstance(value, list | tuple) and 2 <= len(value) <= MAX_STEPS and all(map(_is_number, value))


# What says, among the options of diffusers' schedulers of several kinds, that a network is of flow matching.
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}

# Of a value of the configuration: whether it is of the right kind, and which that is. Files of others have any.
KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "result": (lambda value: isinstance(value, str | os.PathLike | dict), "a file, or what is in it"),
    "num_train_timesteps": (
        lambda value: type(value) is int and 2 <= value <= MAX_STEPS,
        f"2 to {MAX_STEPS}, an integer",
    ),
    "beta_start": (lambda value: _is_number(value) and 0 < value < 1, "a number above 0 and below 1"),
    "beta_end": (lambda value: _is_number(value) and 0 < value < 1, "a number above 0 and below 1"),
    "beta_schedule": (_is_name, "a name"),
    "trained_betas": (
        lambda value: value is None or _is_row(value) or (isinstance(value, np.ndarray) and value.dtype.kind == "f"),
        f"2 to {MAX_STEPS} numbers, or None",
    ),
    "prediction_type": (_is_name, "a name"),
    "sigma_data": (
        lambda value: value is None or (_is_number(value) and value > 0),
        "a finite number above 0, or None",
    ),
    "rescale_betas_zero_snr": (lambda value: isinstance(value, bool), "True or False"),
    "round_timesteps": (lambda value: isinstance(value, bool), "True or False"),
    "use_flow_sigmas": (lambda value: isinstance(value, bool), "True or False"),
}


def check_values(config: Mapping[str, Any]) -> None:
    """Raise ValueError for the first value of a configuration that is of another kind than its key."""
    for key, (is_right, allowed) in KINDS.items():
        value = config[key]
        if not is_right(value):
            told = type(value).__name__ if isinstance(value, int) and abs(value) >= 2**64 else repr(value)[:100]
            raise ValueError(f"{key}: {told} is not allowed; allowed: {allowed}")


def declared(config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a scheduler with its defaults and with what the user has ``given``.

    Raises:
        ValueError: unless it declares a discrete VP schedule, flow matching or EDM's preconditioning, and a network
            that is called as under these.
    """
    from diffusers import schedulers

    name = config.get("_class_name")
    others: Any = getattr(schedulers, name, None) if isinstance(name, str) and name in dir(schedulers) else None
    defaults = {} if others is None else inspect.signature(others.__init__).parameters
    known = {key: own.default for key, own in defaults.items() if own.default is not inspect.Parameter.empty}
    known |= {**config, **given}
    if given.get("sigma_data") is not None:
        return known
    text = f"the configuration of {str(name)[:100]}" if name else "the configuration"
    is_flow = _is_flow(name, known) and not {"beta_schedule", "trained_betas"} & set(given)
    for key, unchanged in (flow.ELSEWHERE if is_flow else ELSEWHERE).items():
        if known.get(key) not in unchanged:
            kind = "of flow matching" if is_flow else "on a discrete variance-preserving schedule"
            raise ValueError(
                f"{key}: {text} has {repr(known[key])[:100]}, with which the network is not {kind} as it stands; "
                "allowed: a discrete variance-preserving schedule, flow matching, or EDM's preconditioning (sigma_data)"
            )
    if is_flow:
        return {**known, **FLOW, "sigma_data": None}
    if known.get("sigma_data") is not None and _is_edm(name, known):
        return known
    if known.get("beta_schedule") is not None or known.get("trained_betas") is not None:
        return {**known, "sigma_data": None}
    raise ValueError(
        f"{text} is of another family (variance exploding, a consistency model or the like): it declares neither a "
        "discrete variance-preserving schedule (beta_schedule or trained_betas) nor flow matching "
        "(FlowMatchEulerDiscreteScheduler) nor EDM's preconditioning (sigma_data of EDMEulerScheduler), and "
        "DodeScheduler serves networks of these three alone"
    )


def _is_flow(name, known):
    """Whether a configuration is that of a network of flow matching.

    That of the schedulers for flow matching alone has a shift and no betas; without a name of its class it is known by
    having no other keys than theirs. Others that have betas say it by an option, as this project's does.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchLCMScheduler

    if name in flow.SCHEDULERS:
        return True
    if name is None and {"shift", "num_train_timesteps"} <= set(known):
        keys = {key for key in known if not key.startswith("_")} - {"result", *KINDS}
        kinds = (FlowMatchEulerDiscreteScheduler, FlowMatchLCMScheduler)
        return any(keys <= set(inspect.signature(kind.__init__).parameters) for kind in kinds)
    return flow.is_flow(known) and known.get("beta_schedule") is not None


def _is_edm(name, known):
    """Whether a configuration with ``sigma_data`` is EDM's; that of a consistency model, for example, is not.

    A scheduler's own configuration has no name of its class, as a saved one has.
    """
    if name is not None:
        return name in ("DodeScheduler", *EDM)
    return "prediction_type" in known and ("solver_order" in known) == ("algorithm_type" in known)


def schedule_of(config: Any) -> Schedule:
    """The schedule that a configuration declares, that of flow matching or a VP one; ValueError for a bad one."""
    if config.use_flow_sigmas:
        return schedules.create("flow", steps=config.num_train_timesteps)
    zero_snr = config.rescale_betas_zero_snr
    if config.trained_betas is not None:
        try:
            return Schedule(np.asarray(config.trained_betas, dtype=np.float64), zero_snr=zero_snr)
        except (ValueError, TypeError) as error:
            raise ValueError(f"trained_betas: {error}") from None
    name = spellings.schedule_name(config.beta_schedule)
    if name not in SCHEDULES.values():
        raise ValueError(unknown("beta_schedule", config.beta_schedule, SCHEDULES))
    betas = {option: config[key] for key, option in BETAS.items() if name != "cosine"}
    return schedules.create(name, steps=config.num_train_timesteps, rescale_betas_zero_snr=zero_snr, **betas)
