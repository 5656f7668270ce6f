"""torchvision beside a CPU-only torch: what clean-fid and diffusers, which import it, need."""

from __future__ import annotations

import functools
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@functools.cache
def declare() -> torch.library.Library | None:
    """Declare the two torchvision operators that its import asks for, where its compiled ones cannot load.

    torchvision's wheel is built against the CUDA build of torch. Beside a CPU-only torch its C++ library does not
    load, and its import then fails because ``torchvision::nms`` and ``qnms`` do not exist, though nothing here uses
    either. The library object returned is kept by the cache: the declarations end with it.
    """
    import torch

    if torch.version.cuda is not None or importlib.util.find_spec("torchvision") is None:
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
