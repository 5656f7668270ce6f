"""Files of ``torch.save``, in its zip layout and the one before, read without torch.

torch's own reader, with ``weights_only=True``, executes nothing, but it believes a file's lengths, makes objects of
many classes, and parses a zip archive in another way than Python does. Here the archive is parsed once, the pickle is
gone through by :class:`dode.checkpoints.pickles.Interpreter`, and tensors are views of the bytes that were checked.
"""

import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dode.checkpoints import tensors
from dode.checkpoints.pickles import Dictionary, Global, Interpreter, Work
from dode.weights import sources
from dode.weights.errors import CheckpointError, shown
from dode.weights.sources import Source
from dode.weights.views import BYTES, Storage

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_LOCAL = struct.Struct("<4s5H3L2H")  # what stands before a record of a zip archive, but for its name
_AT_ONCE = 2**20

ALLOWED: dict[str, Callable | None] = {
    **tensors.COMMON,
    **{f"torch {name}": None for name in (*tensors.DTYPES, *BYTES)},
    "torch.storage UntypedStorage": None,
    "torch.storage TypedStorage": None,
    "torch Size": tensors.size,
}


class _Storages:
    """The storages that a file's pickle names; each is looked at once, and all must fit into the file."""

    def __init__(self, fields, room, find=None):
        self.fields, self.room, self.find, self.known = fields, room, find, {}

    def __call__(self, identifier):
        # In the old layout, a module's class with its source, which is not run.
        is_class = isinstance(identifier, tuple) and len(identifier) == 4 and identifier[0] == "module"
        if self.find is None and is_class and isinstance(identifier[1], Global):
            return identifier[1]
        key, storage = tensors.storage_of(identifier, self.fields)
        if not self.known.setdefault(key, storage).is_like(storage):
            raise CheckpointError(f"the storage {shown(key)} is named with two sizes or types")
        storage = self.known[key]
        if storage.nbytes > self.room:
            raise CheckpointError(f"the storage {shown(key)} claims {storage.nbytes} bytes, more than the file has")
        if self.find is not None and storage.data is None:
            storage.data = self.find(key, storage)
        return storage


def read_legacy(file: Source, work: Work) -> Any:
    """The value of a file in the layout before torch 1.6: five pickles, then the storages' bytes."""
    magic, protocol, system = (Interpreter(file, {}, work=work).load() for _ in range(3))
    if (magic, protocol) != (MAGIC, PROTOCOL):
        raise CheckpointError(
            "not a file of torch.save: it begins neither as a zip archive nor with torch's own numbers"
        )
    if not isinstance(system, Dictionary) or system.get("little_endian") is not True:
        raise CheckpointError("the file was written by a machine with another order of bytes, which is not supported")
    storages = _Storages(6, file.size)
    value = Interpreter(file, ALLOWED, storages, work).load()
    keys = Interpreter(file, {}, work=work).load()
    if not isinstance(keys, list) or not all(type(key) is str for key in keys) or set(keys) != set(storages.known):
        raise CheckpointError("the file's list of storages does not match its tensors")
    if len(keys) != len(set(keys)):
        raise CheckpointError("the file's list of storages names one twice")
    for storage in map(storages.known.__getitem__, keys):
        if file.size - file.tell() < 8 + storage.nbytes or file.read(8) != storage.elements.to_bytes(8, "little"):
            raise CheckpointError(f"the file is cut short, or its storages are of other sizes: {file.size} bytes")
        storage.data = file.take(storage.nbytes)
    if file.tell() != file.size:
        raise CheckpointError(f"the file is longer than its storages: {file.size} bytes")
    return value


class _Archive:
    """The records of a zip archive, by name, each as it is in the file: stored, whole and apart from the others."""

    def __init__(self, file):
        try:
            with zipfile.ZipFile(file.part(0, file.size)) as archive:
                entries = archive.infolist()
        except Exception as error:  # of a hostile archive, zipfile lets more than BadZipFile through
            raise CheckpointError(f"broken zip archive: {str(error)[:200] or type(error).__name__}") from None
        self.records, ends = {}, 0
        if len({entry.filename for entry in entries}) != len(entries):
            raise CheckpointError("the zip archive has two records of one name")
        for entry in sorted(entries, key=lambda entry: entry.header_offset):
            if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
                raise CheckpointError("the zip archive is compressed, which torch.save does not do")
            if entry.flag_bits & 0x2041:
                raise CheckpointError("the zip archive is encrypted")
            begins = entry.header_offset
            if begins < ends:
                raise CheckpointError(f"the record {shown(entry.filename)} of the zip archive lies within another one")
            header = file.part(begins, _LOCAL.size).content()
            magic, *_, name_size, extra_size = _LOCAL.unpack(header)
            name = file.part(begins + _LOCAL.size, name_size).content()
            if magic != b"PK\3\4" or name != entry.orig_filename.encode(
                "utf-8" if entry.flag_bits & 0x800 else "cp437"
            ):
                raise CheckpointError(f"the record {shown(entry.filename)} of the zip archive is damaged")
            start = begins + _LOCAL.size + name_size + extra_size
            record = self.records[entry.filename] = file.part(start, entry.file_size)
            ends = start + entry.file_size
            if _checksum(record) != entry.CRC:
                raise CheckpointError(f"the record {shown(entry.filename)} of the zip archive is damaged")


def _checksum(source):
    found, rest = 0, source.part(0, source.size)
    while part := rest.read(_AT_ONCE):
        found = zlib.crc32(part, found)
    return found


def _read_zip(file, work):
    records = _Archive(file).records
    pickles = [name for name in records if name.split("/")[-1] == "data.pkl"]
    if len(pickles) != 1 or pickles[0].count("/") != 1:
        raise CheckpointError("the zip archive was not written by torch.save: it has no data.pkl")
    folder = pickles[0].split("/")[0]
    if f"{folder}/constants.pkl" in records:
        raise CheckpointError("the file is a TorchScript program, not a checkpoint")
    order = records.get(f"{folder}/byteorder")
    if order is not None and (order.size > 10 or order.content() != b"little"):
        raise CheckpointError("the file was written by a machine with another order of bytes, which is not supported")

    def find(key, storage):
        record = records.get(f"{folder}/data/{key}")
        if record is None or record.size != storage.nbytes:
            found = "no record" if record is None else f"{record.size} bytes"
            raise CheckpointError(f"the storage {shown(key)} of {storage.nbytes} bytes has {found} in the archive")
        return record

    content = records[pickles[0]]
    value = Interpreter(content, ALLOWED, _Storages(5, file.size, find), work).load()
    if content.tell() != content.size:
        raise CheckpointError("the archive's pickle continues after its end")
    return value


def load(path: str | Path) -> Any:
    """What a file of ``torch.save`` holds: views of tensors, containers, numbers and text.

    Raises:
        CheckpointError: where it is broken, claims more than it has, or asks for anything to be run.
    """
    file, work = sources.of_file(path), Work()
    if file.size == 0:
        raise CheckpointError("the file is empty")
    if file.part(0, min(4, file.size)).content() == b"PK\x03\x04":
        return _read_zip(file, work)
    return read_legacy(file, work)


def storage_within(data: Any, work: Work) -> Storage:
    """In place of ``torch.storage._load_from_bytes``: the storage in ``data``, itself a file of ``torch.save``."""
    if not isinstance(data, Source) or data.part(0, min(2, data.size)).content() == b"PK":
        raise CheckpointError("a storage within the pickle is not in torch's own form")
    value = read_legacy(data.part(0, data.size), work)
    if not isinstance(value, Storage):
        raise CheckpointError("a storage within the pickle holds something other than a storage")
    return value
