"""What a pickle of EDM's or EDM2's records of its network (class and arguments), against a card. Imports no torch.

The classes are the preconditionings of Karras et al. 2022 (arXiv 2206.00364, table 1) around their networks, and that
of Karras et al. 2024 (arXiv 2312.02696). An argument that a file does not record has the default of the original class.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dode.grids.facts import iddpm_levels
from dode.models.stated import same
from dode.solvers.formulas import vp_sigma

INFINITY = float("inf")
SONG, DHARIWAL, EDM2 = "SongUNet", "DhariwalUNet", "UNet"
NETWORKS = {SONG: "edm-song-unet", DHARIWAL: "edm-dhariwal-unet", EDM2: "edm2-unet"}
_FIRST = ("img_resolution", "img_channels", "label_dim", "use_fp16")


class Original(NamedTuple):
    """A preconditioning: its name in cards, its arguments in their order, and their defaults.

    ``options``: the keys under ``preconditioning`` in cards, by the name of the argument.
    """

    name: str
    arguments: tuple[str, ...]
    defaults: dict[str, Any]
    options: dict[str, str]


ORIGINALS = {
    "EDMPrecond": Original(
        "edm",
        (*_FIRST, "sigma_min", "sigma_max", "sigma_data", "model_type"),
        {"sigma_min": 0, "sigma_max": INFINITY, "sigma_data": 0.5, "model_type": DHARIWAL},
        {"sigma_data": "sigma_data"},
    ),
    "Precond": Original(  # EDM2's, which has one network
        "edm",
        (*_FIRST, "sigma_data", "logvar_channels"),
        {"sigma_data": 0.5, "model_type": EDM2},
        {"sigma_data": "sigma_data"},
    ),
    "VPPrecond": Original(
        "vp",
        (*_FIRST, "beta_d", "beta_min", "M", "epsilon_t", "model_type"),
        {"beta_d": 19.9, "beta_min": 0.1, "M": 1000, "epsilon_t": 1e-5, "model_type": SONG},
        {"beta_d": "beta_d", "beta_min": "beta_min", "M": "steps"},
    ),
    "VEPrecond": Original(
        "ve",
        (*_FIRST, "sigma_min", "sigma_max", "model_type"),
        {"sigma_min": 0.02, "sigma_max": 100, "model_type": SONG},
        {},
    ),
    "iDDPMPrecond": Original(
        "iddpm",
        (*_FIRST, "C_1", "C_2", "M", "model_type"),
        {"C_1": 0.001, "C_2": 0.008, "M": 1000, "model_type": DHARIWAL},
        {"C_1": "floor", "C_2": "offset", "M": "steps"},
    ),
}
# Of the networks' arguments; those of the classes here are the same.
_NETWORK: dict[str, dict[str, Any]] = {
    SONG: {
        "model_channels": 128,
        "channel_mult": [1, 2, 2, 2],
        "channel_mult_emb": 4,
        "num_blocks": 4,
        "attn_resolutions": [16],
        "augment_dim": 0,
        "embedding_type": "positional",
        "channel_mult_noise": 1,
        "encoder_type": "standard",
        "decoder_type": "standard",
        "resample_filter": [1, 1],
    },
    DHARIWAL: {
        "model_channels": 192,
        "channel_mult": [1, 2, 3, 4],
        "channel_mult_emb": 4,
        "num_blocks": 3,
        "attn_resolutions": [32, 16, 8],
        "augment_dim": 0,
    },
    EDM2: {
        "model_channels": 192,
        "channel_mult": [1, 2, 3, 4],
        "channel_mult_noise": None,
        "channel_mult_emb": None,
        "num_blocks": 3,
        "attn_resolutions": [16, 8],
        "label_balance": 0.5,
        "concat_balance": 0.5,
        "res_balance": 0.3,
        "attn_balance": 0.3,
    },
}
# Arguments that have another name here, and those that networks here have only one value of.
_RENAMED = {EDM2: {"channels_per_head": ("head_width", 64)}}
_FIXED: dict[str, dict[str, Any]] = {EDM2: {"clip_act": 256, "resample_filter": [1, 1]}}
_NETWORK_ARGUMENTS = ("img_resolution", "in_channels", "out_channels", "label_dim")


def fault(card: Mapping[str, Any], header: Mapping[str, Any]) -> str | None:
    """What a card and the header of its converted file contradict each other in, in a sentence, or None.

    Args:
        card: of a diffusion model.
        header: of :func:`dode.checkpoints.header`; without a recorded class there is nothing to compare.
    """
    found = next(_faults(card, header), None)
    if found is None:
        return None
    key, own, recorded = found
    return f"{key}: {own}, but the file records {recorded}"


def described(header: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a file records of its network as a card has it; None where it records no preconditioned network.

    That is prediction, preconditioning, noise levels (those of Karras et al. 2022, 0.002 to 80, where the class knows
    any), ``image_shape``, ``classes`` and the network with its options.
    """
    original = ORIGINALS.get(str(header.get("class_name")))
    given = _arguments(header, original)
    if original is None or given is None or given.get("model_type") not in NETWORKS:
        return None
    model, shape = given["model_type"], [given.get("img_channels"), *[given.get("img_resolution")] * 2]
    own = {key: given[argument] for argument, key in original.options.items()}
    least, most = _known_range(original.name, given) or (0, INFINITY)
    options = {key: given[key] for key in _NETWORK[model] if key in given}
    options |= {key: given[argument] for argument, (key, _) in _RENAMED.get(model, {}).items() if argument in given}
    card: dict[str, Any] = {
        "image_shape": shape,
        "prediction": "data" if original.name == "edm" else "noise",
        "preconditioning": {"name": original.name, **own},
        "sigma_min": least or 0.002,
        "sigma_max": 80.0 if most == INFINITY else most,
        "network": {"name": NETWORKS[model], "options": {"image_shape": shape, **options}},
    }
    if given.get("label_dim"):
        card["classes"] = card["network"]["options"]["label_dim"] = given["label_dim"]
    return card


def _faults(card: Mapping[str, Any], header: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Generate (key, the card's value, what the file says in words)."""
    name = header.get("class_name")
    original = ORIGINALS.get(str(name))
    given = _arguments(header, original)
    if given is None:
        return
    where = f"of {name}"
    own = card.get("preconditioning", {})
    if original is not None:
        if own.get("name") != original.name:
            yield "preconditioning.name", own.get("name", "none"), f"the class {name}, which is '{original.name}'"
        for argument, key in original.options.items():
            value = own.get(key, original.defaults[argument])
            if not same(value, given[argument]):
                yield f"preconditioning.{key}", value, f"{argument} {given[argument]} {where}"
        yield from _range(card, original, given, where)
    yield from _images(card, given, where)
    model = name if name in NETWORKS else given.get("model_type")
    if model in NETWORKS:
        yield from _network(card["network"], model, given, where)


def _arguments(header, original):
    """The recorded arguments by name, with the defaults; None where the file does not record any."""
    by_name, in_order = header.get("init_kwargs"), header.get("init_args") or []
    if not isinstance(by_name, Mapping) and not in_order:
        return None
    names = original.arguments if original is not None else _NETWORK_ARGUMENTS
    names = names if original is not None or header.get("class_name") in NETWORKS else ()
    given = {**dict(zip(names, in_order, strict=False)), **(by_name or {})}
    given = {key: INFINITY if value == "inf" else value for key, value in given.items()}
    return {**(original.defaults if original is not None else {}), **given}


def _images(card, given, where):
    channels = given.get("img_channels", given.get("in_channels"))
    recorded = [channels, given.get("img_resolution"), given.get("img_resolution")]
    if None not in recorded and "image_shape" in card and recorded != list(card["image_shape"]):
        yield "image_shape", card["image_shape"], f"images {recorded} {where}"
    if "label_dim" in given and (given["label_dim"] or None) != card.get("classes"):
        yield "classes", card.get("classes", "none"), f"label_dim {given['label_dim']} {where}"


def _network(network, model, given, where):
    if network["name"] not in NETWORKS.values():
        return  # another definition of the network, with options of its own
    if network["name"] != NETWORKS[model]:
        yield "network.name", network["name"], f"the model_type {model} {where}, which is '{NETWORKS[model]}'"
        return
    for key, default in _NETWORK[model].items():
        value, recorded = network["options"].get(key, default), given.get(key, default)
        if not same(value, recorded):
            yield f"network.options.{key}", value, f"{key} {recorded} {where}"
    for argument, (key, default) in _RENAMED.get(model, {}).items():
        value, recorded = network["options"].get(key, default), given.get(argument, default)
        if not same(value, recorded):
            yield f"network.options.{key}", value, f"{argument} {recorded} {where}"
    for argument, value in _FIXED.get(model, {}).items():
        if not same(value, given.get(argument, value)):
            yield "network.name", f"{network['name']}, of {argument} {value}", f"{argument} {given[argument]} {where}"


def known_range(name: str | None, options: Mapping[str, Any]) -> tuple[float, float]:
    """The lowest and the highest noise level that a preconditioning of a card knows, from its options alone."""
    original = next((found for found in ORIGINALS.values() if found.name == name), None)
    if original is None or name not in ("vp", "iddpm"):
        return 0.0, INFINITY  # those of others are their network's, not the preconditioning's
    given = {argument: options[key] for argument, key in original.options.items() if key in options}
    return _known_range(name, {**original.defaults, **given}) or (0.0, INFINITY)


def _range(card, original, given, where):
    """The card's noise levels must be among those that the file's class knows, but for rounding."""
    known = _known_range(original.name, given)
    if known is None:
        return
    if card.get("sigma_min", INFINITY) < known[0] * 0.99:
        yield "sigma_min", card["sigma_min"], f"noise levels from {known[0]:.6g} {where}"
    if card.get("sigma_max", 0) > known[1] * 1.01:
        yield "sigma_max", card["sigma_max"], f"noise levels up to {known[1]:.6g} {where}"


def _known_range(name, given):
    numbers = [
        given[key] for key in given if key in ("sigma_min", "sigma_max", "beta_d", "beta_min", "C_1", "C_2", "M")
    ]
    if not all(isinstance(number, int | float) for number in numbers):
        return None
    if name == "vp":
        own = {"beta_min": given["beta_min"], "beta_d": given["beta_d"]}
        return float(vp_sigma(given["epsilon_t"], **own)), float(vp_sigma(1, **own))
    if name == "iddpm":
        levels = iddpm_levels(floor=given["C_1"], offset=given["C_2"], steps=given["M"])
        return float(levels[-2]), float(levels[0])
    return (given["sigma_min"], given["sigma_max"]) if "sigma_min" in given else None
