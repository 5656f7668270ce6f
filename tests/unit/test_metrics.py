"""Features equal clean-fid's own pipeline."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from dode.images import data
from dode.metrics import features, resizing

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


@pytest.mark.parametrize("size", [(32, 32), (20, 28), (64, 256), (299, 299), (512, 300)])
@pytest.mark.parametrize("mode", ["clean", "legacy_pytorch"])
def test_batches_are_resized_as_clean_fid_resizes_single_images(mode, size):
    """Up and down, black and white noise, where the filter overshoots and is cut off."""
    images = np.random.default_rng(0).choice([0, 100, 255], (2, *size, 3)).astype(np.uint8)
    expected = np.stack([build_resizer(mode)(image) for image in images])
    found = getattr(resizing, mode)(torch.from_numpy(images).permute(0, 3, 1, 2).float())
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), expected, rtol=0, atol=1e-4)
    assert expected.min() == 0


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    """Weights of the whole network of pytorch-fid, and a file with them."""
    own = inception_pytorch._inception_v3(num_classes=1008, aux_logits=False, pretrained=False, init_weights=False)
    draw = torch.Generator().manual_seed(0)
    weights = own.state_dict()
    for name, weight in weights.items():
        if weight.ndim == 4:  # so that activations stay of order one
            weights[name] = torch.randn(weight.shape, generator=draw) * (2 / weight[0].numel()) ** 0.5
    path = tmp_path_factory.mktemp("pytorch") / "model.safetensors"
    save_file(weights, path)
    return weights, path


def test_pytorch_inception_features_are_those_of_clean_fids_own_pipeline(pictures, random_weights, monkeypatch):
    """The whole network with random weights, once read from a file and once given to clean-fid as its download."""
    (images, folder), (weights, path) = pictures, random_weights
    monkeypatch.setattr(inception_pytorch, "load_state_dict_from_url", lambda *_, **__: weights)
    network = cleanfid_features.build_feature_extractor("legacy_pytorch", torch.device("cpu"), use_dataparallel=False)
    monkeypatch.undo()
    options = {"num_workers": 0, "batch_size": 2, "device": torch.device("cpu"), "verbose": False}
    expected = cleanfid.get_folder_features(str(folder), network, mode="legacy_pytorch", **options)
    card = {"network": {"name": "inception", "options": {"mode": "legacy_pytorch"}}}
    found = np.concatenate(list(features.stream(features.create(card, path), images, 3)))
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
