"""What the images of a dataset are conditioned on, by the configuration: classes or prompts, and their guidance."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from dode.fetching.cards import Card, load_card
from dode.images import prompts
from dode.metrics import prompt_scores
from dode.models import agreement
from dode.models.passes import guides
from dode.validation import ConfigError

Cards: TypeAlias = dict[str, Card]

EMBEDDED = "embedded"
#: The kinds of guidance that each of its options belongs to.
USED_BY = {
    "classifier": ("classifier",),
    "guide": ("autoguidance",),
    "interval": ("classifier-free",),
    "rescale": ("classifier-free",),
    EMBEDDED: ("classifier-free", "autoguidance"),
}


def refuse(key: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a check of the library; its ValueError becomes a ConfigError that names the key."""
    try:
        return function(*arguments, **options)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ConfigError(f"{key}: {error}") from None


def take_card(name: str, role: str, key: str, cards: Cards, root: str | Path) -> Card:
    """Put the card ``name`` into ``cards``; refuse one of another role."""
    card = cards[name] = cards.get(name) or load_card(root, name, key)
    if card["role"] != role:
        raise ConfigError(f"{key}: card '{name}' has the role '{card['role']}', not '{role}'")
    return card


def check(dataset: dict[str, Any], key: str, cards: Cards, root: str | Path) -> None:
    """Check how classes are drawn and how they or prompts guide; models of neither may not have these keys."""
    name, card, guidance = dataset["model"], cards[dataset["model"]], dataset.get("guidance", {})
    if not math.isfinite(guidance.get("scale", 0)):
        raise ConfigError(f"{key}.guidance.scale: {guidance['scale']} is not allowed; allowed: a finite number")
    for option, kinds in USED_BY.items():
        if option in guidance and guidance["name"] not in kinds:
            raise ConfigError(
                f"{key}.guidance.{option}: '{guidance['name']}' guidance uses no {option}; leave the key out"
            )
    low, high = guidance.get("interval", (0, 1))
    if low >= high:
        raise ConfigError(
            f"{key}.guidance.interval: {guidance['interval']} is not allowed; allowed: two noise levels, "
            "the lower first"
        )
    if "pipeline" in card:
        _check_pipeline(dataset, key, card)
    elif guidance.get("name") == EMBEDDED:
        raise ConfigError(f"{key}.guidance.name: '{EMBEDDED}' is not allowed for '{name}', which is no pipeline")
    elif EMBEDDED in guidance:
        raise ConfigError(
            f"{key}.guidance.{EMBEDDED}: '{name}' is no pipeline, which alone may have it; leave the key out"
        )
    if guidance.get("name") == "autoguidance":
        _check_guide(guidance, f"{key}.guidance.guide", card, cards, root)
    if "classes" not in card:
        for option in ("labels", "guidance"):
            may = option == "guidance" and ("pipeline" in card or guidance.get("name") == "autoguidance")
            if option in dataset and not may:
                raise ConfigError(
                    f"{key}.{option}: model '{name}' has no classes (card key 'classes'); leave the key out"
                )
        return
    dataset.setdefault("labels", "uniform")
    if guidance.get("name") == "classifier":
        if "classifier" not in guidance:
            raise ConfigError(
                f"{key}.guidance.classifier: the key is missing; it names a card with the role classifier"
            )
        if "schedule" not in card:
            raise ConfigError(f"{key}.guidance.name: 'classifier' needs a model with a schedule (card key 'schedule')")
        if card["prediction"] == "flow":
            raise ConfigError(
                f"{key}.guidance.name: 'classifier' is not allowed for a flow-matching model, as classifiers are of "
                "images on a variance-preserving schedule; allowed: 'classifier-free'"
            )
        judge = take_card(guidance["classifier"], "classifier", f"{key}.guidance.classifier", cards, root)
        known = judge["network"]["options"].get("classes", card["classes"])
        if known != card["classes"]:
            raise ConfigError(
                f"{key}.guidance.classifier: the classifier has {known} classes, but the model has {card['classes']}"
            )
        shape = agreement.shape_of_options(judge["network"]["options"])
        if shape is not None and shape != card["image_shape"]:
            raise ConfigError(
                f"{key}.guidance.classifier: the classifier is of images {shape}, but the model of "
                f"{card['image_shape']}"
            )
    elif guidance.get("name") == "classifier-free" and "network" in card and agreement.lacks_no_class(card):
        raise ConfigError(
            f"{key}.guidance.name: '{guidance['name']}' is not allowed for '{name}', whose network has a table of "
            f"{card['classes']} classes and no entry for no class"
        )


def _check_guide(guidance: dict[str, Any], key: str, card: Card, cards: Cards, root: str | Path) -> None:
    """The guide of autoguidance is a diffusion model of the same images and classes, of a pipeline one of its class."""
    if "guide" not in guidance:
        raise ConfigError(f"{key}: the key is missing; it names a card with the role diffusion")
    guide = take_card(guidance["guide"], "diffusion", key, cards, root)
    if guide is card:
        raise ConfigError(f"{key}: '{guidance['guide']}' is the model itself, which guides nowhere; take a worse one")
    if "pipeline" in guide and "pipeline" not in card:
        raise ConfigError(f"{key}: '{guidance['guide']}' is a pipeline, which cannot be a guide; take another card")
    if "pipeline" in card:
        _check_guiding_pipeline(guide, key, card)
    if guide["image_shape"] != card["image_shape"]:
        raise ConfigError(f"{key}: its images are {guide['image_shape']}, but the model's {card['image_shape']}")
    if guide.get("classes") not in (None, card.get("classes")):
        raise ConfigError(f"{key}: it has {guide['classes']} classes, but the model {card.get('classes', 'none')}")


def _check_guiding_pipeline(guide: Card, key: str, card: Card) -> None:
    """The guide of a pipeline works on the same latents, and is given what the model's encoders make of the prompts."""
    own = card["pipeline"]
    if "pipeline" not in guide:
        raise ConfigError(f"{key}: it is no pipeline, but the model is; take a card of the class {own['class']}")
    for option in ("class", "guidance"):
        if guide["pipeline"][option] != own[option]:
            raise ConfigError(
                f"{key}: its pipeline.{option} is {guide['pipeline'][option]}, but the model's {own[option]}; they "
                "must be the same"
            )
    if guide["latent_shape"] != card["latent_shape"]:
        raise ConfigError(f"{key}: its latents are {guide['latent_shape']}, but the model's {card['latent_shape']}")


def _check_pipeline(dataset: dict[str, Any], key: str, card: Card) -> None:
    """A pipeline's network has one way to be guided; a scale of up to 1 is no guidance, as in diffusers."""
    name, guidance, way = dataset["model"], dataset.get("guidance"), card["pipeline"]["guidance"]
    if guidance is None and way == EMBEDDED:
        raise ConfigError(
            f"{key}.guidance: the key is missing; the network of '{name}' was distilled for guidance and takes "
            f"its scale as an input: {{name: {EMBEDDED}, scale: ...}}"
        )
    if guidance is not None:
        _check_way(dataset, key, guidance, way)
    if guidance is not None and way == "classifier-free" == guidance["name"] and not guides(guidance["scale"]):
        guidance = None
        del dataset["guidance"]
    if "negative_prompt" in dataset and (guidance is None or guidance["name"] != "classifier-free"):
        raise ConfigError(
            f"{key}.negative_prompt: without classifier-free guidance nothing leads away from it; leave the key out"
        )


def _check_way(dataset: Mapping[str, Any], key: str, guidance: Mapping[str, Any], way: str) -> None:
    """Besides its own way a network may have a guide, and one that was distilled a negative prompt, as in diffusers."""
    name, kind = dataset["model"], guidance["name"]
    besides = kind == "autoguidance" or (kind == "classifier-free" != way and "negative_prompt" in dataset)
    if kind != way and not besides:
        allowed = "leave the key out" if way == "never" else f"allowed: '{way}'"
        was = {
            EMBEDDED: ", whose network was distilled for guidance and takes its scale as an input",
            "never": ", whose network was distilled to need no guidance",
        }.get(way, "")
        raise ConfigError(f"{key}.guidance.name: '{kind}' is not allowed for '{name}'{was}; {allowed}")
    if besides and way == EMBEDDED and EMBEDDED not in guidance:
        raise ConfigError(
            f"{key}.guidance.{EMBEDDED}: the key is missing; the network of '{name}' takes a scale as an input besides"
        )
    if EMBEDDED in guidance and way != EMBEDDED:
        raise ConfigError(
            f"{key}.guidance.{EMBEDDED}: the network of '{name}' takes no scale as an input; leave the key out"
        )
    if besides and kind == "classifier-free" and not guides(guidance["scale"]):
        raise ConfigError(f"{key}.guidance.scale: {guidance['scale']} is no guidance; allowed: more than 1")


def check_prompts(dataset: dict[str, Any], key: str, card: Card, fitted: int, root: str | Path) -> None:
    """Check that a pipeline of prompts has enough of them, and that nothing else has any.

    A file of an installed package is found there where the working directory has none of this name.

    ``fitted``: the most images that a solver or a grid is fitted to.
    """
    if "pipeline" not in card or "classes" in card:
        kind = "images of classes" if "classes" in card else "no text encoders"
        for option in ("prompts", "negative_prompt", "prompt_scores"):
            if option in dataset:
                raise ConfigError(f"{key}.{option}: the model '{dataset['model']}' has {kind}; leave the key out")
        return
    if "prompts" not in dataset:
        raise ConfigError(f"{key}.prompts: the key is missing; the model '{dataset['model']}' makes images of prompts")
    file = dataset["prompts"]["file"]
    if not Path(file).exists() and (own := Path(root) / file).is_file():
        dataset["prompts"]["file"] = file = str(own)
    rows = refuse(f"{key}.prompts", prompts.read, **dataset["prompts"])
    refuse(f"{key}.prompts", prompts.check_count, rows, file, dataset["images"], fitted)


def check_prompt_scores(dataset: Mapping[str, Any], key: str, cards: Cards, root: str | Path) -> None:
    """Take the cards of the scorers of a dataset's prompts, each of another score."""
    taken: dict[str, str] = {}
    for index, name in enumerate(dataset.get("prompt_scores", [])):
        place = f"{key}.prompt_scores[{index}]"
        score = prompt_scores.metric(take_card(name, "prompt-score", place, cards, root))
        if score in taken:
            raise ConfigError(f"{place}: '{name}' gives the {score}, as '{taken[score]}' does; leave one of them out")
        taken[score] = name
