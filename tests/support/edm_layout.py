"""Names and shapes of EDM's networks by place (Karras et al. 2022, arXiv 2206.00364, table 7), and random weights.

Level i of the sizes ``size / 2**i`` has ``channels * multiplier[i]`` channels. On the way up block j < depth is given
what the level's blocks on the way down put out, the last one what came before them. Shares nothing with ``dode``.
"""

import torch

from published_weights import conv, linear, norm, random_weights

DEFAULTS = {
    "channels": 3,
    "label_dim": 0,
    "augment_dim": 0,
    "attn_resolutions": (),
    "embedding_type": "positional",
    "channel_mult_noise": 1,
    "encoder_type": "standard",
    "resample_filter": (1, 1),
}


def shapes(options):
    """``{name: shape}`` of the network's state dict, buffers among them.

    ``options``: those of EDM's class, its ``model_type``, ``image_size`` and ``channels`` of the image.
    """
    options = DEFAULTS | options
    adm = options["model_type"] == "DhariwalUNet"
    found = _embedding(options, adm)
    sizes, wide = levels(options)
    stem = wide[0] if adm else options["model_channels"]
    found |= conv(f"enc.{tag(sizes[0])}_conv", stem, options["channels"], 3, 3)
    for i, size in enumerate(sizes):
        found |= _way_down(options, adm, i, size, wide, stem)
        found |= _way_up(options, adm, i, size, wide, stem)
    if adm:
        return found | norm("out_norm", wide[0]) | conv("out_conv", options["channels"], wide[0], 3, 3)
    found |= norm(f"dec.{tag(sizes[0])}_aux_norm", wide[0])
    return found | conv(f"dec.{tag(sizes[0])}_aux_conv", options["channels"], wide[0], 3, 3)


def levels(options):
    """Sizes and channels of the levels."""
    multipliers = options["channel_mult"]
    sizes = [options["image_size"] >> i for i in range(len(multipliers))]
    return sizes, [options["model_channels"] * multiplier for multiplier in multipliers]


def attending(options):
    """Names of the blocks with attention."""
    return [name.removesuffix(".qkv.weight") for name in shapes(options) if name.endswith(".qkv.weight")]


def tag(size):
    return f"{size}x{size}"


def _embedding(options, adm):
    width, emb = options["model_channels"] * options["channel_mult_noise"], 4 * options["model_channels"]
    found = linear("map_layer0", emb, width) | linear("map_layer1", emb, emb)
    if options["label_dim"] and adm:
        found["map_label.weight"] = (emb, options["label_dim"])
    elif options["label_dim"]:
        found |= linear("map_label", width, options["label_dim"])
    if options["augment_dim"]:
        found["map_augment.weight"] = (width, options["augment_dim"])
    if options["embedding_type"] == "fourier":
        found["map_noise.freqs"] = (width // 2,)
    return found


def _block(name, inputs, outputs, options, adm, *, resized=False, attention=False):
    taps = len(options["resample_filter"])
    emb = 4 * options["model_channels"]
    found = norm(f"{name}.norm0", inputs) | conv(f"{name}.conv0", outputs, inputs, 3, 3)
    found |= linear(f"{name}.affine", 2 * outputs if adm else outputs, emb)
    found |= norm(f"{name}.norm1", outputs) | conv(f"{name}.conv1", outputs, outputs, 3, 3)
    if inputs != outputs or (resized and not adm):
        found |= conv(f"{name}.skip", outputs, inputs, 1, 1)
    if resized:
        found |= dict.fromkeys([f"{name}.conv0.resample_filter", f"{name}.skip.resample_filter"], (1, 1, taps, taps))
    if attention:
        found |= norm(f"{name}.norm2", outputs) | conv(f"{name}.qkv", 3 * outputs, outputs, 1, 1)
        found |= conv(f"{name}.proj", outputs, outputs, 1, 1)
    return found


def _way_down(options, adm, i, size, wide, stem):
    found, at, above = {}, f"enc.{tag(size)}", wide[i - 1] if i else stem
    if i:
        found |= _block(f"{at}_down", above, above, options, adm, resized=True)
    if i and options["encoder_type"] == "residual":
        side, taps = wide[i - 2] if i > 1 else options["channels"], len(options["resample_filter"])
        found |= conv(f"{at}_aux_residual", above, side, 3, 3)
        found[f"{at}_aux_residual.resample_filter"] = (1, 1, taps, taps)
    attention = size in options["attn_resolutions"]
    for j in range(options["num_blocks"]):
        found |= _block(f"{at}_block{j}", wide[i] if j else above, wide[i], options, adm, attention=attention)
    return found


def _way_up(options, adm, i, size, wide, stem):
    at, depth = f"dec.{tag(size)}", options["num_blocks"]
    if i == len(wide) - 1:
        below = wide[i]
        found = _block(f"{at}_in0", below, below, options, adm, attention=True)
        found |= _block(f"{at}_in1", below, below, options, adm)
    else:
        below = wide[i + 1]
        found = _block(f"{at}_up", below, below, options, adm, resized=True)
    for j in range(depth + 1):
        skip = wide[i] if j < depth else (wide[i - 1] if i else stem)
        attention = size in options["attn_resolutions"] and (adm or j == depth)
        inputs = (wide[i] if j else below) + skip
        found |= _block(f"{at}_block{j}", inputs, wide[i], options, adm, attention=attention)
    return found


def weights(options, seed=0):
    """Random weights, with the filters and frequencies that the networks have."""
    options = DEFAULTS | options
    found = random_weights(shapes(options), seed)
    line = torch.tensor(options["resample_filter"], dtype=torch.float32)
    for name, value in found.items():
        if name.endswith("resample_filter"):
            found[name] = (torch.outer(line, line) / line.sum() ** 2).view(value.shape)
        elif name == "map_noise.freqs":
            found[name] = 16 * torch.randn(value.shape, generator=torch.Generator().manual_seed(seed))
    return found
