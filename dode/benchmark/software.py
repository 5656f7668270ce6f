"""What a job ran on: versions of what is installed, and the machine. Imports no torch by itself."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CODE = ("Snakefile", "rules", "scripts", "dode", "config/models")  # what decides results, besides a configuration
#: Packages whose versions may change the digits of a result.
NUMERICAL = ("clean-fid", "diffusers", "dode", "numpy", "scikit-learn", "scipy", "torch", "torchvision")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Python's version and those of ``packages`` that are installed, by name."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def environment(device: object = "cpu") -> dict[str, Any]:
    """What may change the last digits of a result besides its parameters: ``software`` and ``machine``.

    Args:
        device: the torch device (or its name) that the network is on.

    Returns:
        ``software`` of :data:`NUMERICAL`; ``machine``: ``cpu``, its model; ``threads``; ``device``, ``cpu`` or the name
        of a GPU, and of that ``cuda`` and ``cudnn``, what torch was built with and runs. No host is named.
    """
    threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    machine = {"cpu": _processor(), "threads": threads, "device": "cpu"}
    if str(device) != "cpu":
        torch = sys.modules["torch"]
        machine["device"] = torch.cuda.get_device_name(device)
        machine |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {"software": versions(NUMERICAL), "machine": machine}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # there is none outside of Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def revision(root: str | Path) -> str | None:
    """The git commit of the checkout ``root``, with ``+changes`` where :data:`CODE` is not its; None outside of one."""
    git = shutil.which("git")
    if git is None or not Path(root, ".git").exists():
        return None
    options: dict[str, Any] = {"capture_output": True, "encoding": "utf-8", "errors": "replace"}
    ask = lambda *words: subprocess.run([git, "-C", str(root), *words], **options)  # noqa: E731
    commit, status = ask("rev-parse", "--verify", "HEAD"), ask("status", "--porcelain", "--", *CODE)
    if commit.returncode or status.returncode:
        return None
    return commit.stdout.strip() + "+changes" * bool(status.stdout)
