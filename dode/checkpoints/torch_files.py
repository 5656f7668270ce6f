"""Files of ``torch.save``, in its zip layout and the one before: looked through first, then read by torch.

torch's ``weights_only=True`` executes nothing, but it believes a file's lengths and takes many classes. So the file's
pickles are first gone through by :class:`dode.checkpoints.pickles.Interpreter`, which knows fewer, and compares what
each storage claims with the bytes that are there.
"""

import contextlib
import io
import mmap
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from dode.checkpoints import tensors
from dode.checkpoints.pickles import CheckpointError, Interpreter, shown

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def _named(*arguments: object) -> NoReturn:
    """In place of a class that is only named, such as a storage's."""
    raise CheckpointError("the pickle calls a class that checkpoints only name")


ALLOWED: dict[str, Callable] = {
    **tensors.COMMON,
    **{f"torch {name}": _named for name in tensors.DTYPES},
    **{f"torch {name}": _named for name in set(tensors.DTYPES.values())},
    "torch Size": lambda values: tuple(values),
}


class _Storages:
    """The storages that a file's pickle names; each is looked at once, and all must fit into the file."""

    def __init__(self, fields, room, check=None):
        self.fields, self.room, self.check, self.known = fields, room, check, {}

    def __call__(self, identifier):
        key, storage = tensors.storage_of(identifier, self.fields)
        if self.known.setdefault(key, storage) != storage:
            raise CheckpointError(f"the storage {shown(key)} is named with two sizes or types")
        if self.check is not None:
            self.check(key, storage)
        if storage.nbytes > self.room:
            raise CheckpointError(f"the storage {shown(key)} claims {storage.nbytes} bytes, more than the file has")
        return storage


def look_through_legacy(file: Any, size: int) -> Any:
    """Check a file in the layout before torch 1.6: five pickles, then the storages' bytes."""
    magic, protocol, _ = (Interpreter(file, {}).load() for _ in range(3))
    if (magic, protocol) != (MAGIC, PROTOCOL):
        raise CheckpointError(
            "not a file of torch.save: it begins neither as a zip archive nor with torch's own numbers"
        )
    storages = _Storages(6, size)
    value = Interpreter(file, ALLOWED, storages).load()
    keys = Interpreter(file, {}).load()
    if not isinstance(keys, list) or not all(type(key) is str for key in keys) or set(keys) != set(storages.known):
        raise CheckpointError("the file's list of storages does not match its tensors")
    expected = sum(8 + storage.nbytes for storage in storages.known.values())
    if len(keys) != len(set(keys)) or file.tell() + expected != size:
        raise CheckpointError(f"the file is cut short or longer than its storages: {size} bytes")
    return value


def look_through_zip(file: BinaryIO) -> None:
    """Check a file in the layout since torch 1.6: a zip archive with ``data.pkl`` and a record for each storage."""
    try:
        with zipfile.ZipFile(file) as archive:
            _look_through_archive(archive)
    except CheckpointError:
        raise
    except Exception as error:  # of a hostile archive, zipfile lets more than BadZipFile through
        raise CheckpointError(f"broken zip archive: {error}") from None


def _look_through_archive(archive):
    records = {record.filename: record for record in archive.infolist()}
    if len(records) != len(archive.infolist()):
        raise CheckpointError("the zip archive has two records of one name")
    if any(record.compress_type != zipfile.ZIP_STORED for record in records.values()):
        raise CheckpointError("the zip archive is compressed, which torch.save does not do")
    pickles = [name for name in records if name.split("/")[-1] == "data.pkl"]
    if len(pickles) != 1 or pickles[0].count("/") != 1:
        raise CheckpointError("the zip archive was not written by torch.save: it has no data.pkl")
    folder = pickles[0].split("/")[0]
    if f"{folder}/constants.pkl" in records:
        raise CheckpointError("the file is a TorchScript program, not a checkpoint")

    def check(key, storage):
        record = records.get(f"{folder}/data/{key}")
        if record is None or record.file_size != storage.nbytes:
            found = "no record" if record is None else f"{record.file_size} bytes"
            raise CheckpointError(f"the storage {shown(key)} of {storage.nbytes} bytes has {found} in the archive")

    damaged = archive.testzip()  # torch itself does not compare the records' checksums
    if damaged is not None:
        raise CheckpointError(f"the record {shown(damaged)} of the zip archive is damaged")
    storages = _Storages(5, sum(record.file_size for record in records.values()), check)
    Interpreter(io.BytesIO(archive.read(pickles[0])), ALLOWED, storages).load()


def _load(source, part=lambda value: value):
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own about typed storages, which it makes itself
            return part(torch.load(source, map_location="cpu", weights_only=True))
    except Exception as error:  # torch has no error of its own for a broken file: any of its parts may give up
        raise CheckpointError(f"torch cannot read the file: {str(error)[:300]}") from None


def load(path: str | Path) -> Any:
    """What a file of ``torch.save`` holds: tensors on the CPU, containers, numbers and text.

    Raises:
        CheckpointError: where it is broken, claims more than it has, or asks for anything else.
    """
    path = Path(path)
    if path.stat().st_size == 0:
        raise CheckpointError("the file is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        if mapped[:4] == b"PK\x03\x04":
            look_through_zip(file)
        else:
            look_through_legacy(mapped, len(mapped))
    return _load(str(path))


def load_storage(data: Any) -> tensors.Storage:
    """In place of ``torch.storage._load_from_bytes``: the storage in ``data``, itself a file of ``torch.save``."""
    if not isinstance(data, bytes) or data[:2] == b"PK":
        raise CheckpointError("a storage within the pickle is not in torch's own form")
    with contextlib.closing(io.BytesIO(data)) as file:
        value = look_through_legacy(file, len(data))
        if not isinstance(value, tensors.Storage):
            raise CheckpointError("a storage within the pickle holds something other than a storage")
        file.seek(0)
        return value._replace(data=_load(file, lambda typed: typed.untyped()))
