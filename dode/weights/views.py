"""Tensors that are still in a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from dode.weights.sources import Source

#: Bytes of an element, by the name of torch's type.
BYTES = {
    **dict.fromkeys(("float64", "int64"), 8),
    **dict.fromkeys(("float32", "int32"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16"), 2),
    **dict.fromkeys(("int8", "uint8", "bool"), 1),
}


class Storage:
    """Elements in a row.

    Attributes:
        dtype: the name of torch's type, or None for one that no weights have.
        elements: how many there are.
        width: bytes of each.
        data: their bytes; None as long as it is not known where these are.
    """

    __slots__ = ("data", "dtype", "elements", "width")

    def __init__(self, dtype: str | None, elements: int, width: int, data: Source | None = None):
        self.dtype, self.elements, self.width, self.data = dtype, elements, width, data

    @property
    def nbytes(self) -> int:
        """Bytes that its elements take."""
        return self.elements * self.width

    def is_like(self, other: Storage) -> bool:
        """Whether both have as many elements of one type."""
        return (self.dtype, self.elements, self.width) == (other.dtype, other.elements, other.width)


class View(NamedTuple):
    """A tensor whose elements are still in the file: element i, j, ... is ``offset + i s_0 + j s_1 + ...``."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> str | None:
        """The name of torch's type."""
        return self.storage.dtype

    @property
    def nbytes(self) -> int:
        """Bytes that its elements take."""
        return math.prod(self.shape) * self.storage.width

    def load(self) -> Any:
        """The tensor, contiguous, with a memory of its own."""
        import torch

        kind, data = getattr(torch, str(self.dtype)), self.storage.data
        if not self.nbytes or data is None:
            return torch.empty(self.shape, dtype=kind)
        elements = last_place(self.offset, self.shape, self.strides) + 1 - self.offset
        width = self.storage.width
        content = bytearray(data.part(self.offset * width, elements * width).content())
        if self.dtype == "bool":  # torch leaves open what a byte other than 0 and 1 is
            flat = torch.frombuffer(content, dtype=torch.uint8) != 0
        else:
            flat = torch.frombuffer(content, dtype=kind)
        return flat.as_strided(self.shape, self.strides).contiguous()


def last_place(offset: int, shape: Sequence[int], strides: Sequence[int]) -> int:
    """The place of the last element, where there is one."""
    return offset + sum((length - 1) * step for length, step in zip(shape, strides, strict=True))


def is_count(value: object) -> bool:
    """Whether a value is an integer from 0 to 2^63 - 1 (and no boolean)."""
    return type(value) is int and 0 <= value < 2**63
