"""Noise for a solver that adds some on its way, of which its contract has none: it follows from the start noise."""

import hashlib
from collections.abc import Callable

from dode.solvers.base import Tensor


def further_noise(start: Tensor) -> Callable[[int], Tensor]:
    """Unit-normal noise as a function of the image and the step alone.

    Each image has a counter-based generator (Philox) of its own, whose key is the SHA-256 digest of the image's first
    state in single precision and whose counter begins at the number of the step. So neither batch nor shard nor device
    changes it, the same start noise has the same further noise, and no caller has to hand any: a run can be turned
    inside out (:func:`dode.sampling.evaluations`) and exported.

    Args:
        start: the first state of a run, (B, C, H, W).

    Returns:
        ``noise(step)``, (B, C, H, W) float64 on the device of ``start``.
    """
    import numpy as np
    import torch

    rows = start.detach().to("cpu", torch.float32).contiguous().numpy()
    keys = [np.frombuffer(hashlib.sha256(row.tobytes()).digest()[:16], dtype="<u8") for row in rows]

    def noise(step: int) -> Tensor:
        generators = [np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, step])) for key in keys]
        drawn = [generator.standard_normal(rows.shape[1:]) for generator in generators]
        return torch.from_numpy(np.stack(drawn)).to(start.device)

    return noise
