"""The files that a repository of the Hugging Face hub, or a folder like one, has beside its weights."""

import functools
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from dode.fetching import downloads
from dode.models.hub import repository


def described(card: Mapping[str, Any], folder: str | Path, *, online: bool) -> dict[str, dict[str, Any]]:
    """What :mod:`dode.models.hub.repository` reads, from the first URL of a hub network's card that is of such a place.

    Args:
        card: of any network; only of ``diffusers-unet2d`` there is something to read.
        folder: what relative ``file:`` URLs are relative to.
        online: whether files of the hub may be downloaded; otherwise those are taken that huggingface_hub has kept.

    Raises:
        ValueError: for a file that is not a JSON object.
        OSError: where the hub cannot be asked.
    """
    network = card.get("network")
    if not isinstance(network, Mapping) or network.get("name") != repository.NETWORK:
        return {}
    for url in card["urls"]:
        if url.startswith("file:"):
            return repository.beside(Path(folder) / unquote(urlparse(url).path))
        if url.startswith("hf:"):
            return repository.read(functools.partial(_of_the_hub, url, online=online))
    return {}


def _of_the_hub(url, place, *, online):
    """The path of a file of the repository, seen from the weights, or None."""
    found = downloads.HUB.fullmatch(url)
    if not found:
        return None
    repository_id, weights, revision = found.groups()
    name = posixpath.normpath(posixpath.join(posixpath.dirname(weights), place))
    return None if name.startswith("..") else downloads.of_the_hub(repository_id, name, revision, online=online)
