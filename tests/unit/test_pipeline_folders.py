"""Pipelines from folders: whole or a part, from safetensors alone, checked before anything is imported."""

import json
import socket

import pytest
import torch

pytest.importorskip("transformers", reason="pipelines need the extra `pipelines`")
import tiny_pipelines as tiny
from dode.pipelines import family as families
from dode.pipelines import folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of Stable Diffusion 3, its network also as the variant fp16."""
    place = tmp_path_factory.mktemp("pipeline")
    pipe = tiny.stable_diffusion_3()
    pipe.save_pretrained(place)
    pipe.transformer.half().save_pretrained(place / "transformer", variant="fp16")
    return place


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """A connection is an error."""

    def connect(*_):
        raise AssertionError("a folder was loaded with a connection")

    monkeypatch.setattr(socket.socket, "connect", connect)


def changed(saved, tmp_path, **index):
    """A folder with the same components and another index."""
    for path in saved.iterdir():
        if path.is_dir():
            (tmp_path / path.name).symlink_to(path)
    own = json.loads((saved / folder.INDEX).read_text())
    (tmp_path / folder.INDEX).write_text(json.dumps({**own, **index}))
    return tmp_path


def latents(seed=0):
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_parts_of_a_folder_make_together_what_the_pipeline_makes(saved):
    whole = families.of(folder.load(saved), length=16)
    encoders = families.of(folder.load(saved, parts="encoders"), length=16)
    network = families.of(folder.load(saved, parts="network"))
    decoder = families.of(folder.load(saved, parts="decoder"))
    expected, found = whole.encode(tiny.PROMPTS), encoders.encode(tiny.PROMPTS)
    for name, value in expected.values.items():
        torch.testing.assert_close(found.values[name], value, rtol=0, atol=0)
    time = torch.tensor(500.0)
    own = {name: value.detach() for name, value in found.values.items()}
    torch.testing.assert_close(
        network.predict(latents(), time, **own), whole.predict(latents(), time, **expected.values), rtol=0, atol=0
    )
    torch.testing.assert_close(decoder.decode(latents()), whole.decode(latents()), rtol=0, atol=0)
    for part in (encoders, network, decoder):
        assert part.latent_shape(16, 16) == whole.latent_shape(16, 16) == (4, 8, 8)


def test_a_part_has_no_memory_for_the_others(saved):
    pipe = folder.load(saved, parts="network")
    assert pipe.text_encoder is None
    assert pipe.tokenizer_3 is None
    assert {value.device.type for value in pipe.vae.parameters()} == {"meta"}
    assert pipe.scheduler.config.shift == 3.0
    pipe = folder.load(saved, parts="decoder")
    assert {value.device.type for value in pipe.transformer.parameters()} == {"meta"}
    assert {value.device.type for value in pipe.vae.parameters()} == {"cpu"}


def test_types_are_of_each_part_and_the_variant_is_of_what_has_it(saved):
    pipe = folder.load(saved, dtype={"network": torch.bfloat16}, variant="fp16")
    assert pipe.transformer.dtype == torch.bfloat16
    assert pipe.text_encoder.dtype == pipe.vae.dtype == torch.float32
    assert folder.load(saved, parts="encoders", dtype=torch.float16).text_encoder_3.dtype == torch.float16
    rounded, own = pipe.transformer, folder.load(saved, parts="network").transformer
    weight, other = next(rounded.parameters()).float(), next(own.parameters())
    assert not weight.equal(other)
    torch.testing.assert_close(weight, other, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"_class_name": "KandinskyPipeline"}, "KandinskyPipeline is of no known family; known: .*StableDiffusion3"),
        ({"_class_name": ["own_code", "Own"]}, "is of no known family"),
        ({"transformer": ["own_code", "Own"]}, "transformer is of the library 'own_code', which is not allowed"),
        ({"extra": ["os", "system"]}, "extra is of the library 'os'"),
        ({"vae": ["diffusers", "AutoencoderOfTomorrow"]}, "vae: diffusers has no class 'AutoencoderOfTomorrow'"),
        ({"vae": ["diffusers"]}, "vae must be a library and a class"),
        ({"transformer": [None, None]}, "has no transformer, which StableDiffusion3Pipeline needs"),
    ],
)
def test_an_index_that_asks_for_something_else_is_refused(saved, tmp_path, index, words):
    with pytest.raises(ValueError, match=words):
        folder.load(changed(saved, tmp_path, **index))


def test_a_folder_without_safetensors_is_refused(saved, tmp_path):
    place = changed(saved, tmp_path)
    (place / "vae").unlink()
    (place / "vae").mkdir()
    (place / "vae" / "config.json").write_text((saved / "vae" / "config.json").read_text())
    torch.save({}, place / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match=r"vae has no safetensors, .* it has diffusion_pytorch_model\.bin"):
        folder.load(place)
    folder.load(place, parts="network")  # which needs the configuration of the decoder alone
    (place / "transformer").unlink()
    (place / "transformer").mkdir()
    half = "diffusion_pytorch_model.fp16.safetensors"
    (place / "transformer" / half).symlink_to(saved / "transformer" / half)
    with pytest.raises(ValueError, match="has weights of the variants fp16 alone: give one"):
        folder.load(place, parts="network")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"parts": "unet"}, "unknown parts of a pipeline 'unet' .*; known: all, decoder, encoders, network"),
        ({"dtype": {"vae": torch.float16}}, "unknown part of a pipeline 'vae'"),
        ({"variant": "fp8"}, "no file of .*transformer.* is of the variant 'fp8'"),
    ],
)
def test_options_are_checked(saved, options, words):
    with pytest.raises(ValueError, match=words):
        folder.load(saved, **options)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no model_index\.json"):
        folder.load(tmp_path)
    (tmp_path / folder.INDEX).write_text("{")
    with pytest.raises(ValueError, match="is not JSON, or cut off"):
        folder.load(tmp_path)
