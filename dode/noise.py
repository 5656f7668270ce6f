"""Noise that belongs to the image: the same for a seed, a stream, a block and an index, wherever it is drawn.

Each image has a counter-based generator of its own (Philox, Salmon et al. 2011), so that a sample depends neither on
the batch it is drawn in nor on the shard, the device or the number of jobs. Streams keep the fitting set apart from
what is scored, whatever the seeds are.
"""

import numpy as np
import torch

STREAMS = {"sample": 0, "fit": 1}


def latents(indices, shape, *, seed, stream="sample", block=0):
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
    if not isinstance(seed, int) or not 0 <= seed < 2**63 or not 0 <= block < 2**32:
        raise ValueError(
            f"seed must be an integer from 0 to 2^63 - 1, block from 0 to 2^32 - 1, not {seed!r}, {block!r}"
        )
    if any(index < 0 for index in indices):
        raise ValueError(f"indices of images are at least 0, not {min(indices)}")
    key = [seed, STREAMS[stream] << 32 | block]
    draws = [
        np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, int(index)])).standard_normal(shape)
        for index in indices
    ]
    return torch.from_numpy(np.stack(draws) if draws else np.empty((0, *shape)))
