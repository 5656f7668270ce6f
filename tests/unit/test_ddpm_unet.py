"""The DDPM U-Net loads state dicts of the published names and computes what diffusers does with the same weights."""

import math
import re
import subprocess
import sys

import diffusers
import pytest
import torch

from dode import torchvision_operators
from dode.models.networks import networks
from published_weights import conv, linear, norm, random_weights

torchvision_operators.declare()

TINY = {"image_size": 8, "multipliers": [1, 2, 2], "attention_resolutions": [4], "channels": 32, "blocks": 2}
CIFAR10 = {"image_size": 32, "multipliers": [1, 2, 2, 2], "attention_resolutions": [16]}
CELEBA = {"image_size": 64, "multipliers": [1, 2, 2, 2, 4], "attention_resolutions": [16]}
BEDROOM = {"image_size": 256, "multipliers": [1, 1, 2, 2, 4, 4], "attention_resolutions": [16]}


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


def published_shapes(*, image_size, multipliers, attention_resolutions, channels=128, blocks=2):
    """Names and shapes of the state dict, each from its place alone; ``[1, *multipliers]`` are the levels' inputs."""
    wide = [channels * multiplier for multiplier in [1, *multipliers]]
    last = len(multipliers) - 1
    shapes = linear("temb.dense.0", 4 * channels, channels) | linear("temb.dense.1", 4 * channels, 4 * channels)
    shapes |= conv("conv_in", channels, 3, 3, 3) | norm("norm_out", wide[1]) | conv("conv_out", 3, wide[1], 3, 3)
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


def diffusers_config(*, image_size, multipliers, attention_resolutions, channels=128, blocks=2):
    """As the configuration file of ``google/ddpm-ema-cifar10-32`` on the hub."""
    attended = [image_size // 2**i in attention_resolutions for i in range(len(multipliers))]
    return {
        "_class_name": "UNet2DModel",
        "sample_size": image_size,
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


def loaded(name, weights, **options):
    network = networks.create(name, **options)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def images(count=3, size=8, seed=1):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


VARIANTS = [
    TINY,
    {**TINY, "attention_resolutions": [8, 2], "blocks": 1},
    {**TINY, "multipliers": [1, 1], "attention_resolutions": []},
]


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("index", [0.0, 12.75, 999.0])
def test_the_output_is_that_of_diffusers_with_the_same_weights(options, index):
    weights = random_weights(published_shapes(**options))
    theirs = diffusers.UNet2DModel(**{k: v for k, v in diffusers_config(**options).items() if k[0] != "_"}).eval()
    theirs.load_state_dict(diffusers_weights(weights, len(options["multipliers"])))
    x, index = images(), torch.tensor(index)
    with torch.no_grad():
        expected = theirs(x, index).sample
    assert expected.std() > 0.1
    torch.testing.assert_close(loaded("ddpm-unet", weights, **options)(x, index), expected, rtol=0, atol=1e-5)


def test_one_index_for_all_images_equals_the_same_index_for_each():
    network, x = loaded("ddpm-unet", random_weights(published_shapes(**TINY)), **TINY), images(4)
    indices = torch.tensor([0.0, 10.5, 998.75, 999.0])
    each = network(x, indices)
    for row, index in enumerate(indices):
        torch.testing.assert_close(network(x, index)[row], each[row], rtol=0, atol=1e-5)
    assert not torch.allclose(network(x, indices[0]), each, atol=1e-2)


def test_a_shared_index_is_embedded_once():
    network = networks.create("ddpm-unet", **TINY)
    assert network.embed(torch.tensor(3.0)).shape == (1, 128)
    assert network.embed(torch.tensor([3.0, 4.0])).shape == (2, 128)


# 35.7 and 114 million are the numbers of Ho et al. 2020, appendix B (CIFAR-10; LSUN and CelebA-HQ); 35,746,307 is also
# what the same network of the hub has, google/ddpm-cifar10-32. For CelebA-64 no published number is known to us: it is
# held to the sum over the published names alone, as all are.
@pytest.mark.parametrize(
    ("options", "count", "millions"),
    [(CIFAR10, 35_746_307, 35.7), (BEDROOM, 113_673_219, 114), (CELEBA, 78_700_803, 78.7)],
)
def test_the_full_size_has_the_published_number_of_parameters(options, count, millions):
    with torch.device("meta"):
        state = networks.create("ddpm-unet", **options).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == published_shapes(**options)
    assert sum(value.numel() for value in state.values()) == count
    assert sum(math.prod(shape) for shape in published_shapes(**options).values()) == count
    assert count / 1e6 == pytest.approx(millions, abs=0.5 if millions > 100 else 0.05)


def test_dropout_changes_nothing_at_inference():
    weights = random_weights(published_shapes(**TINY))
    plain, dropping = (
        loaded("ddpm-unet", weights, **TINY, dropout=rate)(images(), torch.tensor(5.0)) for rate in (0, 0.5)
    )
    assert torch.equal(plain, dropping)


def test_a_state_dict_with_a_name_too_many_or_too_few_is_refused():
    weights = random_weights(published_shapes(**TINY))
    network = networks.create("ddpm-unet", **TINY)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        network.load_state_dict(weights | {"module.conv_in.weight": weights["conv_in.weight"]})
    with pytest.raises(RuntimeError, match="Missing key"):
        network.load_state_dict({name: value for name, value in weights.items() if name != "mid.attn_1.q.bias"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({**TINY, "chanels": 32}, "network 'ddpm-unet': unknown option 'chanels' .did you mean 'channels'"),
        ({"multipliers": [1], "attention_resolutions": []}, "network 'ddpm-unet' needs the option 'image_size'"),
        ({**TINY, "attention_resolutions": [16]}, "16 is none of this network's 8, 4, 2"),
        ({**TINY, "image_size": 6}, "image_size 6 cannot be halved 2 times, as 3 multipliers need"),
    ],
)
def test_a_wrong_option_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        networks.create("ddpm-unet", **options)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"takes images of shape \(3, 8, 8\), not \(3, 16, 16\)"):
        networks.create("ddpm-unet", **TINY)(images(size=16), torch.tensor(0.0))


OLD = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}


@pytest.mark.parametrize("old_names", [False, True])
def test_a_network_of_the_hub_loads_its_files_and_computes_what_ours_does(old_names):
    """Files of 2022, as google/ddpm-ema-cifar10-32, have other names for attention."""
    weights = random_weights(published_shapes(**TINY))
    stored = diffusers_weights(weights, 3)
    if old_names:
        for new, old in OLD.items():
            stored = {name.replace(new, old): value for name, value in stored.items()}
    hub = loaded("diffusers-unet2d", stored, config=diffusers_config(**TINY))
    ours, x = loaded("ddpm-unet", weights, **TINY), images()
    for index in (torch.tensor(3.5), torch.tensor([1.0, 2.0, 3.0])):
        torch.testing.assert_close(hub(x, index), ours(x, index), rtol=0, atol=1e-5)


def test_a_network_of_the_hub_gives_the_noise_alone_and_takes_labels():
    config = diffusers_config(**TINY) | {"out_channels": 6, "num_class_embeds": 4}
    torch.manual_seed(0)
    hub, x = networks.create("diffusers-unet2d", config=config).eval(), images(2)
    first, second = (hub(x, torch.tensor(3.0), torch.tensor([label, 0])) for label in (1, 2))
    assert first.shape == x.shape
    torch.testing.assert_close(first[1], second[1], rtol=0, atol=1e-6)
    assert (first[0] - second[0]).abs().max() > 1e-4


def test_a_wrong_key_of_a_hub_configuration_is_refused():
    with pytest.raises(
        ValueError, match=r"network 'diffusers-unet2d': unknown key 'sample_sise' .did you mean 'sample_size'"
    ):
        networks.create("diffusers-unet2d", config={"sample_sise": 32})


def test_without_diffusers_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ModuleNotFoundError, match=r"'diffusers-unet2d' needs diffusers .*dode\[hub\]"):
        networks.create("diffusers-unet2d", config={})


def test_the_list_of_networks_does_not_import_diffusers():
    program = "import sys, dode.models.networks; sys.exit('diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
