"""Storages and tensors of a file, checked before torch sees them; and the few other values that states hold."""

import math
import struct
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from dode.checkpoints.pickles import CheckpointError, Global, dictionary, shown

DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
BYTES = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "float16": 2, "bfloat16": 2, "int16": 2}  # others 1


class Storage(NamedTuple):
    """Elements in a row. ``data`` is torch's untyped storage, or None where the file is only looked through."""

    dtype: str
    elements: int
    data: Any = None

    @property
    def nbytes(self) -> int:
        """Bytes that its elements take."""
        return self.elements * BYTES.get(self.dtype, 1)


def is_count(value: object) -> bool:
    """Whether a value is an integer from 0 (and no boolean)."""
    return type(value) is int and value >= 0


def storage_of(identifier: Any, fields: int) -> tuple[str, Storage]:
    """(key, storage) of torch's persistent id ``('storage', type, key, location, elements)``, so many fields."""
    right = isinstance(identifier, tuple) and len(identifier) == fields and identifier[0] == "storage"
    if not right or not isinstance(identifier[1], Global) or not is_count(identifier[4]):
        raise CheckpointError("the pickle has a persistent id that is not a storage of torch")
    dtype = DTYPES.get(identifier[1].name.removeprefix("torch."))
    key = identifier[2]
    if dtype is None or not isinstance(key, str) or any(field is not None for field in identifier[5:]):
        raise CheckpointError(f"the pickle has a storage of an unknown kind: {shown(identifier[1].name)}")
    return key, Storage(dtype, identifier[4])


def rebuild_tensor(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any = False,
    hooks: Any = None,
    metadata: Any = None,
) -> Any:
    """In place of ``torch._utils._rebuild_tensor_v2``: a view that lies within its storage and repeats no element."""
    if not isinstance(storage, Storage):
        raise CheckpointError("a tensor has no storage")
    both = isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= 16
    if not both or not is_count(offset) or not all(map(is_count, size)) or not all(map(is_count, stride)):
        raise CheckpointError("a tensor's offset, size and strides are invalid")
    if metadata:
        raise CheckpointError("a tensor is conjugated or negated lazily, which is not supported")
    count = math.prod(size)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) if count else offset - 1
    if last >= storage.elements or count > storage.elements:
        raise CheckpointError(
            f"a tensor of {shown(count)} elements does not lie within its storage of {storage.elements}"
        )
    if max((*size, *stride, offset), default=0) >= 2**63:
        raise CheckpointError("a tensor's size or stride is beyond 64 bits")
    if storage.data is None:
        return None
    import torch

    return torch.empty(0, dtype=getattr(torch, storage.dtype)).set_(storage.data, offset, size, stride)


def rebuild_parameter(data: Any, requires_grad: Any = False, hooks: Any = None, state: Any = None) -> Any:
    """In place of ``torch._utils._rebuild_parameter``: the tensor."""
    return data


class NumpyType:
    """In place of ``numpy.dtype``: a plain number's."""

    FORMATS: ClassVar = {
        "f8": "d",
        "f4": "f",
        "f2": "e",
        "i8": "q",
        "i4": "i",
        "i2": "h",
        "i1": "b",
        "u1": "B",
        "b1": "?",
    }

    def __init__(self, code: Any, align: Any = False, copy: Any = True):
        if code not in self.FORMATS:
            raise CheckpointError(f"a numpy value is of the type {shown(code)}, not a plain number")
        self.format = self.FORMATS[code]

    def build(self, state: object) -> None:
        """``(version, byte order, ...)``, the rest empty for plain numbers."""
        if not isinstance(state, tuple) or state[1:2] not in (("<",), ("|",), ("=",)):
            raise CheckpointError("a numpy value is not little-endian")


def numpy_scalar(dtype: Any, data: Any) -> float:
    """In place of ``numpy.core.multiarray.scalar``: Python's number (EDM writes its scales as numpy's)."""
    if not isinstance(dtype, NumpyType) or not isinstance(data, bytes):
        raise CheckpointError("a numpy value is not a plain number")
    if len(data) != struct.calcsize(dtype.format):
        raise CheckpointError("a numpy value does not have as many bytes as its type")
    return struct.unpack("<" + dtype.format, data)[0]


COMMON: dict[str, Callable] = {
    "collections OrderedDict": dictionary,
    "torch._utils _rebuild_tensor_v2": rebuild_tensor,
    "torch._utils _rebuild_parameter": rebuild_parameter,
}
