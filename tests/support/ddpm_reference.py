"""The U-Net of DDPM by another hand: the published names by place, and the same network in diffusers."""

import re

from published_weights import conv, linear, norm

# Attention in files from before diffusers 0.15, by its name now.
OLD_NAMES = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}


def resnet_shapes(name, inputs, outputs, channels):
    shapes = norm(f"{name}.norm1", inputs) | conv(f"{name}.conv1", outputs, inputs, 3, 3)
    shapes |= linear(f"{name}.temb_proj", outputs, 4 * channels) | norm(f"{name}.norm2", outputs)
    shapes |= conv(f"{name}.conv2", outputs, outputs, 3, 3)
    return shapes | (conv(f"{name}.nin_shortcut", outputs, inputs, 1, 1) if inputs != outputs else {})


def attention_shapes(name, channels):
    shapes = norm(f"{name}.norm", channels)
    for part in ("q", "k", "v", "proj_out"):
        shapes |= conv(f"{name}.{part}", channels, channels, 1, 1)
    return shapes


def published_shapes(*, image_size, multipliers, attention_resolutions, channels=128, blocks=2, in_channels=3):
    """Names and shapes of the state dict, each from its place alone; ``[1, *multipliers]`` are the levels' inputs."""
    wide = [channels * multiplier for multiplier in [1, *multipliers]]
    last = len(multipliers) - 1
    shapes = linear("temb.dense.0", 4 * channels, channels) | linear("temb.dense.1", 4 * channels, 4 * channels)
    shapes |= conv("conv_in", channels, in_channels, 3, 3)
    shapes |= norm("norm_out", wide[1]) | conv("conv_out", in_channels, wide[1], 3, 3)
    for i, out in enumerate(wide[1:]):
        attended = image_size // 2**i in attention_resolutions
        for j in range(blocks + 1):
            below = out if j else wide[min(i + 1, last) + 1]
            skip = out if j < blocks else wide[i]
            shapes |= resnet_shapes(f"up.{i}.block.{j}", below + skip, out, channels)
            shapes |= attention_shapes(f"up.{i}.attn.{j}", out) if attended else {}
        for j in range(blocks):
            shapes |= resnet_shapes(f"down.{i}.block.{j}", out if j else wide[i], out, channels)
            shapes |= attention_shapes(f"down.{i}.attn.{j}", out) if attended else {}
        shapes |= conv(f"down.{i}.downsample.conv", out, out, 3, 3) if i < last else {}
        shapes |= conv(f"up.{i}.upsample.conv", out, out, 3, 3) if i else {}
    for j in (1, 2):
        shapes |= resnet_shapes(f"mid.block_{j}", wide[-1], wide[-1], channels)
    return shapes | attention_shapes("mid.attn_1", wide[-1])


def diffusers_name(name, levels):
    """The name of a parameter in diffusers' UNet2DModel, which counts the levels of the way up from the bottom."""
    name = re.sub(r"^up\.(\d+)", lambda found: f"up_blocks.{levels - 1 - int(found[1])}", name)
    for pattern, replacement in [
        (r"^temb\.dense\.0", "time_embedding.linear_1"),
        (r"^temb\.dense\.1", "time_embedding.linear_2"),
        (r"^norm_out", "conv_norm_out"),
        (r"^down\.", "down_blocks."),
        (r"^mid\.block_1", "mid_block.resnets.0"),
        (r"^mid\.block_2", "mid_block.resnets.1"),
        (r"^mid\.attn_1", "mid_block.attentions.0"),
        (r"\.block\.", ".resnets."),
        (r"\.attn\.", ".attentions."),
        (r"\.downsample\.", ".downsamplers.0."),
        (r"\.upsample\.", ".upsamplers.0."),
        (r"\.temb_proj", ".time_emb_proj"),
        (r"\.nin_shortcut", ".conv_shortcut"),
        (r"(attentions\.\d)\.norm", r"\1.group_norm"),
        (r"(attentions\.\d)\.([qkv])\.", r"\1.to_\2."),
        (r"(attentions\.\d)\.proj_out", r"\1.to_out.0"),
    ]:
        name = re.sub(pattern, replacement, name)
    return name


def diffusers_config(*, image_size, multipliers, attention_resolutions, channels=128, blocks=2, in_channels=3):
    """As the configuration file of ``google/ddpm-ema-cifar10-32`` on the hub."""
    attended = [image_size // 2**i in attention_resolutions for i in range(len(multipliers))]
    return {
        "_class_name": "UNet2DModel",
        "sample_size": image_size,
        "in_channels": in_channels,
        "out_channels": in_channels,
        "block_out_channels": [channels * multiplier for multiplier in multipliers],
        "down_block_types": ["AttnDownBlock2D" if here else "DownBlock2D" for here in attended],
        "up_block_types": ["AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attended)],
        "layers_per_block": blocks,
        "attention_head_dim": None,
        "downsample_padding": 0,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "norm_eps": 1e-6,
    }


def diffusers_weights(weights, levels):
    return {
        name: value.flatten(1) if value.ndim == 4 and "attentions" in name else value
        for name, value in ((diffusers_name(name, levels), value) for name, value in weights.items())
    }
