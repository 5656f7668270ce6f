"""Cards: what the project knows of a model, a feature extractor or a file of statistics (``config/models/*.yaml``)."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from dode.grids.facts import unsupported_prediction
from dode.grids.schedules import schedules
from dode.registry import unknown
from dode.validation import ConfigError, read_yaml, refuse_odd, validate

CONVERTED = ("torch", "edm-pickle")  # formats of checkpoints that are read into safetensors first
SECRETS = r"(?i)\b[a-z-]*(token|sig|signature|key|password|secret|credential)="

Card = dict[str, Any]


def file_name(card: Mapping[str, Any]) -> str:
    """The published name of a card's file."""
    return card.get("file") or Path(urlparse(card["urls"][0]).path).name.split("@")[0]


def folder_of(root: str | Path) -> Path:
    """Where the cards are."""
    return Path(root) / "config" / "models"


def load_card(root: str | Path, name: str, key: str) -> Card:
    """The model card ``config/models/<name>.yaml`` under ``root``, checked."""
    folder = folder_of(root)
    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"{key}: {unknown('card', name, [card.stem for card in folder.glob('*.yaml')])}")
    place = str(path.relative_to(root))
    card = read_yaml(path)
    refuse_odd(card, what=place, prose=["notes"])
    validate(card, Path(root) / "config" / "schemas" / "card.schema.yaml", place)
    _check_card(card, place)
    return card


def _check_card(card: Card, place: str) -> None:
    """Refuse contradictions: format and key, statistics with a network, the network and its images."""
    if card["role"] == "statistics" and (card["format"] != "safetensors" or "network" in card):
        raise ConfigError(f"{place}: statistics are an .npz file and have neither format nor network; leave them out")
    for url in map(urlparse, card.get("urls", [])):
        if url.username or url.password or re.search(SECRETS, url.query):
            raise ConfigError(
                f"{place}: urls: the one at {url.hostname} contains a credential, which would end up in logs; "
                "credentials belong in ~/.netrc (https:) or HF_TOKEN (hf:)"
            )
    if card.get("prediction") == "flow":
        raise ConfigError(f"{place}: {unsupported_prediction('flow')}")
    if "schedule" in card and "preconditioning" in card:
        raise ConfigError(
            f"{place}: schedule: the card has a preconditioning too, whose noise levels are other ones; leave one of "
            "them out"
        )
    if "schedule" in card:
        try:
            schedules.create(**card["schedule"])
        except (ValueError, TypeError, ArithmeticError) as error:
            raise ConfigError(f"{place}: schedule: {error}") from None
    options = card.get("network", {}).get("options", {})
    own = {
        "classes": options.get("classes", options.get("label_dim") or None),
        "image_shape": options.get("image_shape"),
    }
    if "image_size" in options:
        own["image_shape"] = [options.get("in_channels", 3), options["image_size"], options["image_size"]]
    for key, value in own.items():
        if card["role"] == "diffusion" and value is not None and value != card.get(key):
            raise ConfigError(f"{place}: {key}: {card.get(key)}, but the network's options say {value}")
    if "key" in card and card["format"] not in CONVERTED:
        raise ConfigError(f"{place}: key: a file of the format {card['format']} has no keys; leave it out")
    if "prefix" in card and (card["role"] == "statistics" or card["format"] == "torchscript"):
        raise ConfigError(f"{place}: prefix: the file has no weights by name; leave it out")
    if card["format"] == "torchscript" and (card["role"] != "features" or len(card.get("sha256", "")) < 64):
        raise ConfigError(
            f"{place}: format: 'torchscript' is a program that will be run, so it is allowed only for features, "
            "and only with the whole sha256"
        )
