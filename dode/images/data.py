"""Real images: of this project, by name; of a folder, a zip file or a Hugging Face data set.

Whatever they are, they have a length, and a slice of them is an array (n, C, H, W) uint8. Those of a file are read when
they are asked for, so that memory does not grow with their number.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dode.registry import Registry

if TYPE_CHECKING:
    from PIL import Image

sources = Registry("data")

#: A name, or a dictionary with one of :data:`KINDS` as key.
Source: TypeAlias = str | Mapping[str, Any]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
KINDS = ("folder", "zip", "hub")
OF_THE_HUB = {"split": "train", "column": "image", "revision": None}


@sources.register("digits")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's handwritten digits: 1,797 real 8x8 grey images (UCI Optical Recognition of Handwritten Digits).

    The 17 grey levels 0..16 become bytes by ``round(255 v / 16)``. Returns images (1797, 1, 8, 8) uint8 and the labels
    (1797,) int64.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8), labels.astype(np.int64)


def check(source: Source) -> None:
    """Raise ValueError for an invalid source: an unknown name, or a dictionary that does not name one place."""
    if isinstance(source, str):
        sources.get(source)
        return
    kinds = [kind for kind in KINDS if kind in source]
    if len(kinds) != 1:
        raise ValueError(f"needs one of the keys {', '.join(KINDS)}, not {' and '.join(kinds) or 'none'}")
    foreign = [key for key in source if key not in kinds and not (kinds == ["hub"] and key in OF_THE_HUB)]
    if foreign:
        raise ValueError(f"'{foreign[0]}' is only for hub; leave it out")
    if "hub" in source and "revision" not in source:
        raise ValueError("hub needs a revision, a commit of the data set, because the data set may change")
    path = files(source)
    if path and not (Path(path[0]).is_dir() if "folder" in source else Path(path[0]).is_file()):
        raise ValueError(f"there is no {kinds[0]} '{path[0]}'; a relative path is relative to the working directory")


def _kind(source):
    """Which of :data:`KINDS` a source is."""
    return next(kind for kind in KINDS if kind in source)


def identity(source: Source, image_shape: Sequence[int]) -> str:
    """A short name for paths: the source's own, or ``folder-1a2b3c4d`` by what it is and the images' shape."""
    if isinstance(source, str):
        return source
    text = json.dumps([source, list(image_shape)], sort_keys=True)
    return f"{_kind(source)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def described(source: Source) -> str:
    """A source in words, as the configuration has it.

    >>> described({"revision": "1a2b", "hub": "owner/name"})
    'hub owner/name, revision 1a2b'
    """
    if isinstance(source, str):
        return source
    return ", ".join(f"{key} {source[key]}" for key in sorted(source, key=lambda key: (key not in KINDS, key)))


def files(source: Source) -> list[str]:
    """The path that a source reads, as a list of one; empty where it has none."""
    return [] if isinstance(source, str) else [source[kind] for kind in ("folder", "zip") if kind in source]


def listing(source: Source) -> str | None:
    """Digest of names, sizes and times of the images in a folder, by which a change is noticed; None for others."""
    if isinstance(source, str) or "folder" not in source:
        return None
    folder, digest = Path(source["folder"]), hashlib.sha256()
    for name in _images(_names(folder)):
        state = (folder / name).stat()
        digest.update(f"{name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def load(source: Source, image_shape: Sequence[int]) -> tuple[np.ndarray | Images, np.ndarray | None]:
    """Images and labels (or None) of a source.

    Args:
        source: a registered name, ``{"folder": path}``, ``{"zip": path}`` or ``{"hub": "owner/name"}``, this one with
            ``split`` ("train"), ``column`` ("image") and ``revision`` besides. A folder is searched with all that is
            in it; images are in the order of their paths.
        image_shape: (C, H, W) that each image must have; C is 1, grey, or 3. Nothing is resized: how that is done
            decides a FID. Nor is colour made grey or a background chosen, for that decides it too: of C = 1 a file may
            be stored in colour if its channels are equal. Of C = 3 a grey file is repeated over them.

    Raises:
        ValueError: where there are no images, or one has another size or colours; it is named.
    """
    if isinstance(source, str):
        return sources.create(source)
    if image_shape[0] not in (1, 3):
        raise ValueError(f"image files have 1 or 3 channels, but the model's images have {image_shape[0]}")
    reader = {"folder": _folder, "zip": _zip, "hub": _hub}[_kind(source)]
    names, read = reader(source)
    return Images(names, read, image_shape), None


class Images:
    """Images that are decoded as they are asked for: ``names`` of each, and ``read(index)``, which opens one."""

    def __init__(self, names: Sequence[str], read: Callable[[int], Image.Image], image_shape: Sequence[int]):
        self.names, self.read, self.image_shape = names, read, tuple(image_shape)
        if not len(names):
            raise ValueError(f"there are no images (files that end in {', '.join(SUFFIXES)})")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, some: slice) -> np.ndarray:
        """(n, C, H, W) uint8 of a slice."""
        return np.stack([self._decoded(index) for index in range(*some.indices(len(self)))])

    def _decoded(self, index):
        channels, height, width = self.image_shape
        name = self.names[index]
        try:
            with self.read(index) as image:
                size, mode, transparent = image.size, image.mode, image.has_transparency_data
                transparent = transparent and image.convert("RGBA").getextrema()[3][0] < 255
                pixels = np.asarray(image.convert("L" if mode[0] in "IF" else "RGB"))
        except (OSError, SyntaxError, ValueError, AttributeError, TypeError) as error:  # Pillow's of broken files
            raise OSError(f"{name} cannot be read as an image: {error}") from None
        if mode[0] in "IF":  # which Pillow cuts off at 255
            raise ValueError(f"{name} has more than 8 bits a channel (Pillow's mode {mode}); save it with 8")
        if transparent:
            raise ValueError(f"{name} is transparent in places; give it the background of the model's training images")
        if size != (width, height):
            raise ValueError(
                f"{name} has {size[0]}x{size[1]} pixels, the model's images {width}x{height}; "
                "resize them as the model's training images were"
            )
        if channels == 1 and (pixels != pixels[..., :1]).any():
            raise ValueError(
                f"{name} is in colour (Pillow's mode {mode}), the model's images are grey; allowed: a grey file, or "
                "one in colour whose channels are equal"
            )
        return pixels[..., :channels].transpose(2, 0, 1)


def _images(names):
    """The names of image files, in the same order for folder and zip; hidden files are left out."""
    hidden = (".", "__MACOSX")
    seen = {name for name in names if not any(part.startswith(hidden) for part in name.split("/"))}
    return sorted(name for name in seen if name.lower().endswith(SUFFIXES))


def _names(folder):
    """Paths within a folder of all files in it, those behind symbolic links too."""
    for place, _, files in os.walk(folder, followlinks=True):
        for file in files:
            yield (Path(place) / file).relative_to(folder).as_posix()


def _folder(source):
    from PIL import Image

    folder = Path(source["folder"])
    names = _images(_names(folder))
    paths = [folder / name for name in names]
    return [str(path) for path in paths], lambda index: Image.open(paths[index])


def _zip(source):
    from PIL import Image

    try:
        archive = zipfile.ZipFile(source["zip"])
    except zipfile.BadZipFile:
        raise ValueError(f"{source['zip']} is not a zip file") from None
    names = _images(archive.namelist())
    inside = [f"{source['zip']}/{name}" for name in names]
    return inside, lambda index: Image.open(io.BytesIO(archive.read(names[index])))


def _hub(source):
    try:
        import datasets
    except ImportError:
        raise ValueError("data from the hub needs another package: python -m pip install 'datasets>=3'") from None
    options = {**OF_THE_HUB, **source}
    found = datasets.load_dataset(options["hub"], split=options["split"], revision=options["revision"])
    if options["column"] not in found.column_names:
        raise ValueError(
            f"{options['hub']} has no column '{options['column']}'; it has {', '.join(found.column_names)}"
        )
    names = [f"{options['hub']}[{index}]" for index in range(len(found))]
    return names, lambda index: found[index][options["column"]]
