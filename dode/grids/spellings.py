"""Names of predictions and schedules as diffusers spells them, and this project's own. Imports nothing.

Both are taken wherever either is written down: in cards, in the configurations of schedulers, from Python. What is kept
and compared is one of them, so that a card says the same, to the bit, in both.
"""

from collections.abc import Mapping
from typing import Any

#: What a network outputs: diffusers' ``prediction_type``, and the ``prediction`` of a card.
PREDICTIONS = {"epsilon": "noise", "v_prediction": "v", "sample": "image", "flow_prediction": "flow"}
#: diffusers' ``beta_schedule``, and the ``name`` of a card's ``schedule``.
SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine", "sigmoid": "sigmoid"}
#: Options of a schedule.
OPTIONS = {"num_train_timesteps": "steps", "beta_start": "beta_min", "beta_end": "beta_max"}
COSINE = "squaredcos_cap_v2"
STEPS = 1000  # of every schedule of diffusers that says nothing of them; those of "cosine" are its paper's


def prediction(name: Any) -> Any:
    """This project's name of a prediction; what is neither's is left as it is."""
    return PREDICTIONS.get(name, name) if isinstance(name, str) else name


def of_diffusers(name: Any) -> Any:
    """diffusers' name of a prediction; what is neither's is left as it is."""
    return next((theirs for theirs, ours in PREDICTIONS.items() if name == ours), name)


def schedule_name(name: Any) -> Any:
    """This project's name of a schedule; what is neither's is left as it is."""
    return SCHEDULES.get(name, name) if isinstance(name, str) else name


def schedule(options: Mapping[str, Any]) -> dict[str, Any]:
    """A card's ``schedule`` in this project's words.

    diffusers' ``squaredcos_cap_v2`` has 1,000 steps where nothing else is said, and no use for the betas that the
    configurations of its schedulers hold all the same.

    Raises:
        ValueError: for an option that is given in both spellings.
    """
    given = dict(options)
    if given.get("name") == COSINE:
        given = {key: value for key, value in given.items() if key not in ("beta_start", "beta_end")}
        if not {"steps", "num_train_timesteps"} & set(given):
            given["steps"] = STEPS
    if "name" in given:
        given["name"] = schedule_name(given["name"])
    # The beta_max of the cosine schedule is another thing than diffusers' beta_end.
    renamed = {"num_train_timesteps": "steps"} if given.get("name") == "cosine" else OPTIONS
    for theirs, ours in renamed.items():
        if theirs in given and ours in given:
            raise ValueError(f"{theirs} is diffusers' name of {ours}, which is given too; leave one of them out")
    return {renamed.get(key, key): value for key, value in given.items()}
