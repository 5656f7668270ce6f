"""The DDPM U-Net loads state dicts of the published names and computes what diffusers does with the same weights."""

import math
import subprocess
import sys

import diffusers
import numpy as np
import pytest
import torch

import dode
from ddpm_reference import OLD_NAMES, diffusers_config, diffusers_weights, published_shapes
from dode import grids, models, solvers
from dode.grids.facts import ModelFacts
from dode.models import torchvision_operators
from dode.models.guidance import guidances
from dode.models.networks import networks
from published_weights import random_weights

torchvision_operators.declare()

TINY = {"image_size": 8, "multipliers": [1, 2, 2], "attention_resolutions": [4], "channels": 32, "blocks": 2}
CIFAR10 = {"image_size": 32, "multipliers": [1, 2, 2, 2], "attention_resolutions": [16]}
CELEBA = {"image_size": 64, "multipliers": [1, 2, 2, 2, 4], "attention_resolutions": [16]}
BEDROOM = {"image_size": 256, "multipliers": [1, 1, 2, 2, 4, 4], "attention_resolutions": [16]}


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


def test_without_convolutions_the_size_changes_by_means_and_repetition():
    """As a network whose resampling convolutions take the mean of each 2x2 pixels and leave pixels as they are."""
    weights = random_weights(published_shapes(**TINY))
    plain = {name: value for name, value in weights.items() if "sample.conv" not in name}
    for name, value in weights.items():
        if "sample.conv" in name:
            value.zero_()
        if name.endswith("downsample.conv.weight"):
            value[range(len(value)), range(len(value)), :2, :2] = 0.25
        if name.endswith("upsample.conv.weight"):
            value[range(len(value)), range(len(value)), 1, 1] = 1
    network = loaded("ddpm-unet", plain, **TINY, resamp_with_conv=False)
    assert network.state_dict().keys() == plain.keys()
    x, index = images(), torch.tensor(12.75)
    expected = loaded("ddpm-unet", weights, **TINY)(x, index)
    assert expected.std() > 0.1
    torch.testing.assert_close(network(x, index), expected, rtol=0, atol=1e-5)


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
        ({**TINY, "attention_resolutions": [16]}, "16 is not one of this network's 8, 4, 2"),
        ({**TINY, "image_size": 6}, "image_size 6 cannot be halved 2 times, as 3 multipliers need"),
    ],
)
def test_a_wrong_option_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        networks.create("ddpm-unet", **options)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"takes images of shape \(3, 8, 8\), not \(3, 16, 16\)"):
        networks.create("ddpm-unet", **TINY)(images(size=16), torch.tensor(0.0))


@pytest.mark.parametrize("old_names", [False, True])
def test_a_network_of_the_hub_loads_its_files_and_computes_what_ours_does(old_names):
    """Files of 2022, as google/ddpm-ema-cifar10-32, have other names for attention."""
    weights = random_weights(published_shapes(**TINY))
    stored = diffusers_weights(weights, 3)
    if old_names:
        for new, old in OLD_NAMES.items():
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


HUB = diffusers_config(**TINY)
LEARNED = {**HUB, "time_embedding_type": "learned", "num_train_timesteps": 1000}


def hub_card(config, **others):
    """A card around a network of the hub."""
    network = {"name": "diffusers-unet2d", "options": {"config": config}}
    return {"prediction": "noise", "schedule": {"name": "linear"}, "network": network, **others}


def hub_model(card):
    torch.manual_seed(0)
    network = networks.create("diffusers-unet2d", config=card["network"]["options"]["config"])
    return models.of_card(card, network, classes=card.get("classes"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_learned_embeddings_of_times_are_looked_up_at_whole_indices(dtype):
    """999 is 1000 in bfloat16, for which there is no embedding."""
    model = hub_model(hub_card(LEARNED))
    model.network.to(dtype)
    model = models.NoisePrediction(model.network, schedule=model.facts.schedule, round_sigma=model.facts.round_sigma)
    x = images(2)
    for index in (0, 1, 501, 999):
        sigma = torch.tensor(float(model.schedule.sigma(index)))
        with torch.no_grad():
            x_vp = (x / (1 + sigma**2) ** 0.5).to(dtype)
            noise = model.network(x_vp, torch.tensor(index))
        expected = x - sigma * noise.float()
        tolerance = (5e-6 if dtype == torch.float32 else 0.05) * max(1.0, float(sigma))
        torch.testing.assert_close(model(x, sigma), expected, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("grid", ["karras", "uniform-index", "log-snr"])
def test_grids_of_learned_embeddings_have_the_levels_of_whole_indices(grid):
    model = hub_model(hub_card(LEARNED))
    options = {"sigma_min": 0.02} if grid == "karras" else {}
    sigmas = grids.for_model(model, grid, 7, **options)
    indices = model.facts.schedule.index(sigmas.numpy()[:-1])
    assert np.array_equal(indices, indices.round())
    latents = images(40)[:, :, :8, :8]
    assert dode.sample(solvers.create("heun"), model, latents / latents.std(), sigmas).isfinite().all()


def test_learned_embeddings_are_enough_for_the_schedule():
    with pytest.raises(ValueError, match="schedule: it has 1000 steps, but the network has embeddings of 500 times"):
        ModelFacts.of_card(hub_card({**LEARNED, "num_train_timesteps": 500}))
    with pytest.raises(ValueError, match="a learned embedding of times needs the key 'num_train_timesteps'"):
        networks.create("diffusers-unet2d", config={**HUB, "time_embedding_type": "learned"})


def test_the_last_entry_of_a_table_of_classes_with_one_more_stands_for_no_class():
    """As of a network trained for classifier-free guidance: it is called with that label."""
    model = hub_model(hub_card({**HUB, "num_class_embeds": 5}, classes=4))
    x, sigma = images(3), torch.tensor(2.0)
    bound = model.conditioned([0, -1, 3])
    x_vp, index = x / 5**0.5, torch.tensor(model.facts.index(2.0), dtype=torch.float32)
    with torch.no_grad():
        expected = x - 2 * model.network(x_vp, index, torch.tensor([0, 4, 3]))
    torch.testing.assert_close(bound(x, sigma), expected)
    guided = guidances.get("classifier-free")(model, scale=2.0).conditioned([0, 1, 3])
    of_class, of_none = model.conditioned([0, 1, 3])(x, sigma), model.conditioned([-1] * 3)(x, sigma)
    torch.testing.assert_close(guided(x, sigma), 2 * of_class - of_none, rtol=1e-5, atol=1e-5)
    assert (of_class - of_none).abs().max() > 1e-4


def test_a_table_of_classes_without_an_entry_for_none_knows_no_guidance():
    model = hub_model(hub_card({**HUB, "num_class_embeds": 4}, classes=4))
    x, sigma = images(3), torch.tensor(2.0)
    assert model.conditioned([0, 1, 3])(x, sigma).isfinite().all()
    with pytest.raises(
        ValueError, match="-1, no class, is not allowed, as the network has no entry for it beside its 4"
    ):
        model.conditioned([0, -1, 3])
    with pytest.raises(ValueError, match="no entry for it beside its 4 classes; classifier-free guidance needs one"):
        guidances.get("classifier-free")(model, scale=2.0).conditioned([0, 1, 3])(x, sigma)


@pytest.mark.parametrize("classes", [3, 6, None])
def test_a_table_of_another_number_of_classes_is_refused(classes):
    card = hub_card({**HUB, "num_class_embeds": 5}, **({} if classes is None else {"classes": classes}))
    with pytest.raises(ValueError, match=f"classes: {classes} is not allowed, .* table of 5; allowed: 5, or 4 where"):
        hub_model(card)


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
