"""Storages and tensors of a file, checked before any of their bytes are read; and a few other values of states."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, ClassVar

from dode.checkpoints.pickles import Dictionary, Global, Left, dictionary
from dode.weights.errors import CheckpointError, shown
from dode.weights.sources import Source
from dode.weights.views import BYTES, Storage, View, is_count, last_place

#: Torch's storages of these types; of others (complex, quantized) there is a size alone.
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
_OTHERS = {
    **dict.fromkeys(("UntypedStorage", "QInt8Storage", "QUInt8Storage"), 1),
    "QInt32Storage": 4,
    "ComplexFloatStorage": 8,
    "ComplexDoubleStorage": 16,
}
MODULES = ("torch", "torch.storage")


def storage_of(identifier: Any, fields: int) -> tuple[str, Storage]:
    """(key, storage) of torch's persistent id ``('storage', type, key, location, elements)``, so many fields."""
    right = isinstance(identifier, tuple) and len(identifier) == fields and identifier[0] == "storage"
    if not right or not isinstance(identifier[1], Global) or not is_count(identifier[4]):
        raise CheckpointError("the pickle has a persistent id that is not a storage of torch")
    module, _, name = identifier[1].name.rpartition(".")
    key, dtype = identifier[2], DTYPES.get(name)
    width = _OTHERS.get(name) if dtype is None else BYTES[dtype]
    if module not in MODULES or width is None or type(key) is not str or any(f is not None for f in identifier[5:]):
        raise CheckpointError(f"the pickle has a storage of an unknown kind: {shown(identifier[1].name)}")
    return key, Storage(dtype, identifier[4], width)


def rebuild_tensor(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any = False,
    hooks: Any = None,
    metadata: Any = None,
) -> View | Left:
    """In place of ``torch._utils._rebuild_tensor_v2``: a view that lies within its storage."""
    if not isinstance(storage, Storage):
        raise CheckpointError("a tensor has no storage")
    both = isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= 16
    if not both or not is_count(offset) or not all(map(is_count, size)) or not all(map(is_count, stride)):
        raise CheckpointError("a tensor's offset, size and strides are invalid")
    if metadata:
        return Left("a tensor that is conjugated or negated lazily")
    last = last_place(offset, size, stride) if all(size) else offset - 1
    if last >= storage.elements:
        raise CheckpointError(f"a tensor does not lie within its storage of {storage.elements} elements")
    if storage.dtype is None:
        return Left("a tensor of a type that weights do not have")
    return View(storage, offset, size, stride)


def rebuild_parameter(data: Any, requires_grad: Any = False, hooks: Any = None, state: Any = None) -> Any:
    """In place of ``torch._utils._rebuild_parameter``: the tensor."""
    return data


def rebuild_with_attributes(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """In place of ``torch._tensor._rebuild_from_type_v2``: the tensor of ``function``, without its attributes."""
    plain = isinstance(kind, Global) and kind.name in ("torch.Tensor", "torch.nn.parameter.Parameter")
    if not plain or not isinstance(function, Global) or not isinstance(arguments, tuple):
        return Left(kind.name if isinstance(kind, Global) else "a tensor of an unknown class")
    if function.rebuild not in (rebuild_tensor, rebuild_parameter):
        return Left(function.name)
    return function.rebuild(*arguments)


def size(values: Any = ()) -> tuple[int, ...]:
    """In place of ``torch.Size``: a few numbers."""
    if not isinstance(values, tuple) or len(values) > 64 or not all(map(is_count, values)):
        raise CheckpointError("a size of torch is not a tuple of a few numbers")
    return values


def latin_bytes(text: Any, encoding: Any = None) -> Source:
    """In place of ``_codecs.encode``, by which protocol 2 writes bytes: these bytes, made where they are read."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise CheckpointError("the file asks for _codecs.encode of something other than bytes; nothing was executed")

    def fetch(start, count):
        try:
            return text[start : start + count].encode("latin-1")
        except UnicodeEncodeError:
            raise CheckpointError("broken pickle: bytes that are written as text have characters beyond 255") from None

    return Source(fetch, len(text))


class NumpyType:
    """In place of ``numpy.dtype`` of a plain number."""

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

    __slots__ = ("format",)

    def __init__(self, format: str):
        self.format: str | None = format

    def build(self, state: object) -> None:
        """``(version, byte order, ...)``, the rest empty for plain numbers."""
        if not isinstance(state, tuple) or state[1:2] not in (("<",), ("|",), ("=",)):
            self.format = None


def numpy_type(code: Any, align: Any = False, copy: Any = True) -> NumpyType | Left:
    """In place of ``numpy.dtype``; other types than plain numbers are left."""
    known = NumpyType.FORMATS.get(code) if isinstance(code, str) else None
    return Left("numpy.dtype") if known is None else NumpyType(known)


def numpy_scalar(dtype: Any, data: Any) -> float | Left:
    """In place of ``numpy.core.multiarray.scalar``: Python's number (EDM writes its scales as numpy's), or left."""
    if not isinstance(dtype, NumpyType) or dtype.format is None or not isinstance(data, Source):
        return Left("a numpy scalar")
    if data.size != struct.calcsize(dtype.format):
        raise CheckpointError("a numpy value does not have as many bytes as its type")
    return struct.unpack("<" + dtype.format, data.content())[0]


def mapping(factory: Any = None) -> Dictionary:
    """In place of ``collections.defaultdict``: a dictionary, whose missing entries stay missing."""
    return Dictionary()


COMMON: dict[str, Callable | None] = {
    "collections OrderedDict": dictionary,
    "collections defaultdict": mapping,
    "_codecs encode": latin_bytes,
    "numpy dtype": numpy_type,
    "numpy.core.multiarray scalar": numpy_scalar,
    "numpy._core.multiarray scalar": numpy_scalar,
    "torch._utils _rebuild_tensor": rebuild_tensor,
    "torch._utils _rebuild_tensor_v2": rebuild_tensor,
    "torch._utils _rebuild_parameter": rebuild_parameter,
    "torch._utils _rebuild_parameter_with_state": rebuild_parameter,
    "torch._tensor _rebuild_from_type_v2": rebuild_with_attributes,
}
