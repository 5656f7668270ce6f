"""Verified files that several working directories share: ``<folder>/<sha256>/<name>``, never changed once there.

Writers of one file wait for one another by a lock of the kernel (flock), which ends with its process. NFS passes it on
between machines (Linux, version 3 with its lock daemon, or 4) unless mounted with ``nolock`` or ``local_lock``; then
two machines may download the same file at once, each into a folder of its own, and the later rename wins with equal
bytes.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from dode import locks


class Cache:
    """The shared folder.

    Args:
        folder: its path; made when first written to.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).expanduser().absolute()

    def place(self, sha256: str, name: str) -> Path:
        """Path of a file by its digest."""
        return self.folder / sha256 / name

    @contextlib.contextmanager
    def writing(self, key: str) -> Iterator[None]:
        """Be the only one who adds the file called ``key``.

        Raises OSError, with what to do, where the folder cannot be written.
        """
        try:
            lock = self.folder / "locks" / hashlib.sha256(key.encode()).hexdigest()[:32]
            held = contextlib.ExitStack()
            held.enter_context(locks.exclusive(lock))
        except OSError as error:
            raise OSError(
                f"{key} is missing or incomplete in the cache {self.folder}, which cannot be written ({error}): fetch "
                "it as a user who may write there, or set execution.cache in the configuration to another folder"
            ) from None
        with held:
            yield

    def add(self, path: Path, sha256: str, name: str) -> Path:
        """Move the verified file at ``path``, on the same file system, to its place; returns the place."""
        place = self.place(sha256, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.chmod(path.stat().st_mode & 0o555)  # a mistake in one working directory must not reach the others
        os.replace(path, place)
        return place


def link(place: Path, target: Path) -> None:
    """Make ``target`` a symbolic link to ``place``, atomically."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.link")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(place)
    os.replace(temporary, target)
