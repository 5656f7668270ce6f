"""A file fetched from its URLs and verified: complete at its place, or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from glob import escape
from pathlib import Path
from typing import Any

import pooch

from dode import texts
from dode.fetching.downloads import Refused, download, is_page

log = logging.getLogger(__name__)

STALE = 3600  # seconds without a byte, after which another machine's download is taken for dead


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a file must be.

    Args:
        size: in bytes, or None.
        digests: (algorithm, digest or its beginning, who says so) each.
    """

    size: int | None = None
    digests: tuple[tuple[str, str, str], ...] = ()

    @classmethod
    def of(
        cls, card: Mapping[str, Any], entry: Mapping[str, Any] | None = None, lock: str = "the lock file"
    ) -> Expected:
        """What a card and its entry in the lock file ``lock`` say."""
        said = [(kind, card[kind], "the card says") for kind in ("sha256", "md5") if kind in card]
        if entry:
            said.append(("sha256", entry["sha256"], f"{lock} says (of {entry['date']})"))
        return cls(card.get("size", (entry or {}).get("size")), tuple(said))

    @property
    def sha256(self) -> str | None:
        """The whole digest, or None where only a part of it or none is known."""
        return next((said for kind, said, _ in self.digests if kind == "sha256" and len(said) == 64), None)

    def fault(self, path: str | Path) -> str | None:
        """What is wrong with the file at ``path``, in words; None where it is as expected."""
        size = Path(path).stat().st_size
        with open(path, "rb") as file:
            if is_page(file.read(1024)):
                return "is a web page (HTML), not the file"
        if self.size is not None and size != self.size:
            return f"is {'truncated' if size < self.size else 'too long'}: {size} bytes, expected {self.size}"
        for kind, said, who in self.digests:
            found = pooch.file_hash(str(path), alg=kind)
            if not found.startswith(said):
                return f"{kind} is {found}, {who} {said}"
        return None


@dataclasses.dataclass(frozen=True)
class Found:
    """A verified file: where it lies for now, which URL had it, what it is."""

    path: Path
    url: str
    size: int
    sha256: str


def fetch(urls: Iterable[str], expected: Expected | str, target: str | Path, *, folder: str | Path = ".") -> Found:
    """Fetch a file from the first of ``urls`` that has it, verify it and put it at ``target``, whole or not at all.

    Args:
        urls: where the file is (:func:`dode.fetching.downloads.download`); the second and further are mirrors.
        expected: :class:`Expected`, or only its sha256.
        target: path of the verified file.
        folder: what relative ``file:`` URLs are relative to.

    Returns:
        :class:`Found`.

    Raises:
        ValueError: where no URL has the file and one has another content; the message names each URL, what was
            expected and what was found. Nothing is kept.
        OSError: where no URL could be read; the message holds the reason for each.
    """
    with fetched(urls, expected, beside=target, folder=folder) as found:
        os.replace(found.path, target)
    return dataclasses.replace(found, path=Path(target))


@contextlib.contextmanager
def fetched(
    urls: Iterable[str], expected: Expected | str, *, beside: str | Path, folder: str | Path = "."
) -> Iterator[Found]:
    """Yield the verified file, :class:`Found`, in a folder of its own next to the path ``beside``; then both are gone.

    Raises as :func:`fetch` does.
    """
    if isinstance(expected, str):
        expected = Expected.of({"sha256": expected})
    with _staging(Path(beside)) as staging:
        yield _first(urls, expected, staging / Path(beside).name, folder)


def _first(urls, expected, path, folder):
    """The file from the first URL that has it, at ``path``."""
    reasons, wrong = [], False
    for url in urls:
        try:
            download(url, path, size=expected.size, folder=folder)
            fault = expected.fault(path)
            if fault:
                raise Refused(fault)
        except (OSError, Refused) as error:
            wrong = wrong or isinstance(error, Refused)
            reasons.append(texts.shown(f"{url}: {' '.join(str(error).split())}"))
            log.warning("%s", reasons[-1])
            _clear(path.parent)
            continue
        found = Found(path, url, path.stat().st_size, pooch.file_hash(str(path), alg="sha256"))
        log.info("%s: %d bytes, sha256 %s", url, found.size, found.sha256)
        return found
    kind = ValueError if wrong else OSError
    raise kind(f"the file could not be fetched: {'; '.join(reasons)}; nothing was kept")


def _clear(folder):
    """Remove everything that one URL has left behind before the next is tried."""
    shutil.rmtree(folder)
    folder.mkdir()


@contextlib.contextmanager
def _staging(target):
    """A folder on the file system of ``target``, gone afterwards; a killed process's is removed by the next one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.fetching-"
    for old in target.parent.glob(f"{escape(prefix)}*"):
        if _dead(old, old.name.removeprefix(prefix)):
            shutil.rmtree(old, ignore_errors=True)
    owner = f"{os.getpid()}-{socket.gethostname()}-"
    staging = Path(tempfile.mkdtemp(prefix=prefix + owner, dir=target.parent))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _dead(staging, owner):
    """Whether nobody writes to a staging folder any more: its process is gone, or on another machine long silent."""
    process, _, rest = owner.partition("-")
    if rest.rpartition("-")[0] == socket.gethostname():
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return True
        except (OSError, ValueError):  # another user's; not ours
            pass
    try:
        last = max(path.stat().st_mtime for path in (staging, *staging.rglob("*")))
    except FileNotFoundError:  # it is being removed by its owner
        return False
    return time.time() - last > STALE
