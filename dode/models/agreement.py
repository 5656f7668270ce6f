"""A card against what is known of its network from elsewhere: its options, and what its file says of itself.

Imports no torch: cards are compared with their networks' options as the configuration is read.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dode.models.edm import recorded
from dode.models.hub import repository
from dode.registry import finite
from dode.weights import safetensors_files


def check_options(card: Mapping[str, Any]) -> None:
    """Raise ValueError where :func:`fault_of_options` or :func:`fault_of_range` finds one."""
    fault = fault_of_options(card) or fault_of_range(card)
    if fault:
        raise ValueError(f"the card contradicts itself: {fault}")


def check_file(card: Mapping[str, Any], checkpoint: str | Path) -> None:
    """Raise ValueError where a card contradicts its safetensors file, naming key and both values.

    That is how the file was converted; of one that was a pickle of EDM's what that recorded
    (:mod:`dode.models.edm.recorded`); and for a network of the hub the files beside the weights
    (:mod:`dode.models.hub.repository`).
    """
    header = safetensors_files.header(checkpoint)
    fault = _fault_of_conversion(card, header) or recorded.fault(card, header)
    if fault is None and card["network"]["name"] == repository.NETWORK:
        fault = repository.fault(card, repository.beside(checkpoint))
    if fault:
        raise ValueError(f"the card contradicts {checkpoint}: {fault}")


def _fault_of_conversion(card, header):
    """A file that was converted for a card that has since been edited may have other weights of the same network."""
    if not header or card.get("format", "safetensors") == "safetensors":
        return None  # what a card names as safetensors may have been converted elsewhere
    for key in ("format", "key", "prefix", "names"):
        if header.get(key) != card.get(key):
            return f"{key}: {card.get(key)!r}, but the file was converted with {header.get(key)!r}; convert it again"
    return None


def fault_of_range(card: Mapping[str, Any]) -> str | None:
    """What is wrong with a diffusion model's ``sigma_min`` and ``sigma_max``, in one sentence, or None.

    The range of the preconditionings ``vp`` and ``iddpm`` follows from their options; 1 % is taken for rounding.
    """
    least, most, own = card.get("sigma_min"), card.get("sigma_max"), dict(card.get("preconditioning", {}))
    if least is None or most is None:
        return None
    if not least < most:
        return f"sigma_min: {least} is not below sigma_max: {most}"
    lowest, highest = recorded.known_range(own.pop("name", None), own)
    if least < 0.99 * lowest:
        return f"sigma_min: {least}, but the preconditioning {card['preconditioning']} knows levels from {lowest:.6g}"
    if most > 1.01 * highest:
        return f"sigma_max: {most}, but the preconditioning {card['preconditioning']} knows levels up to {highest:.6g}"
    return None


def fault_of_options(card: Mapping[str, Any]) -> str | None:
    """What a diffusion model's card and its network's options contradict each other in, in one sentence, or None.

    Options have the number of classes as ``classes``, ``label_dim`` or, in a ``config`` of the hub,
    ``num_class_embeds``, and the images as ``image_shape``, as ``image_size`` with ``in_channels``, or as
    ``sample_size`` with ``in_channels`` in a ``config``; a table of the hub may have one entry more than there are
    classes, which stands for none. What options do not say of images is not compared; a network
    whose options name no classes has none.
    """
    options = card["network"]["options"]
    where, config = "the network's options", options.get("config")
    if card["network"]["name"] == repository.NETWORK and (fault := _fault_of_config(config)):
        return fault
    config = config if isinstance(config, Mapping) else None
    if "index_scale" in options and not (finite(options["index_scale"]) and options["index_scale"] > 0):
        return f"network.options.index_scale: {options['index_scale']!r} is not allowed; allowed: a number above 0"
    if config is not None:
        where, classes, shape = f"{where} (config)", config.get("num_class_embeds"), repository.image_shape(config)
    else:
        classes, shape = options.get("classes") or options.get("label_dim"), shape_of_options(options)
    # A table of the hub may have one entry more, for no class.
    allowed = {classes, classes - 1} if config is not None and type(classes) is int and classes > 1 else {classes}
    if card.get("classes") not in {of or None for of in allowed}:
        own = f"classes: {card['classes']}" if "classes" in card else "classes: the key is missing"
        return f"{own}, but {where} say {' or '.join(sorted(map(str, allowed))) if classes else 'none'}"
    if shape is not None and "image_shape" in card and not _same(shape, card["image_shape"]):
        return f"image_shape: {card['image_shape']}, but {where} say {shape}"
    channels, outputs = card.get("image_shape", [None])[0], (config or options).get("out_channels")
    if None not in (channels, outputs) and outputs not in (channels, 2 * channels):
        return (
            f"image_shape: {card['image_shape']}, but {where} say out_channels {outputs}; allowed: {channels}, or "
            f"{2 * channels} with variances"
        )
    return None


def _fault_of_config(config):
    """What is no ``config.json``, or a truth value of it that is none: text such as "no" would be taken for true."""
    if not isinstance(config, Mapping):
        return f"network.options.config: {config!r} is not allowed; allowed: the keys of a {repository.CONFIG}"
    for key, default in repository.DEFAULTS.items():
        if isinstance(default, bool) and not isinstance(config.get(key, default), bool):
            return f"network.options.config.{key}: {config[key]!r} is not allowed; allowed: true or false"
    return None


def lacks_no_class(card: Mapping[str, Any]) -> bool:
    """Whether the network's table has the card's classes alone, so that no entry stands for no class."""
    return card["network"]["options"].get("config", {}).get("num_class_embeds") == card["classes"]


def shape_of_options(options: Mapping[str, Any]) -> Any:
    """(channels, height, width) of the images that a network's options are for; None where they do not say."""
    if "image_size" in options:
        return [options.get("in_channels", 3), options["image_size"], options["image_size"]]
    return options.get("image_shape")


def _same(shape, other):
    if not isinstance(shape, list | tuple) or len(shape) != len(other):
        return False
    return all(own is None or own == wanted for own, wanted in zip(shape, other, strict=True))
