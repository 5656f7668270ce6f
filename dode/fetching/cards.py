"""Cards: what the project knows of a model, a feature extractor or a file of statistics (``config/models/*.yaml``)."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from dode.fetching import card_grids, downloads, pipelines, places, repositories
from dode.grids import spellings
from dode.grids.schedules import schedules
from dode.metrics import prompt_scores
from dode.models import agreement
from dode.models.hub import repository
from dode.pipelines import described as described_pipeline
from dode.registry import unknown
from dode.validation import ConfigError, paths_from_home, read_yaml, refuse_odd, validate

CONVERTED = ("torch", "edm-pickle")  # formats of checkpoints that are read into safetensors first
SECRETS = r"(?i)\b[a-z-]*(token|sig|signature|key|password|secret|credential)="

#: Keys of a card that has a file, and not a folder; a pipeline's parts say themselves what they are, too.
OF_A_FILE = ("urls", "file", "size", "sha256", "md5", "key", "names", "prefix")
NOT_OF_A_PIPELINE = (*OF_A_FILE, "network", "preconditioning")

Card = dict[str, Any]


def file_name(card: Mapping[str, Any]) -> str:
    """The published name of a card's file; of a folder its source without the revision."""
    if (own := pipelines.of_card(card)) is not None:
        return own["source"].split("@")[0]
    return card.get("file") or Path(urlparse(card["urls"][0]).path).name.split("@")[0]


def reading(card: Mapping[str, Any]) -> dict[str, Any]:
    """How a card's file is read, for its conversion."""
    return {key: card.get(key) for key in ("format", "key", "prefix", "names")}


def names(root: str | Path) -> list[str]:
    """The names of all cards, sorted; not of drafts."""
    found = {path.stem for folder in places.folders_of_cards(root) for path in folder.glob("*.yaml")}
    return sorted(name for name in found if not name.endswith(places.DRAFT))


def folder_of(root: str | Path, name: str) -> Path:
    """The folder of a card, to which its relative ``file:`` URLs are relative; by default the workflow's own.

    Raises:
        ConfigError: for a card beside an installed workflow that has one of this name.
    """
    folders = places.folders_of_cards(root)
    found = [folder for folder in folders if (folder / f"{name}.yaml").is_file()]
    if len(found) > 1 and places.is_installed(root):
        raise ConfigError(f"config/models/{name}.yaml: dode has a card of this name; give yours another one")
    return (found or folders)[0]


def load_card(root: str | Path, name: str, key: str) -> Card:
    """The model card ``config/models/<name>.yaml`` under ``root``, checked."""
    folder = folder_of(root, name)
    path, place = folder / f"{name}.yaml", f"config/models/{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"{key}: {unknown('card', name, names(root))}")
    card = read_yaml(path)
    refuse_odd(card, what=place, prose=["notes"])
    card = _with_pipeline(_with_repository(_in_our_words(paths_from_home(card), place), place, folder), place, folder)
    validate(card, Path(root) / "config" / "schemas" / "card.schema.yaml", place)
    _check_card(card, place)
    if "source" in card:
        _check_scorer(card, place, folder)
        return card
    files = _described(card, place, folder, online=False)
    try:
        fault = (described_pipeline if "pipeline" in card else repository).fault(card, files)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{place}: {repository.SCHEDULER} beside the weights: {error}") from None
    if fault:
        raise ConfigError(f"{place}: {fault}")
    return card


def without_grid(root: str | Path, name: str) -> str | None:
    """Why the card ``name`` has no grid, of a model whose files have a scheduler, in words; None where they have none.

    Raises:
        ConfigError: as :func:`load_card`.
    """
    card, folder = load_card(root, name, "card"), folder_of(root, name)
    try:
        card_grids.of(card, _described(card, f"config/models/{name}.yaml", folder, online=False))
    except ValueError as error:
        return str(error)
    return None


def _in_our_words(card: Any, place: str) -> Any:
    """A card whose prediction and schedule are spelt as this project spells them, so that it has one digest."""
    found = dict(card) if isinstance(card, dict) else {}
    if "prediction" in found:
        found["prediction"] = spellings.prediction(found["prediction"])
    if isinstance(found.get("schedule"), dict):
        try:
            found["schedule"] = spellings.schedule(found["schedule"])
        except ValueError as error:
            raise ConfigError(f"{place}: schedule: {error}") from None
    return found or card


def _described(card: Card, place: str, folder: Path, *, online: bool) -> dict[str, Any]:
    try:
        return (pipelines.files if "pipeline" in card else repositories.described)(card, folder, online=online)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{place}: {error}") from None


def _check_scorer(card: Card, place: str, folder: Path) -> None:
    """Refuse an unknown scorer, and a folder of this machine that one cannot be made of."""
    try:
        prompt_scores.scorers.module_of(card["network"]["name"])
    except ValueError as error:
        raise ConfigError(f"{place}: network.name: {error}") from None
    own = pipelines.local(card["source"], folder)
    if own is None:
        return
    if not own.is_dir():
        raise ConfigError(f"{place}: source: there is no folder {own}")
    try:
        pipelines.needed(own, None)
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None


def _with_pipeline(card: Any, place: str, folder: Path) -> Any:
    """A pipeline's card with what it leaves out and the files of its folder say."""
    pipeline = card.get("pipeline") if isinstance(card, dict) else None
    if not isinstance(pipeline, dict):
        return card
    if not isinstance(pipeline.get("source"), str):
        raise ConfigError(f"{place}: pipeline: the key 'source' is missing, or no text; allowed: {pipelines.SOURCES}")
    known = {"prediction", "schedule", "image_shape", "latent_shape"} <= set(card) and {"class", "guidance"} <= set(
        pipeline
    )
    files = _described(card, place, folder, online=not known)
    try:
        if (own := pipelines.local(pipeline["source"], folder)) is not None:
            pipelines.needed(own, pipeline.get("variant"))
        return card_grids.completed(described_pipeline.completed(card, files), files)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{place}: {error}") from None


def _with_repository(card: Any, place: str, folder: Path) -> Any:
    """A hub network's card with what it leaves out and the files beside the weights say.

    A file of the hub is downloaded once; huggingface_hub keeps it.
    """
    network = card.get("network") if isinstance(card, dict) else None
    if not isinstance(network, dict) or network.get("name") != repository.NETWORK or not _texts(card.get("urls")):
        return card
    options = network.get("options", {})
    if not isinstance(options, dict):
        return card
    known = "prediction" in card and ("schedule" in card or "preconditioning" in card) and "config" in options
    # What a scheduler says of the grid is asked for where the shift is a part of it; elsewhere it is taken if at hand.
    sampling = card.get("sampling")
    gridless = not (isinstance(sampling, Mapping) and "grid" in sampling)
    if known and not gridless:
        return card
    files = _described(card, place, folder, online=not known or card["prediction"] == "flow")
    if "config" not in options and repository.CONFIG not in files:
        raise ConfigError(
            f"{place}: network.options.config: the key is missing, and no {repository.CONFIG} is beside the weights"
        )
    try:
        return card_grids.completed(repository.completed(card, files), files)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{place}: {repository.SCHEDULER} beside the weights: {error}") from None


def _texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _of_another_kind(card: Card) -> dict[str, str]:
    """Keys that a card may not have, each with what the card is of: a pipeline, the folder of a model, or a file."""
    if "pipeline" in card:
        return {key: "a pipeline, which has no such key" for key in NOT_OF_A_PIPELINE if key in card}
    found = {key: "no pipeline" for key in ("latent_shape",) if key in card}
    found |= {f"precision.{key}": "no pipeline" for key in ("encoders", "decoder") if key in card.get("precision", {})}
    if card["role"] == "prompt-score":
        return found | {key: "a folder, which has no such key" for key in OF_A_FILE if key in card}
    return found | {key: f"the role '{card['role']}', which has urls" for key in ("source",) if key in card}


def _check_card(card: Card, place: str) -> None:
    """Refuse contradictions: format and key, statistics with a network, the network and its images."""
    for key, kind in sorted(_of_another_kind(card).items()):
        raise ConfigError(f"{place}: {key}: the card is of {kind}; leave it out")
    if card["role"] == "statistics" and (card["format"] != "safetensors" or "network" in card):
        raise ConfigError(f"{place}: statistics are an .npz file and have neither format nor network; leave them out")
    for url in map(urlparse, card.get("urls", [])):
        if url.username or url.password or re.search(SECRETS, url.query):
            raise ConfigError(
                f"{place}: urls: the one at {url.hostname} contains a credential, which would end up in logs; "
                "credentials belong in ~/.netrc (https:) or HF_TOKEN (hf:)"
            )
    try:
        for url in card.get("urls", []):
            downloads.check_name(url)
    except OSError as error:
        raise ConfigError(f"{place}: urls: {error}") from None
    if "schedule" in card and "preconditioning" in card:
        raise ConfigError(
            f"{place}: schedule: the card has a preconditioning too, whose noise levels are other ones; leave one of "
            "them out"
        )
    for key in ("sigma_min", "sigma_max"):
        if "schedule" in card and key in card:
            raise ConfigError(f"{place}: {key}: the noise levels are those of the card's schedule; leave the key out")
    if "schedule" in card:
        try:
            schedules.create(**card["schedule"])
        except (ValueError, TypeError, ArithmeticError) as error:
            raise ConfigError(f"{place}: schedule: {error}") from None
    fault = agreement.fault_of_options(card) if card["role"] == "diffusion" and "network" in card else None
    try:
        fault = fault or agreement.fault_of_range(card)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ConfigError(f"{place}: preconditioning: {error}") from None
    if fault:
        raise ConfigError(f"{place}: {fault}")
    for key in ("key", "names"):
        if key in card and card["format"] not in CONVERTED:
            raise ConfigError(f"{place}: {key}: a file of the format {card['format']} has no keys; leave it out")
    if "prefix" in card and (card["role"] == "statistics" or card["format"] == "torchscript"):
        raise ConfigError(f"{place}: prefix: the file has no weights by name; leave it out")
    if card["format"] == "torchscript" and (card["role"] != "features" or len(card.get("sha256", "")) < 64):
        raise ConfigError(
            f"{place}: format: 'torchscript' is a program that will be run, so it is allowed only for features, "
            "and only with the whole sha256"
        )
