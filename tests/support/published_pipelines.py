"""What the folders of published pipelines say of themselves, as their makers have written it, without weights.

Of each file the keys that decide what its network computes and on which noise levels it was trained.
"""

import json

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
LINEAR = {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02, "num_train_timesteps": 1000}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000}
DYNAMIC = {"base_image_seq_len": 256, "base_shift": 0.5, "max_image_seq_len": 4096, "max_shift": 1.15}
DECODER = {"block_out_channels": [128, 256, 512, 512], "out_channels": 3, "latent_channels": 4}
SIXTEEN = {**DECODER, "latent_channels": 16}
DEEP = {"latent_channels": 32, "encoder_block_out_channels": [128, 256, 512, 512, 1024, 1024], "in_channels": 3}
ONE, TWO, THREE = (["text_encoder", "text_encoder_2", "text_encoder_3"][:count] for count in (1, 2, 3))
SD3 = ("StableDiffusion3Pipeline", THREE, {**FLOW, "shift": 3.0}, "transformer", {"sample_size": 128}, SIXTEEN)
DPM = {"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver++", "solver_order": 2}
#: Of each card the class, the text encoders, and the configurations of scheduler, network (with its name) and decoder.
PUBLISHED = {
    "stable-diffusion-1-5": (
        "StableDiffusionPipeline",
        ONE,
        {"_class_name": "PNDMScheduler", **BETAS, "steps_offset": 1, "skip_prk_steps": True, "set_alpha_to_one": False},
        "unet",
        {"sample_size": 64},
        DECODER,
    ),
    "stable-diffusion-2-1": (
        "StableDiffusionPipeline",
        ONE,
        {"_class_name": "DDIMScheduler", **BETAS, "prediction_type": "v_prediction", "steps_offset": 1},
        "unet",
        {"sample_size": 96},
        DECODER,
    ),
    "stable-diffusion-xl": (
        "StableDiffusionXLPipeline",
        TWO,
        {"_class_name": "EulerDiscreteScheduler", **BETAS, "steps_offset": 1, "timestep_spacing": "leading"},
        "unet",
        {"sample_size": 128},
        DECODER,
    ),
    "stable-diffusion-3-5-medium": SD3,
    "stable-diffusion-3-5-large": SD3,
    "flux1-dev": (
        "FluxPipeline",
        TWO,
        {**FLOW, **DYNAMIC, "shift": 3.0, "use_dynamic_shifting": True},
        "transformer",
        {"guidance_embeds": True, "in_channels": 64},
        SIXTEEN,
    ),
    "flux1-schnell": (
        "FluxPipeline",
        TWO,
        {**FLOW, **DYNAMIC, "shift": 1.0, "use_dynamic_shifting": False},
        "transformer",
        {"guidance_embeds": False, "in_channels": 64},
        SIXTEEN,
    ),
    "pixart-sigma": (
        "PixArtSigmaPipeline",
        ONE,
        {**DPM, **LINEAR, "prediction_type": "epsilon", "timestep_spacing": "linspace"},
        "transformer",
        {"sample_size": 128, "num_embeds_ada_norm": 1000},
        DECODER,
    ),
    "sana-1600m": (
        "SanaPipeline",
        ONE,
        {**DPM, **LINEAR, "prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0},
        "transformer",
        {"sample_size": 32},
        DEEP,
    ),
    "dit-xl2-256": (
        "DiTPipeline",
        [],
        {"_class_name": "DDIMScheduler", **LINEAR, "clip_sample": False, "steps_offset": 0},
        "transformer",
        {"sample_size": 32, "num_embeds_ada_norm": 1000},
        DECODER,
    ),
}
#: The hub gives their files to those alone who have accepted their licences.
GATED = ("flux1-dev", "flux1-schnell", "stable-diffusion-3-5-medium", "stable-diffusion-3-5-large")


def files(name, variant=None):
    """A repository as the hub has it: the content of each file by its path; weights are a few bytes."""
    cls, encoders, scheduler, network, config, decoder = PUBLISHED[name]
    own = {
        network: "diffusers",
        "vae": "diffusers",
        "scheduler": "diffusers",
        **dict.fromkeys(encoders, "transformers"),
    }
    own |= dict.fromkeys([name.replace("text_encoder", "tokenizer") for name in encoders], "transformers")
    index = {"_class_name": cls, **{name: [library, "X"] for name, library in own.items()}}
    found = {"model_index.json": index, "scheduler/scheduler_config.json": scheduler}
    found |= {f"{network}/config.json": config, "vae/config.json": decoder}
    found |= {f"{encoder}/config.json": {} for encoder in encoders}
    kind = f".{variant}" if variant else ""
    weights = dict.fromkeys(encoders, "model") | {network: "diffusion_pytorch_model"}
    weights["vae"] = "diffusion_pytorch_model"
    content = {f"{place}/{stem}{kind}.safetensors": f"{name} {place}".encode() for place, stem in weights.items()}
    unused = {"README.md": b"#", f"{network}/diffusion_pytorch_model.bin": b"pickle"}
    return {**{path: json.dumps(value).encode() for path, value in found.items()}, **content, **unused}
