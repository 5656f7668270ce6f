"""Models behind one contract, ``denoise(x, sigma) -> denoised`` (:mod:`dode.models.denoiser`); a folder a family of
networks.

Names are imported when first used, for most bring torch.
"""

from dode import registry

_WHERE = {
    "Denoiser": "dode.models.denoiser",
    **dict.fromkeys(
        ("DataPrediction", "ImagePrediction", "NoisePrediction", "VelocityPrediction", "FlowPrediction"),
        "dode.models.predictions",
    ),
    **dict.fromkeys(("facts_of", "differentiable", "for_images", "prediction_of", "prior_std"), "dode.models.denoiser"),
    **dict.fromkeys(("load", "load_network", "of_card", "with_weights"), "dode.models.loading"),
    "ModelFacts": "dode.grids.facts",
}
__all__ = list(_WHERE)

__getattr__ = registry.attributes(__name__, _WHERE)
