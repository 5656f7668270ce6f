"""Published checkpoints, read without executing anything in them, as ``model.safetensors``.

A *format* is how the file was written: ``safetensors``; ``torch``, by ``torch.save``; ``edm-pickle``, by ``pickle``
with EDM's persistent classes. The result has the published parameter names, and a header that says where it comes from.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, TypeAlias

from dode.checkpoints.pickles import CheckpointError, Recorded, shown
from dode.storage import atomic

__all__ = ["FORMATS", "CheckpointError", "convert", "header", "read"]

HEADER = "dode"  # one key of the safetensors metadata: several are written in no fixed order, and files would differ
#: Where in a file the weights are.
Key: TypeAlias = str | int | list[str | int] | None
DTYPES = ("keep", "float32", "float16", "bfloat16")


def _safetensors(path):
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"not a safetensors file: {error}") from None


def _torch(path):
    from dode.checkpoints import torch_files

    return torch_files.load(path)


def _edm_pickle(path):
    from dode.checkpoints import persistent

    return persistent.load(path)


FORMATS = {"safetensors": _safetensors, "torch": _torch, "edm-pickle": _edm_pickle}


def _select(value, key):
    """The part of a file's value that ``key`` names: a key, an index, or a list of them, outermost first."""
    for step in key if isinstance(key, list | tuple) else [] if key is None else [key]:
        places = range(-len(value), len(value)) if isinstance(value, list | tuple) else ()
        if step not in (value if isinstance(value, dict) else places):
            raise CheckpointError(f"the file has no {step!r} where the key {key!r} leads; {_contents(value)}")
        value = value[step]
    return value


def _contents(value):
    """What could be selected instead, for a message."""
    if isinstance(value, dict):
        return "it has the keys " + ", ".join(shown(name) for name in list(value)[:8])
    if isinstance(value, list | tuple):
        return f"it is a list of {len(value)}"
    return f"it is {type(value).__name__}"


def _named(value):
    """Names and tensors of a state dict, without DataParallel's prefix."""
    import torch

    if not isinstance(value, dict) or not value:
        raise CheckpointError(f"not a state dict: {_contents(value)}; the card's 'key' says where in the file it is")
    for name, tensor in value.items():
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 500:
            raise CheckpointError(
                f"{shown(name)} is not a parameter's name; the card's 'key' says where the weights are"
            )
        if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.layout != torch.strided:
            kind = type(tensor).__name__
            raise CheckpointError(f"{shown(name)} is {kind}, not a tensor; the card's 'key' says where the weights are")
    if all(name.startswith("module.") for name in value):
        value = {name.removeprefix("module."): tensor for name, tensor in value.items()}
    return {name: tensor.detach() for name, tensor in value.items()}


def read(
    source: str | Path, *, format: str, key: Key = None, dtype: str = "keep"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors of a published checkpoint by name, and what the file says of itself.

    Args:
        source: path of the file.
        format: one of :data:`FORMATS`.
        key: where in the file the weights are: a key, an index (``-1``) or a list of them; None for the whole.
        dtype: ``keep``, or the floating-point type that floating-point tensors are cast to.

    Returns:
        ``(tensors, facts)``; ``facts`` has the class and the arguments that an EDM pickle records.

    Raises:
        CheckpointError: where the file is not of the format, is broken, or asks for anything to be executed.
    """
    import torch

    if format not in FORMATS or dtype not in DTYPES:
        raise CheckpointError(
            f"format {format!r} and dtype {dtype!r}: allowed are the formats {', '.join(FORMATS)} and "
            f"the dtypes {', '.join(DTYPES)}"
        )
    try:
        value = _select(FORMATS[format](source), key)
        facts = {}
        if isinstance(value, Recorded):
            from dode.checkpoints import persistent

            facts, value = persistent.facts(value), persistent.flatten(value)
        tensors = _named(value)
        stored = sum(tensor.nbytes for tensor in tensors.values())
        # Tied weights have one storage and several names; a small file that names one storage ever again is no model.
        if stored > 4 * Path(source).stat().st_size:
            raise CheckpointError(f"its tensors take {stored} bytes, more than four times the file")
    except CheckpointError as error:
        raise CheckpointError(f"{source} (format {format}): {error}") from None
    if dtype != "keep":
        kind = getattr(torch, dtype)
        tensors = {name: item.to(kind) if item.is_floating_point() else item for name, item in tensors.items()}
    return tensors, facts


def convert(
    source: str | Path,
    target: str | Path,
    *,
    format: str,
    key: Key = None,
    dtype: str = "keep",
    sha256: str | None = None,
) -> None:
    """Read a published checkpoint (:func:`read`) and write it to ``target`` as safetensors, whole or not at all.

    The header (:func:`header`) has the format, the name and digest of ``source``, the number of tensors of each type,
    and what the file says of itself. With ``sha256`` the digest must be that one; it is compared before all else.
    """
    from safetensors.torch import save_file

    with Path(source).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 is not None and digest != sha256:
        raise CheckpointError(f"{source}: sha256 is {digest}, expected {sha256}")
    tensors, facts = read(source, format=format, key=key, dtype=dtype)
    counts: dict[str, int] = {}
    for tensor in tensors.values():
        name = str(tensor.dtype).removeprefix("torch.")
        counts[name] = counts.get(name, 0) + 1
    about = {"format": format, "key": key, "source": Path(source).name, "source_sha256": digest, "dtypes": counts}
    text = json.dumps({**about, "cast": dtype, **facts}, sort_keys=True, allow_nan=False)
    with atomic(target) as temporary:
        save_file(_apart(tensors), temporary, metadata={HEADER: text})


def _apart(tensors):
    """The tensors in rows and with storages of their own, which safetensors asks for; most have them."""
    import torch

    seen, apart = set(), {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        alone = storage.data_ptr() not in seen and storage.nbytes() == tensor.nbytes and tensor.is_contiguous()
        apart[name] = tensor if alone else tensor.clone(memory_format=torch.contiguous_format)
        seen.add(storage.data_ptr())
    return apart


def header(path: str | Path) -> dict[str, Any]:
    """What :func:`convert` wrote of a file's origin."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return json.loads((file.metadata() or {}).get(HEADER, "{}"))
