"""What the folder of a pipeline says of it, for its card. Imports no torch.

``model_index.json`` has the pipeline's class and its components, the configurations of scheduler, network and decoder
what the network was trained for and which images it makes. A card takes from them what it leaves out
(:func:`completed`) and must not contradict them (:func:`fault`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from dode.models.hub import repository
from dode.pipelines import limits
from dode.pipelines.registry import families
from dode.registry import unknown

INDEX, DECODER = "model_index.json", "vae"
SCHEDULER = f"scheduler/{repository.SCHEDULER}"
NETWORKS = ("transformer", "unet")
CONFIGS = {name: f"{name}/{repository.CONFIG}" for name in (*NETWORKS, DECODER)}
PLACES = {name: (name,) for name in (INDEX, SCHEDULER, *CONFIGS.values())}
#: What some pipelines have besides and never need here: a filter that paints images black, and prompts that are images.
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
#: Files beside the weights: configurations, and what tokenizers are made of.
SMALL = (".json", ".txt", ".model")

#: The folder of a single model in the words of an index: it is its own and only component.
ALONE = {".": ["transformers", "the model"]}

#: How a network that was distilled is guided, by the class of its pipeline and the key ``guidance_embeds`` of its
#: configuration: that of FLUX.1-dev and schnell. Sana's has the key too, and is guided classifier-free.
GUIDED: dict[str, dict[Any, str]] = {"FluxPipeline": {True: "embedded", False: "never"}}

Files = Mapping[str, Mapping[str, Any]]


def components(index: Mapping[str, Any]) -> list[str]:
    """Names of the components that are needed, by ``model_index.json``."""
    whole = {name for name, value in index.items() if isinstance(value, list) and None not in value}
    return sorted(whole - set(UNUSED))


def chosen(names: Iterable[str], index: Mapping[str, Any], variant: str | None) -> list[str]:
    """Those of a folder's files that are needed: configurations, tokenizers, and safetensors of a variant.

    Args:
        names: paths of all files, seen from the folder.
        index: its ``model_index.json``, or :data:`ALONE` of the folder of a single model.
        variant: such as ``fp16``; of a component that has none of it, the weights without a variant. None for these.
    """
    files = [Path(name) for name in names]
    found = [INDEX] if Path(INDEX) in files else []
    for component in components(index):
        own = [file for file in files if str(file.parent) == component]
        weights: dict[str, list[Path]] = {}
        for file in own:
            if file.suffix == ".safetensors":
                weights.setdefault(variant_of(file), []).append(file)
            elif file.suffix in SMALL:
                found.append(str(file))
        found += map(str, weights.get(variant or "", weights.get("", [])))
    return sorted(found)


def variant_of(file: Path) -> str:
    """The variant in the name of a file of weights, which may be one of several; empty for none."""
    return re.sub(r"-\d+-of-\d+", "", file.stem).partition(".")[2]


def completed(card: Mapping[str, Any], files: Files) -> dict[str, Any]:
    """The card with what it leaves out and the files say.

    That is the class, how its network is guided, prediction, schedule, ``classes`` of a network without encoders,
    ``image_shape`` and ``latent_shape``.

    Raises:
        ValueError: for a prediction or a schedule that a card cannot have, or a pipeline of an unknown class.
    """
    card, pipeline = dict(card), dict(card["pipeline"])
    if INDEX in files:
        pipeline.setdefault("class", files[INDEX].get("_class_name"))
    if pipeline.get("class") not in families.names():
        named = unknown("class", pipeline.get("class"), families.names())
        raise ValueError(f"pipeline.class: {named}; docs/pipelines.md says how to add one")
    scheduler, config, decoder = files.get(SCHEDULER), network_config(files), files.get(CONFIGS[DECODER])
    if scheduler is not None and not {"prediction", "schedule"} <= set(card):
        card = {**repository.trained(scheduler), **card}
    pipeline.setdefault("guidance", _guided(pipeline["class"], config) or "classifier-free")
    card["pipeline"] = pipeline
    if "classes" not in card and config.get("num_embeds_ada_norm") and not _encoders(files):
        card["classes"] = config["num_embeds_ada_norm"]
    if decoder is not None:
        size = _pair(config.get("sample_size"))
        if None not in size:
            card.setdefault("image_shape", [decoder.get("out_channels", 3), *(_scale(decoder) * each for each in size)])
        if is_shape(card.get("image_shape")):
            card.setdefault("latent_shape", latent_shape(card["image_shape"], decoder))
    return card


def latent_shape(image_shape: list[int], decoder: Mapping[str, Any]) -> list[int]:
    """(channels, height, width) of the latents of images of this shape, by the configuration of their decoder."""
    return [decoder.get("latent_channels", 4), *(side // _scale(decoder) for side in image_shape[1:])]


def fault(card: Mapping[str, Any], files: Files) -> str | None:
    """What the card and the files contradict each other in, in one sentence with both values, or None."""
    return next(_faults(card, files), None)


def _faults(card: Mapping[str, Any], files: Files) -> Iterator[str]:
    if INDEX in files and files[INDEX].get("_class_name") != card["pipeline"]["class"]:
        yield f"pipeline.class: {card['pipeline']['class']}, but {INDEX} says {files[INDEX].get('_class_name')}"
    if SCHEDULER in files and (found := repository.fault(card, {repository.SCHEDULER: files[SCHEDULER]})):
        yield found
    if CONFIGS[DECODER] in files:
        decoder, shape = files[CONFIGS[DECODER]], card["image_shape"]
        if decoder.get("out_channels", 3) != shape[0]:
            yield f"image_shape: {shape}, but {CONFIGS[DECODER]} says out_channels {decoder.get('out_channels', 3)}"
        if any(side % _scale(decoder) for side in shape[1:]):
            yield f"image_shape: {shape}, but height and width must be multiples of {_scale(decoder)}, its decoder's"
        if card["latent_shape"] != (own := latent_shape(shape, decoder)):
            yield f"latent_shape: {card['latent_shape']}, but for images {shape} {CONFIGS[DECODER]} says {own}"
    yield from _faults_of_limits(card, files)
    network, guided = network_config(files), card["pipeline"]["guidance"]
    said = _guided(card["pipeline"]["class"], network)
    if network and guided != said and "embedded" in (guided, said):
        yield f"pipeline.guidance: {guided}, but {_place(files)} says guidance_embeds {network.get('guidance_embeds')}"
    classes = network.get("num_embeds_ada_norm")
    if card.get("classes") and INDEX in files and _encoders(files):
        yield f"classes: {card['classes']}, but {INDEX} has text encoders, so that its images are of prompts"
    elif card.get("classes") and classes not in (None, card["classes"]):
        yield f"classes: {card['classes']}, but {_place(files)} says num_embeds_ada_norm {classes}"


def _faults_of_limits(card: Mapping[str, Any], files: Files) -> Iterator[str]:
    """What the network and the encoders of its class cannot take."""
    kind, network, latent = card["pipeline"]["class"], network_config(files), card["latent_shape"]
    if fault := limits.fault_of_length(kind, card["pipeline"].get("length")):
        yield f"pipeline.length: {fault}"
    found = limits.sides(kind, network or None)
    if not all(map(found.allows, latent[1:])):
        scale = max(1, card["image_shape"][1] // latent[1])
        where = f", by {_place(files)}" if network else ""
        yield (
            f"image_shape: {card['image_shape']} is not allowed, as the network takes latents of other sizes than "
            f"{latent}; allowed height and width: {found.of_images(scale)}{where}"
        )
    channels = limits.channels(kind, network)
    if channels and channels != latent[0]:
        yield (
            f"latent_shape: {latent}, but by in_channels {network['in_channels']} of {_place(files)} the network takes "
            f"latents of {channels} channels"
        )


def _guided(kind: str, network: Mapping[str, Any]) -> str | None:
    """How a network that was distilled is guided; None for others."""
    said = network.get("guidance_embeds")
    return GUIDED[kind].get(said) if kind in GUIDED and isinstance(said, bool) else None


def network_config(files: Files) -> Mapping[str, Any]:
    """The configuration of the network; empty where there is none."""
    return next((files[CONFIGS[name]] for name in NETWORKS if CONFIGS[name] in files), {})


def _place(files: Files) -> str:
    return next(CONFIGS[name] for name in NETWORKS if CONFIGS[name] in files)


def _encoders(files: Files) -> list[str]:
    return [name for name in components(files.get(INDEX, {})) if name.startswith("text_encoder")]


def _pair(size: Any) -> tuple[Any, Any]:
    return tuple(size) if isinstance(size, list | tuple) and len(size) == 2 else (size, size)


def is_shape(shape: Any) -> TypeGuard[list[int]]:
    """Whether a value is three integers."""
    return isinstance(shape, list) and len(shape) == 3 and all(type(side) is int for side in shape)


def _scale(decoder: Mapping[str, Any]) -> int:
    """Pixels of an image per entry of a latent, in each dimension."""
    channels = decoder.get("block_out_channels") or decoder.get("encoder_block_out_channels") or [64]
    return 2 ** (len(channels) - 1)
