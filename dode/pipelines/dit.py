"""DiT (Peebles & Xie 2023, arXiv 2212.09748): a transformer of classes."""

import torch
from torch import Tensor

from dode.pipelines.family import Family, families


@families.register("DiTPipeline")
class DiT(Family):
    """A transformer with a learned variance beside the noise; its table has one class more, for none."""

    encoders = ()

    @property
    def classes(self) -> int:  # type: ignore[override]  # the network decides
        """Number of classes, 1,000 of ImageNet."""
        return self.denoises.config.num_embeds_ada_norm

    @property
    def scale(self) -> int:
        """By the decoder's configuration, as the pipeline says none."""
        return 2 ** (len(self.pipe.vae.config.block_out_channels) - 1)

    def predict(self, x: Tensor, time: Tensor, *, labels: Tensor) -> Tensor:  # type: ignore[override]
        """:meth:`Family.predict`; a label of -1 is none."""
        known = torch.where(labels < 0, self.classes, labels)
        return self.denoises(x, timestep=time.expand(len(x)), class_labels=known, return_dict=False)[0]
