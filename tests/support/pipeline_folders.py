"""Folders of pipelines with the configurations that their cards are completed and checked by, and cards of them."""

import json

import yaml

from workspace import REPOSITORY, TINY, change

ENOUGH = {"datasets[0].prompts": {"file": "enough.txt"}}  # changes of a configuration
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
PNDM = {
    **{"_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"},
    **{"num_train_timesteps": 1000, "steps_offset": 1},
}
DECODER = {"block_out_channels": [8, 8], "latent_channels": 4, "out_channels": 3}
ENCODERS = {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
FAMILIES = {
    "sd3": ("StableDiffusion3Pipeline", "transformer", {"sample_size": 8, "in_channels": 4}, FLOW, ENCODERS),
    "sd": ("StableDiffusionPipeline", "unet", {"sample_size": 8, "in_channels": 4}, PNDM, ENCODERS),
    "flux": ("FluxPipeline", "transformer", {"guidance_embeds": True, "in_channels": 16}, FLOW, ENCODERS),
    "schnell": ("FluxPipeline", "transformer", {"guidance_embeds": False, "in_channels": 16}, FLOW, ENCODERS),
    "pixart": ("PixArtSigmaPipeline", "transformer", {"sample_size": 8, "in_channels": 4}, PNDM, ENCODERS),
    "sana": ("SanaPipeline", "transformer", {"sample_size": 8, "in_channels": 4}, FLOW, ENCODERS),
    "dit": ("DiTPipeline", "transformer", {"sample_size": 8, "num_embeds_ada_norm": 10}, {**PNDM}, {}),
}


def index_of(name):
    cls, network, _, _, encoders = FAMILIES[name]
    own = {network: ["diffusers", "X"], "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", "Y"]}
    return {"_class_name": cls, **own, **encoders, "safety_checker": ["z", "Z"], "image_encoder": [None, None]}


def make(folder, name="sd3", weights="diffusion_pytorch_model.safetensors", **changes):
    """A folder as of a pipeline; ``changes``: other values in its files, by what they are of."""
    _, network, config, scheduler, encoders = FAMILIES[name]
    files = {
        "model_index.json": {**index_of(name), **changes.get("index", {})},
        f"{network}/config.json": {**config, **changes.get("network", {})},
        "scheduler/scheduler_config.json": {**scheduler, **changes.get("scheduler", {})},
        "vae/config.json": {**DECODER, **changes.get("decoder", {})},
    }
    for path, values in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(values))
    for place in (network, "vae"):
        (folder / place / weights).write_bytes(b"weights of " + place.encode())
    if encoders:
        for place, file in (("text_encoder", "model.safetensors"), ("tokenizer", "vocab.json")):
            (folder / place).mkdir(exist_ok=True)
            (folder / place / file).write_text("{}")
        (folder / "text_encoder" / "config.json").write_text("{}")
    return folder


def card(source="file:pipe", **pipeline):
    return {"role": "diffusion", "licence": "none", "pipeline": {"source": source, **pipeline}}


def configured(checkout, family, changes, **files):
    """A configuration with a pipeline in the place of the tiny one's model; its files are in the working directory.

    ``files`` are other values in the folder of the pipeline, as of :func:`make`.
    """
    for name in ("digits-classifier.yaml", "digits-edm.yaml"):
        (checkout.folder / name).write_text((REPOSITORY / "config/models" / name).read_text())
    make(checkout.folder / "pipe", family, **files)
    shape = {} if family not in ("flux", "schnell") else {"image_shape": [3, 16, 16]}
    (checkout.folder / "mine.yaml").write_text(yaml.safe_dump({**card(), **shape}))
    config = yaml.safe_load(TINY.read_text())
    own = {"model": "mine", "grid": {"name": "flow-linear"}, "data": {"folder": "images"}}
    for key, value in {**{f"datasets[0].{key}": value for key, value in own.items()}, **changes}.items():
        change(config, key, value)
    folder = checkout.root
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images/a.png").write_bytes(b"")
    (folder / "few.txt").write_text("a cat\n" * 45)
    (folder / "enough.txt").write_text("a cat\n" * 46)  # 30 scored and 16 that a solver is fitted to
    return config
