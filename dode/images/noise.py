"""Noise and class that belong to the image: the same for a seed, a stream, a block and an index, wherever drawn.

Each image has a counter-based generator of its own (Philox, Salmon et al. 2011), so that a sample depends neither on
the batch it is drawn in nor on the shard, the device or the number of jobs. Streams keep the fitting set apart from
what is scored, whatever the seeds are.
"""

import functools
from collections.abc import Sequence

import numpy as np
import torch

STREAMS = {"sample": 0, "fit": 1}
# The third word of the counter: what is drawn. The first two count the numbers of one draw.
LATENT, CLASS, SHUFFLE = 0, 1, 2
DRAWS = ("uniform", "balanced")


def latents(
    indices: Sequence[int], shape: Sequence[int], *, seed: int, stream: str = "sample", block: int = 0
) -> torch.Tensor:
    """Unit-normal noise, (len(indices), *shape) float64.

    Args:
        indices: indices of the images within the block, integers of at least 0.
        shape: (C, H, W).
        seed: integer, 0 to 2^63 - 1.
        stream: ``"sample"`` (scored images) or ``"fit"`` (fitting set): disjoint for every seed.
        block: the seed block, 0 to 2^32 - 1; repeated measurements differ in it.

    >>> latents([3], (1, 1, 2), seed=0).equal(latents(range(5), (1, 1, 2), seed=0)[3:4])
    True
    """
    key = _key(indices, seed, stream, block)
    draws = [_generator(key, LATENT, index).standard_normal(shape) for index in indices]
    return torch.from_numpy(np.stack(draws) if draws else np.empty((0, *shape)))


def labels(
    indices: Sequence[int], classes: int, *, seed: int, draw: str = "uniform", stream: str = "sample", block: int = 0
) -> torch.Tensor:
    """Classes of images, (len(indices),) int64, 0 to ``classes - 1``.

    Args:
        indices, seed, stream, block: as of :func:`latents`.
        classes: their number.
        draw: ``"uniform"``: each image's own draw; ``"balanced"``: images ``n classes`` to ``(n + 1) classes - 1`` have
            each class once, shuffled, so that the counts of any number of images differ by one at most, and few images
            are of a random choice of classes. Both are in use and their FIDs differ.

    >>> labels([3], 10, seed=0).equal(labels(range(5), 10, seed=0)[3:4])
    True
    """
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise ValueError(f"classes must be an integer of at least 1, not {classes!r}")
    if draw not in DRAWS:
        raise ValueError(f"labels are drawn {' or '.join(DRAWS)}, not {draw!r}")
    key = _key(indices, seed, stream, block)
    if draw == "uniform":
        found = [int(_generator(key, CLASS, index).integers(classes)) for index in indices]
    else:
        found = [_shuffled(key, int(index) // classes, classes)[int(index) % classes] for index in indices]
    return torch.tensor(found, dtype=torch.int64)


def _key(indices, seed, stream, block):
    """The generators' key; refuses an invalid seed, block or index."""
    if not isinstance(seed, int) or not 0 <= seed < 2**63 or not 0 <= block < 2**32:
        raise ValueError(
            f"seed must be an integer from 0 to 2^63 - 1, block from 0 to 2^32 - 1, not {seed!r}, {block!r}"
        )
    if any(index < 0 for index in indices):
        raise ValueError(f"indices of images must be at least 0, not {min(indices)}")
    return seed, STREAMS[stream] << 32 | block


def _generator(key, purpose, index):
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, purpose, int(index)]))


@functools.lru_cache(maxsize=16)
def _shuffled(key, cycle, classes):
    return _generator(key, SHUFFLE, cycle).permutation(classes).tolist()
