"""The feature extractor of the embedded benchmark: a small convolutional classifier of 8x8 digits."""

from torch import Tensor, nn

from dode.models.networks import networks


@networks.register("digit-classifier")
class DigitClassifier(nn.Module):
    """Three convolutions and a 64-dimensional feature layer before the ten logits.

    ``features(x)`` (B, 64) plays the part that Inception's pool3 plays for natural images; ``forward`` gives logits.
    ``x`` is (B, 1, 8, 8) in [-1, 1].
    """

    feature_size = 64

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.SiLU(),
            nn.Conv2d(32, 48, 3, padding=1, stride=2),
            nn.BatchNorm2d(48),
            nn.SiLU(),
            nn.Conv2d(48, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.SiLU(),
            nn.AvgPool2d(2),
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
