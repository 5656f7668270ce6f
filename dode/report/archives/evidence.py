"""What an archive keeps of single images, so that anyone can sample them again and tell whether they are the same.

Of the first images of each seed a digest, which is equal where every byte is, and a sketch: :data:`DIRECTIONS` inner
products of the end state with fixed vectors of random signs. The mean square of the difference of two sketches is an
unbiased estimate of the squared distance of the two end states (Johnson & Lindenstrauss 1984; with signs, Achlioptas
2003), so that images of another machine can be held against a tolerance without the images. Imports no torch.
"""

import base64
import binascii
import functools
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dode.images import pixels

DIRECTIONS = 4
DIGEST = 8  # bytes of an image's SHA-256
KEPT = 64  # images of each seed, by default
#: RMS per pixel of images in [-1, 1] up to which two end states count as the same, by the precision of the network;
#: docs/sharing.md says by how much rounding moves them.
TOLERANCE = {"float32": 1e-3, "tf32": 1e-2, "float16": 3e-2, "bfloat16": 3e-2}


def tolerance(precision: Mapping[str, Any]) -> float:
    """The entry of :data:`TOLERANCE` for a ``precision``: the key of a card, or what was chosen for a cell."""
    dtype = str(precision.get("dtype", "float32"))
    return TOLERANCE.get("tf32" if dtype == "float32" and precision.get("tf32") else dtype, TOLERANCE["bfloat16"])


def of(ends: Sequence[np.ndarray]) -> dict[str, Any]:
    """The evidence of end states.

    Args:
        ends: of each seed the first images, equally many, (n, C, H, W) in [-1, 1].

    Returns:
        ``images`` of each seed, ``seeds``, and base64 of ``digests``, :data:`DIGEST` bytes an image, and ``sketches``,
        :data:`DIRECTIONS` float32 an image, little-endian, seed by seed.
    """
    found = [(digests(block), sketches(block)) for block in ends]
    return {
        "images": len(ends[0]),
        "seeds": len(ends),
        "digests": base64.b64encode(b"".join(b"".join(own) for own, _ in found)).decode(),
        "sketches": base64.b64encode(b"".join(own.astype("<f4").tobytes() for _, own in found)).decode(),
    }


def digests(ends: np.ndarray) -> list[bytes]:
    """The first bytes of the SHA-256 of each end state as an image of bytes."""
    return [hashlib.sha256(pixels.to_bytes(image).tobytes()).digest()[:DIGEST] for image in ends]


def sketches(ends: np.ndarray) -> np.ndarray:
    """The inner products of each end state with the vectors of signs, (n, :data:`DIRECTIONS`) float64."""
    signs = _signs(ends[0].size)
    return np.stack([signs @ np.asarray(image, dtype=np.float64).ravel() for image in ends])


@functools.lru_cache(maxsize=4)
def _signs(size):
    """Vectors of -1 and 1, (:data:`DIRECTIONS`, size): the bits of SHAKE-256, which no version of a library changes."""
    bits = hashlib.shake_256(b"dode-archive 1").digest(DIRECTIONS * -(-size // 8))
    rows = np.unpackbits(np.frombuffer(bits, np.uint8)).reshape(DIRECTIONS, -1)[:, :size]
    return rows.astype(np.float64) * 2 - 1


def kept(own: Mapping[str, Any], block: int, index: int) -> tuple[bytes, np.ndarray]:
    """Digest and sketch of an image, index ``index`` of seed block ``block``."""
    place = block * own["images"] + index
    digest = base64.b64decode(own["digests"])[place * DIGEST : (place + 1) * DIGEST]
    numbers = np.frombuffer(base64.b64decode(own["sketches"]), "<f4").reshape(-1, DIRECTIONS)
    return digest, numbers[place].astype(np.float64)


def distance(sketch: np.ndarray, other: np.ndarray, size: int) -> float:
    """Estimate of the RMS difference per pixel of two end states of ``size`` numbers from their sketches."""
    return math.sqrt(float(np.mean((sketch - other) ** 2)) / size)


def fault(own: Mapping[str, Any]) -> str | None:
    """What is wrong with the evidence of a cell, in words; None where nothing is."""
    count = own["images"] * own["seeds"]
    try:
        sizes = [len(base64.b64decode(own[key], validate=True)) for key in ("digests", "sketches")]
    except (binascii.Error, ValueError):
        return "is no base64"
    if sizes != [count * DIGEST, count * DIRECTIONS * 4]:
        return "is of another number of images than it says"
    numbers = np.frombuffer(base64.b64decode(own["sketches"]), "<f4")
    return None if np.isfinite(numbers).all() else "is not finite"
