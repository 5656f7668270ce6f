"""Published checkpoints, read without executing anything in them, as ``model.safetensors``.

A *format* is how the file was written: ``safetensors``; ``torch``, by ``torch.save``; ``edm-pickle``, by ``pickle``
with EDM's persistent classes. The result has the published parameter names, and a header that says where it comes from.
"""

import collections
import hashlib
import json
from pathlib import Path
from typing import Any, TypeAlias

from dode.storage import atomic
from dode.weights import safetensors_files, states
from dode.weights.errors import CheckpointError
from dode.weights.safetensors_files import HEADER, header

__all__ = ["FORMATS", "CheckpointError", "convert", "header", "is_of", "read"]

#: Where in a file the weights are.
Key: TypeAlias = str | int | list[str | int] | None
DTYPES = ("keep", "float32", "float16", "bfloat16")


def _safetensors(path):
    return safetensors_files.read(path)[0]


def _torch(path):
    from dode.checkpoints import torch_files

    return torch_files.load(path)


def _edm_pickle(path):
    from dode.checkpoints import persistent

    return persistent.load(path)


FORMATS = {"safetensors": _safetensors, "torch": _torch, "edm-pickle": _edm_pickle}


def _views(source, format, key, prefix, names):
    """The tensors of a file, still in it, and what the file says of itself."""
    from dode.checkpoints.pickles import Recorded

    whole, facts = FORMATS[format](source), {}
    value = states.select(whole, key)
    if names is not None:
        value = states.in_order(value, states.views(states.select(whole, names)))
    if isinstance(value, Recorded):
        from dode.checkpoints import persistent

        facts, value = persistent.facts(value), persistent.flatten(value)
    found = states.views(value)
    found = states.unwrapped(found) if prefix is None else states.below(found, prefix)
    for name, view in found.items():
        if view.nbytes > view.storage.nbytes:
            raise CheckpointError(f"the tensor {name!r} repeats elements and does not lie within its storage")
    stored = sum(view.nbytes for view in found.values())
    # Tied weights have one storage and several names; a small file that names one storage ever again is no model.
    if stored > 4 * Path(source).stat().st_size:
        raise CheckpointError(f"its tensors take {stored} bytes, more than four times the file")
    return found, facts


def _check_options(format, dtype):
    if format not in FORMATS or dtype not in DTYPES:
        raise CheckpointError(
            f"format {format!r} and dtype {dtype!r}: allowed are the formats {', '.join(FORMATS)} and "
            f"the dtypes {', '.join(DTYPES)}"
        )


def read(
    source: str | Path,
    *,
    format: str,
    key: Key = None,
    dtype: str = "keep",
    prefix: str | None = None,
    names: Key = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors of a published checkpoint by name, and what the file says of itself.

    Args:
        source: path of the file.
        format: one of :data:`FORMATS`.
        key: where in the file the weights are: a key, an index (``-1``) or a list of them; None for the whole.
        dtype: ``keep``, or the floating-point type that floating-point tensors are cast to.
        prefix: what the names of the weights begin with, such as ``ema_model.``; it is taken away, and other tensors
            are left out. Prefixes that all names have because a program wrapped the network (``module.``,
            ``_orig_mod.``) are taken away in any case.
        names: where the weights are a list of tensors (``shadow_params``): where in the file the state dict is whose
            names they have in order; what the list leaves out is taken from there. None for no list.

    Returns:
        ``(tensors, facts)``; ``facts`` has the class and the arguments that an EDM pickle records.

    Raises:
        CheckpointError: where the file is not of the format, is broken, or asks for anything to be executed; where a
            tensor is quantized, or has NaN or infinity.
    """
    _check_options(format, dtype)
    try:
        views, facts = _views(source, format, key, prefix, names)
        return {name: states.weight(name, view, dtype) for name, view in views.items()}, facts
    except (CheckpointError, OSError) as error:
        raise _told(source, format, error) from None


def _told(source, format, error):
    words = error.strerror if isinstance(error, OSError) else error
    return CheckpointError(f"{source} (format {format}): {words}")


def convert(
    source: str | Path,
    target: str | Path,
    *,
    format: str,
    key: Key = None,
    dtype: str = "keep",
    prefix: str | None = None,
    names: Key = None,
    sha256: str | None = None,
) -> None:
    """Read a published checkpoint (:func:`read`) and write it to ``target`` as safetensors, whole or not at all.

    It is read by a process of its own, whose memory and time are limited (:mod:`dode.checkpoints.conversion`), one
    tensor at a time. The header (:func:`header`) has the format, the name and digest of ``source``, the number of
    tensors of each type, and what the file says of itself. With ``sha256`` the digest must be that one; it is compared
    before all else.
    """
    from dode.checkpoints import conversion

    about = _about(source, format, key, dtype, prefix, names)
    if sha256 is not None and about["source_sha256"] != sha256:
        raise CheckpointError(f"{source}: sha256 is {about['source_sha256']}, expected {sha256}")
    with atomic(target) as temporary:
        conversion.run(source, temporary, about)


def is_of(
    target: str | Path,
    source: str | Path,
    *,
    format: str,
    key: Key = None,
    dtype: str = "keep",
    prefix: str | None = None,
    names: Key = None,
) -> bool:
    """Whether ``target`` is what :func:`convert` wrote of this file with these arguments, and is whole.

    Raises:
        CheckpointError: where ``source`` cannot be read.
    """
    about = _about(source, format, key, dtype, prefix, names)
    try:
        found = header(target)
    except (CheckpointError, OSError):
        return False
    return {name: found.get(name) for name in (*about, *_OPTIONAL)} == {**dict.fromkeys(_OPTIONAL), **about}


#: What the header has only where it is given.
_OPTIONAL = ("prefix", "names")


def _about(source, format, key, dtype, prefix, names):
    """What the header of the file that is converted begins with."""
    from dode.weights import sources

    _check_options(format, dtype)
    try:
        sources.of_file(source)
        with Path(source).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (CheckpointError, OSError) as error:
        raise _told(source, format, error) from None
    about = {"format": format, "key": key, "source": Path(source).name, "source_sha256": digest, "cast": dtype}
    optional = dict(zip(_OPTIONAL, (prefix, names), strict=True))
    return about | {name: value for name, value in optional.items() if value is not None}


def _cast(dtype, cast):
    return cast if cast != "keep" and "float" in dtype else dtype


def convert_here(source: str | Path, target: str | Path, about: dict[str, Any]) -> None:
    """:func:`convert` in this process: what its child does, where ``about`` is what the header begins with."""
    format, cast = about["format"], about["cast"]
    try:
        views, facts = _views(source, format, about["key"], *map(about.get, _OPTIONAL))
        kinds = {name: (_cast(str(view.dtype), cast), view.shape) for name, view in views.items()}
        counts = dict(collections.Counter(kind for kind, _ in kinds.values()))
        text = json.dumps({**about, "dtypes": counts, **facts}, sort_keys=True, allow_nan=False)
        safetensors_files.write(target, kinds, lambda name: states.weight(name, views[name], cast), {HEADER: text})
    except CheckpointError as error:
        raise _told(source, format, error) from None
