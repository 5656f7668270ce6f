"""A small flow-matching model from its card to an exported file."""

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

import dode
import forked_python
from dode import models
from dode.__main__ import main
from dode.grids.facts import ModelFacts
from dode.images import noise
from dode.models.networks import networks

NETWORK = {
    **{"sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "norm_num_groups": 4},
    **{"block_out_channels": [8], "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"]},
}
CARD = {
    **{"role": "diffusion", "urls": ["file:flow.safetensors"], "licence": "none", "image_shape": [1, 8, 8]},
    **{"prediction": "flow", "schedule": {"name": "flow"}},
    "network": {"name": "diffusers-unet2d", "options": {"config": NETWORK}},
}
JOINT = {"fit": "joint", "images": 16, "budget": 2000}
SOLVERS = [
    {"id": "ab", "label": "AB", "solver": "flow-ab", "nfe": [3]},
    {"id": "d-ddim", "label": "D-DDIM", "solver": "ddim", "nfe": [3], "distill": {"fit": "greedy", "images": 16}},
    {"id": "j-ab", "label": "J-AB", "solver": "flow-ab", "nfe": [3], "distill": JOINT},
]


def test_a_flow_model_is_sampled_distilled_scored_and_exported(fresh, tmp_path):
    torch.manual_seed(0)
    fresh.python = forked_python.executable("pipelines")  # whose jobs find diffusers imported
    cards = fresh.folder / "config" / "models"
    save_file(networks.create("diffusers-unet2d", config=NETWORK).state_dict(), cards / "flow.safetensors")
    (cards / "flow.yaml").write_text(yaml.safe_dump(CARD))
    grid = {"name": "flow-linear", "options": {"shift": 3.0}}
    fresh.config({"datasets[0].model": "flow", "datasets[0].grid": grid, "solvers": SOLVERS})
    fresh.snakemake("results/tiny/table.csv")
    denoise = models.load(CARD, cards / "flow.safetensors", batch_size=10)
    for solver in ("ab", "d-ddim", "j-ab"):
        path = tmp_path / f"{solver}.json"
        assert main(["export", str(fresh.results), "digits-edm", solver, "3", "--output", str(path)]) == 0
        sampler = dode.load(path)
        assert sampler.facts.prior_std(3.0) == ModelFacts.of_card(CARD).prior_std(3.0) == 4.0
        ends = np.load(fresh.cell(f"{solver}/nfe3") / "ends.npy")
        for block, expected in enumerate(np.split(ends, 2)):
            found = sampler.sample(denoise, noise.latents(range(10), (1, 8, 8), seed=0, block=block))
            np.testing.assert_array_equal(found.float().numpy(), expected)
