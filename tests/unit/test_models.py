"""The committed checkpoints: whole, small, behind the contract, and good for ten kinds of digits."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from sklearn.model_selection import train_test_split

from dode import grids, models, sampling, solvers
from dode.grids import schedules
from dode.images import data, noise, pixels
from dode.metrics import features
from dode.models.embedded.residual_mlp import ResidualMLP
from dode.models.networks import networks

FOLDER = Path(__file__).parents[2] / "config" / "models"
ALL_CARDS = {path.stem: yaml.safe_load(path.read_text()) for path in FOLDER.glob("*.yaml")}
EMBEDDED = {name: card for name, card in sorted(ALL_CARDS.items()) if card.get("urls", [""])[0].startswith("file:")}
CARDS = {name: card for name, card in EMBEDDED.items() if card["role"] != "statistics"}
DIFFUSION = sorted(name for name, card in CARDS.items() if card["role"] == "diffusion")
SHAPE = (1, 8, 8)


def checkpoint(name):
    return FOLDER / f"{name}.safetensors"


def loaded(name, **options):
    return models.load(CARDS[name], checkpoint(name), **options)


def network_of(name):
    return models.load_network(CARDS[name], checkpoint(name))


def real(name):
    """Real images (n, C, H, W) uint8 and labels (n,) of the kind that an embedded network was trained on."""
    if name.startswith("digits-"):
        return data.sources.create("digits")
    with np.load(FOLDER / "mnist-real-statistics.npz") as arrays:
        return arrays["arr_0"].transpose(0, 3, 1, 2), arrays["labels"]


def noisy(name, sigma, count=6):
    # Not the first ones, which are all of one class.
    images = real(name)[0][:: len(real(name)[0]) // count][:count]
    latents = noise.latents(range(count), images.shape[1:], seed=0)
    return torch.from_numpy(pixels.from_bytes(images)).double() + sigma * latents


def test_three_diffusion_models_and_their_classifiers_are_committed():
    assert DIFFUSION == ["digits-ddpm", "digits-edm", "mnist-ddpm"]
    assert sorted(CARDS) == sorted(path.stem for path in FOLDER.glob("*.safetensors"))
    assert sorted(CARDS) == sorted([*DIFFUSION, "digits-classifier", "mnist-classifier"])
    assert sorted(EMBEDDED) == sorted([*CARDS, "mnist-real-statistics"])


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_file_has_its_cards_digest_and_url(name):
    card, suffix = EMBEDDED[name], ".npz" if EMBEDDED[name]["role"] == "statistics" else ".safetensors"
    assert card["urls"] == [f"file:{name}{suffix}"]
    assert hashlib.sha256((FOLDER / f"{name}{suffix}").read_bytes()).hexdigest() == card["sha256"]


def test_all_files_together_are_at_most_eight_megabytes():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 8e6


@pytest.mark.parametrize("name", CARDS)
def test_weights_are_used_in_single_precision_and_stored_in_it_or_in_half(name):
    stored = {key: value for key, value in load_file(checkpoint(name)).items() if value.is_floating_point()}
    assert {value.dtype for value in stored.values()} == {torch.float32 if name == "mnist-ddpm" else torch.float16}
    state = network_of(name).state_dict()
    for key, value in stored.items():
        assert state[key].dtype == (torch.int64 if key.endswith("num_batches_tracked") else torch.float32)
        assert torch.equal(state[key].double(), value.double())


@pytest.mark.parametrize("name", CARDS)
def test_a_loaded_network_is_ready_for_inference(name):
    network = network_of(name)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("name", ["digits-ddpm", "mnist-ddpm"])
@pytest.mark.parametrize("sigma", [0.01, 0.3, 1.0, 30.0])
def test_a_noise_model_is_x_minus_sigma_times_its_noise(name, sigma):
    denoise, network, x = loaded(name), network_of(name), noisy(name, sigma)
    index = max(float(schedules.schedules.create("linear").index(sigma)), 0.0)
    with torch.no_grad():
        epsilon = network((x / math.sqrt(1 + sigma**2)).float(), torch.tensor(index))
    found = denoise(x, torch.tensor(sigma, dtype=torch.float64))
    assert found.dtype == x.dtype
    torch.testing.assert_close(found, x - sigma * epsilon.double(), rtol=0, atol=1e-6 * sigma)
    assert isinstance(denoise, models.NoisePrediction)
    assert models.prediction_of(denoise) == "noise"
    assert models.prior_std(denoise, 3.0) == pytest.approx(10**0.5)


@pytest.mark.parametrize("sigma", [0.002, 0.3, 1.0, 80.0])
def test_the_data_model_is_preconditioned_as_its_card_says(sigma):
    card, denoise, network, x = (
        CARDS["digits-edm"],
        loaded("digits-edm"),
        network_of("digits-edm"),
        noisy("digits-edm", sigma),
    )
    spread = card["preconditioning"]["sigma_data"]
    total = sigma**2 + spread**2
    with torch.no_grad():
        output = network((x / math.sqrt(total)).float(), torch.tensor(math.log(sigma) / 4)).double()
    expected = spread**2 / total * x + sigma * spread / math.sqrt(total) * output
    torch.testing.assert_close(denoise(x, torch.tensor(sigma)), expected, rtol=1e-6, atol=1e-6)
    assert isinstance(denoise, models.DataPrediction)
    assert models.prediction_of(denoise) == "data"
    assert models.prior_std(denoise, 3.0) == 3.0
    assert (denoise.sigma_min, denoise.sigma_max) == (card["sigma_min"], card["sigma_max"])


@pytest.mark.parametrize("name", DIFFUSION)
@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_denoising_brings_a_noisy_digit_nearer_to_the_digit(name, sigma):
    x, clean = noisy(name, sigma, 200), noisy(name, 0.0, 200)
    error = (loaded(name)(x, torch.tensor(sigma)) - clean).square().mean().sqrt()
    assert error < 0.7 * sigma


@pytest.mark.parametrize("name", DIFFUSION)
def test_batches_of_the_network_do_not_change_the_result(name):
    x, sigma = noisy(name, 1.0, 7), torch.tensor(1.0)
    torch.testing.assert_close(loaded(name, batch_size=3)(x, sigma), loaded(name)(x, sigma), rtol=1e-5, atol=1e-5)


def test_one_time_for_all_images_equals_the_same_time_for_each():
    torch.manual_seed(0)
    mlp = ResidualMLP(image_shape=SHAPE, width=32, blocks=2, embedding=16)
    for parameter in mlp.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, times = torch.randn(4, *SHAPE), torch.tensor([0.1, 0.5, 0.9, 0.5])
    each = mlp(x, times)
    for row, time in enumerate(times):
        torch.testing.assert_close(mlp(x, time)[row], each[row], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(mlp(x, times[0]), each, atol=1e-2)


def test_one_index_for_all_images_equals_the_same_index_for_each():
    network, x = network_of("digits-ddpm"), noisy("digits-ddpm", 0.0, 4).float()
    indices = torch.tensor([0.0, 10.5, 998.75, 999.0])
    each = network(x, indices)
    for row, index in enumerate(indices):
        torch.testing.assert_close(network(x, index)[row], each[row], rtol=1e-4, atol=1e-4)


def test_the_velocity_network_gives_the_noise_of_the_published_identity():
    """``eps = sqrt(1 - abar) x + sqrt(abar) v`` (Salimans & Ho 2022), v from the inner network."""
    network, schedule = network_of("digits-ddpm"), schedules.schedules.create("linear")
    x = noisy("digits-ddpm", 0.0, 3).float()
    for index in (0, 499, 999):
        abar = schedule.alphas_cumprod[index]
        velocity = network.inner(x, torch.tensor((index + 1) / 1000))
        expected = math.sqrt(1 - abar) * x + math.sqrt(abar) * velocity
        torch.testing.assert_close(network(x, torch.tensor(float(index))), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "images"), [("digits-classifier", 360), ("mnist-classifier", 1000)])
def test_a_classifiers_accuracy_on_its_held_out_images_is_its_cards(name, images):
    card = CARDS[name]
    pictures, labels = real(name)
    held_out = train_test_split(
        np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=card["training"]["seed"]
    )[1]
    extract = features.create(card, checkpoint(name))
    found = torch.from_numpy(np.concatenate(list(features.stream(extract, pictures[held_out], 128)))).float()
    accuracy = (network_of(name).head(found).argmax(1).numpy() == labels[held_out]).mean()
    assert card["test_images"] == len(held_out) == images
    assert accuracy == pytest.approx(card["test_accuracy"], abs=1e-4)


def test_an_unknown_network_or_option_is_refused():
    with pytest.raises(ValueError, match="did you mean 'residual-mlp'"):
        networks.create("residual-mpl")
    with pytest.raises(ValueError, match="widht"):
        networks.create("residual-mlp", image_shape=SHAPE, widht=3)


def test_a_checkpoint_of_another_network_is_refused():
    with pytest.raises(ValueError, match=r"digits-classifier\.safetensors does not fit the network 'residual-mlp'"):
        models.load_network(CARDS["digits-edm"], checkpoint("digits-classifier"))


def test_the_unet_is_the_one_that_was_trained():
    """Its size, and its error on four noisy digits as measured on the day of its training."""
    assert sum(parameter.numel() for parameter in network_of("mnist-ddpm").parameters()) == 636_465
    found = loaded("mnist-ddpm")(noisy("mnist-ddpm", 1.0, 4), torch.tensor(1.0))
    error = (found - noisy("mnist-ddpm", 0.0, 4)).square().mean().sqrt()
    assert float(error) == pytest.approx(0.16248, abs=5e-5)


@pytest.mark.parametrize(
    ("name", "solver", "family", "nfe", "images", "confidence"),
    [
        # Measured over three seeds: mean confidence 0.90 to 0.92 (real held-out digits 0.93, uniform noise 0.51).
        ("digits-ddpm", "ddim", "uniform-index", 50, 500, 0.87),
        ("digits-edm", "ddim", "karras", 50, 500, 0.87),
        # Measured over three seeds: 0.81 to 0.87 (real images 0.95); noise is all of one class.
        ("mnist-ddpm", "dpm-solver++", "uniform-index", 20, 60, 0.79),
    ],
)
def test_samples_are_recognisable_digits_of_all_ten_kinds(name, solver, family, nfe, images, confidence):
    denoise = loaded(name, batch_size=100)
    latents = noise.latents(range(images), CARDS[name]["image_shape"], seed=0)
    x = sampling.sample(solvers.create(solver), denoise, latents, grids.for_model(denoise, family, nfe))
    classifier = network_of(f"{name.split('-')[0]}-classifier")
    found = classifier(torch.from_numpy(pixels.from_bytes(pixels.to_bytes(x)))).softmax(1)
    assert found.max(1).values.mean() > confidence
    assert np.bincount(found.argmax(1), minlength=10).min() >= images / 25


def test_every_byte_survives_the_round_trip():
    images = np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 8)
    found = pixels.to_bytes(torch.from_numpy(pixels.from_bytes(images)))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, images)


def test_bytes_are_rounded_and_clipped():
    values = torch.tensor([-1.5, -1.0, -0.9961, 0.0, 0.9999, 1.0, 7.0])
    np.testing.assert_array_equal(pixels.to_bytes(values), [0, 0, 0, 128, 255, 255, 255])
    assert pixels.from_bytes(np.array([0, 255], np.uint8)).tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_an_image_that_is_not_finite_is_refused(bad):
    images = torch.zeros(2, 1, 2, 2)
    images[1, 0, 1, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        pixels.to_bytes(images)
