"""Files of safetensors: headers checked before anything is allocated, read and written tensor by tensor.

The layout is eight bytes with the length of a header in JSON, the header, and the tensors' bytes in a row. The library
writes only what is in memory as a whole, and reads a header of any size; a file written here is the same to the byte.
"""

import contextlib
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from dode.weights import foreign_json, sources, states
from dode.weights.errors import CheckpointError, shown
from dode.weights.views import BYTES, Storage, View, is_count

#: The format's name of each type, in the order in which the library writes them.
NAMES = {
    "int64": "I64",
    "float64": "F64",
    "float32": "F32",
    "int32": "I32",
    "bfloat16": "BF16",
    "float16": "F16",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
_TYPES = {name: dtype for dtype, name in NAMES.items()}
HEADER = "dode"  # one key of the metadata: the library writes several in no fixed order, and files would differ
MAX_HEADER, MAX_TENSORS = 2**23, 20_000  # bytes; networks of thousands of layers have a twentieth of these


def read(path: str | Path) -> tuple[dict[str, View], dict[str, str]]:
    """The tensors of a file by name, still in the file, and its metadata.

    Raises:
        CheckpointError: where the file is broken in any way, or has more than :data:`MAX_TENSORS` tensors.
    """
    file = sources.of_file(path)
    length = int.from_bytes(file.read(8), "little")
    if file.size < 10 or not 2 <= length <= file.size - 8:
        raise CheckpointError("not a safetensors file: it is shorter than its header says")
    if length > MAX_HEADER:
        raise CheckpointError(f"the header of the safetensors file has {length} bytes, more than {MAX_HEADER}")
    data = file.part(8 + length, file.size - 8 - length)
    header = foreign_json.parsed(file.take(length).content(), "the header of the safetensors file", CheckpointError)
    if not isinstance(header, dict):
        raise CheckpointError("not a safetensors file: its header is not a mapping")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError("the metadata of the safetensors file are not texts")
    if len(header) > MAX_TENSORS:
        raise CheckpointError(f"the safetensors file has {len(header)} tensors, more than {MAX_TENSORS}")
    views = {name: _view(name, entry, data) for name, entry in header.items()}
    end = 0
    for name, view in sorted(views.items(), key=lambda item: (item[1].storage.data.start, item[1].nbytes)):
        if view.storage.data.start - data.start != end:
            raise CheckpointError(f"the tensor {shown(name)} of the safetensors file does not follow the one before it")
        end += view.nbytes
    if end != data.size:
        raise CheckpointError(f"the safetensors file has {data.size} bytes of tensors where its header says {end}")
    return views, metadata


def header(path: str | Path) -> dict[str, Any]:
    """What :func:`dode.checkpoints.convert` wrote of a file's origin; empty for a file that it did not write.

    Raises:
        CheckpointError: where the file is not one of safetensors, or its header is damaged.
    """
    try:
        return _origin(read(path)[1])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _origin(metadata):
    what = "what its header says of its origin"
    found = foreign_json.parsed(metadata.get(HEADER, "{}").encode("utf-8", "surrogatepass"), what, CheckpointError)
    if not isinstance(found, dict):
        raise CheckpointError(f"{what} is not a mapping")
    return found


def tensors(path: str | Path, *, wanted: Collection[str] | None = None, prefix: str | None = None) -> dict[str, Any]:
    """The tensors of a file by name.

    Args:
        path: of the file.
        wanted, prefix: as of :func:`dode.weights.states.fitted`; None for the names as they are. A prefix that the
            file's conversion took away is not looked for.

    Raises:
        CheckpointError: where the file is broken, or a tensor is not one of weights.
    """
    try:
        found, metadata = read(path)
        views = states.views(found)
        if wanted is None:
            views = states.unwrapped(views)
        else:
            taken = prefix is not None and _origin(metadata).get("prefix") == prefix
            views = states.fitted(views, wanted, "" if taken else prefix)
        return {name: states.weight(name, view) for name, view in views.items()}
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _view(name, entry, data):
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"the entry of the tensor {shown(name)} in the header of the safetensors file is invalid")
    dtype = _TYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise CheckpointError(
            f"the tensor {shown(name)} is of the type {shown(entry['dtype'])}, which is not supported"
        )
    shape, offsets = entry["shape"], entry["data_offsets"]
    lists = isinstance(shape, list) and len(shape) <= 16 and isinstance(offsets, list) and len(offsets) == 2
    if not lists or not all(map(is_count, (*shape, *offsets))):
        raise CheckpointError(f"the shape or the place of the tensor {shown(name)} is invalid")
    elements, (begin, end) = math.prod(shape), offsets
    if not begin <= end <= data.size or end - begin != elements * BYTES[dtype]:
        raise CheckpointError(f"the tensor {shown(name)} does not take the bytes that the header gives it")
    strides = tuple(math.prod(shape[place + 1 :]) for place in range(len(shape)))
    return View(Storage(dtype, elements, BYTES[dtype], data.part(begin, end - begin)), 0, tuple(shape), strides)


def write(
    path: str | Path,
    kinds: Mapping[str, tuple[str, tuple[int, ...]]],
    tensor: Callable[[str], Any],
    metadata: Mapping[str, str],
) -> None:
    """Write tensors one after the other.

    Args:
        path: of the file.
        kinds: type and shape of each tensor by name.
        tensor: function of a name that returns the tensor, contiguous; called once for each.
        metadata: texts for the header; several are written in the mapping's order.
    """
    text, names, _ = _laid_out(kinds, metadata)
    with Path(path).open("wb") as file:
        file.write(text)
        for name in names:
            found = tensor(name)
            _check_kind(name, found, *kinds[name])
            file.write(_content(found))


@contextlib.contextmanager
def growing(
    path: str | Path, kinds: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]
) -> Iterator[Callable[[str, Any], None]]:
    """Yield ``append(name, rows)``, which adds rows (n, ...) to a tensor; all of them are never in memory.

    Args:
        path, kinds, metadata: as of :func:`write`.

    Raises:
        ValueError: where rows are of another type or shape, or a tensor has not as many as its kind says.
    """
    text, names, places = _laid_out(kinds, metadata)
    rows = dict.fromkeys(names, 0)
    with Path(path).open("wb") as file:
        file.write(text)

        def append(name: str, some: Any) -> None:
            dtype, shape = kinds[name]
            _check_kind(name, some, dtype, (len(some), *shape[1:]))
            file.seek(len(text) + places[name] + rows[name] * math.prod(shape[1:]) * BYTES[dtype])
            file.write(_content(some))
            rows[name] += len(some)

        yield append
    for name, count in rows.items():
        if count != kinds[name][1][0]:
            raise ValueError(f"{name} should have {kinds[name][1][0]} rows, but {count} were written")


def _laid_out(kinds, metadata):
    """The bytes before the tensors, and the tensors' names in their order and places behind these bytes by name."""
    order = list(NAMES)
    names = sorted(kinds, key=lambda name: (order.index(kinds[name][0]), name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end, places = 0, {}
    for name in names:
        dtype, shape = kinds[name]
        places[name], end = end, end + math.prod(shape) * BYTES[dtype]
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [places[name], end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, names, places


def _check_kind(name, found, dtype, shape):
    if (str(found.dtype).removeprefix("torch."), tuple(found.shape)) != (dtype, shape):
        raise ValueError(f"{name} should be {(dtype, shape)}, not {found.dtype} {tuple(found.shape)}")


def _content(found):
    return found.reshape(-1).view(_bytes()).numpy().data


def _bytes():
    import torch

    return torch.uint8
