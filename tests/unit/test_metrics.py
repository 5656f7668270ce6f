"""Distances equal the published implementation's and closed forms; features equal clean-fid's own pipeline."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from dode import data, models
from dode.metrics import distances, features, resizing
from dode.metrics.distances import Statistics

# Before clean-fid, which it makes importable beside a CPU-only torch.
from dode.metrics.reference import inception_pytorch  # isort: skip
from cleanfid import features as cleanfid_features, fid as cleanfid  # isort: skip
from cleanfid.inception_torchscript import InceptionV3W  # isort: skip
from cleanfid.resize import build_resizer  # isort: skip

CARDS = Path(__file__).parents[2] / "config" / "models"
CARD = yaml.safe_load((CARDS / "digits-classifier.yaml").read_text())
CHECKPOINT = CARDS / "digits-classifier.safetensors"

# clean-fid's use of scipy and Pillow.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def gaussian(count, seed, shift=0.0, size=6):
    draw = np.random.default_rng(seed)
    return draw.standard_normal((count, size)) @ draw.standard_normal((size, size)) + shift


def moments(x):
    return x.mean(axis=0), np.cov(x, rowvar=False)


@pytest.mark.parametrize("splits", [[], [1], [2, 3, 250], list(range(1, 400)), [399]])
@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_streaming_moments_equal_numpys_whatever_the_batches(splits, shift):
    x = gaussian(400, 0, shift)
    found = Statistics.of(np.split(x, splits))
    mean, covariance = moments(x)
    np.testing.assert_allclose(found.moments[0], mean, rtol=1e-12)
    np.testing.assert_allclose(found.moments[1], covariance, rtol=1e-9)
    assert found.count == 400
    np.testing.assert_array_equal(found.features, x.astype(np.float32))


def test_memory_is_bounded_and_the_first_features_are_kept(monkeypatch):
    monkeypatch.setattr(distances, "KEPT_FEATURES", 250)
    draw, statistics = np.random.default_rng(0), Statistics()
    first = [draw.standard_normal((100, 64)) for _ in range(3)]
    tracemalloc.start()
    try:
        for batch in first:
            statistics.add(batch)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            statistics.add(draw.standard_normal((100, 64)))
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(statistics.features, np.concatenate(first)[:250].astype(np.float32))
    assert grown < 100 * 64 * 8  # less than one of the hundred batches


def test_fid_of_streamed_features_is_clean_fids():
    first, second = gaussian(300, 1), gaussian(200, 2, 0.5)
    ours = distances.fid(Statistics.of(np.split(first, 3)).moments, Statistics.of(np.split(second, 4)).moments)
    assert ours == pytest.approx(cleanfid.fid_from_feats(first, second), rel=1e-9)
    assert ours == pytest.approx(cleanfid.frechet_distance(*moments(first), *moments(second)), rel=1e-9)


def test_fid_of_diagonal_gaussians_is_the_closed_form():
    """``|mu_1 - mu_2|^2 + |s_1 - s_2|^2`` for standard deviations s."""
    draw = np.random.default_rng(0)
    means, deviations = draw.standard_normal((2, 64)), draw.uniform(0.1, 3, (2, 64))
    first, second = [(mean, np.diag(deviation**2)) for mean, deviation in zip(means, deviations, strict=True)]
    expected = np.square(means[0] - means[1]).sum() + np.square(deviations[0] - deviations[1]).sum()
    assert distances.fid(first, second) == pytest.approx(expected, rel=1e-10)
    assert distances.fid(first, first) == pytest.approx(0, abs=1e-10)


def test_kid_is_clean_fids_on_the_seeded_subsets():
    real, generated = gaussian(300, 1), gaussian(200, 2, 0.5)
    np.random.seed(5)  # noqa: NPY002
    expected = cleanfid.kernel_distance(real, generated, num_subsets=7, max_subset_size=50)
    assert distances.kid(real, generated, subsets=7, subset_size=50, seed=5) == expected


def test_kid_on_all_features_is_the_unbiased_closed_form():
    """Binkowski et al. 2018, Eq. 4, with the kernel ``(x.y / F + 1)^3``; one subset of everything."""
    real, generated = gaussian(40, 1), gaussian(40, 2, 0.3)

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    within = sum((kernel(x, x).sum() - np.trace(kernel(x, x))) / (40 * 39) for x in (real, generated))
    expected = within - 2 * kernel(real, generated).mean()
    assert distances.kid(real, generated, subsets=1, subset_size=40) == pytest.approx(expected, rel=1e-9)


def test_kid_is_deterministic_and_leaves_numpys_global_state_as_it_was():
    real, generated = gaussian(300, 1), gaussian(200, 2)
    np.random.seed(1)  # noqa: NPY002
    state = np.random.get_state()  # noqa: NPY002
    first = distances.kid(real, generated, subsets=3, subset_size=20)
    for before, after in zip(state, np.random.get_state(), strict=True):  # noqa: NPY002
        np.testing.assert_array_equal(before, after)
    np.random.random()  # noqa: NPY002
    assert distances.kid(real, generated, subsets=3, subset_size=20) == first
    assert distances.kid(real, generated, subsets=3, subset_size=20, seed=1) != first


def test_kid_puts_numpys_global_state_back_after_an_error():
    state = np.random.get_state()  # noqa: NPY002
    with pytest.raises(ValueError, match="matmul"):
        distances.kid(gaussian(20, 1), gaussian(20, 2, size=5), subsets=1, subset_size=10)
    np.testing.assert_array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002


def test_rmse_is_per_element():
    first = np.random.default_rng(0).standard_normal((4, 1, 2, 3)).astype(np.float32)
    second = first.copy()
    second[1] += 2
    assert distances.rmse(first, first) == 0
    assert distances.rmse(first, second) == pytest.approx(1.0)
    bytes_apart = distances.rmse(np.zeros(3, np.uint8), np.full(3, 20, np.uint8))
    assert bytes_apart == 20


def test_digit_features_do_not_depend_on_the_batch_size():
    images = data.sources.create("digits")[0][:100]
    extract = features.create(CARD, CHECKPOINT)
    whole = np.concatenate(list(features.stream(extract, images, 100)))
    assert whole.shape == (100, 64)
    assert whole.dtype == np.float64
    assert whole.std(axis=0).min() > 0
    for size in (1, 7, 99):
        batches = list(features.stream(extract, images, size))
        assert [len(batch) for batch in batches] == [len(images[i : i + size]) for i in range(0, 100, size)]
        np.testing.assert_allclose(np.concatenate(batches), whole, rtol=1e-4, atol=1e-5)


def test_the_committed_classifiers_accuracy_on_its_held_out_digits_is_the_cards():
    from sklearn.model_selection import train_test_split

    from dode.models.training import RECIPES

    images, labels = data.sources.create("digits")
    held_out = train_test_split(
        np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=RECIPES["digits-classifier"]["seed"]
    )[1]
    extract, network = features.create(CARD, CHECKPOINT), models.load_network(CARD, CHECKPOINT)
    found = torch.from_numpy(np.concatenate(list(features.stream(extract, images[held_out], 128)))).float()
    accuracy = (network.head(found).argmax(1).numpy() == labels[held_out]).mean()
    assert CARD["test_images"] == len(held_out) == 360
    assert accuracy == pytest.approx(CARD["test_accuracy"], abs=1e-4)


class Layers(nn.Module):
    """Random features of the right size, which depend on every part of the image."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(13)
        self.linear = nn.Linear(3 * 13 * 13, 2048)

    def forward(self, x):
        return self.linear(self.pool(x).flatten(1)).tanh()


class StandIn(nn.Module):
    """The interface of the published Inception file: ``layers``, and resizing inside ``forward``."""

    def __init__(self):
        super().__init__()
        self.layers = Layers()

    def forward(self, x, return_features: bool = False):
        assert return_features
        x = nn.functional.interpolate(x.float(), size=[299, 299], mode="bilinear")
        return self.layers((x - 128) / 128)


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    """Path of a TorchScript file under the name that clean-fid reads."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("inception") / "inception-2015-12-05.pt"
    torch.jit.script(StandIn().eval()).save(str(path))
    return path


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "colour"])
def pictures(request, tmp_path_factory):
    """Images (5, C, 20, 28) uint8 and a folder with the same as PNGs."""
    images = np.random.default_rng(0).integers(0, 256, (5, request.param, 20, 28), dtype=np.uint8)
    folder = tmp_path_factory.mktemp("png")
    for index, image in enumerate(images):
        picture = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        Image.fromarray(picture).save(folder / f"{index}.png")
    return images, folder


@pytest.mark.parametrize("mode", ["clean", "legacy_tensorflow"])
def test_inception_features_are_those_of_clean_fids_own_pipeline(inception, pictures, mode):
    images, folder = pictures
    network = InceptionV3W(str(inception.parent), download=False, resize_inside=mode == "legacy_tensorflow")
    expected = cleanfid.get_folder_features(
        str(folder), network.eval(), num_workers=0, batch_size=2, device=torch.device("cpu"), mode=mode, verbose=False
    )
    card = {"network": {"name": "inception", "options": {"mode": mode}}}
    found = np.concatenate(list(features.stream(features.create(card, inception), images, 3)))
    assert found.shape == (5, 2048)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_pytorch_inception_features_are_those_of_clean_fids_own_pipeline(pictures, tmp_path, monkeypatch):
    """The whole network with random weights, once read from a file and once given to clean-fid as its download."""
    images, folder = pictures
    own = inception_pytorch._inception_v3(num_classes=1008, aux_logits=False, pretrained=False, init_weights=False)
    draw = torch.Generator().manual_seed(0)
    weights = own.state_dict()
    for name, weight in weights.items():
        if weight.ndim == 4:  # so that activations stay of order one
            weights[name] = torch.randn(weight.shape, generator=draw) * (2 / weight[0].numel()) ** 0.5
    save_file(weights, tmp_path / "model.safetensors")
    monkeypatch.setattr(inception_pytorch, "load_state_dict_from_url", lambda *_, **__: weights)
    network = cleanfid_features.build_feature_extractor("legacy_pytorch", torch.device("cpu"), use_dataparallel=False)
    monkeypatch.undo()
    options = {"num_workers": 0, "batch_size": 2, "device": torch.device("cpu"), "verbose": False}
    expected = cleanfid.get_folder_features(str(folder), network, mode="legacy_pytorch", **options)
    card = {"network": {"name": "inception", "options": {"mode": "legacy_pytorch"}}}
    found = np.concatenate(list(features.stream(features.create(card, tmp_path / "model.safetensors"), images, 3)))
    assert found.shape == (5, 2048)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 1e-2


def test_edms_features_are_those_of_the_tensorflow_mode(inception, pictures):
    """EDM's fid.py gives the bytes themselves to the network, grey images three times."""
    images = torch.from_numpy(pictures[0])
    expected = torch.jit.load(inception)(images.repeat(1, 3 // images.shape[1], 1, 1), return_features=True)
    card = {"network": {"name": "inception", "options": {"mode": "legacy_tensorflow"}}}
    assert features.create(card, inception)(pictures[0]).equal(expected)


def test_features_are_computed_in_smaller_batches_where_memory_runs_out():
    asked = []

    def extract(images):
        asked.append(len(images))
        if len(images) > 3:
            raise torch.OutOfMemoryError
        return torch.from_numpy(images).double().flatten(1)

    images = np.arange(40, dtype=np.uint8).reshape(10, 1, 2, 2)
    found = np.concatenate(list(features.stream(extract, images, 8)))
    np.testing.assert_array_equal(found, images.reshape(10, 4))
    assert asked == [8, 4, 2, 2, 2, 2, 2]


def test_an_unknown_mode_is_refused_with_the_known_ones(inception):
    with pytest.raises(ValueError, match="clean, legacy_pytorch, legacy_tensorflow"):
        features.create({"network": {"name": "inception", "options": {"mode": "clear"}}}, inception)


def test_inception_resizes_in_clean_mode_unless_told_otherwise(inception, pictures):
    def extracted(**options):
        return features.create({"network": {"name": "inception", "options": options}}, inception)(pictures[0])

    assert torch.equal(extracted(), extracted(mode="clean"))
    assert not torch.allclose(extracted(), extracted(mode="legacy_tensorflow"), atol=1e-3)


def test_inception_refuses_a_file_that_clean_fid_would_not_read(tmp_path):
    with pytest.raises(ValueError, match=r"inception-2015-12-05\.pt, not other\.pt"):
        features.create({"network": {"name": "inception", "options": {}}}, tmp_path / "other.pt")


def test_an_unknown_extractor_is_refused_with_the_known_names():
    with pytest.raises(ValueError, match="digit-classifier, inception"):
        features.create({"network": {"name": "inceptoin", "options": {}}}, CHECKPOINT)
