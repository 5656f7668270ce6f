"""The cards of published pipelines: complete without a network connection, and as the folders say that they are of."""

import json
import math
import re

import pytest
import torch
import yaml

import faulty_server
from dode import grids
from dode.fetching import card_grids, checksums, pipelines
from dode.fetching.cards import load_card
from dode.fetching.downloads import of_the_hub
from dode.grids.facts import ModelFacts
from dode.pipelines import described
from published_pipelines import DYNAMIC, GATED, PUBLISHED, files
from workspace import REPOSITORY

FOLDER = REPOSITORY / "config/models"
SOURCES = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.yaml")}
NAMES = [name for name, card in SOURCES.items() if card.get("pipeline", {}).get("source", "").startswith("hf:")]


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    """huggingface_hub, with the hub at a local server and nothing in its cache."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with faulty_server.serving() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server


def repository(card):
    """(owner/name, revision) of a card's source."""
    return re.fullmatch("hf:(.+)@(.+)", card["pipeline"]["source"]).groups()


@pytest.fixture
def obtain(tmp_path, hub):
    """``obtain(name, changes)``: the card's pipeline from the server; returns the manifest and what was asked for."""
    (tmp_path / "config/models").mkdir(parents=True)
    (tmp_path / "resources").mkdir()

    def obtained(name, **changes):
        card = load_card(REPOSITORY, name, "card")
        owner, _ = repository(card)
        hub.repositories.setdefault(owner, files(name, card["pipeline"].get("variant")))
        target = tmp_path / f"resources/{name}.json"
        how = {"root": tmp_path, "folder": FOLDER, "shared": tmp_path / "shared"}
        pipelines.obtain(name, {**card, **changes}, target, **how)
        return json.loads(target.read_text())

    return obtained


def asked(hub):
    """The files that were asked for, without their repository and revision."""
    return {re.sub("^/.*/resolve/[^/]+/", "", path) for path, _ in hub.asked if "/resolve/" in path}


def test_every_pipeline_that_a_card_is_of_is_described_here():
    assert set(NAMES) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_card_is_short_says_where_it_is_from_and_needs_no_network(hub, name):
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert len(re.sub(r"notes: >-\n(  .*\n)+", "", text).splitlines()) <= 10
    assert "diffusers" in SOURCES[name]["notes"] or "maker's example" in SOURCES[name]["notes"]
    assert re.fullmatch("[0-9a-f]{40}", repository(SOURCES[name])[1])
    card = load_card(REPOSITORY, name, "card")
    assert hub.asked == []
    assert ("gated" in card["licence"]) == (name in GATED)
    grid, guidance = card["sampling"]["grid"], card["sampling"].get("guidance", {"name": "never"})
    for steps in (4, 5, 8, 12, 40):
        grids.check(grid["name"], steps, ModelFacts.of_card(card), **grid["options"])
    assert guidance["name"] == card["pipeline"]["guidance"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_card_is_what_its_folder_says(tmp_path, name):
    """Of what a card states, nothing else would have been read from the folder."""
    found = {path: json.loads(content) for path, content in files(name).items() if path.endswith(".json")}
    read = {path: found[path] for path in described.PLACES if path in found}
    card = load_card(REPOSITORY, name, "card")
    assert described.fault(card, read) is None
    short = {key: card[key] for key in ("role", "licence")} | {"pipeline": {"source": card["pipeline"]["source"]}}
    if "sample_size" not in PUBLISHED[name][4]:
        short["image_shape"] = card["image_shape"]
    long = card_grids.completed(described.completed(short, read), read)
    for key in ("prediction", "schedule", "image_shape", "latent_shape", "classes"):
        assert long.get(key) == card.get(key), key
    assert {key: long["pipeline"][key] for key in ("class", "guidance")} == {
        key: card["pipeline"][key] for key in ("class", "guidance")
    }
    facts = ModelFacts.of_card(card)
    own, said = (
        grids.for_facts(facts, grid["name"], 8, **grid["options"])
        for grid in (long["sampling"]["grid"], card["sampling"]["grid"])
    )
    torch.testing.assert_close(own, said, rtol=1e-5, atol=0)  # the shift of FLUX.1-dev is rounded in its card


def test_the_shift_of_flux_is_that_of_its_size():
    tokens = 1024 * 1024 / 16**2
    least, most, low, top = (DYNAMIC[f"{end}_{what}"] for what in ("image_seq_len", "shift") for end in ("base", "max"))
    shift = math.exp(low + (top - low) * (tokens - least) / (most - least))
    assert SOURCES["flux1-dev"]["sampling"]["grid"]["options"]["shift"] == pytest.approx(shift, abs=1e-4)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name not in GATED])
def test_a_published_pipeline_is_fetched_from_the_hub_with_what_is_needed(obtain, hub, tmp_path, name):
    manifest = obtain(name)
    assert set(manifest["files"]) == asked(hub)
    assert not any(path.endswith((".bin", ".md")) for path in asked(hub))
    weights = [path for path in manifest["files"] if path.endswith(".safetensors")]
    assert len(weights) == len(PUBLISHED[name][1]) + 2
    entry = checksums.read(tmp_path)[f"{name}/{name}.json"]
    assert entry["url"] == SOURCES[name]["pipeline"]["source"]


@pytest.mark.parametrize("name", GATED)
def test_a_gated_pipeline_without_a_token_says_where_its_licence_is_accepted(obtain, hub, monkeypatch, name):
    source = SOURCES[name]["pipeline"]["source"]
    owner, _ = repository(SOURCES[name])
    hub.gated.add(owner)
    with pytest.raises(OSError, match="gated") as caught:
        obtain(name)
    assert str(caught.value) == (
        f"{source}: the repository is gated: accept its licence on https://huggingface.co/{owner}, and give a token of "
        "your account in the environment variable HF_TOKEN"
    )
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    assert set(obtain(name)["files"]) <= set(files(name))


def test_a_gated_repository_is_named_when_its_configurations_are_asked_for(hub):
    hub.repositories["me/mine"] = files("flux1-dev")
    hub.gated.add("me/mine")
    with pytest.raises(OSError, match=r"^hf:me/mine/vae/config.json: .*https://huggingface.co/me/mine, .* HF_TOKEN$"):
        of_the_hub("me/mine", "vae/config.json", "v1", online=True)


def test_a_folder_that_contradicts_its_card_is_refused_before_its_weights_come(obtain, hub):
    with pytest.raises(
        ValueError, match=r"^pipeline.guidance: never, but transformer/config.json says guidance_embeds"
    ):
        obtain("flux1-dev", pipeline={**SOURCES["flux1-dev"]["pipeline"], "guidance": "never"})
    assert not any(path.endswith(".safetensors") for path in asked(hub))


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("safetensors", r"transformer in hf:.* has no safetensors .* it has diffusion_pytorch_model\.bin; other files"),
        ("model_index.json", r"^pipeline\.source: hf:facebook/.* has no model_index\.json, so it is no pipeline"),
    ],
)
def test_a_repository_without_safetensors_or_an_index_is_refused(obtain, hub, missing, says):
    owner, _ = repository(SOURCES["dit-xl2-256"])
    known = files("dit-xl2-256")
    hub.repositories[owner] = {path: known[path] for path in known if not path.endswith(missing)}
    with pytest.raises(ValueError, match=says):
        obtain("dit-xl2-256")


def test_a_repository_that_is_not_there_is_named(obtain, hub):
    card = load_card(REPOSITORY, "dit-xl2-256", "card")
    with pytest.raises(OSError, match=r"^hf:nobody/nothing@v1: RepositoryNotFoundError: ") as caught:
        obtain("dit-xl2-256", pipeline={**card["pipeline"], "source": "hf:nobody/nothing@v1"})
    assert "\n" not in str(caught.value)
