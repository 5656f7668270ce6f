"""clean-fid's own functions, importable also where torch is a CPU-only build."""

from dode import torchvision_operators

torchvision_operators.declare()

from cleanfid import inception_pytorch  # noqa: E402
from cleanfid.fid import frechet_distance, kernel_distance  # noqa: E402
from cleanfid.inception_torchscript import InceptionV3W  # noqa: E402
from cleanfid.resize import build_resizer  # noqa: E402

__all__ = ["InceptionV3W", "build_resizer", "frechet_distance", "inception_pytorch", "kernel_distance"]
