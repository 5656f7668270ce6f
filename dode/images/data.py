"""Real images: of this project, by name; of a folder, a zip file or a Hugging Face data set.

Whatever they are, they have a length, and a slice of them is an array (n, C, H, W) uint8. Those of a file are read when
they are asked for, so that memory does not grow with their number.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import posixpath
import re
import stat
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dode.registry import Registry
from dode.texts import shown

if TYPE_CHECKING:
    from PIL import Image

sources = Registry("data")

#: A name, or a dictionary with one of :data:`KINDS` as key.
Source: TypeAlias = str | Mapping[str, Any]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
#: Images of other kinds, which must not be left out in silence.
UNREAD = (".gif", ".apng", ".avif", ".heic", ".heif", ".jfif", ".jpe", ".jp2", ".jxl", ".pgm", ".pnm", ".ppm", ".tga")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")  # others have decoders that start programs
#: Pillow's modes whose colours need no profile: black and white, grey, palettes, RGB.
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr")
#: How images begin, of kinds that are read and of others: PNG, JPEG, GIF, TIFF, WEBP, BMP (with zeros and the size of a
#: header where it has them), AVIF and HEIC, JPEG 2000 and JPEG XL, PPM and its kin.
SIGNATURES = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|II[*+]\0|MM\0[*+]|RIFF.{4}WEBP|"
    rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}|"
    rb".{4}ftyp(?:avi[fs]|hei[cfmsx]|hev[cx]|mi[fs]1|msf1)|\0{3}\x0c(?:jP  |JXL )|\xff\x0a|"
    rb"P[1-6]\s(?:#|[0-9])",
    flags=re.DOTALL,
)
_HEAD = 32  # bytes
BITS_PER_SAMPLE, ORIENTATION = 258, 274  # tags of TIFF, the second of EXIF too
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
    """Raise ValueError for an invalid source: an unknown name, a dictionary that does not name one place, or a place
    where there are no images, or files that are none by their names: links to nothing, and what is encrypted.
    """
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
    if not path:
        return
    if not (Path(path[0]).is_dir() if "folder" in source else Path(path[0]).is_file()):
        raise ValueError(f"there is no {kinds[0]} '{path[0]}'; a relative path is relative to the working directory")
    try:
        _refuse_none(_names(path[0]) if "folder" in source else _archive(path[0])[1])
    except OSError as error:
        raise ValueError(f"{shown(error.filename)}: {error.strerror}") from None


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
    for name in _names(folder):
        state = (folder / name).stat()
        digest.update(os.fsencode(f"{name} {state.st_size} {state.st_mtime_ns}\n"))
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
        ValueError: where there are no images, or one has another size or colours, more than 8 bits a channel, several
            frames, or is to be turned when it is shown; it is named.
        OSError: where one cannot be read.
    """
    if isinstance(source, str):
        images, labels = sources.create(source)
        if images.shape[1:] != tuple(image_shape):
            raise ValueError(
                f"the images of '{source}' are {images.shape[1:]}, the model's {tuple(image_shape)}; nothing is resized"
            )
        return images, labels
    if image_shape[0] not in (1, 3):
        raise ValueError(f"image files have 1 or 3 channels, but the model's images have {image_shape[0]}")
    reader = {"folder": _folder, "zip": _zip, "hub": _hub}[_kind(source)]
    names, read = reader(source)
    return Images(names, read, image_shape), None


class Images:
    """Images that are decoded as they are asked for: ``names`` of each, and ``read(index)``, which opens one."""

    def __init__(self, names: Sequence[str], read: Callable[[int], Image.Image], image_shape: Sequence[int]):
        self.names, self.read, self.image_shape = names, read, tuple(image_shape)
        _refuse_none(names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, some: slice) -> np.ndarray:
        """(n, C, H, W) uint8 of a slice."""
        return np.stack([self._decoded(index) for index in range(*some.indices(len(self)))])

    def _decoded(self, index):
        channels, height, width = self.image_shape
        name = shown(self.names[index])
        try:
            with self.read(index) as image:
                fault = _fault(image, (width, height))
                transparent = not fault and _is_transparent(image)
                pixels = None if fault else np.asarray(image.convert("RGB"))
                mode = image.mode
        except Exception as error:  # of broken files: Pillow's and the zip file's, which are of many kinds
            raise OSError(f"{name} cannot be read as an image: {shown(error)}") from None
        if fault:
            raise ValueError(f"{name} {fault}")
        if transparent:
            raise ValueError(f"{name} is transparent in places; give it the background of the model's training images")
        if channels == 1 and (pixels != pixels[..., :1]).any():
            raise ValueError(
                f"{name} is in colour (Pillow's mode {mode}), the model's images are grey; allowed: a grey file, or "
                "one in colour whose channels are equal"
            )
        if mode not in MODES:
            raise ValueError(f"{name} has colours of another kind (Pillow's mode {mode}); save it in RGB or grey")
        return pixels[..., :channels].transpose(2, 0, 1)


def _fault(image, size):
    """What is wrong with an image that is open and not yet decoded, or None."""
    if getattr(image, "n_frames", 1) > 1:
        return f"has {image.n_frames} frames; save each as a file of its own"
    if _bits(image) > 8:
        return "has more than 8 bits a channel; save it with 8"
    orientation = image.getexif().get(ORIENTATION, 1)
    if orientation in range(2, 9):
        return f"is to be turned or mirrored when it is shown (EXIF orientation {orientation}); save it as it is seen"
    if image.size != size:
        return (
            f"has {image.size[0]}x{image.size[1]} pixels, the model's images {size[0]}x{size[1]}; "
            "resize them as the model's training images were"
        )
    return None


def _bits(image):
    """At least how many bits a channel has. Pillow cuts 16 down to 8 as it decodes, and its mode does not tell."""
    if image.mode[0] in "IF":
        return 16
    if image.format == "TIFF":
        return max(image.tag_v2.get(BITS_PER_SAMPLE, (8,)))
    raw = [tile[3] if isinstance(tile[3], str) else str(tile[3][0] if tile[3] else "") for tile in image.tile]
    return 16 if any(re.fullmatch("[A-Za-z]+;16[BLNS]+", mode) for mode in raw) else 8


def _is_transparent(image):
    return image.has_transparency_data and image.convert("RGBA").getextrema()[3][0] < 255


def _refuse_none(names):
    if not len(names):
        raise ValueError(f"there are no images (files that end in {', '.join(SUFFIXES)})")


def _order(name):
    """Names sort by their bytes, in every locale and whether they are UTF-8 or not."""
    return name.encode("utf-8", "surrogateescape")


def _is_hidden(name):
    """Whether a system leaves out what has this name, or has made it for itself."""
    return name.startswith((".", "__MACOSX")) and name != ".."


def _is_image(name):
    """Whether a path is that of an image; ValueError for one of a kind that is not read."""
    if any(map(_is_hidden, name.split("/"))):
        return False
    if name.lower().endswith(UNREAD):
        raise ValueError(f"{shown(name)} is an image of a kind that is not read; allowed: {', '.join(SUFFIXES)}")
    return name.lower().endswith(SUFFIXES)


def _refuse_image(place, head):
    """Raise ValueError for a file that is an image by its first bytes, though not by its name."""
    if SIGNATURES.match(head):
        raise ValueError(
            f"{place} is an image by its contents, but not by its name, and would be left out; allowed: names that end "
            f"in {', '.join(SUFFIXES)}, or no such file among the images"
        )


def _names(folder):
    """Paths of the images within a folder, sorted; each once, whichever links lead to it.

    Links to other places are followed. What a link within the folder leads to is known by its own name.
    """
    own, linked, seen = {}, {}, set()  # names by the file's real path; real paths by the link's name
    waiting, links = [("", str(folder))], []
    while waiting:
        prefix, place = waiting.pop()
        place = os.path.realpath(place)
        if place in seen:
            continue
        seen.add(place)
        for entry in sorted(os.scandir(place), key=lambda entry: os.fsencode(entry.name)):
            name = f"{prefix}{entry.name}"
            if _is_hidden(entry.name):
                continue
            if entry.is_dir():
                (links if entry.is_symlink() else waiting).append((f"{name}/", entry.path))
            elif entry.is_symlink() and not entry.is_file():
                raise ValueError(
                    f"{shown(folder)}/{shown(name)} is a link to {shown(os.readlink(entry.path))}, no file"
                )
            elif _is_image(name):
                if not entry.is_file():
                    raise ValueError(f"{shown(folder)}/{shown(name)} is no regular file")
                if entry.is_symlink():
                    linked[name] = os.path.realpath(entry.path)
                else:
                    own[entry.path] = name
            elif entry.is_file():
                with open(entry.path, "rb") as file:
                    _refuse_image(f"{shown(folder)}/{shown(name)}", file.read(_HEAD))
        if not waiting:  # links to folders come last, so that a folder is known by its own name
            waiting, links = links[::-1], []
    return sorted([*own.values(), *(name for name, path in linked.items() if path not in own)], key=_order)


def _folder(source):
    from PIL import Image

    folder = Path(source["folder"])
    paths = [folder / name for name in _names(folder)]
    return [str(path) for path in paths], lambda index: Image.open(paths[index], formats=FORMATS)


def _archive(path):
    """A zip file, and its images by their names without ``./``, sorted."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a zip file that can be read: {shown(error)}") from None
    found = {}
    for entry in archive.infolist():
        name = posixpath.normpath(entry.filename)
        place = f"{path}/{shown(name)}"
        if entry.is_dir() or any(map(_is_hidden, name.split("/"))):
            continue
        if not _is_image(name):
            _refuse_image(place, _head(archive, entry))
            continue
        if name in found:
            raise ValueError(f"{place} is there twice")
        if entry.flag_bits & 1:
            raise ValueError(f"{place} is encrypted; pack the images without a password")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise ValueError(f"{place} is a link; pack what it leads to")
        found[name] = entry
    return archive, {name: found[name] for name in sorted(found, key=_order)}


def _head(archive, entry):
    """The first bytes of an entry; none where it cannot be read, of which nothing is to be said."""
    try:
        with archive.open(entry) as file:
            return file.read(_HEAD)
    except Exception:  # an encrypted one, a damaged one: the zip file's errors are of many kinds
        return b""


def _zip(source):
    from PIL import Image

    archive, found = _archive(source["zip"])
    entries = list(found.values())
    names = [f"{source['zip']}/{name}" for name in found]
    return names, lambda index: Image.open(io.BytesIO(archive.read(entries[index])), formats=FORMATS)


def _hub(source):
    from PIL import Image

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
    if not isinstance(found.features[options["column"]], datasets.Image):
        raise ValueError(f"the column '{options['column']}' of {options['hub']} has no images")
    # Decoded here, as those of files are: the library turns images, and does not say what it made of their bits.
    found = found.cast_column(options["column"], datasets.Image(decode=False))
    names = [f"{options['hub']}[{index}]" for index in range(len(found))]

    def read(index):
        stored = found[index][options["column"]]
        file = stored["path"] if stored["bytes"] is None else io.BytesIO(stored["bytes"])
        return Image.open(file, formats=FORMATS)

    return names, read
