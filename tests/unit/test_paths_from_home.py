"""Paths that begin with ``~``: in configurations, cards and on the command line."""

import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from checkouts import Checkout
from dode.__main__ import main
from dode.benchmark.cells import Benchmark
from dode.commands import export
from dode.images import examples
from dode.validation import from_home, paths_from_home
from workspace import REPOSITORY, TINY


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with a space and a percent sign in its path."""
    folder = tmp_path / "a 100% home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def test_only_the_home_at_the_beginning_is_replaced(home):
    assert from_home("~/a/~b") == f"{home}/a/~b"
    assert from_home("~") == str(home)
    assert from_home("file:~/a%20b") == f"file:{home}/a%20b".replace("a 100% home", "a%20100%25%20home")
    for path in ("a~/b", "/~/b", "file:///~/x", "hf:~/x", "https://x/~/y", "~nobody-of-this-name/x", ""):
        assert from_home(path) == path


def test_only_paths_are_replaced_at_any_depth(home):
    value = {"label": "~/x", "data": [{"folder": "~/x"}], "urls": ["file:~/x", "https://x"], "file": {"zip": "~"}}
    found = paths_from_home(value)
    assert found["label"] == "~/x"
    assert found["data"] == [{"folder": f"{home}/x"}]
    assert found["urls"][0].startswith("file:/")
    assert found["urls"][1] == "https://x"
    assert found["file"] == {"zip": str(home)}


def test_images_of_a_configuration_are_the_same_by_either_path(home):
    (home / "images").mkdir()
    for index in range(3):
        Image.fromarray(np.full((8, 8), index, dtype=np.uint8)).save(home / "images" / f"{index}.png")
    found = []
    for path in ("~/images", f"{home}/images"):
        config = yaml.safe_load(TINY.read_text(encoding="utf-8"))
        config["datasets"][0]["data"] = {"folder": path}
        config["execution"] = {**config.get("execution", {}), "cache": path}
        benchmark = Benchmark(config, REPOSITORY)
        found.append((benchmark.config, list(benchmark.sources)))
    assert found[0] == found[1]
    assert found[0][0]["execution"]["cache"] == f"{home}/images"
    card = {"image_shape": [1, 8, 8]}
    assert examples.of_card(card, named="~/images", count=2).images.shape == (2, 1, 8, 8)


def test_an_options_path_may_be_written_after_its_equals_sign(home, monkeypatch):
    found = []
    monkeypatch.setattr(export, "run", found.append)
    main(["export", "results", "dataset", "solver", "5", "--output=~/mine.json"])
    main(["export", "results", "dataset", "a=~/b", "5"])
    assert found[0].output == f"{home}/mine.json"
    assert found[1].solver == "a=~/b"


def test_checkpoints_and_sources_of_cards_are_found(home, tmp_path):
    (tmp_path / "checkout").mkdir()
    checkout = Checkout(tmp_path / "checkout")
    card = checkout.downloaded()
    shutil.move(checkout.root / "downloaded", home / "downloaded")
    read = checkout.read({**card, "urls": ["file:~/downloaded/diffusion_pytorch_model.safetensors"]})
    assert read["image_shape"] == [3, 8, 8]  # of the file beside it
    pipeline = {"role": "diffusion", "licence": "none", "pipeline": {"source": "file:~/text-to-digit"}}
    shutil.copytree(REPOSITORY / "config" / "models" / "text-to-digit", home / "text-to-digit")
    assert checkout.read(pipeline)["image_shape"] == [1, 28, 28]
