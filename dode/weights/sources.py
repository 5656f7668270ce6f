"""Bytes of a file that are read where and when they are needed, and never more than are there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from dode.weights.errors import CheckpointError

_AHEAD = 65_536  # bytes read at once where few are asked for


class Source:
    """A stretch of bytes with ``read``, ``readline`` and ``tell``, which stays where it is until it is read.

    Args:
        fetch: function of an offset and a number of bytes, all of them there, that returns these bytes.
        size: how many there are.
        start: offset of the first of them.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, start: int = 0):
        self.fetch, self.size, self.start = fetch, size, start
        self.position = 0
        self._ahead, self._ahead_at = b"", 0

    def part(self, start: int, size: int) -> Source:
        """``size`` bytes from ``start``, as a source of their own."""
        if not 0 <= start <= start + size <= self.size:
            raise CheckpointError("a part of the file lies beyond its end")
        return Source(self.fetch, size, self.start + start)

    def take(self, count: int) -> Source:
        """The next ``count`` bytes as a source of their own; reading goes on behind them."""
        found = self.part(self.position, count)
        self.position += count
        return found

    def content(self) -> bytes:
        """All bytes."""
        data = self.fetch(self.start, self.size)
        if len(data) != self.size:
            raise CheckpointError("the file became shorter while it was read")
        return data

    def read(self, count: int = -1) -> bytes:
        """The next ``count`` bytes, or as many as there are."""
        left = self.size - self.position
        count = left if count < 0 else min(count, left)
        if count > _AHEAD:
            return self.take(count).content()
        first = self.position - self._ahead_at
        if not 0 <= first <= first + count <= len(self._ahead):
            self._ahead, self._ahead_at = self.part(self.position, min(left, _AHEAD)).content(), self.position
            first = 0
        self.position += count
        return self._ahead[first : first + count]

    def readline(self) -> bytes:
        """The bytes up to a newline, with it, or up to the end."""
        parts = []
        while part := self.read(min(_AHEAD, self.size - self.position)):
            end = part.find(b"\n") + 1
            parts.append(part[:end] if end else part)
            if end:
                self.position -= len(part) - end
                break
        return b"".join(parts)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go on reading elsewhere, as files do."""
        self.position = max(0, min(self.size, offset + {0: 0, 1: self.position, 2: self.size}[whence]))
        return self.position

    def tell(self) -> int:
        """Offset of the next byte."""
        return self.position


def of_bytes(data: bytes) -> Source:
    """Bytes in memory as a source."""
    return Source(lambda start, count: data[start : start + count], len(data))


def of_file(path: str | Path) -> Source:
    """A file as a source; it is open as long as this or a part of it is in use.

    Raises:
        CheckpointError: for what is no regular file (a device, a pipe), whose reading might never end.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise CheckpointError("not a regular file")
    file = Path(path).open("rb")  # noqa: SIM115 - closed with the last source that reads it

    def fetch(start, count):
        parts = []
        while count and (part := os.pread(file.fileno(), min(count, 2**30), start)):
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    return Source(fetch, os.fstat(file.fileno()).st_size)
