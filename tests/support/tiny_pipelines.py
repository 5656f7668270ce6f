"""Pipelines of every family in small, with random weights: made from the classes' own configurations, in no time."""

import torch

from dode.models import torchvision_operators

torchvision_operators.declare()  # before transformers asks torchvision

from diffusers import (  # noqa: E402
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors  # noqa: E402
from transformers import (  # noqa: E402
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

WORDS = [
    "<pad>",
    "<unk>",
    "<s>",
    "</s>",
    "a",
    "photo",
    "of",
    "red",
    "blue",
    "cat",
    "dog",
    "car",
    "on",
    "the",
    "table",
    "under",
    "sky",
]
PROMPTS = ["a red cat", "a blue dog"]


def tokenizer(most=16):
    """One token a word, with a begin and an end."""
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(word, WORDS.index(word)) for word in ("<s>", "</s>")]
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=most, **special)


def clip(cls=CLIPTextModelWithProjection, hidden=16):
    """A CLIP text encoder for :func:`tokenizer`."""
    ids = {f"{name}_token_id": WORDS.index(word) for name, word in (("bos", "<s>"), ("eos", "</s>"), ("pad", "<pad>"))}
    sizes = {"hidden_size": hidden, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPTextConfig(
        vocab_size=len(WORDS), max_position_embeddings=16, projection_dim=hidden, hidden_act="gelu", **sizes, **ids
    )
    return cls(config).eval()


def t5(size=16):
    """A T5 encoder for :func:`tokenizer`."""
    return T5EncoderModel(
        T5Config(vocab_size=len(WORDS), d_model=size, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    ).eval()


def vae(**options):
    """A decoder to twice the size."""
    sizes = {"block_out_channels": [8, 8], "layers_per_block": 1, "latent_channels": 4, "norm_num_groups": 2}
    kinds = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    return AutoencoderKL(in_channels=3, out_channels=3, sample_size=16, **sizes, **kinds, **options).eval()


def stable_diffusion_3():
    """SD 3 with all three encoders."""
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        out_channels=4,
    )
    unquantised = {"use_quant_conv": False, "use_post_quant_conv": False}
    pipe = StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(shift_factor=0.0609, scaling_factor=1.5305, **unquantised),
        text_encoder=clip(),
        tokenizer=tokenizer(),
        text_encoder_2=clip(),
        tokenizer_2=tokenizer(),
        text_encoder_3=t5(32),
        tokenizer_3=tokenizer(256),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
