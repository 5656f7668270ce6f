"""A card's checkpoint at its place: found in the cache or fetched, verified by what its card and the lock file say."""

import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dode.fetching import cache, cards, checksums, repositories
from dode.fetching.fetch import Expected, fetched
from dode.models.hub import repository

log = logging.getLogger(__name__)


def obtain(
    name: str,
    card: Mapping[str, Any],
    target: str | Path,
    *,
    root: str | Path,
    shared: str | Path | None = None,
    renew: bool = False,
    announce: Callable[[str], object] = lambda text: None,
) -> dict[str, Any] | None:
    """Put the verified checkpoint of a card at ``target``; a file that is already there and right is not fetched again.

    Where the card has no whole sha256, that of the first download goes into the lock file and is enforced ever after.

    Args:
        name: the card's name.
        card: the card.
        target: where to put the file, under its published name.
        root: the folder that holds ``config/``.
        shared: a cache folder; ``target`` becomes a link into it. None keeps the file at ``target`` itself.
        renew: fetch what is there too, and replace its entry in the lock file.
        announce: called with the licence before the file is downloaded.

    Returns:
        The entry of the lock file that was replaced, or None.

    Raises:
        ValueError: where every source has another file, or a web page.
        OSError: where the file cannot be read, or something here cannot be written.
    """
    job = _Job(name, card, Path(target), root, cache.Cache(shared) if shared else None, renew)
    place, before = job.there(), None
    if place is None:
        with job.store.writing(job.key) if job.store else contextlib.nullcontext():
            place = job.there(speak=True)  # another job may have been first
            if place is None:
                announce(licence(name, card))
                place, before = job.fetch()
    if place != job.target:
        cache.link(place, job.target)
    return before


def licence(name: str, card: Mapping[str, Any]) -> str:
    """What a user who fetches a card's file should know of its terms."""
    notes = {"non-commercial": "NON-COMMERCIAL USE ONLY. ", "research-only": "RESEARCH USE ONLY. "}
    return f"Checkpoint {name}: {notes.get(card.get('restrictions', ''), '')}Licence: {card['licence']}"


class _Job:
    def __init__(self, name, card, target, root, store, renew):
        self.card, self.target, self.root, self.store, self.renew = card, target, root, store, renew
        self.name, self.key = name, f"{name}/{target.name}"
        self.folder = cards.folder_of(root, name)

    def expected(self):
        """What the file must be, as far as is known now."""
        entry = None if self.renew else checksums.read(self.root).get(self.key)
        return Expected.of(self.card, entry, checksums.NAME)

    def there(self, *, speak=False):
        """Path of the right file if it is already there, else None."""
        expected = self.expected()
        if self.renew or not expected.digests or (self.store and not expected.sha256):
            return None
        place = self.store.place(expected.sha256, self.target.name) if self.store else self.target
        if not place.exists():
            return None
        own = checksums.of_local(self.card, self.folder)
        if own is not None and not all(own.startswith(said) for kind, said, _ in expected.digests if kind == "sha256"):
            return None  # it is said as it is fetched
        fault = expected.fault(place)
        if fault is None:
            log.info("%s is already there, and its checksum is right", place)
            return place
        if speak:
            log.warning("%s was damaged and is fetched again: it %s", place, fault)
        return None

    def fetch(self):
        """(path of the file, entry of the lock file that it replaces)."""
        self._compare()
        expected, before = self.expected(), None
        recorded = not Expected.of(self.card).sha256
        if recorded and not expected.digests:
            checksums.require_writable(self.root, self.key)  # before the download and not after it
        beside = self.store.folder / self.target.name if self.store else self.target
        try:
            with fetched(self.card["urls"], expected, beside=beside, folder=self.folder) as found:
                if recorded:
                    before = self._record(found, bool(expected.digests))
                if self.store:
                    return self.store.add(found.path, found.sha256, self.target.name), before
                os.replace(found.path, self.target)
                return self.target, before
        except ValueError as error:
            if checksums.of_local(self.card, self.folder) is None:
                raise
            where = f"the entry {self.key} of {checksums.NAME}" if recorded else "the sha256 of its card"
            raise ValueError(f"{error}. If the file was changed on purpose, remove {where}") from None

    def _compare(self):
        """Refuse a card that contradicts the small files beside its weights, before these are downloaded."""
        try:
            files = repositories.described(self.card, self.folder, online=True)
        except OSError as error:
            log.warning("the files beside the weights could not be read, and the card is not compared: %s", error)
            return
        fault = repository.fault(self.card, files)
        if fault:
            raise ValueError(f"config/models/{self.name}.yaml: {fault}")

    def _record(self, found, published):
        try:
            return checksums.record(self.root, self.key, found, replace=self.renew)
        except OSError as error:
            if not published:
                raise
            log.warning(
                "%s could not be written (%s); %s is verified by its card alone", checksums.NAME, error, self.key
            )
            return None
