"""Any ``UNet2DModel`` of the Hugging Face hub, as the library that made it defines it."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from dode.models import torchvision_operators
from dode.models.networks import networks
from dode.registry import unknown

# The names of attention in files from before diffusers 0.15, and now.
RENAMED = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def _unet_class():
    torchvision_operators.declare()
    try:
        from diffusers import UNet2DModel
    except ImportError as error:
        raise ModuleNotFoundError(
            f"network 'diffusers-unet2d' needs diffusers ({error}): python -m pip install 'dode[hub]'"
        ) from error

    class HubUNet(UNet2DModel):
        """``eps = network(x_vp, index, labels)``; a second half of the output, for variances, is left out.

        Of a learned embedding of times, the entry of the nearest whole index is taken. A label of -1 is the last entry
        of the table of classes, which stands for no class in a network trained for classifier-free guidance.
        """

        @property
        def class_table(self):
            return self.config.num_class_embeds or 0

        @property
        def bottleneck(self):
            return self.mid_block

        def forward(self, x, condition, labels=None):
            if self.config.time_embedding_type == "learned":
                condition = condition.round().long()
            if labels is not None and self.class_table:
                labels = torch.where(labels < 0, self.class_table - 1, labels)
            found = super().forward(x, condition, class_labels=labels, return_dict=False)[0]
            return found[:, : self.config.in_channels]

        def _load_from_state_dict(self, state_dict, prefix, *others):
            for name in list(state_dict):
                for old, new in RENAMED.items():
                    if ".attentions." in name and old in name:
                        state_dict[name.replace(old, new)] = state_dict.pop(name)
            super()._load_from_state_dict(state_dict, prefix, *others)

    return HubUNet


@networks.register("diffusers-unet2d")
def hub_unet(*, config: Mapping[str, Any]) -> Any:
    """The network of a ``config.json`` of the hub (a mapping), ready for that repository's weights.

    Raises ModuleNotFoundError without diffusers, and ValueError for a key that ``UNet2DModel`` does not know; keys that
    begin with an underscore say which class and release wrote the file and are passed over.
    """
    if config.get("time_embedding_type") == "learned" and not config.get("num_train_timesteps"):
        raise ValueError("network 'diffusers-unet2d': a learned embedding of times needs the key 'num_train_timesteps'")
    network_class = _unet_class()
    options = {key: value for key, value in config.items() if not key.startswith("_")}
    known = list(inspect.signature(network_class.__init__).parameters)[1:]
    for key in options:
        if key not in known:
            raise ValueError(f"network 'diffusers-unet2d': {unknown('key', key, known)}")
    return network_class(**options)
