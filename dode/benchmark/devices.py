"""The device on which a job's network runs."""

import functools
import os
import tempfile
from pathlib import Path
from typing import IO, Any

import torch

from dode import locks

_held: list[IO[str]] = []  # locks of GPUs


def is_here(name: str) -> bool:
    """Whether the device ``name`` can be had here."""
    return not name.startswith("cuda") or int(name.partition(":")[2] or 0) < _cuda_devices()


def missing(name: str, key: str = "execution.device") -> str:
    """The sentence on a device ``name``, given as ``key``, that is not here."""
    there = "auto or cpu, because torch finds no CUDA device on this machine"
    if count := _cuda_devices():
        there = f"cuda:0 to cuda:{count - 1}"
    return f"{key}: '{name}' is not allowed; allowed: {there}"


def _cuda_devices() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


@functools.cache
def device(name: str) -> torch.device:
    """A torch device from the ``device`` setting; ``auto`` is a CUDA device where there is one, else the CPU.

    If there are several, the first that no other job of this user on this machine has; if all are taken, one is shared.
    Raises ValueError for a CUDA device that is not here.
    """
    if name != "auto":
        if not is_here(name):
            raise ValueError(missing(name))
        return torch.device(name)
    return torch.device("cuda", _free_gpu(torch.cuda)) if torch.cuda.is_available() else torch.device("cpu")


def _free_gpu(cuda: Any) -> int:
    """Index of a GPU, reserved for as long as this process lives."""
    count = cuda.device_count()
    for index in range(count):
        name = f"dode-{os.getuid()}-gpu-{cuda.get_device_properties(index).uuid}.lock"
        lock = locks.attempt(Path(tempfile.gettempdir(), name))
        if lock is not None:
            _held.append(lock)
            return index
    return os.getpid() % count
