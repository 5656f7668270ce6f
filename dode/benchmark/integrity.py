"""What a file was when a job wrote it, kept beside it, so that a truncated or altered one is noticed before it is used.

Beside ``samples.npy`` lies ``.samples.npy.sha256``: JSON with the size in bytes and the SHA-256 of the contents.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path

SUFFIX, DAMAGED = ".sha256", ".damaged"


class DamagedError(ValueError):
    """A file is not what was written."""


def record_of(path):
    """Path of the record of ``path``."""
    path = Path(path)
    return path.with_name(f".{path.name}{SUFFIX}")


def record(path):
    """Keep what the file ``path`` is now."""
    with Path(path).open("rb") as file:
        found = {"size": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    temporary = record_of(path).with_suffix(f"{SUFFIX}.{os.getpid()}")
    temporary.write_text(json.dumps(found))
    os.replace(temporary, record_of(path))


def forget(path):
    """Remove the record of ``path``, if any."""
    record_of(path).unlink(missing_ok=True)


def damage(path, *, contents=True):
    """How the file ``path`` differs from its record, in words; None where it does not, or where there is no record.

    Args:
        path: of the file.
        contents: False to look at its size alone.
    """
    try:
        wanted = json.loads(record_of(path).read_text())
        size, sha256 = wanted["size"], wanted["sha256"]
        file = Path(path).open("rb")  # noqa: SIM115 - closed below
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a file without a record, or whose record was cut off as it was written, or that has just gone
    with file:
        # Of the open file: a path's size may be an old one on a network's file system.
        found = os.fstat(file.fileno()).st_size
        if found != size:
            return f"has {found} bytes, {size} were written"
        if contents and hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            return "has other contents than were written"
    return None


def set_aside(path):
    """Take a damaged file out of the way; returns where it is now."""
    aside = Path(f"{path}{DAMAGED}")
    os.replace(path, aside)
    forget(path)
    return aside


def check(paths):
    """Raise :class:`DamagedError` where a file is not what was written, with the damaged ones set aside."""
    found = {str(path): how for path in paths if Path(path).is_file() and (how := damage(path)) is not None}
    for path in found:
        with contextlib.suppress(FileNotFoundError):  # another job may have noticed it too
            set_aside(path)
    if found:
        said = "; ".join(f"{path} {how}" for path, how in found.items())
        raise DamagedError(f"{said}. It is set aside ({DAMAGED}); {remaking(found)}")


def remaking(paths):
    """What to do, in words. A file by itself, so that what was made from it stays if it comes out the same."""
    return f"make it again before anything else: snakemake {' '.join(map(str, paths))}"


def damaged_files(folder, *, contents=True):
    """``(path, how)`` of the damaged files under ``folder``; one that is gone while its record is here is not."""
    for found in sorted(Path(folder).rglob(f".*{SUFFIX}")):
        path = found.with_name(found.name[1 : -len(SUFFIX)])
        if path.is_file() and (how := damage(path, contents=contents)) is not None:
            yield path, how
