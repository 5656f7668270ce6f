"""How the embedded text-to-image pipeline was trained: ``python scripts/train_embedded.py text-to-digit``.

A small model of the kind of Stable Diffusion 3 (Esser et al. 2024, arXiv 2403.03206), in diffusers' own classes: an
autoencoder of 28x28 images with 4x7x7 latents, two CLIP text encoders, no T5, and a transformer that predicts the
velocity ``v = n - x_0`` of ``x_t = (1 - t) x_0 + t n`` in these latents.
"""

import logging
import shlex
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from dode.images import pixels
from dode.models import torchvision_operators
from dode.models.embedded import captions, training

log = logging.getLogger(__name__)

#: diffusers' AutoencoderKL and StableDiffusion3Pipeline, whose parts mypy does not see.
Autoencoder: TypeAlias = Any
Pipeline: TypeAlias = Any

NAME = "text-to-digit"
SEED, STEPS, BATCH = 6, 5_000, 64
AUTOENCODER: dict[str, Any] = {
    "in_channels": 1,
    "out_channels": 1,
    "latent_channels": 4,
    "sample_size": 28,
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    # CPUs compute convolutions in blocks of 16 channels.
    "block_out_channels": [16, 16, 32],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "mid_block_add_attention": False,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
#: Two encoders that are unlike each other, so that whoever exchanges them will notice. The pipeline gives the
#: transformer the states before the last layer: one layer has seen the whole caption.
TEXT_ENCODERS: list[dict[str, Any]] = [
    {"hidden_size": width, "projection_dim": width, "intermediate_size": 2 * width, "num_attention_heads": width // 16}
    for width in (32, 64)
]
#: CLIP's byte pairs with every word of the captions as one token, by ``CLIPTokenizer().train_new_from_iterator`` on 900
#: prompts. It numbers the tokens differently each time, and the weights depend on that, so training reads the file.
TOKENIZER = Path(__file__).parents[3] / "config" / "models" / NAME / "tokenizer"
TRANSFORMER: dict[str, Any] = {
    "sample_size": 7,
    "pos_embed_max_size": 7,
    "patch_size": 1,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 3,
    "attention_head_dim": 32,
    "num_attention_heads": 3,
    "caption_projection_dim": 96,
    "joint_attention_dim": 96,
    "pooled_projection_dim": 96,
}
#: The weight of the divergence of the latents from the unit normal distribution, per pixel as the squared error is.
DIVERGENCE = 0.01
#: The share of captions that are empty, for classifier-free guidance.
EMPTY = 0.1
#: In place of T5's embeddings the pipeline puts zeros, 256 unless it is told otherwise. They say nothing and cost more
#: than the rest, so that most steps have none; one in eight has some, which teaches the network to ignore them.
ZEROS, ZEROS_EVERY = 64, 8


def train_autoencoder(images: np.ndarray, *, steps: int) -> tuple[Autoencoder, float]:
    """A variational autoencoder: squared error per pixel and a small divergence, and the loss at the end.

    Its ``shift_factor`` and ``scaling_factor`` make the latents of the images of mean 0 and standard deviation 1.
    bfloat16 products make a step on a CPU a third shorter.

    Args:
        images: (n, 1, 28, 28) uint8.
        steps: of the optimiser.
    """
    from diffusers import AutoencoderKL

    real = torch.from_numpy(pixels.from_bytes(images))
    generator = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    network: Autoencoder = AutoencoderKL(**AUTOENCODER)

    def loss_of_step():
        batch = real[torch.randint(len(real), (BATCH,), generator=generator)]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            latents = network.encode(batch).latent_dist
            output = network.decode(latents.sample(generator)).sample.float()
        return (output - batch).square().mean() + DIVERGENCE * latents.kl().float().mean() / batch[0].numel()

    averaged: Any
    averaged, loss = training.minimise(network, loss_of_step, name=f"{NAME}: autoencoder", steps=steps, rate=2e-3)
    with torch.no_grad():
        latents = averaged.encode(real).latent_dist.mean
    averaged.register_to_config(
        shift_factor=round(float(latents.mean()), 4), scaling_factor=round(1 / float(latents.std()), 4)
    )
    return averaged, loss


def untrained_pipeline(autoencoder: Autoencoder) -> Pipeline:
    """The pipeline around ``autoencoder``, with the tokenizer that is in the repository."""
    import diffusers
    import transformers

    tokenizer = transformers.CLIPTokenizer.from_pretrained(TOKENIZER)
    torch.manual_seed(SEED)
    text_encoders = [
        transformers.CLIPTextModelWithProjection(
            transformers.CLIPTextConfig(
                **options,
                num_hidden_layers=2,
                max_position_embeddings=tokenizer.model_max_length,
                vocab_size=len(tokenizer),
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        for options in TEXT_ENCODERS
    ]
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(**TRANSFORMER),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder,
        text_encoder=text_encoders[0],
        tokenizer=tokenizer,
        text_encoder_2=text_encoders[1],
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def train_flow(pipeline: Pipeline, images: np.ndarray, labels: np.ndarray, *, steps: int) -> float:
    """Train transformer and text encoders by ``E ||F - (n - x_0)||^2``, in place. Returns the loss at the end.

    The logit of t is normal with a standard deviation of 1.5, not Esser et al.'s 1: t = 1, where sampling begins, is
    then less far from what the network has seen. Times are drawn one from each of as many equally probable intervals
    as there are images, which makes the gradient less noisy.

    Args:
        pipeline: of :func:`untrained_pipeline`.
        images: (n, 1, 28, 28) uint8.
        labels: (n,), 0 to 9.
        steps: of the optimiser.
    """
    autoencoder = pipeline.vae
    with torch.no_grad():
        distribution = autoencoder.encode(torch.from_numpy(pixels.from_bytes(images))).latent_dist
    shift, scale = autoencoder.config.shift_factor, autoencoder.config.scaling_factor
    words = captions.styles(images, labels)
    generator, wording = torch.Generator().manual_seed(SEED), np.random.default_rng(SEED)
    normal = torch.distributions.Normal(0.0, 1.5)
    network = nn.ModuleList([pipeline.transformer, pipeline.text_encoder, pipeline.text_encoder_2])

    def one_caption(row: int) -> str:
        if wording.random() < EMPTY:
            return ""
        said = [word for word in words[row] if wording.random() < 0.8]
        return captions.caption(int(labels[row]), said, wording)

    def loss_of_step() -> Tensor:
        rows = torch.randint(len(images), (BATCH,), generator=generator)
        mean, std = distribution.mean[rows], distribution.std[rows]
        clean = (mean + std * torch.randn(mean.shape, generator=generator) - shift) * scale
        noise = torch.randn(clean.shape, generator=generator)
        quantiles = (torch.arange(BATCH) + torch.rand(BATCH, generator=generator)) / BATCH
        times = normal.icdf(quantiles.clamp(1e-6, 1 - 1e-6)).sigmoid()
        t = times.view(-1, 1, 1, 1)
        zeros = ZEROS if wording.integers(ZEROS_EVERY) == 0 else 0
        embeddings, _, pooled, _ = pipeline.encode_prompt(
            [one_caption(row) for row in rows.tolist()],
            None,
            None,
            do_classifier_free_guidance=False,
            max_sequence_length=zeros,
        )
        output = network[0](
            (1 - t) * clean + t * noise,
            encoder_hidden_states=embeddings,
            pooled_projections=pooled,
            timestep=1000 * times,
        ).sample
        return (output - (noise - clean)).square().mean()

    averaged: Any
    averaged, loss = training.minimise(network, loss_of_step, name=f"{NAME}: flow", steps=steps, rate=1e-3)
    for name, module in zip(("transformer", "text_encoder", "text_encoder_2"), averaged, strict=True):
        pipeline.register_modules(**{name: module.eval()})
    return loss


def train(*, output: Path, steps: int | None = None) -> None:
    """Train the pipeline and write it to the folder ``text-to-digit`` in ``output``, with the facts of its training.

    Transformer and autoencoder are stored as float16. The text encoders, which are small, stay float32, because
    transformers, unlike diffusers, would compute in the precision of the file.

    Args:
        output: the folder of the cards.
        steps: of the transformer; the autoencoder has two for every five of these.
    """
    torchvision_operators.declare()
    import diffusers
    import transformers

    steps = steps or STEPS
    images, labels = training.mnist()
    autoencoder, reconstruction = train_autoencoder(images, steps=2 * steps // 5)
    pipeline = untrained_pipeline(autoencoder)
    loss = train_flow(pipeline, images, labels, steps=steps)
    pipeline.transformer.half()
    pipeline.vae.half()
    folder = output / NAME
    pipeline.save_pretrained(folder)
    facts = {
        "licence": "Apache-2.0 (weights trained by this project)",
        "loss": {"autoencoder": round(reconstruction, 4), "flow": round(loss, 4)},
        "training": {
            "command": shlex.join(["python", "scripts/train_embedded.py", NAME, "--steps", str(steps)]),
            "seed": SEED,
            "data": training.DATA[training.mnist],
            "torch": str(torch.__version__),
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
            "threads": torch.get_num_threads(),
        },
    }
    (folder / "training.yaml").write_text(yaml.safe_dump(facts, sort_keys=False, width=110), encoding="utf-8")
    log.info("%s: %s", NAME, facts["loss"])


def write_prompts(*, output: Path, count: int = 2700) -> None:
    """Write ``digits.txt``, prompts for the pipeline, one a line, to the folder ``output``."""
    output.mkdir(parents=True, exist_ok=True)
    rows = captions.prompts(count, seed=SEED)
    (output / "digits.txt").write_text("\n".join([*rows, ""]), encoding="utf-8")
