"""Files that are complete or absent: everything is written under another name and then renamed."""

import contextlib
import errno
import glob
import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

ROWS = 1000  # copied at a time


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it becomes ``path``, on an exception it is removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.????????{glob.escape(path.suffix)}"):
        leftover.unlink(missing_ok=True)  # of a writer that was killed; two never write the same file at once
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, 0o666 & ~_umask())
        _on_disk(name)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _on_disk(path):
    """Wait until the contents are on the disk: a rename may reach it first, and the power fail in between."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_where_told(path: str | Path, content: str | bytes) -> None:
    """Write bytes, or text as UTF-8, where a user says: ``-`` is standard output.

    A link is followed, a regular file is replaced whole and keeps its permissions, and what is no regular file, such as
    a pipe or ``/dev/stdout``, is written to. Nothing else in the folder is touched.

    Raises:
        OSError: where that cannot be done; what was there is left as it was.
    """
    if str(path) == "-":
        if isinstance(content, str):
            sys.stdout.write(content)
        else:
            sys.stdout.flush()
            sys.stdout.buffer.write(content)
        return
    data = content.encode() if isinstance(content, str) else content
    before = None
    with contextlib.suppress(FileNotFoundError):
        before = os.stat(path)
    if before is not None and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    own = os.path.abspath(path).startswith(("/dev/", "/proc/"))  # where a link may lead to a file that is being written
    if own or (before is not None and not stat.S_ISREG(before.st_mode)):
        Path(path).write_bytes(data)
        return
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
    try:
        with open(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o666 & ~_umask() if before is None else stat.S_IMODE(before.st_mode))
        _on_disk(name)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def json_text(value: Any) -> str:
    """JSON with sorted keys; NaN is written as null, so that every reader takes it."""
    return json.dumps(_plain(value), indent=1, sort_keys=True, allow_nan=False) + "\n"


def write_json(path: str | Path, value: Any) -> None:
    """A file of :func:`json_text`."""
    text = json_text(value)
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """What :func:`write_json` wrote."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def write_array(path: str | Path, array: np.ndarray) -> None:
    """A ``.npy`` file."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


@contextlib.contextmanager
def growing_array(path: str | Path, shape: Sequence[int], dtype: DTypeLike) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that appends rows (n, ...) to a ``.npy`` file; whole at ``path`` afterwards, or absent.

    The rows are written rather than mapped: on a full disk a mapped array ends the process silently (SIGBUS), and the
    pages count as its memory.

    Raises:
        ValueError: where rows are of another type or shape, or there are not ``shape[0]`` of them.
    """
    dtype, rows = np.dtype(dtype), 0
    with atomic(path) as temporary, temporary.open("wb") as file:
        header = {"shape": tuple(shape), "fortran_order": False, "descr": np.lib.format.dtype_to_descr(dtype)}
        np.lib.format.write_array_header_1_0(file, header)

        def append(some: np.ndarray) -> None:
            nonlocal rows
            if some.dtype != dtype or some.shape[1:] != tuple(shape[1:]):
                raise ValueError(f"{path} has rows {dtype} {tuple(shape[1:])}, not {some.dtype} {some.shape[1:]}")
            file.write(np.ascontiguousarray(some).data)
            rows += len(some)

        yield append
        if rows != shape[0]:
            raise ValueError(f"{path} should have {shape[0]} rows, but {rows} were written")


def read_array(path: str | Path) -> np.ndarray:
    """A ``.npy`` file, mapped into memory: only what is touched is read."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


def gather_arrays(paths: Iterable[str | Path], target: str | Path) -> None:
    """Concatenate ``.npy`` files along the first axis into ``target``, ``ROWS`` rows in memory at a time."""
    parts = [read_array(path) for path in paths]
    kinds = {(str(part.dtype), part.shape[1:]) for part in parts}
    if len(kinds) > 1:
        raise ValueError(f"the parts of {target} differ in type or shape: {sorted(kinds)}")
    shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
    with growing_array(target, shape, parts[0].dtype) as append:
        for part in parts:
            for start in range(0, len(part), ROWS):
                append(part[start : start + ROWS])
