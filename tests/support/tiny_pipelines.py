"""Pipelines of every family in small, with random weights: made from the classes' own configurations, in no time."""

import torch

from dode.models import torchvision_operators

torchvision_operators.declare()  # before transformers asks torchvision

from diffusers import (  # noqa: E402
    AutoencoderDC,
    AutoencoderKL,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors  # noqa: E402
from transformers import (  # noqa: E402
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
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
UNQUANTISED = {"use_quant_conv": False, "use_post_quant_conv": False}  # decoders of SD 3 and FLUX
PROMPTS = ["a red cat", "a blue dog"]
SCALED_LINEAR = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}  # of Stable Diffusion


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


def quiet(pipe):
    """Without a progress bar."""
    pipe.set_progress_bar_config(disable=True)
    return pipe


def unet(**options):
    """A U-Net that attends to words at its lower level."""
    levels = {
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": [8, 16],
    }
    sizes = {"sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1}
    return UNet2DConditionModel(**sizes, **levels, norm_num_groups=2, attention_head_dim=4, **options).eval()


def stable_diffusion(network=None, **scheduler):
    """SD 1 or, with options of its scheduler, SD 2.1."""
    torch.manual_seed(0)
    own = {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, **SCALED_LINEAR, **scheduler}
    return quiet(
        StableDiffusionPipeline(
            unet=unet(cross_attention_dim=16, **network or {}),
            scheduler=DDIMScheduler(**own),
            vae=vae(),
            text_encoder=clip(CLIPTextModel),
            tokenizer=tokenizer(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    )


def stable_diffusion_xl(**options):
    """SDXL with both encoders."""
    torch.manual_seed(0)
    told = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    return quiet(
        StableDiffusionXLPipeline(
            unet=unet(cross_attention_dim=32, projection_class_embeddings_input_dim=6 * 8 + 16, **told),
            scheduler=EulerDiscreteScheduler(**SCALED_LINEAR, timestep_spacing="leading", steps_offset=1),
            vae=vae(scaling_factor=0.13025),
            text_encoder=clip(CLIPTextModel),
            tokenizer=tokenizer(),
            text_encoder_2=clip(),
            tokenizer_2=tokenizer(),
            add_watermarker=False,
            **options,
        )
    )


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
    return quiet(
        StableDiffusion3Pipeline(
            transformer=transformer.eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=vae(shift_factor=0.0609, scaling_factor=1.5305, **UNQUANTISED),
            text_encoder=clip(),
            tokenizer=tokenizer(),
            text_encoder_2=clip(),
            tokenizer_2=tokenizer(),
            text_encoder_3=t5(32),
            tokenizer_3=tokenizer(256),
        )
    )


def flux(guidance_embeds=True):
    """FLUX.1, dev or schnell."""
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=1,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=[4, 4, 8],
        guidance_embeds=guidance_embeds,
    )
    shifts = {"use_dynamic_shifting": True, "shift": 3.0} if guidance_embeds else {"shift": 1.0}
    return quiet(
        FluxPipeline(
            transformer=transformer.eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(**shifts),
            vae=vae(shift_factor=0.1159, scaling_factor=0.3611, **UNQUANTISED),
            text_encoder=clip(CLIPTextModel),
            tokenizer=tokenizer(),
            text_encoder_2=t5(),
            tokenizer_2=tokenizer(512),
        )
    )


def pixart(cls=PixArtSigmaPipeline, sample_size=8):
    """PixArt-Sigma or alpha; alpha's network of 128 is told sizes."""
    torch.manual_seed(0)
    transformer = PixArtTransformer2DModel(
        sample_size=sample_size,
        num_layers=1,
        attention_head_dim=12,
        num_attention_heads=1,
        caption_channels=16,
        in_channels=4,
        cross_attention_dim=12,
        out_channels=8,
    )
    return quiet(
        cls(
            transformer=transformer.eval(),
            scheduler=DPMSolverMultistepScheduler(),
            vae=vae(),
            text_encoder=t5(),
            tokenizer=tokenizer(512),
        )
    )


def pixart_alpha():
    """PixArt-alpha of 1024 pixels."""
    return pixart(PixArtAlphaPipeline, 128)


def sana():
    """Sana."""
    torch.manual_seed(0)
    transformer = SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=8,
        sample_size=8,
        timestep_scale=0.5,
    )
    blocks = {"block_types": ("ResBlock", "EfficientViTBlock"), "block_out_channels": (8, 8)}
    layers = {"qkv_multiscales": ((), (5,)), "layers_per_block": (1, 1)}
    both = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in (blocks | layers).items()}
    decoder = AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        **both,
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "head_dim": 4, "sliding_window": 2}
    gemma = Gemma2Model(Gemma2Config(vocab_size=len(WORDS), num_attention_heads=2, num_key_value_heads=1, **sizes))
    return quiet(
        SanaPipeline(
            transformer=transformer.eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=decoder.eval(),
            text_encoder=gemma.eval(),
            tokenizer=tokenizer(512),
        )
    )


def dit(classes=1000):
    """DiT of ImageNet's classes."""
    torch.manual_seed(0)
    transformer = DiTTransformer2DModel(
        sample_size=8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        num_embeds_ada_norm=classes,
    )
    return quiet(DiTPipeline(transformer=transformer.eval(), scheduler=DDIMScheduler(clip_sample=False), vae=vae()))
