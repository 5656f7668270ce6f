"""What each file was made from, and what it was when it was written: a record beside it, in the folder ``made``.

Of ``samples.npy`` that is ``made/samples.npy.json``::

    {"size": 192128, "sha256": "...",                            what was written
     "made": "2f1c...",                                          digest of all that determines it
     "params": {"cell": "9a3e...", "code": "77d1..."},           digests of the parameters of its rule
     "inputs": {"model": [["5b0e...", "c81a..."]]}}              of each input what it was made from, and its contents

The digest ``made`` covers the parameters of the rule and the digests ``made`` of its inputs, so that it is one of
everything from the configuration to the code. Paths, times and the engine's own records are no part of it: results
that are moved, renamed or copied stay what they are, and one that was made from something else is known as such
wherever it lies. Imports no torch.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dode import storage

FOLDER, DAMAGED = "made", ".damaged"


class DamagedError(ValueError):
    """A file is not what was written."""


def digest(value: Any) -> str:
    """Digest of anything that is JSON, or turns into text."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclasses.dataclass(frozen=True)
class Made:
    """What determines a file.

    Attributes:
        params: digests of the parameters of its rule, by name.
        inputs: of each input by name, for each of its files, the digest ``made`` and that of its contents; None where
            there is none, as of a file that no rule makes.
    """

    params: Mapping[str, str]
    inputs: Mapping[str, Sequence[tuple[str | None, str | None]]]

    @classmethod
    def of(cls, params: Mapping[str, Any], inputs: Mapping[str, Iterable[tuple[str | None, str | None]]]) -> "Made":
        """From the parameters of a rule themselves."""
        return cls(
            {name: digest(value) for name, value in params.items()},
            {name: [(made, own) for made, own in of_files] for name, of_files in inputs.items()},
        )

    @property
    def digest(self) -> str:
        """Of everything but the inputs' contents.

        Inputs that were all made from the same count once: another number of shards makes no other samples.
        """
        inputs = {}
        for name, files in self.inputs.items():
            own = [made for made, _ in files]
            inputs[name] = own[:1] if len(set(own)) == 1 else own
        return digest({"params": self.params, "inputs": inputs})


def record_of(path: str | Path) -> Path:
    """Path of the record of ``path``."""
    path = Path(path)
    return path.parent / FOLDER / f"{path.name}.json"


def read(path: str | Path) -> dict[str, Any] | None:
    """The record of ``path``; None where there is none, or it was cut off as it was written."""
    try:
        found = json.loads(record_of(path).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) and {"size", "sha256", "made"} <= set(found) else None
    except (OSError, ValueError):
        return None


def write(path: str | Path, made: Made | None) -> None:
    """Keep what the file ``path`` is now and what it was made from (None: nothing of this project)."""
    with Path(path).open("rb") as file:
        size, sha256 = os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()
    found = {"size": size, "sha256": sha256, "made": None if made is None else made.digest}
    if made is not None:
        found |= {"params": made.params, "inputs": made.inputs}
    with storage.atomic(record_of(path)) as temporary:
        temporary.write_text(json.dumps(found, indent=1), encoding="utf-8")


def forget(path: str | Path) -> None:
    """Remove the record of ``path``, if any."""
    record_of(path).unlink(missing_ok=True)


def as_input(path: str | Path) -> tuple[str | None, str | None]:
    """What a file that a job reads was made from, and the digest of its contents, as its record has them.

    A file without a record is no rule's, or a user has laid it there: its contents are known by size and time.
    """
    found = read(path)
    if found is not None:
        return found["made"], found["sha256"]
    try:
        state = Path(path).stat()
    except OSError:
        return None, None
    return None, f"{state.st_size} bytes of {state.st_mtime_ns}" if stat.S_ISREG(state.st_mode) else None


def differences(path: str | Path, made: Made) -> list[str]:
    """How ``made`` differs from what the file ``path`` was made from: names of parameters and inputs.

    Empty where it is the same; ``["no record of it"]`` for a file without one. Contents of inputs are compared where
    both are known.
    """
    found = read(path)
    if found is None:
        return ["no record of it"]
    if found["size"] != Path(path).stat().st_size:
        return ["its size"]
    if found["made"] != made.digest:
        before, now = found.get("params", {}), made.params
        named = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
        return named or ["its inputs"]
    return [
        name for name, files in made.inputs.items() if _other_contents(found.get("inputs", {}).get(name, []), files)
    ]


def _other_contents(before: Sequence[Any], now: Sequence[Any]) -> bool:
    if len(before) != len(now):  # of shards nothing is known any more
        return any(contents is not None for _, contents in now)
    return any(old[1] != new[1] for old, new in zip(before, now, strict=True) if None not in (old[1], new[1]))


def damage(path: str | Path, *, contents: bool = True) -> str | None:
    """How the file ``path`` differs from its record, in words; None if it does not or has no record.

    Args:
        path: of the file.
        contents: False to look at its size alone.
    """
    wanted = read(path)
    if wanted is None:
        return None
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed below
    except OSError:
        return None  # it has just gone
    with file:
        # Of the open file: a path's size may be an old one on a network's file system.
        found = os.fstat(file.fileno()).st_size
        if found != wanted["size"]:
            return f"has {found} bytes, but {wanted['size']} were written"
        if contents and hashlib.file_digest(file, "sha256").hexdigest() != wanted["sha256"]:
            return "has other contents than those written"
    return None


def set_aside(path: str | Path) -> Path:
    """Take a damaged file out of the way; returns where it is now."""
    aside = Path(f"{path}{DAMAGED}")
    os.replace(path, aside)
    forget(path)
    return aside


def check(paths: Iterable[str | Path]) -> None:
    """Raise :class:`DamagedError` where a file is not what was written, with the damaged ones set aside."""
    found = {str(path): how for path in paths if Path(path).is_file() and (how := damage(path)) is not None}
    for path in found:
        with contextlib.suppress(FileNotFoundError):  # another job may have noticed it too
            set_aside(path)
    if found:
        said = "; ".join(f"{path} {how}" for path, how in found.items())
        raise DamagedError(f"{said}. Set aside ({DAMAGED}); {remaking(found)}")


def remaking(paths: Iterable[str | Path]) -> str:
    """What to do, in words. A file by itself, so that what was made from it stays if it comes out the same.

    The command is another one with another configuration, on a cluster and from a wheel.
    """
    return f"before anything else, make it again: the command of the run, and after it -- {' '.join(map(str, paths))}"


def damaged_files(folder: str | Path, *, contents: bool = True) -> Iterator[tuple[Path, str]]:
    """``(path, how)`` of the damaged files under ``folder``; one that is gone while its record is here is not."""
    for found in sorted(Path(folder).rglob(f"{FOLDER}/*.json")):
        path = found.parents[1] / found.stem
        if path.is_file() and (how := damage(path, contents=contents)) is not None:
            yield path, how
