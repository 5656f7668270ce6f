"""The folders of pipelines and of scorers: of this machine, or of the hub, whose files are downloaded once.

A folder is known by its manifest, a file in JSON: class and variant, and of each file that is needed the size and the
sha256. Beside it lies a link to the folder, in huggingface_hub's own cache or where the user has it.
"""

import functools
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pooch

from dode import storage
from dode.fetching import checksums, downloads
from dode.fetching.fetch import Found
from dode.metrics import prompt_scores
from dode.models.hub import repository
from dode.pipelines import described, manifests

log = logging.getLogger(__name__)

SOURCES = "file:folder, hf:owner/repository@revision"
HUB = re.compile(r"hf:([^/@]+/[^/@]+)(?:@(.+))?")  # repository, revision
SAMPLES, SAMPLE = 16, 4096  # parts of a file, and their bytes, by which another one is told from it


def of_card(card: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What says where a card's folder is: ``pipeline``, or the card itself, of a scorer; None for a single file."""
    return card.get("pipeline", card if "source" in card else None)


def local(source: str, folder: str | Path) -> Path | None:
    """The folder of a card's ``pipeline.source``; None for one of the hub. ``folder``: what is relative to."""
    return Path(folder) / unquote(urlparse(source).path) if source.startswith("file:") else None


def files(card: Mapping[str, Any], folder: str | Path, *, online: bool) -> dict[str, dict[str, Any]]:
    """What :mod:`dode.pipelines.described` reads of a card's pipeline.

    Args:
        card: of a pipeline.
        folder: what relative ``file:`` sources are relative to.
        online: whether files of the hub may be downloaded; otherwise those are taken that huggingface_hub has kept.

    Raises:
        ValueError: for a folder that is none, a source that is invalid, or a file that is not a JSON object.
        OSError: where the hub cannot be asked.
    """
    place = local(card["pipeline"]["source"], folder)
    if place is None:
        owner, revision = _of_the_hub(card["pipeline"]["source"])
        return repository.read(
            lambda name: downloads.of_the_hub(owner, name, revision, online=online), described.PLACES
        )
    if not (place / described.INDEX).is_file():
        raise ValueError(f"pipeline.source: {place} has no {described.INDEX}, so it is no pipeline of diffusers")
    return _configurations(place)


def _configurations(place):
    return repository.read(lambda name: place / name if (place / name).is_file() else None, described.PLACES)


def _of_the_hub(source):
    found = HUB.fullmatch(source)
    if not found:
        raise ValueError(f"pipeline.source: {source} is not allowed; allowed: {SOURCES}")
    return found.groups()


def _names(place):
    return sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())


def needed(place: Path, variant: str | None) -> list[str]:
    """The files of a folder that are needed (:func:`dode.pipelines.described.chosen`).

    Raises:
        ValueError: for a component without safetensors, or a variant that none has.
    """
    names = _names(place)
    return _with_weights(names, _index(names, lambda name: place / name), variant, place)


def _index(names, find):
    """The ``model_index.json`` among the files of a folder, which a single model has not."""
    if described.INDEX not in names:
        return described.ALONE
    return repository.read(find, {described.INDEX: (described.INDEX,)})[described.INDEX]


def _with_weights(known, index, variant, where):
    """The chosen ones of the known names; refuses a model without weights among them, and an unknown variant."""
    names = described.chosen(known, index, variant)
    if index is described.ALONE and (fault := prompt_scores.fault(known)):
        raise ValueError(f"source: {where}: {fault}")
    known_variants = {described.variant_of(Path(name)) for name in known if name.endswith(".safetensors")}
    if variant is not None and variant not in known_variants:
        there = ", ".join(sorted(filter(None, known_variants))) or "none, so leave the key out"
        raise ValueError(f"pipeline.variant: '{variant}' is not allowed for {where}; its variants: {there}")
    for component in described.components(index):
        own = [Path(name).name for name in known if Path(name).parent.as_posix() == component]
        if repository.CONFIG not in own:
            continue  # a tokenizer or a scheduler, which has no weights
        weights = [Path(name) for name in names if name.endswith(".safetensors")]
        if not any(path.parent.as_posix() == component for path in weights):
            others = ", ".join(sorted(name for name in own if name.endswith((".bin", ".safetensors", ".pt"))))
            key, what = (
                ("source", where) if index is described.ALONE else ("pipeline.source", f"{component} in {where}")
            )
            raise ValueError(
                f"{key}: {what} has no safetensors of the variant that is asked for; it has "
                f"{others or 'no weights'}; other files are not read, as they may hold programs"
            )
    return names


@functools.cache
def listing(place: Path, variant: str | None) -> str:
    """Digest of names, sizes and some contents of the files that are needed, by which a change is noticed.

    Of a large file 16 evenly spaced parts are read, so that it takes milliseconds; times do not count.
    """
    digest = hashlib.sha256()
    for name in needed(place, variant):
        with (place / name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(f"{name} {size}\n".encode())
            for part in range(SAMPLES):
                file.seek(max(0, size - SAMPLE) * part // (SAMPLES - 1))
                digest.update(file.read(SAMPLE))
    return digest.hexdigest()[:16]


def obtain(
    name: str,
    card: Mapping[str, Any],
    target: str | Path,
    *,
    root: str | Path,
    folder: str | Path,
    shared: str | Path | None = None,
    renew: bool = False,
    announce: Callable[[str], object] = lambda text: None,
) -> dict[str, Any] | None:
    """Put the manifest of a card's folder at ``target`` and a link to the folder beside it.

    What the manifest of a folder of the hub was the first time goes into the lock file and is enforced ever after.

    Args:
        name: the card's name.
        card: the card.
        target: of the manifest.
        root: the folder that holds ``config/``.
        folder: what relative ``file:`` sources are relative to.
        shared: a cache folder in the place of huggingface_hub's own; None for this.
        renew: replace the entry of the lock file.
        announce: called with a line before files of the hub are downloaded.

    Returns:
        The entry of the lock file that was replaced, or None.

    Raises:
        ValueError: where the files are others than those that the lock file knows, contradict the card, or weights are
            missing.
        OSError: where the hub cannot be asked, or something here cannot be written.
    """
    own, target = of_card(card), Path(target)
    assert own is not None  # of a card with a single file no job calls this
    source, variant = own["source"], own.get("variant")
    place = local(source, folder)
    of_hub = place is None
    if place is None:
        announce(f"{'Pipeline' if 'pipeline' in card else 'Model'} {name}: Licence: {card['licence']}")
        key = f"{name}/{target.name}"
        if key not in checksums.read(root):
            checksums.require_writable(root, key)
        place = _downloaded(card, shared)
    found = {}
    for each in needed(place, variant):
        found[each] = {
            "size": (place / each).stat().st_size,
            "sha256": pooch.file_hash(str(place / each), alg="sha256"),
        }
    manifest = {"class": own.get("class"), "variant": variant, "files": found}
    text = json.dumps(manifest, indent=1)
    before = None
    if of_hub:
        size, sha256 = sum(each["size"] for each in found.values()), hashlib.sha256(text.encode()).hexdigest()
        before = checksums.record(root, key, Found(target, source, size, sha256), replace=renew)
    with storage.atomic(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
    link = manifests.folder_of(target)
    if link.is_symlink():
        link.unlink()
    link.symlink_to(place.resolve() if of_hub else os.path.relpath(place, link.parent))
    return before


def _downloaded(card, shared):
    """The folder of a repository of the hub, with the files that are needed.

    A card that says everything has been read without the hub, so its configurations are compared before weights come.
    """
    own = of_card(card)
    source, variant = own["source"], own.get("variant")
    owner, revision = _of_the_hub(source)
    hub = downloads.optional("huggingface_hub", source)
    cache = None if shared is None else Path(shared) / "huggingface"
    snapshot = functools.partial(hub.snapshot_download, owner, revision=revision, cache_dir=cache)
    try:
        known = [each.rfilename for each in hub.HfApi().model_info(owner, revision=revision).siblings]
        names = _with_weights(known, _compared(card, lambda names: snapshot(allow_patterns=names)), variant, source)
        return Path(snapshot(allow_patterns=names))
    except ValueError:
        raise
    except Exception as error:  # of its HTTP library too, whose errors are of no common kind
        raise OSError(f"{source}: {downloads.hub_reason(error, owner)}") from error


def _compared(card, download):
    """The index of a repository, of whose files ``download`` gets those that are named; refuses one unlike the card."""
    if "pipeline" not in card:
        return described.ALONE
    found = _configurations(Path(download([*described.PLACES])))
    if described.INDEX not in found:
        source = card["pipeline"]["source"]
        raise ValueError(f"pipeline.source: {source} has no {described.INDEX}, so it is no pipeline of diffusers")
    if fault := described.fault(card, found):
        raise ValueError(fault)
    return found[described.INDEX]
