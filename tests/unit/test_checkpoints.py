"""Checkpoints of the published formats become safetensors with the published names and the very same numbers."""

import sys
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import load_file, save_file

from dode import checkpoints
from dode.checkpoints import CheckpointError
from published_files import ddim_list, edm_pickle, weights


@pytest.fixture
def source(tmp_path):
    return tmp_path / "published"


@pytest.fixture
def converted(source, tmp_path, here):
    """Convert and return (tensors, header)."""

    def run(**options):
        target = tmp_path / "out" / "model.safetensors"
        checkpoints.convert(source, target, **options)
        return load_file(target), checkpoints.header(target)

    return run


def same(found, expected):
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


LAYOUTS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


@LAYOUTS
@pytest.mark.parametrize("half", [False, True])
def test_a_plain_state_dict(source, converted, zipped, half):
    torch.save(OrderedDict(weights(half)), source, _use_new_zipfile_serialization=zipped)
    found, header = converted(format="torch")
    same(found, weights(half))
    assert header["dtypes"] == {"float16" if half else "float32": 3, "int64": 1}
    assert header["format"] == "torch"
    assert len(header["source_sha256"]) == 64


@LAYOUTS
def test_a_modules_own_state_dict_with_its_metadata(source, converted, zipped):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    torch.save(module.state_dict(), source, _use_new_zipfile_serialization=zipped)
    same(converted(format="torch")[0], dict(module.state_dict()))


@LAYOUTS
def test_the_ema_of_a_ddim_list_and_its_model_without_the_parallel_prefix(source, converted, zipped):
    torch.save(ddim_list(weights()), source, _use_new_zipfile_serialization=zipped)
    same(converted(format="torch", key=-1)[0], weights())
    same(converted(format="torch", key=0)[0], {name: torch.zeros_like(value) for name, value in weights().items()})


@LAYOUTS
@pytest.mark.parametrize("key", ["state_dict", ["model", "ema"], ["states", -1, "params"]])
def test_nested_weights_by_key(source, converted, zipped, key):
    value = {
        f"module.{name}": torch.nn.Parameter(item) if item.is_floating_point() else item
        for name, item in weights().items()
    }
    for step in reversed(key if isinstance(key, list) else [key]):
        value = [0, value] if step == -1 else {step: value, "epoch": 3, "lr": 1e-4}
    torch.save(value, source, _use_new_zipfile_serialization=zipped)
    same(converted(format="torch", key=key)[0], weights())


@LAYOUTS
def test_views_transposes_and_tied_weights(source, converted, zipped):
    base = torch.randn(6, 4)
    state = {
        "row": base[2],
        "turned": base.T,
        "all": base,
        "tied": base,
        "empty": torch.empty(0, 3),
        "one": torch.tensor(3.0),
    }
    torch.save(state, source, _use_new_zipfile_serialization=zipped)
    same(converted(format="torch")[0], state)


def test_halves_are_cast_where_asked(source, converted):
    torch.save(weights(half=True), source)
    found, header = converted(format="torch", dtype="float32")
    same(found, {name: item.float() if item.is_floating_point() else item for name, item in weights(half=True).items()})
    assert header["cast"] == "float32"


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("half", [False, True])
def test_an_edm_pickle(source, converted, tmp_path, protocol, half):
    expected = edm_pickle(source, tmp_path / "sentinel", half=half, protocol=protocol)
    found, header = converted(format="edm-pickle", key="ema")
    same(found, expected)
    assert "model.enc.32x32_conv.weight" in found
    assert "model.enc.32x32_conv.passing" not in found
    assert header["class_name"] == "EDMPrecond"
    assert header["init_kwargs"]["model_type"] == "SongUNet"
    assert header["init_kwargs"]["init_attn"] == {"init_weight": pytest.approx(0.2**0.5)}
    assert not (tmp_path / "sentinel").exists()
    assert not {"torch_utils", "dnnlib"} & set(sys.modules)


def test_safetensors_pass_through(source, converted):
    save_file(weights(), source)
    same(converted(format="safetensors")[0], weights())


def test_the_same_source_gives_the_same_bytes(source, tmp_path, here):
    torch.save(weights(), source)
    for name in "ab":
        checkpoints.convert(source, tmp_path / name, format="torch")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("value", "options", "message"),
    [
        ({"state_dict": {"w": torch.ones(2)}}, {}, "'key' says where"),
        ({"state_dict": {"w": torch.ones(2)}}, {"key": "ema"}, "it has the keys 'state_dict'"),
        ([{"w": torch.ones(2)}], {"key": 4}, "it is a list of 1"),
        ({}, {}, "not a state dict"),
        ({"w": 3}, {}, "'w' is int, not a tensor"),
        ({"w": torch.ones(3).to_sparse()}, {}, "_rebuild_sparse_tensor"),
        ({"w": torch.ones(1).expand(10**6)}, {}, "does not lie within its storage"),
        ({"w": torch.ones(2)}, {"format": "zip"}, "allowed are the formats safetensors, torch, edm-pickle"),
        ({"w": torch.ones(2)}, {"sha256": "0" * 64}, "sha256 is"),
        ({"w": torch.ones(2)}, {"format": "safetensors"}, "not a safetensors file"),
        ({"w": torch.ones(2)}, {"format": "edm-pickle"}, "broken pickle|not a pickle|opcode"),
    ],
)
def test_what_is_no_checkpoint_of_the_format_is_refused_in_one_sentence(
    source, tmp_path, here, value, options, message
):
    torch.save(value, source)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.convert(source, tmp_path / "out.safetensors", **{"format": "torch", **options})
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


@pytest.mark.parametrize("format", list(checkpoints.FORMATS))
@pytest.mark.parametrize(
    "content", [b"", b"<!DOCTYPE html><html>not found</html>", b"PK\x03\x04", b"\x80\x04", b"\0" * 600]
)
def test_pages_and_rubbish_are_refused(source, format, content):
    source.write_bytes(content)
    with pytest.raises(CheckpointError, match="published"):
        checkpoints.read(source, format=format)


@LAYOUTS
def test_a_file_that_is_cut_short_is_refused(source, zipped):
    torch.save(weights(), source, _use_new_zipfile_serialization=zipped)
    whole = source.read_bytes()
    for length in range(0, len(whole), 97):
        source.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            checkpoints.read(source, format="torch")
