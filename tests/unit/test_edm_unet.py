"""EDM's networks: the published sizes and names, and the papers' equations on the same weights."""

import pytest
import torch

from dode import models
from dode.models.edm.layers import Conv
from dode.models.edm.unet import inner_state
from dode.models.networks import networks
from dode.models.predictions import DataPrediction
from edm_reference import Reference, halving

SONG, DHARIWAL = "edm-song-unet", "edm-dhariwal-unet"
CIFAR10 = {"image_shape": [3, 32, 32], "augment_dim": 9, "channel_mult": [2, 2, 2]}
NCSNPP = {"embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual"}
NCSNPP |= {"resample_filter": [1, 3, 3, 1]}


def on_meta(name, **options):
    with torch.device("meta"):
        return networks.create(name, **options)


# Counted by the published definitions; the first and third are those of EDM's CIFAR-10 and FFHQ checkpoints.
@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        (SONG, CIFAR10, 55_733_891),
        (SONG, {**CIFAR10, "label_dim": 10}, 55_735_299),
        (SONG, {"image_shape": [3, 64, 64], "augment_dim": 9, "channel_mult": [1, 2, 2, 2]}, 61_805_571),
        (DHARIWAL, {"image_shape": [3, 64, 64], "label_dim": 1000}, 295_899_267),
    ],
)
def test_published_networks_have_the_published_number_of_parameters(name, options, count):
    assert sum(parameter.numel() for parameter in on_meta(name, **options).parameters()) == count


def parts(names, prefix):
    return {name.split(".")[1] for name in names if name.startswith(prefix)}


def test_names_of_the_cifar10_ddpmpp_network():
    names = set(on_meta(SONG, **CIFAR10, label_dim=10).state_dict())
    assert {name.split(".")[0] for name in names} == {
        "map_layer0",
        "map_layer1",
        "map_label",
        "map_augment",
        "enc",
        "dec",
    }
    assert "map_augment.bias" not in names
    assert "map_label.bias" in names
    sizes, blocks = (32, 16, 8), range(4)
    encoder = {f"{s}x{s}_block{i}" for s in sizes for i in blocks}
    assert parts(names, "enc.") == {"32x32_conv", "16x16_down", "8x8_down"} | encoder
    decoder = {f"{s}x{s}_block{i}" for s in sizes for i in range(5)}
    ends = {"8x8_in0", "8x8_in1", "16x16_up", "32x32_up", "32x32_aux_norm", "32x32_aux_conv"}
    assert parts(names, "dec.") == ends | decoder
    attends = {name.split(".qkv")[0] for name in names if ".qkv." in name}
    assert attends == {f"enc.16x16_block{i}" for i in blocks} | {"dec.8x8_in0", "dec.16x16_block4"}
    block = {name.removeprefix("enc.16x16_block0.") for name in names if name.startswith("enc.16x16_block0.")}
    layers = ("norm0", "conv0", "affine", "norm1", "conv1", "norm2", "qkv", "proj")
    assert block == {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    down = {name for name in names if name.startswith("enc.16x16_down.") and name.endswith("filter")}
    assert down == {"enc.16x16_down.conv0.resample_filter", "enc.16x16_down.skip.resample_filter"}
    assert "enc.16x16_down.skip.weight" in names


def test_names_that_distinguish_the_adm_network_and_ncsnpp():
    adm = set(on_meta(DHARIWAL, image_shape=[3, 64, 64], label_dim=1000).state_dict())
    assert {"out_norm.weight", "out_conv.bias", "map_label.weight", "enc.64x64_conv.weight"} < adm
    assert {"map_label.bias", "enc.32x32_down.skip.weight", "enc.64x64_block0.qkv.weight"}.isdisjoint(adm)
    assert "enc.32x32_down.skip.resample_filter" in adm
    attends = {name.split(".")[1].split("_")[0] for name in adm if ".qkv." in name}
    assert attends == {"32x32", "16x16", "8x8"}
    assert {f"dec.16x16_block{i}.qkv.weight" for i in range(4)} < adm
    ncsnpp = set(on_meta(SONG, image_shape=[3, 32, 32], **NCSNPP).state_dict())
    assert {"map_noise.freqs", "enc.16x16_aux_residual.weight", "enc.16x16_aux_residual.resample_filter"} < ncsnpp


TINY = {"image_shape": [3, 8, 8], "model_channels": 8, "num_blocks": 1, "attn_resolutions": [4]}
VARIANTS = {
    "ddpm++": (SONG, {"channel_mult": [1, 2], "label_dim": 3, "augment_dim": 2}),
    "ddpm++ unconditional": (SONG, {"channel_mult": [2, 1, 2], "channel_mult_emb": 2}),
    "ncsn++": (SONG, {"channel_mult": [1, 2, 2], **NCSNPP}),
    "ncsn++ with labels": (SONG, {"channel_mult": [2, 2, 1], "label_dim": 3, **NCSNPP, "out_channels": 4}),
    "residual, box filter": (SONG, {"channel_mult": [1, 2, 2], "encoder_type": "residual"}),
    "skip and skip": (
        SONG,
        {"channel_mult": [1, 2, 2], "encoder_type": "skip", "decoder_type": "skip", "resample_filter": [1, 3, 3, 1]},
    ),
    "skip, box filter": (SONG, {"channel_mult": [1, 2], "decoder_type": "skip"}),
    "adm": (DHARIWAL, {"channel_mult": [1, 2, 3], "label_dim": 3, "augment_dim": 2, "head_width": 4}),
    "adm with attention at some levels": (DHARIWAL, {"channel_mult": [1, 2], "head_width": 16}),
    "adm without attention": (DHARIWAL, {"channel_mult": [1, 2]}),
    "adm unconditional": (DHARIWAL, {"channel_mult": [2, 2], "out_channels": 6, "head_width": 8}),
}


def tiny(variant, seed=0):
    """A small network with random weights, all of them."""
    name, options = VARIANTS[variant]
    torch.manual_seed(seed)
    network = networks.create(name, **{**TINY, **options})
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.15 if parameter.ndim > 1 else 0.5)
    return network.eval().requires_grad_(False)


def equations(variant, network, x, condition, hot):
    name, options = VARIANTS[variant]
    adm, sizes = name == DHARIWAL, [8, 4, 2][: len(options["channel_mult"])]
    places = [f"enc.4x4_block{i}" for i in range(1)]
    places += [f"dec.4x4_block{i}" for i in range(2) if adm or i == 1] + [f"dec.{sizes[-1]}x{sizes[-1]}_in0"]
    places = [place for place in places if f"{place}.qkv.weight" in network.state_dict()]
    reference = Reference(
        network.state_dict(),
        adm=adm,
        taps=options.get("resample_filter", [1, 1]),
        head_width=options.get("head_width"),
        attends=places,
    )
    sides = {"encoder": options.get("encoder_type", "standard"), "decoder": options.get("decoder_type", "standard")}
    return reference(x.double(), condition.double(), hot, sizes=sizes, depth=1, **sides)


def test_a_level_of_fewer_channels_than_a_head_has_no_attention():
    """Karras et al. 2022 divide a level's channels by 64 and round down: 0 heads are none, and the file has no qkv."""
    options = {"image_shape": [3, 8, 8], "num_blocks": 1, "attn_resolutions": [8, 4]}
    names = on_meta(DHARIWAL, **options, model_channels=32, channel_mult=[1, 2]).state_dict()
    attends = {name.removesuffix(".qkv.weight") for name in names if name.endswith(".qkv.weight")}
    assert attends == {"enc.4x4_block0", "dec.4x4_in0", "dec.4x4_block0", "dec.4x4_block1"}
    assert not any("norm2" in name or "proj" in name for name in names if "8x8" in name)
    names = on_meta(DHARIWAL, **options, model_channels=48, channel_mult=[1, 1]).state_dict()
    assert not any("qkv" in name for name in names)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_network_computes_the_papers_equations(variant):
    network = tiny(variant)
    x, condition = torch.randn(4, 3, 8, 8), torch.tensor([-1.2, 0.1, 0.8, 40.0])
    labels = hot = None
    if network.label_dim:
        labels = torch.tensor([2, -1, 0, 1])
        hot = torch.zeros(4, 3, dtype=torch.float64)
        hot[0, 2] = hot[2, 0] = hot[3, 1] = 1
    expected = equations(variant, network, x, condition, hot)
    found = network(x, condition, labels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4 * float(expected.std()))
    assert expected.std() > 0.1


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_condition_for_all_images_equals_the_same_for_each(variant):
    network, x = tiny(variant), torch.randn(3, 3, 8, 8)
    labels = torch.tensor([1, 0, 2]) if network.label_dim else None
    once, each = network(x, torch.tensor(0.3), labels), network(x, torch.full((3,), 0.3), labels)
    torch.testing.assert_close(once, each, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(once, network(x, torch.tensor(0.5), labels), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("variant", ["ddpm++", "adm", "ncsn++ with labels"])
def test_a_class_changes_its_image_alone_and_none_is_minus_one(variant):
    network, x, c = tiny(variant), torch.randn(3, 3, 8, 8), torch.tensor(0.3)
    first, second = network(x, c, torch.tensor([0, 1, 2])), network(x, c, torch.tensor([0, 2, 2]))
    torch.testing.assert_close(first[[0, 2]], second[[0, 2]])
    assert not torch.allclose(first[1], second[1], rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(network(x, c), network(x, c, torch.tensor([-1, -1, -1])))


@pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1)])
def test_resampling_is_the_matrix_and_keeps_a_constant(taps):
    x = torch.randn(2, 3, 8, 8)
    down, up = Conv(3, 3, 0, resample="down", taps=taps), Conv(3, 3, 0, resample="up", taps=taps)
    matrix = halving(8, taps).float()
    torch.testing.assert_close(down(x), matrix @ x @ matrix.T)
    matrix = 2 * halving(16, taps).float().T
    torch.testing.assert_close(up(x), matrix @ x @ matrix.T)
    inner = (..., slice(1, -1), slice(1, -1))
    for layer in (down, up):
        found = layer(torch.ones(1, 3, 8, 8))[inner]
        torch.testing.assert_close(found, torch.ones_like(found))


@pytest.mark.parametrize("variant", ["ddpm++", "ncsn++", "adm"])
def test_a_published_state_loads_strictly_under_its_prefix(variant):
    source, target = tiny(variant), tiny(variant, seed=1)
    published = {f"model.{name}": value for name, value in source.state_dict().items()}
    target.load_state_dict(inner_state({**published, "u": torch.zeros(3)}))
    x, c = torch.randn(2, 3, 8, 8), torch.tensor(0.1)
    torch.testing.assert_close(target(x, c), source(x, c), rtol=0, atol=0)


def test_what_is_no_preconditioned_network_is_refused():
    with pytest.raises(ValueError, match=r"time_embed\.0\.weight"):
        inner_state({"time_embed.0.weight": 1})
    with pytest.raises(ValueError, match="encoder_type must be one of standard, skip, residual, not 'fancy'"):
        networks.create(SONG, **TINY, encoder_type="fancy")
    with pytest.raises(ValueError, match="12x12 cannot be halved 3 times"):
        networks.create(SONG, **{**TINY, "image_shape": [3, 12, 12]})
    with pytest.raises(ValueError, match="8x4"):
        networks.create(DHARIWAL, **{**TINY, "image_shape": [3, 8, 4]})


@pytest.mark.parametrize("variant", ["ddpm++", "ncsn++", "adm"])
def test_in_lower_precision_the_embedding_stays_in_single(variant):
    network, x, c = tiny(variant), torch.randn(2, 3, 8, 8), torch.tensor(0.1)
    expected = network(x, c)
    lowered = network.lower(torch.bfloat16)
    assert next(lowered.parameters()).dtype == lowered.enc["8x8_block0"].affine.weight.dtype == torch.float32
    assert {m.weight.dtype for m in lowered.modules() if isinstance(m, torch.nn.GroupNorm)} == {torch.bfloat16}
    found = lowered(x, c)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.1 * float(expected.std()))
    assert not torch.equal(found, expected)


def test_behind_its_preconditioning_a_conditional_network_is_a_denoiser(tmp_path):
    from safetensors.torch import save_file

    network = tiny("ddpm++")
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, tmp_path / "m.safetensors")
    options = {**TINY, **VARIANTS["ddpm++"][1]}
    card = {"network": {"name": SONG, "options": options}, "prediction": "data", "classes": 3}
    card |= {"preconditioning": {"name": "edm", "sigma_data": 0.5}, "sigma_min": 0.002, "sigma_max": 80.0}
    denoise = models.load(card, tmp_path / "m.safetensors", batch_size=2)
    assert isinstance(denoise, DataPrediction)
    x, sigma = torch.randn(3, 3, 8, 8), torch.tensor(1.5)
    labels = torch.tensor([2, 0, 1])
    hot = torch.eye(3, dtype=torch.float64)[labels]
    total, c_noise = 1.5**2 + 0.5**2, torch.full((3,), 1.5).log() / 4
    output = equations("ddpm++", network, x / total**0.5, c_noise, hot)
    expected = 0.25 / total * x + 1.5 * 0.5 / total**0.5 * output.float()
    torch.testing.assert_close(denoise.conditioned(labels)(x, sigma), expected, rtol=1e-4, atol=1e-4)
