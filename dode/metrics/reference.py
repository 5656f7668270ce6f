"""clean-fid's port of pytorch-fid's network, importable also where torch is a CPU-only build."""

from dode.models import torchvision_operators

torchvision_operators.declare()

from cleanfid import inception_pytorch  # noqa: E402

__all__ = ["inception_pytorch"]
