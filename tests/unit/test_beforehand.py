"""What would fail in every job is found before any."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import forked_python
from dode.benchmark import beforehand, devices
from dode.benchmark.cells import Benchmark
from dode.fetching.cards import load_card
from dode.validation import ConfigError
from workspace import REPOSITORY, TINY, change


@pytest.fixture
def refusal(tmp_path, monkeypatch):
    """``refusal(changes)``: the sentence with which the tiny benchmark, changed, is refused, or None."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(sys, "executable", forked_python.executable())

    def check(changes, *, local=True):
        config = yaml.safe_load(TINY.read_text(encoding="utf-8"))
        for key, value in changes.items():
            change(config, key, value)
        try:
            beforehand.check(Benchmark(config, REPOSITORY), local=local, say=lambda line: None)
        except ConfigError as error:
            return str(error)
        return None

    return check


def test_what_is_right_is_let_through(refusal):
    assert refusal({}) is None


def test_a_gpu_that_is_not_there_is_refused_where_jobs_run_here(refusal):
    sentence = "execution.device: 'cuda' is not allowed; allowed: auto or cpu, because torch finds no CUDA device"
    assert refusal({"execution.device": "cuda"}) == f"{sentence} on this machine"


@pytest.fixture
def tasks(monkeypatch):
    """What other processes would be asked to try; nothing is tried, and so nothing found."""
    asked = []

    def run(command, **options):
        asked.append(json.loads(command[-1]))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(beforehand.subprocess, "run", run)
    return asked


def test_a_gpu_is_not_looked_for_where_jobs_run_elsewhere(refusal, tasks):
    for local in (True, False):
        assert refusal({"execution.device": "cuda"}, local=local) is None
    assert [task["device"] for task in tasks] == ["cuda", None]


def test_a_gpu_beyond_the_last_is_refused_also_in_a_job(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert all(map(devices.is_here, ("cuda", "cuda:1", "cpu", "auto")))
    with pytest.raises(ValueError, match=r"execution\.device: 'cuda:2' is not allowed; allowed: cuda:0 to cuda:1"):
        devices.device("cuda:2")


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("digits-edm", {"widht": 3}, "unknown option 'widht' (did you mean 'width'?)"),
        ("digits-edm", {"width": "256"}, "option 'width' must be a finite number, not '256'"),
        ("adm-imagenet128", {"chanels": 2}, "unknown option 'chanels' (did you mean 'channels'?)"),
        ("ddpm-cifar10", {"multipliers": 3}, "'int'"),
        ("digits-classifier", {"size": 8}, "unknown option 'size'"),
    ],
)
def test_an_option_that_a_network_does_not_take_is_named(name, options, says):
    card = load_card(REPOSITORY, name, "model")
    card["network"]["options"].update(options)
    found = beforehand.fault({"device": None, "cards": {name: card}})
    assert found.startswith(f"config/models/{name}.yaml: network.options: ")
    assert says in found


def test_networks_of_all_cards_can_be_made():
    names = [path.stem for path in (REPOSITORY / "config" / "models").glob("*.yaml")]
    cards = {name: load_card(REPOSITORY, name, "model") for name in names}
    pytest.importorskip("diffusers")
    # Some differ in nothing but their file and what is said of it.
    told = {"urls", "sha256", "md5", "size", "licence", "restrictions", "notes"}
    told |= {"format", "key", "statistics", "sampling"}
    different = {
        yaml.safe_dump({key: value for key, value in card.items() if key not in told}): name
        for name, card in cards.items()
        if "network" in card
    }
    assert len(different) > 20
    assert beforehand.fault({"device": None, "cards": {name: cards[name] for name in different.values()}}) is None


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("mnist-ddpm", {"image_shape": [1, 30, 30]}, "called for images [1, 30, 30] it fails"),
        ("mnist-ddpm", {"network.options.config.num_class_embeds": 10}, "classes: None is not allowed"),
        ("digits-edm", {"classes": 10}, "unexpected keyword argument 'labels'"),
        ("digits-edm", {"image_shape": [3, 8, 8]}, "called for images [3, 8, 8] it fails"),
        ("ddpm-cifar10", {"network.options.out_channels": 6}, "called for images [3, 32, 32] it fails"),
        ("edm-cifar10-uncond", {"network.options.out_channels": 6}, "network"),
        ("ddpm-cifar10", {"image_shape": [3, 64, 64]}, "the network takes images of shape (3, 32, 32)"),
        ("adm-imagenet128", {"network.options.classes": None}, "an unconditional one takes none"),
    ],
)
def test_a_network_that_cannot_be_called_as_its_card_says_is_found_before_any_job(name, changes, says):
    card = load_card(REPOSITORY, name, "model")
    for key, value in changes.items():
        change(card, key, value)
    found = beforehand.fault({"device": None, "cards": {name: card}})
    assert found.startswith(f"config/models/{name}.yaml: ")
    assert says in found
    assert "\n" not in found


def test_a_damaged_image_is_named(refusal, tasks, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(5):
        Image.fromarray(np.full((8, 8), index, np.uint8)).save(folder / f"{index}.png")
    assert refusal({"datasets[0].data": {"folder": str(folder)}}) is None
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:45])
    found = refusal({"datasets[0].data": {"folder": str(folder)}})
    assert f"{folder}/3.png cannot be read as an image" in found
    assert "\n" not in found
