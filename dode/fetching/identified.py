"""What a checkpoint is, by what it says of itself, as the card that is missing for it. Imports no torch.

A checkpoint is a folder of diffusers or its repository on the Hugging Face hub, of a single network or of a pipeline; a
pickle of EDM's, which records its network; or a file that is known by the name under which it was published.
"""

import dataclasses
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dode.fetching import cards, downloads, places
from dode.models.edm import recorded
from dode.models.hub import repository
from dode.pipelines import described
from dode.pipelines.registry import families
from dode.validation import from_home, read_yaml

#: Names of weights beside a configuration, the best first. Others are taken where there is only one.
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
#: Where the network of a repository may be; that of a pipeline of one network is in ``unet``.
PARTS = ("", "unet/", "transformer/")
HUB = re.compile(r"(?:hf:)?([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@([\w./-]+))?")
UNKNOWN_LICENCE = "not stated by the checkpoint"


@dataclasses.dataclass(frozen=True)
class Identified:
    """A checkpoint.

    Attributes:
        card: what a card must say of it; what it leaves out is read from the files beside the weights.
        kind: what it is, in words.
        is_local: whether the weights are on this machine.
    """

    card: dict[str, Any]
    kind: str
    is_local: bool


def identify(checkpoint: str) -> Identified:
    """What a checkpoint is.

    Args:
        checkpoint: a folder, a file, or ``owner/name`` on the hub, ``hf:owner/name@revision``.

    Raises:
        ValueError: where it says too little of itself, or is of a kind that is not known here.
        OSError: where the hub cannot be asked.
    """
    path = Path(from_home(checkpoint))
    if path.is_dir():
        names = sorted(found.relative_to(path).as_posix() for found in path.glob("**/*") if found.is_file())
        place = "file:" + quote(str(path.resolve()))

        def here(name):
            return path / name if (path / name).is_file() else None

        return _of_repository(checkpoint, names, here, f"{place}/{{}}", place, UNKNOWN_LICENCE)
    if path.is_file():
        return _of_file(path.resolve())
    found = HUB.fullmatch(checkpoint)
    if found is None or checkpoint.startswith((".", "/", "~")):
        raise ValueError(
            f"checkpoint: there is no file or folder '{checkpoint}'; allowed: a folder of diffusers, a file, or "
            "owner/name on the Hugging Face hub"
        )
    return _of_the_hub(*found.groups())


def _of_the_hub(name: str, revision: str | None) -> Identified:
    """A repository, of the commit that it has now, as it may change."""
    hub = downloads.optional("huggingface_hub", "hf:")
    try:
        about = hub.HfApi().model_info(name, revision=revision)
    except Exception as error:  # of its HTTP library too, whose errors are of no common kind
        raise OSError(f"checkpoint: hf:{name}: {downloads.hub_reason(error, name)}") from error
    data, commit = getattr(about, "card_data", None), about.sha
    licence = (data.get("license") if data is not None else None) or UNKNOWN_LICENCE
    names = sorted(each.rfilename for each in about.siblings or [])

    def find(wanted):
        return downloads.of_the_hub(name, wanted, commit, online=True)

    found = _of_repository(f"hf:{name}", names, find, f"hf:{name}/{{}}@{commit}", f"hf:{name}@{commit}", str(licence))
    return dataclasses.replace(found, is_local=False)


def _of_repository(
    shown: str, names: Sequence[str], find: Callable[[str], Path | None], url: str, source: str, licence: str
) -> Identified:
    """A pipeline, or a network with its configuration beside the weights.

    Args:
        shown: what it is called in messages.
        names: of its files.
        find: the path of one of them here.
        url: of one of them, with ``{}`` for its name.
        source: the URL of the whole.
        licence: what it says of its licence.
    """
    names = [name for name in names if not name.startswith(".")]
    index = repository.read(find, {described.INDEX: (described.INDEX,)}).get(described.INDEX, {})
    name = index.get("_class_name")
    if name in families.names():
        card = {"role": "diffusion", "pipeline": {"source": source}, "licence": licence}
        return Identified(card, f"a {name} of diffusers", is_local=True)
    part = next((part for part in PARTS if f"{part}{repository.CONFIG}" in names), None)
    if part is None:
        what = f"is a {name}, " if name else f"has no {described.INDEX} and no {repository.CONFIG}, "
        raise ValueError(
            f"checkpoint: {shown} {what}of which nothing is known here; allowed: a {_listed()}, or a UNet2DModel"
        )
    config = repository.read(find, {"config": (f"{part}{repository.CONFIG}",)})["config"]
    if (own := config.get("_class_name", "UNet2DModel")) != "UNet2DModel":
        raise ValueError(
            f"checkpoint: the network of {shown} is a {own}, which is none of this project's without a pipeline around "
            f"it; allowed: a UNet2DModel, or a folder with {described.INDEX} of a {_listed()}"
        )
    weights = _weights(shown, [each[len(part) :] for each in names if each.startswith(part)])
    card = {"role": "diffusion", "urls": [url.format(quote(part + weights))], "licence": licence}
    if not weights.endswith(".safetensors"):
        card["format"] = "torch"
    card["network"] = {"name": repository.NETWORK}
    return Identified(card, "a UNet2DModel of diffusers", is_local=True)


def _listed():
    return ", ".join(families.names())


def _weights(shown, names):
    """The name of the weights among the files beside a configuration."""
    beside = [
        name for name in names if "/" not in name and Path(name).suffix in (".safetensors", ".bin", ".pt", ".pth")
    ]
    for known in WEIGHTS:
        if known in beside:
            return known
    if len(beside) != 1:
        found = ", ".join(beside) or "none"
        raise ValueError(
            f"checkpoint: {shown}: there must be one file of weights beside the configuration, not {found}"
        )
    return beside[0]


def _of_file(path: Path) -> Identified:
    """A file: of a published name, an EDM pickle, or weights beside their configuration."""
    root = places.workflow()
    for name in cards.names(root):
        published = read_yaml(cards.folder_of(root, name) / f"{name}.yaml")
        if published.get("role") == "diffusion" and "urls" in published and cards.file_name(published) == path.name:
            card = {**published, "urls": ["file:" + quote(str(path))]}
            return Identified(card, f"the published file of the card {name}", is_local=True)
    if (path.parent / repository.CONFIG).is_file():
        return identify(str(path.parent))
    if path.suffix == ".pkl":
        return _of_pickle(path)
    raise ValueError(
        f"checkpoint: {path.name} has no {repository.CONFIG} beside it, and its name is not that of a published file; "
        "nothing says which network it is of: write its card by hand (docs/adding-a-model.md)"
    )


def _of_pickle(path: Path) -> Identified:
    """A pickle of EDM's or EDM2's, which records the class and the arguments of its network."""
    from dode import checkpoints

    with tempfile.TemporaryDirectory() as folder:
        converted = Path(folder, "converted.safetensors")
        checkpoints.convert(path, converted, format="edm-pickle", key="ema")
        card = recorded.described(checkpoints.header(converted))
    if card is None:
        raise ValueError(
            f"checkpoint: {path.name} records no network of EDM's or EDM2's; write its card by hand "
            "(docs/adding-a-model.md)"
        )
    where = {"urls": ["file:" + quote(str(path))], "licence": UNKNOWN_LICENCE, "format": "edm-pickle", "key": "ema"}
    return Identified({"role": "diffusion", **where, **card}, "a pickle of EDM's", is_local=True)
