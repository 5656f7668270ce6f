"""Workspaces whose model is a tiny text-to-image pipeline of random weights, of grey images of 8 by 8 pixels."""

import itertools

import yaml

import tiny_pipelines as tiny

CARD = {
    **{"role": "diffusion", "licence": "none", "image_shape": [1, 8, 8]},
    "pipeline": {"source": "file:tiny-sd3", "length": 16},
}
GUIDANCE = {"name": "classifier-free", "scale": 3.0}
IMAGES, FITTED, SPARE = 20, 16, 4
JOINT = {"fit": "joint", "images": FITTED, "budget": 400}
SOLVERS = [
    {"id": "ddim", "label": "DDIM", "solver": "ddim", "nfe": [2]},
    {"id": "d-ddim", "label": "D-DDIM", "solver": "ddim", "nfe": [2], "distill": {"fit": "greedy", "images": 12}},
    {"id": "j-ddim", "label": "J-DDIM", "solver": "ddim", "nfe": [2], "distill": JOINT},
]
CHANGES = {
    **{"datasets[0].model": "tiny-sd3", "datasets[0].grid": None, "datasets[0].guidance": GUIDANCE},
    **{"datasets[0].prompts": {"file": "prompts.txt"}, "datasets[0].images": IMAGES},
    **{"datasets[0].reference": {"solver": "flow-heun", "nfe": 7}, "solvers": SOLVERS},
}


def pipeline():
    """The pipeline itself."""
    pipe = tiny.stable_diffusion_3()
    grey = tiny.AutoencoderKL.from_config({**pipe.vae.config, "in_channels": 1, "out_channels": 1})
    pipe.register_modules(vae=grey.eval())
    return pipe


def prompts(count=IMAGES + FITTED + SPARE):
    """So many different prompts."""
    words = itertools.product(["red", "blue"], ["cat", "dog", "car"], ["table", "sky"], ["a", "the"], ["on", "under"])
    return [f"a {colour} {animal} {where} {which} {place}" for colour, animal, place, which, where in words][:count]


def prepare(workspace):
    """Give a fresh workspace the pipeline's folder, its card and prompts."""
    models = workspace.folder / "config" / "models"
    pipeline().save_pretrained(models / "tiny-sd3")
    (models / "tiny-sd3.yaml").write_text(yaml.safe_dump(CARD))
    (workspace.folder / "prompts.txt").write_text("".join(f"{prompt}\n" for prompt in prompts()))
    workspace.config(CHANGES)


def change_row(workspace, row):
    """Another prompt in a row, counted from 0."""
    path = workspace.folder / "prompts.txt"
    rows = path.read_text().splitlines()
    rows[row] = "a photo of the sky"
    path.write_text("\n".join(rows) + "\n")
