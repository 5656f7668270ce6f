"""Sizes and lengths that the parts of a pipeline cannot take are refused as its card is read, and by its family."""

import json

import pytest

from checkouts import Checkout
from dode.pipelines import limits
from dode.validation import ConfigError
from pipeline_folders import card, make


@pytest.fixture
def refusal(tmp_path):
    """``refusal(family, card, **files)``: how a card of a folder is refused; None where it is not."""

    def said(family, changes, **files):
        checkout = Checkout(tmp_path)
        make(checkout.folder / "pipe", family, **files)
        given = {**card(), **changes, "pipeline": {**card()["pipeline"], **changes.get("pipeline", {})}}
        try:
            checkout.read(given)
        except ConfigError as error:
            return str(error)
        return None

    return said


def sized(high, wide=16):
    return {"image_shape": [3, high, wide]}


@pytest.mark.parametrize(
    ("family", "changes", "files", "says"),
    [
        # The decoder of these folders has two pixels for an entry of a latent.
        ("sd3", sized(384), {}, None),
        (
            "sd3",
            sized(388),
            {},
            "image_shape: [3, 388, 16] is not allowed, as the network takes latents of other sizes than [4, 194, 8]; "
            "allowed height and width: multiples of 4 up to 384, by transformer/config.json",
        ),
        ("sd3", sized(16, 400), {"network": {"pos_embed_max_size": 100}}, None),
        ("sd3", sized(16, 404), {"network": {"pos_embed_max_size": 100}}, "multiples of 4 up to 400, by transformer"),
        ("sd3", sized(18), {}, "image_shape: [3, 18, 16] is not allowed, .* multiples of 4 up to 384"),
        ("sd3", sized(18), {"network": {"patch_size": 1}}, None),
        ("flux", sized(32, 20), {}, None),
        ("flux", sized(32, 18), {}, "[3, 32, 18] is not allowed, .* [4, 16, 9]; .* multiples of 4,"),
        ("dit", {}, {}, None),
        ("dit", sized(32, 32), {}, "[3, 32, 32] is not allowed, .* height and width: 16, by transformer/config"),
        ("pixart", sized(400, 20), {}, None),
        ("pixart", sized(22), {}, "[3, 22, 16] is not allowed, .* allowed height and width: multiples of 4, by"),
        ("sana", sized(400, 18), {}, None),
        ("sana", sized(18), {"network": {"patch_size": 2}}, "[3, 18, 16] is not allowed, .* multiples of 4, by"),
        ("sd", sized(18, 400), {}, None),
        (
            "sd",
            {},
            {"network": {"in_channels": 9}},
            "latent_shape: [4, 8, 8], but by in_channels 9 of unet/config.json the network takes latents of 9 channels",
        ),
        ("flux", sized(32), {"network": {"in_channels": 64}}, "in_channels 64 of .* takes latents of 16 channels"),
    ],
)
def test_a_size_that_the_network_cannot_take_is_refused_before_any_job(refusal, family, changes, files, says):
    found = refusal(family, changes, **files)
    if says is None:
        assert found is None
    else:
        for part in says.split(" .* "):
            assert part in found
        assert "\n" not in found


def test_fluxs_packing_is_known_without_its_files(tmp_path, monkeypatch):
    """Of a card that says everything nothing is asked of the hub before the weights are fetched."""
    monkeypatch.setattr("dode.fetching.downloads.of_the_hub", lambda *arguments, online: None)
    whole = {"prediction": "flow", "schedule": {"name": "flow"}, "image_shape": [3, 1016, 1024]}
    kind = {"class": "FluxPipeline", "guidance": "embedded"}
    given = {**card("hf:owner/name", **kind), **whole, "latent_shape": [16, 127, 128]}
    assert "allowed height and width: multiples of 16" in Checkout(tmp_path).refusal(given)


@pytest.mark.parametrize(
    ("family", "length", "says"),
    [
        ("flux", 512, None),
        ("sd3", 0, None),
        ("pixart", 4096, None),
        ("flux", 0, "pipeline.length: 0 is not allowed for FluxPipeline; allowed: an integer from 1 to 512"),
        ("flux", 513, "pipeline.length: 513 is not allowed for FluxPipeline; allowed: an integer from 1 to 512"),
        ("sd3", 1000, "allowed: an integer from 0 to 512"),
        ("pixart", 0, "pipeline.length: 0 is not allowed for PixArtSigmaPipeline; allowed: an integer from 1 to 8192"),
        ("sana", 0, "allowed: an integer from 1 to 8192"),
        ("sd", 77, "pipeline.length: StableDiffusionPipeline has no such choice; leave it out"),
        ("dit", 1, "pipeline.length: DiTPipeline has no such choice; leave it out"),
    ],
)
def test_a_length_of_prompts_is_one_that_the_encoders_take(refusal, family, length, says):
    size = {} if family != "flux" else sized(32)
    found = refusal(family, {**size, "pipeline": {"length": length}})
    assert found is None if says is None else says in found


def test_what_no_class_is_known_of_is_allowed():
    assert limits.sides("NewPipeline", {"patch_size": 4}) == limits.Sides(4)
    assert limits.fault_of_length("NewPipeline", 7) is None
    assert limits.sides("NewPipeline", json.loads('{"patch_size": null, "sample_size": [8, 8]}')) == limits.Sides(1)
