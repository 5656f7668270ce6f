"""Files ``.npz`` from elsewhere, of which nothing is unpacked before its type and shape are known to be right."""

import contextlib
import math
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

AT_ONCE = 2**20  # elements that are passed over at a time


class Member(NamedTuple):
    """An array of an archive whose header was read, and the stream that its elements follow in."""

    stream: IO[bytes]
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool

    def read(self, count: int) -> np.ndarray:
        """The next ``count`` elements; ValueError where there are fewer."""
        data = self.stream.read(count * self.dtype.itemsize)
        return np.frombuffer(data, self.dtype, count)


@contextlib.contextmanager
def told(path: str | Path) -> Iterator[None]:
    """Whatever goes wrong within is told as one kind of error: of a hostile archive more than its own gets through."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{path}: not an .npz file of plain arrays ({type(error).__name__})") from None


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[zipfile.ZipFile]:
    """The archive, open; ValueError where there is none."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: there is no such regular file")
    with contextlib.ExitStack() as stack:
        with told(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
        yield archive


def member(path: str | Path, archive: zipfile.ZipFile, name: str) -> Member | None:
    """An array with its header alone, so that nothing is unpacked before its type and shape are known to be right."""
    with told(path):
        found = [entry for entry in archive.infolist() if entry.filename in (name, f"{name}.npy")]
        if not found:
            return None
        (entry,) = found
        stream = archive.open(entry)
        if np.lib.format.read_magic(stream) != (1, 0):  # later ones have headers of up to 4 GB
            raise ValueError("another version of the format")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        if dtype.hasobject or entry.file_size - stream.tell() != math.prod(shape) * dtype.itemsize:
            raise ValueError("objects, or another number of elements")
        return Member(stream, shape, dtype, fortran)


def array(path: str | Path, member: Member) -> np.ndarray:
    """All elements of an array."""
    with told(path):
        flat = member.read(math.prod(member.shape))
        if member.stream.read(1):  # at the end the checksum is compared
            raise ValueError("more elements")
        return flat.reshape(member.shape, order="F" if member.fortran else "C")


def rows(path: str | Path, member: Member, indices: Iterable[int]) -> np.ndarray:
    """The entries of an array with these indices along its first axis, which ascend; the others are passed over."""
    size, place, found = math.prod(member.shape[1:]), 0, []
    with told(path):
        for index in indices:
            for left in range((index - place) * size, 0, -AT_ONCE):
                member.read(min(left, AT_ONCE))
            found.append(member.read(size).reshape(member.shape[1:]))
            place = index + 1
        return np.stack(found)
