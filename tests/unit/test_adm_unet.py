"""The U-Net of improved DDPM and ADM, and the noisy classifier: published names, and the equations of adm_reference."""

import math
import re

import pytest
import torch
from safetensors.torch import save_file

import adm_reference
from dode import models
from dode.models import precision
from dode.models.adm import layers
from dode.models.networks import networks
from published_weights import random_weights

TINY = {"image_size": 8, "multipliers": [1, 2], "attention_resolutions": [4], "channels": 32, "blocks": 1}
IMPROVED = {**TINY, "heads": 4, "index_scale": 0.25, "multipliers": [1, 2, 3], "attention_resolutions": [4, 2]}
GUIDED = {**TINY, "heads": 4, "resblock_updown": True, "classes": 5, "blocks": 2}
VARIANTS = {
    "improved-ddpm": IMPROVED,
    "improved-ddpm-bedroom": {**TINY, "scale_shift_norm": False},
    "adm-128": GUIDED,
    "adm-64": {**GUIDED, "heads": 1, "head_channels": 16, "new_attention_order": True},
    "adm-512": {**TINY, "channels": 64, "multipliers": [0.5, 1, 1], "head_channels": 16, "resblock_updown": True},
    "no-convolutions": {**TINY, "conv_resample": False, "multipliers": [1, 2, 2]},
    "no-variances": {**TINY, "learned_sigma": False, "attention_resolutions": [8, 4], "scale_shift_norm": False},
}
CLASSIFIER = {**TINY, "head_channels": 16, "resblock_updown": True, "classes": 7, "multipliers": [1, 2, 2]}
CLASSIFIERS = [
    CLASSIFIER,
    {**CLASSIFIER, "resblock_updown": False, "scale_shift_norm": False, "new_attention_order": True},
]
# The flags of the repositories' README files; shared/checkpoints.csv has the same.
UPDOWN = {"attention_resolutions": [32, 16, 8], "resblock_updown": True}
IMAGENET64 = {"image_size": 64, "multipliers": [1, 2, 3, 4], "attention_resolutions": [16, 8], "blocks": 3, "heads": 4}
ADM64 = {**UPDOWN, "image_size": 64, "multipliers": [1, 2, 3, 4], "channels": 192, "blocks": 3, "classes": 1000}
ADM128 = {**UPDOWN, "image_size": 128, "multipliers": [1, 1, 2, 3, 4], "channels": 256, "heads": 4, "classes": 1000}
ADM256 = {**UPDOWN, "image_size": 256, "multipliers": [1, 1, 2, 2, 4, 4], "channels": 256, "head_channels": 64}
CLASSIFIER128 = {**UPDOWN, "image_size": 128, "multipliers": [1, 1, 2, 3, 4], "head_channels": 64, "classes": 1000}


def built(options, *, seed=0, name="adm-unet", **more):
    """(network, its weights), the weights loaded under the published names and no others."""
    weights = random_weights(adm_reference.shapes(options, name == "adm-classifier"), seed)
    network = networks.create(name, **options, **more)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False), weights


def images(count=3, size=8):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def labels_for(options, count=3):
    return torch.arange(count) % options["classes"] if options.get("classes") else None


@pytest.mark.parametrize("classes", [None, 5])
def test_the_consistency_models_teachers_stand_behind_edms_preconditioning(tmp_path, classes):
    """Song et al. 2023, arXiv 2303.01469: c_noise is 1000 ln(sigma) / 4, and attention is written as a 2-d convolution.

    Its heads are those of the new order: (q | k | v) of (head 1 | head 2 | ...).
    """
    options = {**TINY, "head_channels": 16, "new_attention_order": True, "resblock_updown": True, "classes": classes}
    options |= {"learned_sigma": False, "index_scale": 1000.0, "blocks": 2}
    weights = random_weights(adm_reference.shapes(options))
    two_dimensional = {name: value[..., None] if value.ndim == 3 else value for name, value in weights.items()}
    assert {value.ndim for name, value in two_dimensional.items() if name.endswith("qkv.weight")} == {4}
    save_file({name: value.contiguous() for name, value in two_dimensional.items()}, tmp_path / "edm.safetensors")
    card = {"role": "diffusion", "image_shape": [3, 8, 8], "prediction": "data", "sigma_min": 0.002, "sigma_max": 80.0}
    card |= {"preconditioning": {"name": "edm", "sigma_data": 0.5}}
    card |= {"network": {"name": "adm-unet", "options": options}} | ({"classes": classes} if classes else {})
    denoise, labels = models.load(card, tmp_path / "edm.safetensors"), labels_for(options)
    denoise = denoise if labels is None else denoise.conditioned(labels)
    reference = adm_reference.Reference(weights, options)
    for sigma in (0.002, 0.7, 80.0):
        x, total = (1 + sigma) * images().double(), math.hypot(sigma, 0.5)
        output = reference.noise(x / total, math.log(sigma) / 4, labels)
        expected = (0.5 / total) ** 2 * x + sigma * 0.5 / total * output
        unit = sigma * 0.5 / total
        found = denoise(x, torch.tensor(sigma, dtype=torch.float64))
        # At 1000 ln(sigma) / 4 beyond a thousand, single precision holds the angle to 1e-4.
        torch.testing.assert_close(found / unit, expected / unit, rtol=0, atol=3e-4)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_the_noise_is_that_of_the_equations(options):
    network, weights = built(options)
    x, labels = images(), labels_for(options)
    for index in (0.0, 17.5, 60.0):
        expected = adm_reference.Reference(weights, options).noise(x, index, labels)
        assert 0.3 < expected.std() < 10
        found = network(x, torch.tensor(index), labels)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", CLASSIFIERS)
def test_logits_and_their_gradients_are_those_of_the_equations(options):
    network, weights = built(options, name="adm-classifier")
    reference = adm_reference.Reference(weights, options)
    x, exact = images().requires_grad_(), images().double().requires_grad_()
    found, expected = network(x, torch.tensor(17.5)), reference.logits(exact, 17.5)
    assert found.shape == (3, 7)
    for logits in (found, expected):
        logits.log_softmax(1)[:, 2].sum().backward()
    for ours, theirs in ((found, expected), (x.grad, exact.grad)):
        assert theirs.std() > 0.02
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-5)


RENAMED = [
    (r"^input_blocks\.0\.0", "conv_in"),
    (r"^time_embed\.0", "time_embedding.linear_1"),
    (r"^time_embed\.2", "time_embedding.linear_2"),
    (r"^label_emb", "class_embedding"),
    (r"^out\.0", "conv_norm_out"),
    (r"^out\.2", "conv_out"),
    (r"^middle_block\.0", "mid_block.resnets.0"),
    (r"^middle_block\.1", "mid_block.attentions.0"),
    (r"^middle_block\.2", "mid_block.resnets.1"),
    (r"in_layers\.0", "norm1"),
    (r"in_layers\.2", "conv1"),
    (r"emb_layers\.1", "time_emb_proj"),
    (r"out_layers\.0", "norm2"),
    (r"out_layers\.3", "conv2"),
    (r"skip_connection", "conv_shortcut"),
    (r"(attentions\.\d)\.norm", r"\1.group_norm"),
    (r"proj_out", "to_out.0"),
]


def diffusers_place(found, blocks):
    """Where diffusers keeps part ``found[3]`` of an input or output block, whose levels have ``blocks + 1`` blocks."""
    side, number, part, rest = found[1], int(found[2]) - (found[1] == "in"), int(found[3]), found[4]
    level, j = divmod(number, blocks + 1)
    if rest.startswith(("norm.", "qkv", "to_out")):
        kind = f"attentions.{j}"
    elif j == blocks and (side == "in" or part):
        kind = "downsamplers.0" if side == "in" else "upsamplers.0"
    else:
        kind = f"resnets.{j}"
    return f"{'down' if side == 'in' else 'up'}_blocks.{level}.{kind}.{rest}"


def diffusers_weights(weights, blocks):
    """The same weights as diffusers stores them: queries, keys and values apart, from the new attention order."""
    found = {}
    for name, value in weights.items():
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        name = re.sub(r"^(in|out)put_blocks\.(\d+)\.(\d)\.(.*)", lambda place: diffusers_place(place, blocks), name)
        name = re.sub(r"(attentions\.\d)\.norm", r"\1.group_norm", name)
        value = value.squeeze(-1) if "attentions" in name else value
        if ".qkv." in name:
            found |= {name.replace("qkv", f"to_{part}"): rows for part, rows in zip("qkv", value.chunk(3), strict=True)}
        else:
            found[name] = value
    return found


def test_the_noise_is_that_of_diffusers_with_the_same_weights():
    """diffusers has ADM with residual up- and downsampling and attention in the new order (consistency models)."""
    options = VARIANTS["adm-64"] | {"learned_sigma": False}
    network, weights = built(options)
    config = {
        "sample_size": 8,
        "block_out_channels": [32, 64],
        "layers_per_block": 2,
        "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "ResnetUpsampleBlock2D"],
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "resnet_time_scale_shift": "scale_shift",
        "attention_head_dim": 16,
        "attn_norm_num_groups": 32,
        "num_class_embeds": 5,
    }
    theirs = networks.create("diffusers-unet2d", config=config).eval().requires_grad_(False)
    theirs.load_state_dict(diffusers_weights(weights, blocks=2))
    x, labels = images(), labels_for(options)
    for index in (torch.tensor(index) for index in (0.0, 12.75, 999.0)):
        torch.testing.assert_close(network(x, index, labels), theirs(x, index, labels), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["adm-unet", "adm-classifier"])
def test_one_index_for_all_images_equals_the_same_index_for_each(name):
    options = GUIDED if name == "adm-unet" else CLASSIFIER
    network, _ = built(options, name=name)
    x, labels = images(4), [labels_for(options, 4)] if name == "adm-unet" else []
    indices = torch.tensor([0.0, 10.5, 998.75, 999.0])
    each = network(x, indices, *labels)
    for row, index in enumerate(indices):
        torch.testing.assert_close(network(x, index, *labels)[row], each[row], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(network(x, indices[0], *labels), each, atol=1e-2)
    assert network.embed(indices[1]).shape == (1, 128)


def test_variances_are_left_out_and_change_nothing():
    network, weights = built(TINY)
    assert weights["out.2.weight"].shape[0] == 6
    alone, _ = built(TINY | {"learned_sigma": False})
    alone.load_state_dict(weights | {name: weights[name][:3] for name in ("out.2.weight", "out.2.bias")})
    x, index = images(), torch.tensor(3.0)
    torch.testing.assert_close(network(x, index), alone(x, index), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("trunk", "bound"), [("float16", 0.005), ("bfloat16", 0.04)])
@pytest.mark.parametrize("name", ["adm-unet", "adm-classifier"])
def test_a_trunk_in_half_precision_computes_nearly_the_same(name, trunk, bound):
    """Rounding errors measured here: 0.1 % of the output in float16, 1 % in bfloat16."""
    options = IMPROVED if name == "adm-unet" else CLASSIFIER
    x, index = images(), torch.tensor(400.0)
    exact = built(options, name=name)[0](x, index)
    rounded = precision.lowered(built(options, name=name)[0], trunk)(x, index)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).square().mean().sqrt() / exact.std() < bound


@pytest.mark.parametrize("name", ["adm-unet", "adm-classifier"])
def test_half_precision_is_that_of_the_trunks_convolutions_alone(name):
    options = GUIDED if name == "adm-unet" else CLASSIFIER
    network = precision.lowered(networks.create(name, **options), "float16")
    state = network.state_dict()
    half = {key for key, value in state.items() if value.dtype == torch.float16}
    expected = (
        r"(input|middle|output)_block.*(0\.0|in_layers\.2|out_layers\.3|skip_connection|qkv|proj_out|op|conv)\.\w+"
    )
    assert half == {key for key in state if re.fullmatch(expected, key)}
    assert half
    assert next(network.parameters()).dtype == torch.float32


# Exact numbers: 295,899,267 is the ADM of ImageNet-64 as EDM publishes it, which has no variances (3 output channels of
# 9 x 192 + 1 less); 552,814,086 is the tensors' size of 256x256_diffusion_uncond.pt, a file of 2,211,383,297 bytes,
# over four. In millions: Dhariwal & Nichol 2021, tables of hyperparameters (422, 554, 559; LSUN 552; classifier 43);
# "270M parameters" of the class-conditional ImageNet-64 model in improved-diffusion's README; 120 in Nichol & Dhariwal
# 2021. The rest is held to the sum over the published names, which is written independently.
COUNTS = {
    "EDM's ImageNet-64": ("adm-unet", {**ADM64, "head_channels": 64, "learned_sigma": False}, 295_899_267, None),
    "ImageNet-64": ("adm-unet", {**ADM64, "head_channels": 64}, 295_899_267 + 3 * (9 * 192 + 1), 296),
    "ImageNet-128": ("adm-unet", ADM128, 421_529_606, 422),
    "LSUN bedroom": ("adm-unet", ADM256, 552_814_086, 552.8),
    "ImageNet-256": ("adm-unet", {**ADM256, "classes": 1000}, 552_814_086 + 1000 * 1024, 553.8),
    "improved ImageNet-64": ("adm-unet", IMAGENET64, 121_063_942, 121.1),
    "improved ImageNet-64, labels": ("adm-unet", {**IMAGENET64, "channels": 192, "classes": 1000}, 273_049_350, 273),
    "classifier 128": ("adm-classifier", CLASSIFIER128, 42_568_040, 43),
}


@pytest.mark.parametrize(("name", "options", "count", "millions"), COUNTS.values(), ids=COUNTS)
def test_the_full_size_has_the_published_number_of_parameters(name, options, count, millions):
    with torch.device("meta"):
        state = networks.create(name, **options).state_dict()
    expected = adm_reference.shapes(options, name == "adm-classifier")
    assert {key: tuple(value.shape) for key, value in state.items()} == expected
    assert sum(math.prod(shape) for shape in expected.values()) == count
    assert millions is None or count / 1e6 == pytest.approx(millions, abs=0.5)


def test_no_class_adds_nothing_to_the_embedding():
    network, weights = built(GUIDED)
    reference, x = adm_reference.Reference(weights, GUIDED), images()
    found = network(x, torch.tensor(17.5), torch.tensor([-1, 2, -1])).double()
    for row, labels in ((0, None), (1, torch.tensor([0, 2, 0])), (2, None)):
        torch.testing.assert_close(found[row], reference.noise(x, 17.5, labels)[row], rtol=1e-5, atol=1e-5)


def test_labels_are_for_class_conditional_networks():
    x, index = images(), torch.tensor(0.0)
    with pytest.raises(ValueError, match="a class-conditional network needs labels"):
        built(GUIDED)[0](x, index)
    with pytest.raises(ValueError, match="an unconditional one takes none"):
        built(TINY)[0](x, index, torch.tensor([0, 1, 2]))


@pytest.mark.parametrize("name", ["adm-unet", "adm-classifier"])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clases": 5}, "unknown option 'clases' .did you mean 'classes'"),
        ({"attention_resolutions": [16]}, "16 is not one of this network's 8, 4"),
        ({"head_channels": 48}, "attention over 64 channels cannot have heads of 48 channels"),
        ({"head_channels": 128}, "attention over 64 channels cannot have heads of 128 channels"),
        ({"head_channels": None, "heads": 3}, "attention over 64 channels cannot have 3 heads"),
    ],
)
def test_a_wrong_option_is_refused(name, wrong, message):
    with pytest.raises(ValueError, match=message):
        networks.create(name, **(TINY | wrong))


@pytest.mark.parametrize("name", ["adm-unet", "adm-classifier"])
def test_a_missing_option_is_named(name):
    with pytest.raises(ValueError, match=f"network '{name}' needs the option 'image_size'"):
        networks.create(name, multipliers=[1], attention_resolutions=[])


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"takes images of shape \(3, 8, 8\), not \(3, 16, 16\)"):
        built(TINY)[0](images(size=16), torch.tensor(0.0))


def test_weights_of_another_layout_are_refused():
    network, weights = built(VARIANTS["adm-128"])
    with pytest.raises(RuntimeError, match=r"Missing key.*label_emb"):
        network.load_state_dict({name: value for name, value in weights.items() if name != "label_emb.weight"})


def test_normalisation_is_rounded_once_at_its_end():
    """Weights that half precision cannot hold count in full, and so do moments of large activations."""
    norm = layers.GroupNorm32(32)
    torch.nn.init.constant_(norm.weight, 1 + 2**-12)
    torch.nn.init.constant_(norm.bias, 2**-12)
    x = (200 * torch.randn(2, 32, 8, 8, generator=torch.Generator().manual_seed(0)) + 3000).half()
    exact = torch.nn.functional.group_norm(x.double(), 32, norm.weight.double(), norm.bias.double(), norm.eps)
    found = norm(x)
    assert found.dtype == torch.float16
    assert (found == exact.half()).double().mean() > 0.99
