"""The states of a few images on their way from noise to image, kept beside a cell's samples. Imports no torch.

``states.npy`` has one row per image, the first :data:`dode.images.shards.RECORDED` of seed block 0, with two fields:
``sigmas``, (L,) float64, the noise levels, the same in every row; ``states``, (L, C, H, W) float32, the state x at each
of them, which is an image in [-1, 1] plus sigma times unit noise. L is one more than the steps of the solver; inner
stages are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dode import storage

if TYPE_CHECKING:
    from torch import Tensor


class Recorder:
    """Takes what :func:`dode.sample` shows as it goes (``watch``); keeps the states of the first ``images``."""

    def __init__(self, images: int):
        self.images = images
        self.sigmas: list[float] = []
        self.states: list[np.ndarray] = []

    def __call__(self, sigma: Tensor, x: Tensor) -> None:
        self.sigmas.append(float(sigma))
        self.states.append(x[: self.images].float().cpu().numpy())

    def rows(self) -> np.ndarray:
        """What was kept, as the rows of ``states.npy``."""
        states = np.stack(self.states, axis=1)
        kinds = [("sigmas", np.float64, (len(self.sigmas),)), ("states", np.float32, states.shape[1:])]
        found = np.empty(len(states), dtype=kinds)
        found["sigmas"], found["states"] = self.sigmas, states
        return found


def read(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """``(sigmas, states)`` of a ``states.npy``: (L,), and (images, L, C, H, W), mapped and not yet read."""
    rows = storage.read_array(path)
    return rows["sigmas"][0], rows["states"]
