"""The feature extractor of the embedded benchmarks: a small convolutional classifier of images of digits."""

from torch import Tensor, nn

from dode.models.networks import networks


@networks.register("digit-classifier")
class DigitClassifier(nn.Module):
    """Convolutions and a 64-dimensional feature layer before the ten logits.

    ``features(x)`` (B, 64) plays the part that Inception's pool3 plays for natural images; ``forward`` gives logits.
    ``x`` is (B, 1, ``image_size``, ``image_size``) in [-1, 1]. The maps are halved until they have at most 7 x 7
    pixels: once for images of 8 pixels, twice for those of 28.
    """

    feature_size = 64

    def __init__(self, *, image_size: int = 8):
        super().__init__()
        layers, width, size = [*_convolution(1, 32)], 32, image_size
        while size > 7:
            wider = min(width + 16, 64)
            layers += _convolution(width, wider, stride=2)
            width, size = wider, -(-size // 2)
        self.trunk = nn.Sequential(
            *layers,
            *_convolution(width, 64),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(256, self.feature_size),
            nn.SiLU(),
        )
        self.head = nn.Linear(self.feature_size, 10)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate activations, (B, 64)."""
        return self.trunk(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (B, 10)."""
        return self.head(self.features(x))


def _convolution(channels, wider, stride=1):
    return nn.Conv2d(channels, wider, 3, padding=1, stride=stride), nn.BatchNorm2d(wider), nn.SiLU()
