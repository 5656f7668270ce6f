"""A small file of every published family comes over HTTP, is read, and computes what other code does on its weights."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import edm_layout
import faulty_server
from dode import checkpoints, models
from dode.checkpoints import CheckpointError
from dode.fetching import acquire, cards, checksums, downloads
from dode.models.networks import networks
from families import CARDS, FAMILIES, NCSNPP, SIZE, denoised

pytestmark = pytest.mark.usefixtures("here")

SCHEMAS = Path(__file__).parents[2] / "config" / "schemas"
FORMATS = {
    "torch, legacy": "ddpm-cifar10",
    "torch, zip": "adm-imagenet128",
    "edm-pickle": "edm-imagenet64",
    "safetensors": "ddpm-ema-cifar10-32, safetensors",
}
DIFFUSION = [name for name in FAMILIES if not name.endswith("classifier")]
CONDITIONS = {"data": (-1.5, 0.1, 1.09), "noise": (0.0, 36.7, 999.0)}  # ln(sigma) / 4 and index, from end to end


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSE", 0.01)
    monkeypatch.setattr(downloads, "ATTEMPTS", 2)


@pytest.fixture
def server():
    with faulty_server.serving() as server:
        yield server


class Checkout:
    """A folder with a card, and what the rules of rules/checkpoints.smk do with it."""

    def __init__(self, folder, server):
        self.folder, self.server = folder, server
        shutil.copytree(SCHEMAS, folder / "config" / "schemas")
        (folder / "config" / "models").mkdir()

    def publish(self, family, weights=None, **options):
        """Write the family's file and let the server have it."""
        path = self.folder / family.card["file"]
        family.write(path, family.weights if weights is None else weights, **options)
        self.server.content = path.read_bytes()
        path.unlink()
        assert len(self.server.content) > faulty_server.CUT, "too short to be cut"

    def add(self, family, *faults, **known):
        """Add the card, whose URLs are these paths of the server; returns it as it is read."""
        urls = [f"{self.server.url}/{fault}" for fault in [*faults, "good"]]
        card = {**family.card, "urls": urls, **known}
        (self.folder / "config" / "models" / "tiny.yaml").write_text(yaml.safe_dump(card))
        return cards.load_card(self.folder, "tiny", "card")

    def fetch(self, card):
        path = self.folder / "resources" / "checkpoints" / "tiny" / cards.file_name(card)
        acquire.obtain("tiny", card, path, root=self.folder)
        return path

    def read(self, card, path):
        """The safetensors file that jobs read."""
        if card["format"] not in cards.CONVERTED:
            return path
        target = self.folder / "resources" / "models" / "tiny.safetensors"
        checkpoints.convert(path, target, format=card["format"], key=card.get("key"))
        return target

    def model(self, card):
        return self.read(card, self.fetch(card))

    def resources(self):
        return sorted(path.name for path in (self.folder / "resources").rglob("*") if path.is_file())


@pytest.fixture
def checkout(tmp_path, server):
    return Checkout(tmp_path, server)


def noise(count=3):
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))


def labels_of(family):
    return torch.tensor([4, 0, 2]) if "classes" in family.card else None


def close(found, expected):
    """Equal but for the rounding of single precision, in units of what is expected."""
    unit = expected.std()
    assert unit > 0.01
    torch.testing.assert_close(found.double() / unit, expected / unit, rtol=1e-5, atol=1e-5)


def test_every_published_model_has_a_family():
    """Those of this project are in the repository themselves."""
    cards = {path.stem: yaml.safe_load(path.read_text()) for path in CARDS.glob("*.yaml")}
    with_urls = {name: card for name, card in cards.items() if "urls" in card}
    published = {name for name, card in with_urls.items() if not card["urls"][0].startswith("file:")}
    models = {name for name in published if cards[name]["role"] in ("diffusion", "classifier")}
    assert {FAMILIES[name](channels=3).published for name in FAMILIES} == models


@pytest.mark.parametrize("name", FAMILIES)
def test_a_published_file_becomes_a_network_that_computes_what_other_code_does(checkout, name):
    family = FAMILIES[name](channels=3)
    checkout.publish(family)
    card = checkout.add(family, size=len(checkout.server.content))
    path = checkout.model(card)
    stored = load_file(path)
    assert stored.keys() == family.weights.keys()
    for key, value in family.weights.items():
        assert stored[key].dtype == value.dtype
        assert torch.equal(stored[key], value), key
    network, x, labels = models.load_network(card, path), noise(), labels_of(family)
    given = {} if labels is None else {"labels": labels}
    for condition in CONDITIONS[card.get("prediction", "noise")]:
        found = network(x, torch.tensor(condition), **given)
        close(found, family.output(x.double(), condition, labels))
    assert set(checksums.read(checkout.folder)) == {f"tiny/{card['file']}"}


@pytest.mark.parametrize("name", DIFFUSION)
def test_a_published_file_becomes_the_denoiser_of_the_published_equations(checkout, name):
    family = FAMILIES[name](channels=3)
    checkout.publish(family)
    card = checkout.add(family)
    denoise, x, labels = models.load(card, checkout.model(card), batch_size=2), noise(), labels_of(family)
    if labels is not None:
        denoise = denoise.conditioned(labels)
    for sigma, where in noise_levels(family):
        state = (1 + sigma) * x.double()
        expected = denoised(family, state, sigma, labels, **where)
        # The error of the network's output, in the units of D.
        unit = sigma if where else sigma * 0.5 / (sigma**2 + 0.25) ** 0.5
        found = denoise(state, torch.tensor(sigma, dtype=torch.float64))
        torch.testing.assert_close(found / unit, expected / unit, rtol=0, atol=1e-5)


def noise_levels(family):
    """(sigma, its index in the schedule as an option of ``denoised``) from the smallest to the largest."""
    if family.levels is None:
        return [(sigma, {}) for sigma in (0.002, 0.7, 80.0)]
    last = len(family.levels) - 1
    return [(float(family.levels[index]), {"index": index}) for index in (0, last // 4, last)]


def test_a_classifier_guides_as_the_published_equations_do(tmp_path, server):
    family, classifier = (FAMILIES[name](channels=3) for name in ("adm-imagenet128", "adm-imagenet128-classifier"))
    cards, files = {}, {}
    for part, made in {"model": family, "classifier": classifier}.items():
        (tmp_path / part).mkdir()
        checkout = Checkout(tmp_path / part, server)
        checkout.publish(made)
        cards[part] = checkout.add(made)
        files[part] = checkout.model(cards[part])
    guidance = cards["model"]["sampling"]["guidance"]
    assert guidance == {"name": "classifier", "scale": 1.25, "classifier": classifier.published}
    guidance = guidance | {"classifier": cards["classifier"]}
    denoise = models.load(cards["model"], files["model"], guidance=guidance, classifier=files["classifier"])
    labels, x = labels_of(family), noise().double()
    for sigma, where in noise_levels(family)[:2]:
        plain = denoised(family, x, sigma, labels, **where)
        guided = denoised(family, x, sigma, labels, guided_by=classifier, scale=1.25, **where)
        found = denoise.conditioned(labels)(x, torch.tensor(sigma, dtype=torch.float64))
        assert (guided - plain).abs().max() > 1e-3 * sigma**2
        torch.testing.assert_close(found / sigma, guided / sigma, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("redirected", None),
        ("broken-once", None),
        ("truncated", "truncated"),
        ("stalling", "stalled"),
        ("page", "web page"),
        ("short", "md5 is"),
        ("wrong", "md5 is"),
    ],
)
def test_a_fault_of_the_server_never_reaches_the_network(checkout, monkeypatch, name, fault, said):
    """The first URL has the fault: alone it is refused and leaves nothing behind, with a mirror it is passed over."""
    if fault == "stalling":
        monkeypatch.setattr(downloads, "TIMEOUT", 0.5)
    family = FAMILIES[name](channels=3)
    checkout.publish(family)
    card = checkout.add(family, fault, md5=hashlib.md5(checkout.server.content).hexdigest())
    if said:
        with pytest.raises((OSError, ValueError), match=said):
            checkout.model({**card, "urls": card["urls"][:1]})
        assert checkout.resources() == []
        assert checksums.read(checkout.folder) == {}
    found = load_file(checkout.model(card))
    assert all(torch.equal(found[key], value) for key, value in family.weights.items())
    assert (f"{checkout.server.url}/good" in checksums.read(checkout.folder).popitem()[1]["url"]) == bool(said)


def raw(tensor):
    return tensor.numpy().tobytes()


@pytest.mark.parametrize("name", FORMATS.values(), ids=FORMATS)
def test_a_published_file_that_changes_is_refused_by_the_lock(checkout, name):
    family = FAMILIES[name](channels=3)
    checkout.publish(family)
    card = checkout.add(family)
    checkout.model(card)
    before = checksums.read(checkout.folder)
    shutil.rmtree(checkout.folder / "resources")
    value = family.weights[list(family.weights)[-1]]
    content = checkout.server.content
    checkout.server.content = content.replace(raw(value), raw(value + 1))
    assert len(checkout.server.content) == len(content)
    assert checkout.server.content != content
    ((_, entry),) = before.items()
    with pytest.raises(ValueError, match=rf"sha256 is \w+, {checksums.NAME} says .*{entry['sha256']}"):
        checkout.model(card)
    assert checkout.resources() == []
    assert checksums.read(checkout.folder) == before


class Command:
    """Pickled as a command of the shell."""

    def __init__(self, sentinel):
        self.sentinel = sentinel

    def __reduce__(self):
        return os.system, (f"touch {self.sentinel}",)


@pytest.mark.parametrize("name", ["ddpm-cifar10", "adm-imagenet128", "edm-imagenet64"])
def test_a_file_that_wants_to_run_a_command_is_fetched_and_refused(checkout, name):
    """A first download is what its card says of it; reading it is another matter."""
    family, sentinel = FAMILIES[name](channels=3), checkout.folder / "sentinel"
    if name == "edm-imagenet64":
        checkout.publish(family, sentinel=sentinel, changed=lambda data: data.update(loss_fn=Command(sentinel)))
    else:
        checkout.publish(family, {**family.weights, "hook": Command(sentinel)})
    card = checkout.add(family)
    with pytest.raises(CheckpointError, match=r"asks for \w+\.system"):
        checkout.model(card)
    assert checkout.resources() == [card["file"]]
    assert not sentinel.exists()


SONG = {"image_size": 32, "model_channels": 128, "channel_mult": [2, 2, 2], "num_blocks": 4, "attn_resolutions": [16]}
SONG |= {"model_type": "SongUNet", "augment_dim": 9}
DHARIWAL = {"image_size": 64, "model_channels": 192, "channel_mult": [1, 2, 3, 4], "num_blocks": 3, "label_dim": 1000}
DHARIWAL |= {"model_type": "DhariwalUNet", "attn_resolutions": [32, 16, 8]}


@pytest.mark.parametrize("options", [SONG, SONG | {"label_dim": 10}, SONG | NCSNPP, DHARIWAL])
def test_edms_networks_of_full_size_have_the_names_of_the_layout(options):
    own = {key: value for key, value in options.items() if key not in ("model_type", "image_size")}
    with torch.device("meta"):
        shape = [3, options["image_size"], options["image_size"]]
        name = {"SongUNet": "edm-song-unet", "DhariwalUNet": "edm-dhariwal-unet"}[options["model_type"]]
        network = networks.create(name, image_shape=shape, **own)
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == edm_layout.shapes(options)
