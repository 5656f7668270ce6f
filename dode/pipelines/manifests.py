"""The manifest of a pipeline's or a scorer's folder, from which jobs read where its files are. Imports no torch.

:mod:`dode.fetching.pipelines` writes it. Jobs know nothing of how files are fetched, so that an edit there samples
nothing again.
"""

from pathlib import Path
from typing import Any

from dode import storage


def folder_of(manifest: str | Path) -> Path:
    """The folder that a manifest is of: the link beside it."""
    return Path(manifest).with_suffix("")


def checked(manifest: str | Path) -> dict[str, Any]:
    """A manifest, with its files where it says, each of the size that it had.

    Raises:
        ValueError: where a file is gone or is another one by its size.
    """
    found, place = storage.read_json(manifest), folder_of(manifest)
    for name, said in found["files"].items():
        size = (place / name).stat().st_size if (place / name).is_file() else None
        if size != said["size"]:
            now = "is gone" if size is None else f"has {size} bytes"
            raise ValueError(
                f"{place / name} {now}, but had {said['size']} as it was fetched; delete {manifest} and run again"
            )
    return found
