"""Network definitions by the name that a model card gives them."""

import torch
from torch import nn

from dode.grids import schedules
from dode.models.adm.adm_classifier import ADMClassifier
from dode.models.adm.adm_unet import ADMUNet
from dode.models.ddpm.ddpm_unet import DDPMUNet
from dode.models.edm import edm_unet
from dode.models.embedded.digit_classifier import DigitClassifier
from dode.models.embedded.residual_mlp import ResidualMLP
from dode.models.hub.diffusers_unet2d import hub_unet
from dode.registry import Registry

networks = Registry("network")

networks.register("ddpm-unet")(DDPMUNet)
networks.register("diffusers-unet2d")(hub_unet)
networks.register("adm-unet")(ADMUNet)
networks.register("adm-classifier")(ADMClassifier)


@networks.register("residual-mlp")
def residual_mlp(*, image_shape, width=256, blocks=5, embedding=64, max_frequency=64.0):
    """:class:`dode.models.embedded.residual_mlp.ResidualMLP`."""
    return ResidualMLP(
        image_shape=image_shape, width=width, blocks=blocks, embedding=embedding, max_frequency=max_frequency
    )


@networks.register("residual-mlp-velocity")
def residual_mlp_velocity(*, image_shape, schedule, width=256, blocks=5, embedding=64, max_frequency=64.0):
    """The same network behind a noise-prediction interface, by :class:`VelocityToNoise`."""
    inner = residual_mlp(
        image_shape=image_shape, width=width, blocks=blocks, embedding=embedding, max_frequency=max_frequency
    )
    return VelocityToNoise(inner, schedules.schedules.create(**schedule))


@networks.register("digit-classifier")
def digit_classifier():
    """:class:`dode.models.embedded.digit_classifier.DigitClassifier`."""
    return DigitClassifier()


networks.register("edm-song-unet")(edm_unet.SongUNet)
networks.register("edm-dhariwal-unet")(edm_unet.DhariwalUNet)


class VelocityToNoise(nn.Module):
    """Noise from a network that predicts the velocity v (Salimans & Ho 2022, arXiv 2202.00512).

    ``eps = sqrt(1 - abar) x + sqrt(abar) F(x, (index + 1) / T)``. At the noisy end a network's raw noise output,
    divided by ``sqrt(abar)``, turns its smallest error into a saturated image; the velocity does not.
    """

    def __init__(self, inner, schedule):
        super().__init__()
        self.inner = inner
        self.register_buffer("log_abar", torch.from_numpy(schedule.log_abar(range(len(schedule)))), persistent=False)

    def forward(self, x, index):
        """``x`` (B, C, H, W) in VP coordinates; ``index`` 0-d or (B,), fractional, 0 to T-1. Returns eps."""
        lower = index.floor().clamp(0, len(self.log_abar) - 2).long()
        fraction = index - lower
        log_abar = torch.lerp(self.log_abar[lower], self.log_abar[lower + 1], fraction.to(self.log_abar.dtype))
        velocity = self.inner(x, (index + 1) / len(self.log_abar))
        root_abar = log_abar.mul(0.5).exp().to(x.dtype).view(-1, 1, 1, 1)
        root_rest = torch.expm1(log_abar).neg().sqrt().to(x.dtype).view(-1, 1, 1, 1)
        return root_rest * x + root_abar * velocity
