"""What a repository of the Hugging Face hub says of its model beside the weights. Imports no torch.

``config.json`` has the options of the network, ``scheduler_config.json`` what it was trained to output on which noise
schedule. A card takes from them what it leaves out (:func:`completed`) and must not contradict them (:func:`fault`).
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dode.grids import spellings
from dode.grids.schedules import Schedule, schedules
from dode.grids.spellings import PREDICTIONS, SCHEDULES
from dode.models.hub import flow
from dode.models.stated import same
from dode.weights import foreign_json

NETWORK = "diffusers-unet2d"
CONFIG, SCHEDULER = "config.json", "scheduler_config.json"
#: Where the files are, seen from the weights; a pipeline has its scheduler in a folder of its own.
PLACES = {CONFIG: (CONFIG,), SCHEDULER: (SCHEDULER, f"../scheduler/{SCHEDULER}")}
MOST_BYTES = 1_000_000
#: The options of diffusers' UNet2DModel and their defaults, but for ``dropout``, on which inference does not depend.
DEFAULTS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
    "num_train_timesteps": None,
}
ZERO_SNR = "rescale_betas_zero_snr"
#: Schedulers whose networks are EDM's (Karras et al. 2022), and those whose betas may be left out of the file.
EDM = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
WITH_BETAS = ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler")
#: Options with which the network is not on a discrete VP schedule, with the values that change nothing.
ELSEWHERE: dict[str, tuple[Any, ...]] = {
    "use_flow_sigmas": (None, False),
    "snr_shift_scale": (None, 1),
    "timestep_type": (None, "discrete"),
}

Files = Mapping[str, Mapping[str, Any]]


def beside(weights: str | Path) -> dict[str, dict[str, Any]]:
    """The files beside a file of weights, by :data:`CONFIG` and :data:`SCHEDULER`, as far as they are there.

    Raises:
        ValueError: for one that is not a JSON object (:func:`dode.weights.foreign_json.parsed`).
    """
    return read(lambda place: path if (path := Path(weights).parent / place).is_file() else None)


def read(
    find: Callable[[str], Path | None], places_of: Mapping[str, tuple[str, ...]] = PLACES
) -> dict[str, dict[str, Any]]:
    """The files that ``find`` gives the paths of; it is called with the places of each, until it has one."""
    found = {}
    for name, places in places_of.items():
        path = next((path for path in map(find, places) if path is not None), None)
        if path is not None:
            found[name] = _mapping(path)
    return found


def _mapping(path):
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} is larger than {MOST_BYTES} bytes, which no configuration is")
    value = foreign_json.parsed(path.read_bytes(), str(path), ValueError, infinite=True)
    if not isinstance(value, dict):
        raise ValueError(f"{path} is not a JSON object")
    return value


def completed(card: Mapping[str, Any], files: Files) -> dict[str, Any]:
    """The card with what it leaves out and the files say: ``config``, images, classes, prediction, schedule."""
    card = dict(card)
    network = dict(card["network"])
    if CONFIG in files and "config" not in (options := network.get("options") or {}):
        own = {key: value for key, value in files[CONFIG].items() if not key.startswith("_")}
        card["network"] = {**network, "options": {**options, "config": own}}
        if own.get("sample_size") is not None:
            card.setdefault("image_shape", image_shape(own))
        if own.get("num_class_embeds"):
            card.setdefault("classes", own["num_class_embeds"])
    if SCHEDULER in files and "preconditioning" not in card:
        scheduler = files[SCHEDULER]
        own_schedule, prediction = _schedule(scheduler), _prediction(scheduler)
        if own_schedule is not None and prediction in PREDICTIONS.values():
            card.setdefault("prediction", prediction)
            card.setdefault("schedule", own_schedule)
    return card


def image_shape(config: Mapping[str, Any]) -> list[Any]:
    """(channels, height, width) of the images of a ``config``, None for what it leaves open."""
    size = config.get("sample_size")
    height, width = size if isinstance(size, list | tuple) and len(size) == 2 else (size, size)
    return [config.get("in_channels", DEFAULTS["in_channels"]), height, width]


def fault(card: Mapping[str, Any], files: Files) -> str | None:
    """What the card and the files contradict each other in, in one sentence with both values, or None.

    Raises:
        ValueError: for a schedule in the files that is none.
    """
    return next(_faults(card, files), None)


def _faults(card: Mapping[str, Any], files: Files) -> Iterator[str]:
    if CONFIG in files:
        yield from _faults_of_network(card["network"]["options"].get("config", {}), files[CONFIG])
    if SCHEDULER in files:
        yield from _faults_of_scheduler(card, files[SCHEDULER])


def _faults_of_network(own, config):
    name = config.get("_class_name", "UNet2DModel")
    if name != "UNet2DModel":
        yield f"network.name: '{NETWORK}' is a UNet2DModel, but {CONFIG} beside the weights is of a {name}"
    for key, default in DEFAULTS.items():
        value, said = own.get(key, default), config.get(key, default)
        if not same(value, said):
            yield f"network.options.config.{key}: {value}, but {CONFIG} beside the weights says {said}"


def _faults_of_scheduler(card, scheduler):
    text, name = f"but {SCHEDULER} beside the weights", scheduler.get("_class_name", "a scheduler")
    if name in EDM:
        yield from _faults_of_edm(card.get("preconditioning", {}), scheduler, text)
        return
    own, prediction = card.get("preconditioning", {}).get("name"), _prediction(scheduler)
    if own in ("vp", "ve", "iddpm"):
        return  # Karras et al. 2022 put such networks behind these, whose noise levels are not the file's
    if prediction != card["prediction"]:
        said = f"is of {name}" if name in flow.SCHEDULERS else f"says {scheduler.get('prediction_type', 'epsilon')}"
        yield f"prediction: {card['prediction']}, {text} {said}"
    if "schedule" not in card:
        return
    for key, unchanged in (flow.ELSEWHERE if flow.is_flow(scheduler) else ELSEWHERE).items():
        if scheduler.get(key) not in unchanged:
            yield f"schedule: {card['schedule']}, {text} says {key}: {scheduler[key]}, which is another one"
    betas, said = scheduler.get("trained_betas"), _schedule(scheduler)
    if betas is None and said is None:
        kind = f"beta_schedule: {scheduler['beta_schedule']}" if "beta_schedule" in scheduler else f"is of {name}"
        yield f"schedule: {card['schedule']}, {text} {kind}"
    elif not _same_levels(card["schedule"], said, scheduler):
        yield f"schedule: {card['schedule']}, {text} says {said if betas is None else 'trained_betas, other ones'}"


def _faults_of_edm(own, scheduler, text):
    data = scheduler.get("sigma_data", 0.5)
    if own.get("name") != "edm":
        yield f"preconditioning.name: {own.get('name', 'none')}, {text} is of {scheduler['_class_name']}, which is edm"
    elif not same(own["sigma_data"], data):
        yield f"preconditioning.sigma_data: {own['sigma_data']}, {text} says {data}"


def trained(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """What a network was trained for, by its scheduler's configuration: ``prediction`` and ``schedule`` of a card.

    Raises:
        ValueError: where a card has no such prediction or schedule.
    """
    prediction, schedule = _prediction(scheduler), _schedule(scheduler)
    if prediction not in PREDICTIONS.values():
        allowed = ", ".join(map(repr, PREDICTIONS))
        raise ValueError(f"prediction_type: {prediction!r} is not supported; allowed: {allowed}")
    if schedule is None:
        name, betas = scheduler.get("_class_name"), scheduler.get("beta_schedule")
        raise ValueError(
            f"the schedule of {name} with beta_schedule {betas!r} is not supported; allowed: "
            f"{', '.join(map(repr, SCHEDULES))}, or a scheduler of flow matching"
        )
    return {"prediction": prediction, "schedule": schedule}


def _prediction(scheduler):
    """What the network outputs, as a card has it; in the file's words where no card has it."""
    said = "flow_prediction" if flow.is_flow(scheduler) else scheduler.get("prediction_type", "epsilon")
    return PREDICTIONS.get(said, said)


def _schedule(scheduler):
    """A scheduler's configuration as a card's ``schedule``; None where it has none of those."""
    if flow.is_flow(scheduler):
        return flow.schedule(scheduler)
    default = "linear" if scheduler.get("_class_name") in WITH_BETAS else None
    said, steps = scheduler.get("beta_schedule", default), scheduler.get("num_train_timesteps", spellings.STEPS)
    name = spellings.schedule_name(said)
    if name not in SCHEDULES.values() or scheduler.get("trained_betas") is not None:
        return None
    own = {"name": name, "steps": steps}
    if name != "cosine":
        own |= {"beta_min": scheduler.get("beta_start", 1e-4), "beta_max": scheduler.get("beta_end", 0.02)}
    return own | ({ZERO_SNR: scheduler[ZERO_SNR]} if scheduler.get(ZERO_SNR) else {})


def _same_levels(own, said, scheduler):
    """Whether a card's schedule is the file's, which is ``said`` or has betas of its own."""
    betas = scheduler.get("trained_betas")
    mine = schedules.create(**own)
    other = schedules.create(**said) if betas is None else Schedule(betas, zero_snr=scheduler.get(ZERO_SNR) is True)
    indices = np.arange(len(mine))
    return len(mine) == len(other) and np.allclose(mine.sigma(indices), other.sigma(indices), rtol=1e-5, atol=0)
