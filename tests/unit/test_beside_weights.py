"""What stands beside the weights in a checkpoint is left, and what stands before their names is found or asked for."""

import argparse
import collections
import datetime
import decimal
import enum
import fractions
import pathlib
import types
import uuid

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dode import checkpoints, models
from dode.checkpoints import CheckpointError, persistent
from dode.checkpoints.pickles import Recorded
from dode.validation import ConfigError, validate
from dode.weights import states
from published_files import dump, edm_pickle, weights

pytestmark = pytest.mark.usefixtures("here")

ROOT = pathlib.Path(__file__).parents[2]


class Colour(enum.Enum):
    RED = 1


class Config:
    """A class that only the program which wrote the file knows."""

    def __init__(self):
        self.name, self.parts = "config", [1, 2]


class Settings(dict):
    """A kind of dictionary that only that program knows."""


class Names(list):
    """A kind of list."""


class Attributes(nn.Parameter):
    """A kind of parameter."""


def recursive():
    found = [1]
    found.append(found)
    return found


THINGS = {
    "numpy scalars": lambda: [np.float64(0.5), np.float32(1), np.int64(3), np.bool_(True), np.str_("a"), np.uint64(7)],
    "numpy arrays": lambda: {"a": np.ones((3, 2)), "objects": np.array([{}, None]), "big": np.ones(3, ">f8")},
    "dates of numpy": lambda: np.datetime64("2024-01-01"),
    "a generator of numpy": lambda: np.random.RandomState(0).get_state(),
    "Namespace": lambda: argparse.Namespace(lr=1e-4, name="x", path=pathlib.Path("a/b")),
    "SimpleNamespace": lambda: types.SimpleNamespace(a=1),
    "device": lambda: torch.device("cuda:0"),
    "dtype": lambda: torch.float16,
    "size": lambda: torch.ones(3, 2).shape,
    "generator": lambda: torch.get_rng_state(),
    "sets": lambda: [{1, 2}, {"a"}, frozenset({3}), {(1, "a")}, set()],
    "defaultdict": lambda: collections.defaultdict(list, {"a": [1]}),
    "Counter": lambda: collections.Counter("abca"),
    "deque": lambda: collections.deque([1, 2], maxlen=3),
    "odd keys": lambda: {1.5: 1, None: 2, (1, 2): 3, True: 4, b"a": 5, -1: 6, Colour.RED: 7, 2**80: 8, int: 9},
    "bytes": lambda: [b"abc", bytearray(b"abc"), b"\xff" * 300],
    "numbers": lambda: [1j, fractions.Fraction(1, 3), decimal.Decimal("0.1"), 2**70, float("nan"), float("inf")],
    "dates": lambda: [
        datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
        datetime.timedelta(3),
        datetime.date(2024, 1, 2),
    ],
    "classes": lambda: [Config, Settings, int, dict, type(None), slice(1, 2), range(3), uuid.UUID(int=3)],
    "own objects": lambda: [Config(), Settings(a=1), Names([1, 2]), Colour.RED],
    "optimizer": lambda: _optimizer(),
    "sparse, complex and other tensors": lambda: [
        torch.ones(3).to_sparse(),
        torch.ones(2, dtype=torch.complex64),
        torch.ones(2).to(torch.float8_e4m3fn),
        torch.ones(1).expand(1000),
        torch.tensor([1, 2], dtype=torch.uint16),
        torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        torch.ones(2, dtype=torch.complex64).conj(),
    ],
    "parameters with attributes": lambda: [_with_attributes(), Attributes(torch.ones(2))],
    "storages": lambda: [torch.ones(3).untyped_storage()],
    "a whole network": lambda: nn.Sequential(nn.Linear(2, 3), nn.ReLU()),
    "a list in itself": recursive,
}


def _optimizer():
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return {"state": optimizer.state_dict(), "scaler": torch.amp.GradScaler("cpu").state_dict(), "whole": optimizer}


def _with_attributes():
    parameter = nn.Parameter(torch.ones(3))
    parameter.tag = "x"
    return parameter


@pytest.fixture
def source(tmp_path):
    return tmp_path / "published"


def same(found, expected):
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", list(THINGS))
def test_what_is_beside_the_weights_does_not_hinder(source, name, zipped, protocol):
    value = {"args": THINGS[name](), "state_dict": weights(), "again": THINGS[name]()}
    torch.save(value, source, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    same(checkpoints.read(source, format="torch", key="state_dict")[0], weights())
    torch.save([value["args"], weights()], source, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    same(checkpoints.read(source, format="torch", key=1)[0], weights())


@pytest.mark.parametrize("protocol", [2, 3, 5])
def test_the_same_in_an_edm_pickle(source, tmp_path, protocol):
    def changed(data):
        left_out = {
            "a whole network",
            "storages",
            "sparse, complex and other tensors",
        }  # torch makes these of other parts
        data["things"] = {name: make() for name, make in THINGS.items() if name not in left_out | {"optimizer"}}
        data["ema"].model.things = [np.ones(3), {1, 2}, torch.device("cpu"), Config()]

    expected = edm_pickle(source, tmp_path / "sentinel", protocol=protocol, changed=changed)
    found, facts = checkpoints.read(source, format="edm-pickle", key="ema")
    same(found, expected)
    assert facts["class_name"] == "EDMPrecond"


def test_arguments_of_a_class_that_are_no_numbers_are_recorded_by_their_kind(source, tmp_path):
    def changed(data):
        data["ema"]._init_kwargs["device"] = torch.device("cpu")

    edm_pickle(source, tmp_path / "sentinel", changed=changed)
    assert checkpoints.read(source, format="edm-pickle", key="ema")[1]["init_kwargs"]["device"] == "<torch.device>"


def test_an_integer_that_the_header_could_not_hold_is_recorded_by_its_kind(source, tmp_path):
    def changed(data):
        data["ema"]._init_kwargs |= {"huge": 2**70, "large": 2**63, "largest": 2**63 - 1, "least": -(2**63)}

    edm_pickle(source, tmp_path / "sentinel", changed=changed)
    checkpoints.convert(source, tmp_path / "out", format="edm-pickle", key="ema")
    found = checkpoints.header(tmp_path / "out")["init_kwargs"]
    assert (found["largest"], found["least"]) == (2**63 - 1, -(2**63))
    assert (found["huge"], found["large"]) == ("<an integer of 71 bits>", "<9223372036854775808>")


@pytest.mark.parametrize(
    "kind", [dict, collections.OrderedDict, Settings, lambda items: collections.defaultdict(int, items)]
)
def test_weights_in_any_kind_of_dictionary(source, kind):
    torch.save({"state_dict": kind(weights())}, source)
    same(checkpoints.read(source, format="torch", key="state_dict")[0], weights())


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"w": torch.ones(2), 1.5: 1}, "1.5 is not a parameter's name"),
        ({"w": torch.ones(2), None: torch.ones(2)}, "None is not a parameter's name"),
        ({"w": torch.ones(2), 3: torch.ones(2)}, "3 is not a parameter's name"),
        ({"w": torch.ones(2), "v": np.ones(2)}, r"'v' is numpy\.\w+\.multiarray\._reconstruct, not a tensor"),
        ({"w": torch.ones(2).to(torch.float8_e4m3fn)}, "not a tensor"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, "not a tensor"),
        (nn.Linear(2, 2), "it is torch.nn.modules.linear.Linear"),
        (argparse.Namespace(w=torch.ones(2)), "it is argparse.Namespace"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_nothing_among_the_weights_themselves_is_left_out(source, value, said):
    torch.save(value, source)
    with pytest.raises(CheckpointError, match=said):
        checkpoints.read(source, format="torch")


class Shadowing(collections.OrderedDict):
    """Pickled as an ordered dictionary whose own attributes hide its methods."""

    hidden = "x"

    def __reduce__(self):
        return collections.OrderedDict, (), {"items": self.hidden, "keys": self.hidden}, None, iter(self.items())


@pytest.mark.parametrize("hidden", ["x", {}, [], collections.OrderedDict])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_state_dict_that_hides_its_own_methods_is_read_whole(source, hidden, zipped, monkeypatch):
    monkeypatch.setattr(Shadowing, "hidden", hidden)
    torch.save(Shadowing(weights()), source, _use_new_zipfile_serialization=zipped)
    same(checkpoints.read(source, format="torch")[0], weights())


@pytest.mark.parametrize("value", [{}, collections.OrderedDict(), [], None, Settings(), {"state_dict": {}}])
def test_an_empty_result_is_an_error(source, tmp_path, value):
    key = "state_dict" if isinstance(value, dict) and "state_dict" in value else None
    torch.save(value, source)
    with pytest.raises(CheckpointError, match="not a state dict"):
        checkpoints.read(source, format="torch", key=key)
    save_file({}, source)
    with pytest.raises(CheckpointError, match="not a state dict"):
        checkpoints.read(source, format="safetensors")


@pytest.mark.parametrize("part", ["_parameters", "_buffers", "_modules"])
def test_a_recorded_module_with_a_part_missing_is_an_error(part):
    whole = {"_parameters": {}, "_buffers": {}, "_modules": {}}
    for state in ({**whole, part: None}, {**whole, part: {3: None}}, {key: whole[key] for key in whole if key != part}):
        inner, outer = Recorded("Conv2d", state), Recorded("Net", dict(whole))
        outer.state["_modules"] = {"a": inner}
        with pytest.raises(CheckpointError, match=f"{part} of 'Conv2d'"):
            persistent.flatten(outer)


# Numbers


@pytest.mark.parametrize("format", ["torch", "safetensors", "edm-pickle"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(source, tmp_path, format, value):
    state = weights()
    state["conv_in.weight"][3, 2, 1, 0] = value
    if format == "torch":
        torch.save(state, source)
    elif format == "safetensors":
        save_file(state, source)
    else:

        def changed(data):
            data["ema"].model.enc["32x32_conv"].weight[0, 0, 0, 0] = value

        edm_pickle(source, tmp_path / "sentinel", changed=changed)
    name = "model.enc.32x32_conv.weight" if format == "edm-pickle" else "conv_in.weight"
    with pytest.raises(CheckpointError, match=f"'{name}' contains NaN or infinity"):
        checkpoints.read(source, format=format, key="ema" if format == "edm-pickle" else None)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
@pytest.mark.parametrize("format", ["torch", "safetensors"])
def test_quantized_weights_are_refused_by_name(source, dtype, format):
    state = {**weights(), "mid.weight": torch.ones(3, 3, dtype=dtype), "mid.weight_scale": torch.ones(3)}
    torch.save(state, source) if format == "torch" else save_file(state, source)
    with pytest.raises(CheckpointError, match=r"'mid\.weight' is u?int8: quantized weights"):
        checkpoints.read(source, format=format)


def test_a_cast_beyond_the_range_is_refused_by_name(source):
    torch.save({"w": torch.tensor([1e6])}, source)
    with pytest.raises(CheckpointError, match="'w' has numbers beyond float16"):
        checkpoints.read(source, format="torch", dtype="float16")
    assert checkpoints.read(source, format="torch", dtype="bfloat16")[0]["w"].dtype == torch.bfloat16


# Names

CARD = {"network": {"name": "two-layers"}}


def network():
    return nn.Sequential(collections.OrderedDict(a=nn.Linear(2, 3), b=nn.Linear(3, 2)))


def filled(path, state, **card):
    save_file(state, path)
    return models.with_weights(network(), {**CARD, **card}, path).state_dict()


def behind(prefix, state):
    return {f"{prefix}{name}": tensor.clone() for name, tensor in state.items()}


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "module.module.",
        "_orig_mod.",
        "_orig_mod.module.",
        "module._orig_mod.",
        "model.",
        "ema_model.",
        "model.diffusion_model.",
        "module.model.",
        "ema.",
        "denoise_fn.",
        "online_model.model.",
    ],
)
def test_the_only_prefix_is_found_by_itself(source, prefix):
    state = network().state_dict()
    same(filled(source, behind(prefix, state)), state)
    same(filled(source, {**behind(prefix, state), "betas": torch.ones(3)}), state)


@pytest.mark.parametrize(
    "prefixes", [("model.", "ema_model."), ("", "ema."), ("model.", "model.ema."), ("net.", "net2.")]
)
def test_of_several_prefixes_the_card_names_one(source, prefixes):
    first, second = network().state_dict(), network().state_dict()
    state = {**behind(prefixes[0], first), **behind(prefixes[1], second)}
    with pytest.raises(ValueError, match=r"is found behind|are found behind .* the card's 'prefix' says which"):
        filled(source, state)
    same(filled(source, state, prefix=prefixes[1]), second)


def test_the_weights_without_a_prefix_are_those_of_an_empty_one(source):
    first, second = network().state_dict(), network().state_dict()
    state = {**first, **behind("ema.", second), **behind("inner.ema.", second)}
    same(filled(source, state, prefix=""), first)
    inner = {**behind("model.", first), **behind("model.ema.", second)}
    same(filled(source, inner, prefix="model."), first)


@pytest.mark.parametrize(
    "name",
    [
        "model_ema.aweight",
        "ema_model.a",
        "ema_params.0",
        "params_ema.a",
        "state_dict_ema.a",
        "net_ema.a",
        "netEMA.a",
        "modelEma.a",
        "ema.shadow_params.0",
        "shadow_params.0",
        "averaged_model.a",
        "swa_model.n_averaged",
        "model_avg.a",
        "polyak.a",
        "target_model.a",
        "target.a",
        "teacher.a",
        "G_ema.a",
    ],
)
def test_an_average_or_a_teacher_beside_the_weights_is_not_passed_over(source, name):
    """Names that public programs give the other weights, which need not be all of the network's."""
    state = network().state_dict()
    with pytest.raises(ValueError, match=rf"behind 'model\.', and beside them is '{name}': the card's 'prefix' says"):
        filled(source, {**behind("model.", state), name: torch.ones(3, 2)})
    same(filled(source, {**behind("model.", state), name: torch.ones(3, 2)}, prefix="model."), state)


@pytest.mark.parametrize("rename", [lambda name: name.replace(".", ""), lambda name: f"k{len(name)}{name[0]}"])
def test_the_same_network_again_is_not_passed_over_whatever_its_names(source, rename):
    state = network().state_dict()
    again = {f"best.{rename(name)}": tensor.clone() for name, tensor in state.items()}
    with pytest.raises(ValueError, match=r"behind 'model\.', and beside them is 'best\.\w+': the card's 'prefix' says"):
        filled(source, {**behind("model.", state), **again})


@pytest.mark.parametrize("name", ["schema.a", "embedding.a", "logvar", "first_stage.encoder.a", "bytes.a", "SCHEMATIC"])
def test_what_is_no_other_network_is_left(source, name):
    state = network().state_dict()
    same(filled(source, {**behind("model.", state), name: torch.ones(3, 2)}), state)


@pytest.mark.parametrize("format", ["torch", "edm-pickle", "safetensors"])
def test_the_cards_prefix_is_taken_away_in_every_format(source, tmp_path, format):
    if format == "edm-pickle":
        expected = edm_pickle(source, tmp_path / "sentinel")
        expected = {name.removeprefix("model.enc."): value for name, value in expected.items()}
        found, _ = checkpoints.read(source, format=format, key="ema", prefix="model.enc.")
    else:
        expected, state = weights(), {**behind("ema.", weights()), **behind("model.", weights())}
        torch.save(state, source) if format == "torch" else save_file(state, source)
        found, _ = checkpoints.read(source, format=format, prefix="ema.")
    same(found, expected)


def test_a_prefix_that_is_not_there_is_refused_with_those_that_are(source, tmp_path):
    says = r"prefix 'ema\.'; allowed: what the names begin with \('model\.', 'steps'\), or no prefix"
    state = {**behind("model.", network().state_dict()), "steps": torch.ones(1)}
    torch.save(state, source)
    with pytest.raises(CheckpointError, match=says):
        checkpoints.read(source, format="torch", prefix="ema.")
    with pytest.raises(CheckpointError, match=says):
        checkpoints.convert(source, tmp_path / "out", format="torch", prefix="ema.")
    with pytest.raises(ValueError, match=says):
        filled(source, state, prefix="ema.")


def test_a_prefix_is_asked_for_even_where_the_names_fit_without_it(source):
    with pytest.raises(ValueError, match=r"prefix 'ema\.'; allowed: what the names begin with \('a\.', 'b\.'\)"):
        filled(source, network().state_dict(), prefix="ema.")


@pytest.mark.parametrize("prefix", ["module.", "module.ema.", "ema."])
def test_a_prefix_may_have_what_a_wrapper_puts_before_it(source, prefix):
    state = network().state_dict()
    inner = prefix.removeprefix("module.")
    same(filled(source, behind("module.", behind(inner, state)), prefix=prefix), state)


@pytest.mark.parametrize("prefix", ["model.", "", "module.model."])
def test_a_prefix_that_the_conversion_took_away_is_not_looked_for_again(source, tmp_path, prefix):
    first, second = network().state_dict(), network().state_dict()
    state = {**behind(prefix, first), **behind(f"{prefix}ema.", second)}
    torch.save(state, source)
    checkpoints.convert(source, tmp_path / "out", format="torch", prefix=prefix)
    same(models.with_weights(network(), {**CARD, "prefix": prefix}, tmp_path / "out").state_dict(), first)
    if prefix:
        with pytest.raises(ValueError, match="no name begins with the card's prefix 'other'"):
            models.with_weights(network(), {**CARD, "prefix": "other"}, tmp_path / "out")


def test_names_that_do_not_match_are_told_from_both_sides(source):
    state = network().state_dict()
    state["c.weight"] = state.pop("b.weight")
    said = (
        r"1 of the network's 4 parameters are not in the file \('b.weight'\), and 1 of the file's 4 .* \('c.weight'\)"
    )
    with pytest.raises(ValueError, match=said):
        filled(source, state)


def test_whole_numbers_for_weights_are_refused_by_name(source):
    state = {
        name: tensor.to(torch.int32) if name == "b.weight" else tensor
        for name, tensor in network().state_dict().items()
    }
    with pytest.raises(ValueError, match=r"b\.weight is torch\.int32 in the file, but torch\.float32 in the network"):
        filled(source, state)


def test_a_card_with_a_prefix(source):
    schema = ROOT / "config" / "schemas" / "card.schema.yaml"
    card = {
        "role": "diffusion",
        "urls": ["https://x/y.pt"],
        "licence": "MIT",
        "prediction": "noise",
        "image_shape": [3, 8, 8],
    }
    card |= {"network": {"name": "ddpm-unet", "options": {}}, "schedule": {"name": "linear"}}
    validate({**card, "prefix": "ema_model."}, schema, "card")
    with pytest.raises(ConfigError, match="prefix: 3 is not allowed"):
        validate({**card, "prefix": 3}, schema, "card")


def test_wrappers_are_taken_away_only_where_all_names_have_them():
    assert states.unwrapped({"module.a": 1, "module.b": 2}) == {"a": 1, "b": 2}
    assert states.unwrapped({"module.a": 1, "b": 2}) == {"module.a": 1, "b": 2}


def test_a_dump_of_any_protocol_without_a_network_is_refused(source):
    for protocol in range(6):
        dump({"ema": Config()}, source, protocol)
        with pytest.raises(CheckpointError, match=r"not a state dict|protocol from 2|not a pickle"):
            checkpoints.read(source, format="edm-pickle", key="ema")


def test_what_was_converted_is_what_the_library_reads(source, tmp_path):
    torch.save(weights(), source)
    checkpoints.convert(source, tmp_path / "out", format="torch")
    same(load_file(tmp_path / "out"), weights())
