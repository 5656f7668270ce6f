"""A pipeline, or a part of it, from a folder as ``save_pretrained`` of diffusers writes it and the hub keeps it.

Nothing is read but safetensors and configurations, nothing is downloaded, and no code of the folder is run.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from dode import registry
from dode.models import torchvision_operators
from dode.models.hub import repository
from dode.pipelines.described import INDEX, UNUSED, variant_of
from dode.pipelines.family import Family, families, unknown_class
from dode.weights.errors import shown

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

LIBRARIES = ("diffusers", "transformers")
Part = Literal["encoders", "network", "decoder"]
PARTS: tuple[str, ...] = get_args(Part)


def load(
    folder: str | Path,
    *,
    parts: Literal["all", "encoders", "network", "decoder"] = "all",
    dtype: torch.dtype | Mapping[str, torch.dtype] = torch.float32,
    variant: str | None = None,
    device: str | torch.device = "cpu",
) -> DiffusionPipeline:
    """The pipeline of a folder, with the weights of some of its parts, which are for inference.

    Args:
        folder: with ``model_index.json`` and a folder for each component.
        parts: the part that is loaded, and with it the scheduler. Of a network and a decoder that are not, only the
            configuration is there (their weights are on torch's ``meta`` device), of encoders and tokenizers nothing
            (None).
        dtype: of the weights, of all parts or by part, ``{"network": torch.bfloat16}``; of a part without one, float32.
        variant: of the files, ``fp16`` for ``diffusion_pytorch_model.fp16.safetensors``. A component that has none of
            it is loaded without.
        device: of the weights.

    Raises:
        ValueError: for a folder that is none, a pipeline of an unknown class, a component of another library than
            diffusers and transformers, an unknown part or one without safetensors (of that variant).
    """
    if parts != "all" and parts not in PARTS:
        raise ValueError(registry.unknown("parts of a pipeline", parts, ("all", *PARTS)))
    if isinstance(dtype, Mapping) and (strange := [key for key in dtype if key not in PARTS]):
        raise ValueError(f"dtype: {registry.unknown('part of a pipeline', strange[0], PARTS)}")
    folder = Path(folder)
    kind, components = of_index(folder)
    wanted = {name: part for name, part in parts_of(kind).items() if name in components and parts in ("all", part)}
    files = {name: folder / name for name, part in wanted.items() if name not in dict(kind.encoders)}
    _check_weights(files, variant)

    torchvision_operators.declare()  # before diffusers asks torchvision
    import diffusers

    _check_classes(components)
    others: dict[str, Any] = {name: None for name in parts_of(kind) if name not in wanted}
    for name in (kind.network, kind.decoder):
        if name in others and name in components:
            others[name] = _without_weights(folder / name, components[name])
    dtypes = dtype if isinstance(dtype, Mapping) else dict.fromkeys(PARTS, dtype)
    kinds = {name: dtypes.get(part, torch.float32) for name, part in wanted.items()}
    pipe = diffusers.DiffusionPipeline.from_pretrained(
        str(folder),
        dtype={**kinds, "default": torch.float32},
        variant=variant,
        use_safetensors=True,
        local_files_only=True,
        **others,
        **{name: None for name in UNUSED if name in components},
    )
    for name in files:
        getattr(pipe, name).to(device).requires_grad_(False)
    return pipe


def of_index(folder: str | Path) -> tuple[type[Family], dict[str, tuple[str, str]]]:
    """The family and the components of a folder by its ``model_index.json``; nothing else is read or imported.

    Returns:
        The family, and of each component that is there its library and class.

    Raises:
        ValueError: as :func:`load`.
    """
    path = Path(folder) / INDEX
    if not path.is_file():
        raise ValueError(f"{folder} has no {INDEX}, so it is not the folder of a pipeline of diffusers")
    index = repository.read(lambda place: path, {INDEX: (INDEX,)})[INDEX]
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in families.names():
        raise unknown_class(name if isinstance(name, str) else shown(name))
    components = {}
    for key, value in index.items():
        if not isinstance(value, list) or value == [None, None]:
            continue  # an option of the pipeline, or a component that it has not
        if not (len(value) == 2 and all(isinstance(word, str) for word in value)):
            raise ValueError(f"{path}: {key} must be a library and a class, not {ascii(value)[:100]}")
        library, cls = value
        if key not in UNUSED and library not in LIBRARIES:
            raise ValueError(
                f"{path}: {key} is of the library {shown(library)}, which is not allowed; allowed: "
                f"{', '.join(LIBRARIES)}"
            )
        components[key] = (library, cls)
    kind = families.get(name)
    if kind.network not in components:
        raise ValueError(f"{path} has no {kind.network}, which {name} needs")
    return kind, components


def parts_of(kind: type[Family]) -> dict[str, str]:
    """The part that each component of a family belongs to, by the component's name."""
    encoders = dict.fromkeys([name for pair in kind.encoders for name in pair], "encoders")
    return {**encoders, kind.network: "network", kind.decoder: "decoder"}


def _check_weights(places, variant):
    """Refuse a component without safetensors that can be loaded, and a variant that none has."""
    found = {
        name: {variant_of(file): file.name for file in place.glob("*.safetensors")} for name, place in places.items()
    }
    if variant is not None and not any(variant in own for own in found.values()):
        raise ValueError(f"variant: no file of {', '.join(places)} in the folder is of the variant {variant!r}")
    for name, own in found.items():
        if not own:
            files = sorted(path.name for path in places[name].glob("*") if path.suffix != ".json")
            raise ValueError(
                f"{places[name]} has no safetensors, and nothing else is read as weights; it has "
                f"{', '.join(files[:5]) or 'no weights at all'}"
            )
        if variant not in own and "" not in own:
            raise ValueError(f"{places[name]} has weights of the variants {', '.join(sorted(own))} alone: give one")


def _check_classes(components):
    """Refuse classes that their libraries do not have."""
    for name, (library, cls) in components.items():
        if name not in UNUSED and not hasattr(importlib.import_module(library), cls):
            raise ValueError(f"{name}: {library} has no class {shown(cls)}; another release of it may have")


def _without_weights(folder, component):
    """A model as its configuration says, without memory for its weights."""
    library, cls = component
    kind = getattr(importlib.import_module(library), cls)
    with torch.device("meta"):
        return kind.from_config(kind.load_config(str(folder), local_files_only=True))
