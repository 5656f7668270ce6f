"""The lock file ``config/checkpoints.lock``: what a file was when it was first fetched, where nobody publishes that.

An entry, ``<card>/<file>``, holds the URL that had the file, its size, its sha256 and the date. It is enforced from
then on, and committed. ``make lock-checkpoints`` changes it on purpose.
"""

import datetime
import functools
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from dode import locks, storage
from dode.fetching import downloads, places
from dode.fetching.fetch import Found
from dode.validation import ConfigError, read_yaml

NAME = "config/checkpoints.lock"
HEADER = """\
# What a checkpoint was when it was first fetched, where its card has no whole sha256 because none is published.
# Enforced from then on; commit it. Change it by `make lock-checkpoints` only (docs/adding-a-model.md).
"""
KEYS = {"url": str, "size": int, "sha256": str, "date": str}


def read(root: str | Path) -> dict[str, dict[str, Any]]:
    """All entries of a workflow's folder, by key; of an installed one with those of the working directory.

    Raises:
        ConfigError: where the file is not as it was written.
    """
    found: dict[str, dict[str, Any]] = {}
    for folder in dict.fromkeys((Path(root), places.own(root))):
        found |= _entries(folder / NAME)
    return found


def _entries(path):
    try:
        entries = read_yaml(path) if path.exists() else {}
    except ConfigError as error:
        raise ConfigError(f"{error} (an unfinished merge?)") from None
    entries = {} if entries is None else entries
    if not isinstance(entries, dict):
        raise ConfigError(f"{path}: expected entries named <card>/<file>")
    for key, entry in entries.items():
        if not isinstance(entry, dict) or {name: type(value) for name, value in entry.items()} != KEYS:
            raise ConfigError(f"{path}: the entry '{key}' must have the keys {', '.join(KEYS)}")
    return entries


def of_local(card: Mapping[str, Any], folder: str | Path) -> str | None:
    """The SHA-256 of the file of this machine that is the only one a card names; None where there is no such file.

    It may have been changed since it was fetched, as one that is trained on is.
    """
    urls = card.get("urls", [])
    if len(urls) != 1 or not urls[0].startswith("file:"):
        return None
    source = downloads.local(urls[0], folder)
    if not source.is_file():
        return None
    state = source.stat()
    return _of_file(source, (state.st_size, state.st_mtime_ns, state.st_ctime_ns))


@functools.cache
def _of_file(source, state):
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_writable(root: str | Path, key: str) -> None:
    """Raise OSError, with what to do, if an entry cannot be added."""
    path = places.own(root) / NAME
    try:
        with locks.exclusive(path):
            if not os.access(path.parent, os.W_OK):  # a file that is written is written aside first
                raise PermissionError("its folder is read-only")
    except OSError as error:
        raise OSError(
            f"no checksum of {key} is published, so that of the first download must be recorded, but {NAME} cannot be "
            f"written ({error}): run `make lock-checkpoints` in a checkout that you can write to and copy its "
            f"{NAME} here"
        ) from None


def record(root: str | Path, key: str, found: Found, *, replace: bool = False) -> dict[str, Any] | None:
    """Add the entry of a :class:`dode.fetching.fetch.Found`; jobs that do so at once wait for one another.

    Returns the entry that it replaces, or None.

    Raises:
        ValueError: where there is another entry by now, unless it is to be replaced.
        OSError: where the file cannot be written.
    """
    path = places.own(root) / NAME
    with locks.exclusive(path):
        before = read(root).get(key)
        entries = _entries(path)
        if before and before["sha256"] == found.sha256:
            return before
        if before and not replace:
            raise ValueError(f"{found.url}: sha256 is {found.sha256}, {NAME} says {before['sha256']}; nothing was kept")
        date = datetime.datetime.now(datetime.UTC).date().isoformat()
        entries[key] = {"url": found.url, "size": found.size, "sha256": found.sha256, "date": date}
        _write(path, entries)
    return before


def remove(root: str | Path, keys: Iterable[str]) -> None:
    """Drop entries that no card needs any more."""
    path = places.own(root) / NAME
    with locks.exclusive(path):
        entries = _entries(path)
        for key in keys:
            entries.pop(key, None)
        _write(path, entries)


def _write(path, entries):
    with storage.atomic(path) as temporary:
        # Quoted, or YAML reads a date as a date and a sha256 of digits alone as a number.
        text = yaml.safe_dump(entries, sort_keys=True, width=1000) if entries else ""
        temporary.write_text(HEADER + text, encoding="utf-8")
