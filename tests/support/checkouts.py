"""A folder with cards, and folders as of the hub that they are of."""

import json
import shutil

import pytest
import yaml
from safetensors.torch import save_file

from dode.fetching.cards import ConfigError, load_card
from dode.models.networks import networks
from workspace import REPOSITORY, change

CONFIG = {
    "_class_name": "UNet2DModel",
    "sample_size": 8,
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "norm_eps": 1e-6,
}
SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
}


class Checkout:
    """A folder with a card ``mine``, which is read again each time."""

    def __init__(self, root):
        self.root, self.folder = root, root / "config" / "models"
        shutil.copytree(REPOSITORY / "config" / "schemas", root / "config" / "schemas")
        self.folder.mkdir()

    def read(self, card, **changes):
        for key, value in changes.items():
            change(card, key.replace("__", "."), value)
        (self.folder / "mine.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
        return load_card(self.root, "mine", "card")

    def refusal(self, card, **changes):
        with pytest.raises(ConfigError) as caught:
            self.read(card, **changes)
        assert str(caught.value).startswith("config/models/mine.yaml: ")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def downloaded(self, config=None, scheduler=None, *, pipeline=False):
        """A card of a folder as of the hub, which has a small network and the given values in its two files."""
        folder = self.root / "downloaded" / ("unet" if pipeline else "")
        folder.mkdir(parents=True, exist_ok=True)
        network = networks.create("diffusers-unet2d", config={**CONFIG, **(config or {})})
        save_file(network.state_dict(), folder / "diffusion_pytorch_model.safetensors")
        (folder / "config.json").write_text(json.dumps({**CONFIG, **(config or {})}), encoding="utf-8")
        place = folder.parent / "scheduler" if pipeline else folder
        place.mkdir(exist_ok=True)
        text = json.dumps({**SCHEDULER, **(scheduler or {})})
        (place / "scheduler_config.json").write_text(text, encoding="utf-8")
        return {
            "role": "diffusion",
            "urls": [f"file:{folder}/diffusion_pytorch_model.safetensors"],
            "licence": "none",
            "network": {"name": "diffusers-unet2d"},
        }
