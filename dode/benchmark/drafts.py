"""A card and a configuration for a checkpoint, as files with comments, to be changed by hand.

What is asked of every model is the same: which solver to take at few evaluations, and how much a joint fit helps.
Imports no torch.
"""

import importlib
import inspect
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dode import texts
from dode.fetching import cards
from dode.images.data import sources
from dode.models.hub import repository
from dode.validation import ConfigError

FLOW, NONE = "flow", "none"
NO_FEATURES = (NONE, "null")  # as here and as in a configuration
#: What a reader of a configuration should know of its keys.
REMARKS = {
    "statistics": " # so that FIDs are to these images; `data: {folder: ...}` or `{zip: ...}` for your own",
    "features": " # so there is no paired FID; with a card such as inception-clean, which is downloaded, there is",
}
NOT_ITS_OWN = " # not the model's own, which is none of this project's: {}"
#: The two usual spacings of a linear schedule, and the solvers whose trajectory RMSE is smaller on the first (on the
#: embedded models at 5 to 10 evaluations); that of the others is on the second.
LEADING, TRAILING = "leading", "trailing"
ON_LEADING = ("ddim", "ipndm")
SPACED = ", on a grid of its own where that suits it better"
SCALE = 5.0  # of guidance, where nothing else is known
MOST_PIXELS = 2**17  # of a batch
#: The fine solution of each kind of model: solver and evaluations.
FINE = {FLOW: ("flow-heun", 39)}
USUAL_FINE = ("heun", 79)
#: The embedded extractors of features, of grey images of their size; Inception is downloaded.
FEATURES: dict[tuple[int, ...], str] = {(1, 8, 8): "digits-classifier", (1, 28, 28): "mnist-classifier"}
INCEPTION = "inception-clean"
#: Real images that are part of this project, by their shape.
OWN_DATA: dict[tuple[int, ...], dict[str, str]] = {
    (1, 8, 8): {"data": "digits"},
    (1, 28, 28): {"statistics": "mnist-real-statistics"},
}
SHOWN = ("image_shape", "latent_shape", "classes", "prediction", "schedule", "preconditioning", "sampling")

CARD = """\
# Written by `python -m dode init`: {kind}. config/schemas/card.schema.yaml describes every key.
{said}{card}"""

CONFIGURATION = """\
# Written by `python -m dode init`: which solver to take for {name} at few evaluations, and how much a joint fit helps.
# config/schemas/config.schema.yaml describes every key. What it costs: python -m dode plan {path}
# Settings under `execution` never change a result, so editing them reruns nothing.
benchmark: {name}
seed: 0

datasets:
  - id: {name}
    model: {name} # config/models/{name}.yaml
{real}\
    images: {images} # scored images per seed; published FIDs use 50000
    seeds: {seeds} # scores are mean and spread over them
    trajectory_images: {kept} # those whose end states are kept, for the distance to the fine solution
{grid}\
    # The fine solution, which the others are held against, by many evaluations.
    reference: {reference}

solvers: # docs/solvers.md; each runs at each number of network evaluations{spaced}
{solvers}
execution:
  device: auto # CUDA where there is one
  batch_size: {batch}
"""


def check_data(data: str) -> None:
    """Raise ValueError for what are no real images: neither a name of :mod:`dode.images.data` nor a place."""
    if data != NONE and data not in sources.names() and not Path(data).exists():
        raise ValueError(
            f"--data: there is no '{data}'; allowed: a folder, a zip file, {', '.join(sources.names())}, or of a "
            f"pipeline {NONE}"
        )


def real(
    known: Mapping[str, Any], data: str | None, root: str | Path, *, features: str | None = None
) -> dict[str, Any]:
    """What a dataset is scored against, and by which features: keys of the configuration.

    Args:
        known: the model's card, completed.
        data: a name of :mod:`dode.images.data`, a folder, a zip file; None for images or statistics of the model's
            shape that this project knows, or of a pipeline for no real images; ``"none"`` for no real images.
        root: of the workflow.
        features: the card of an extractor; None for one that suits the images, ``"none"`` of a pipeline without real
            images for none.

    Raises:
        ValueError: for a place that is none, and where a model that is no pipeline would have no real images or no
            features.
    """
    shape = known["image_shape"]
    if features in NO_FEATURES:
        if "pipeline" not in known or data not in (None, NONE):
            raise ValueError(
                f"--features: '{features}' is allowed for pipelines without real images; other images are compared by "
                "features"
            )
        return {"features": None}
    given = {} if features is None else {"features": features}
    features = features or FEATURES.get(tuple(shape), INCEPTION)
    if data == NONE and "pipeline" not in known:
        raise ValueError("--data: 'none' is allowed for pipelines; FIDs of other models are computed against images")
    if "pipeline" in known and (data == NONE or (data is None and tuple(shape) not in OWN_DATA)):
        return {"features": features}
    if data is not None:
        if data in sources.names():
            return {"data": data, "features": features}
        check_data(data)
        kind = "folder" if Path(data).is_dir() else "zip"
        return {"data": {kind: str(data)}, "features": features}
    if tuple(shape) in OWN_DATA:
        return {**OWN_DATA[tuple(shape)], "features": features}
    for name in cards.names(root):
        try:
            other = cards.load_card(root, name, "card")
        except ConfigError:  # one of the user's
            continue
        if other["role"] == "diffusion" and list(shape) == other.get("image_shape") and "statistics" in other:
            return {"statistics": other["statistics"], **given}
    raise ValueError(
        f"--data: this project has no images of the shape {list(shape)}; name a folder or a zip file with such images, "
        "some hundred or more, which FIDs are computed against"
    )


def card(found: Mapping[str, Any], completed: Mapping[str, Any], kind: str) -> str:
    """The text of a card.

    Args:
        found: what it must say.
        completed: the same with what is read from the files beside the weights, which a comment shows.
        kind: what it is of, in words.
    """
    read = {key: completed[key] for key in SHOWN if key in completed and key not in found}
    said = ""
    if read:
        lines = _yaml(read).splitlines()
        said = "# Read from the files beside the weights each time, so that it need not stand here:\n"
        said += "".join(f"#   {line}\n" for line in lines)
    return CARD.format(kind=kind, said=said, card=_yaml(dict(found)))


def grid(known: Mapping[str, Any]) -> dict[str, Any]:
    """The time grid of a model: that of its card, else one that suits it."""
    if "grid" in (own := known.get("sampling", {})):
        return own["grid"]
    if known["prediction"] == FLOW:
        return {"name": "flow-linear", "options": {"shift": 1.0}}
    if "preconditioning" in known:
        return {"name": "karras", "options": {"rho": 7}}
    return _uniform(TRAILING)


def _uniform(spacing: str) -> dict[str, Any]:
    return {"name": "uniform-index", "options": {"spacing": spacing}}


def guidance(known: Mapping[str, Any]) -> dict[str, Any]:
    """The guidance of a pipeline's dataset, at the scale that diffusers gives it; nothing where it has none."""
    way = known["pipeline"]["guidance"]
    if way == "never" or "guidance" in known.get("sampling", {}):
        return {}
    try:
        from dode.models import torchvision_operators

        torchvision_operators.declare()  # before diffusers asks torchvision
        pipeline = getattr(importlib.import_module("diffusers"), known["pipeline"]["class"])
        scale = float(inspect.signature(pipeline.__call__).parameters["guidance_scale"].default)
    except (ImportError, RuntimeError, AttributeError, KeyError, TypeError):  # what a module lacks, diffusers tells so
        scale = SCALE
    return {"guidance": {"name": way, "scale": scale}}


def batch(known: Mapping[str, Any]) -> int:
    """Images per call of the network that fit into most memories."""
    shape = known.get("latent_shape", known["image_shape"])
    return max(4, min(500, MOST_PIXELS // math.prod(shape)))


def solvers(known: Mapping[str, Any], nfe: Sequence[int]) -> list[dict[str, Any]]:
    """Solvers that suit a model at these numbers of evaluations, on a linear schedule each with its spacing."""
    every, odd = list(nfe), sorted({count + 1 - count % 2 for count in nfe})
    small = {"budget": 40_000} if "pipeline" in known else {}
    first = {"id": "euler", "label": "Euler (flow)"} if known["prediction"] == FLOW else {"id": "ddim", "label": "DDIM"}
    heun = {"id": "heun", "label": "Heun", "solver": "heun"}
    if known["prediction"] == FLOW:
        heun = {"id": "flow-heun", "label": "Heun (flow)", "solver": "flow-heun"}
    found: list[dict[str, Any]] = [
        {**first, "solver": "ddim", "nfe": every},
        {**heun, "nfe": odd},
        {"id": "dpmpp-2m", "label": "DPM-Solver++ (2M)", "solver": "dpm-solver++", "nfe": every},
        {"id": "unipc", "label": "UniPC-3", "solver": "unipc", "nfe": every},
        {"id": "ipndm", "label": "iPNDM", "solver": "ipndm", "nfe": every},
        {"id": "j-ipndm", "label": "J-iPNDM", "solver": "ipndm", "nfe": every, "distill": {"fit": "joint", **small}},
    ]
    return [{**entry, **_spaced(entry["solver"], known)} for entry in found]


def _spaced(solver: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """The grid of a solver's entry, on a linear schedule; nothing elsewhere and where it is the dataset's."""
    schedule = known.get("schedule", {})
    if "pipeline" in known or schedule.get("name") != "linear" or schedule.get(repository.ZERO_SNR):
        return {}
    suits, others = LEADING if solver in ON_LEADING else TRAILING, grid(known)
    same = others["name"] in ("uniform-index", "timesteps") and others.get("options", {}).get("spacing") == suits
    return {} if same else {"grid": _uniform(suits)}


def configuration(
    name: str,
    known: Mapping[str, Any],
    against: Mapping[str, Any],
    *,
    path: str | Path,
    nfe: Sequence[int],
    images: int,
    seeds: int,
    prompts: str | None = None,
    without_grid: str | None = None,
) -> str:
    """The text of a configuration.

    Args:
        name: of the card, the dataset and the benchmark.
        known: the card, completed.
        against: from :func:`real`.
        path: where it will be.
        nfe: numbers of evaluations.
        images, seeds: how many are scored.
        prompts: the file of prompts of a pipeline.
        without_grid: why the card has no grid of the model's own (:func:`dode.fetching.cards.without_grid`).
    """
    own_grid, usual = known.get("sampling", {}).get("grid"), grid(known)
    lines = []
    for key, value in against.items():
        remark = REMARKS.get(key, "") if key != "features" or value is None else ""
        lines.append(f"    {key}: {_flow(value)}{remark}")
    if prompts is not None:
        lines.append(
            f"    prompts: {_flow({'file': prompts})} # a row an image; those of the fit follow the scored ones"
        )
    solver, fine = FINE.get(known["prediction"], USUAL_FINE)
    reference: dict[str, Any] = {"solver": solver, "nfe": fine}
    zero_snr = known.get("schedule", {}).get(repository.ZERO_SNR)
    if known["prediction"] != FLOW and "pipeline" not in known and not zero_snr:
        reference["grid"] = {"name": "karras"}
    why = NOT_ITS_OWN.format(texts.shown(without_grid)) if without_grid else ""
    chosen = solvers(known, nfe)
    entries = "".join(f"  - {_flow(entry)}\n" for entry in chosen)
    return CONFIGURATION.format(
        name=name,
        path=path,
        real="".join(f"{line}\n" for line in lines),
        images=images,
        seeds=seeds,
        kept=min(images, 200),
        grid="" if own_grid else f"    grid: {_flow(usual)}{why}\n",
        reference=_flow(reference),
        solvers=entries,
        spaced=SPACED if any("grid" in entry for entry in chosen) else "",
        batch=batch(known),
    )


def _yaml(value: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(value), sort_keys=False, width=110, default_flow_style=None)


def _flow(value: Any) -> str:
    """A value in one line."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).removesuffix("...\n").strip()
