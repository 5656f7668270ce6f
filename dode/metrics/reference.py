"""clean-fid's own functions, importable also where torch is a CPU-only build."""

import importlib.util

import torch


def _declare_torchvision_operators():
    """Declare the two torchvision operators that its import asks for, where its compiled ones cannot load.

    torchvision's wheel is built against the CUDA build of torch. Beside a CPU-only torch its C++ library does not
    load, and its import then fails because ``torchvision::nms`` and ``qnms`` do not exist, though clean-fid uses
    neither. The library object returned must be kept: the declarations end with it.
    """
    if torch.version.cuda is not None or importlib.util.find_spec("torchvision") is None:
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


_library = _declare_torchvision_operators()

from cleanfid.fid import frechet_distance, kernel_distance  # noqa: E402
from cleanfid.inception_torchscript import InceptionV3W  # noqa: E402
from cleanfid.resize import build_resizer  # noqa: E402

__all__ = ["InceptionV3W", "build_resizer", "frechet_distance", "kernel_distance"]
