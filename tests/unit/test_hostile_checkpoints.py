"""Files that want more than to be read: refused one by one, with an error that names what they ask for.

What must not happen writes a sentinel file. Each attack on a pickle is checked to work on Python's own unpickler where
one can, so that the test is of an attack and not of a broken file.
"""

import contextlib
import io
import pickle
import re
import struct
import subprocess
import sys
import textwrap
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mutations
from dode import checkpoints
from dode.checkpoints import CheckpointError, persistent, pickles, tensors, torch_files
from dode.weights import sources
from published_files import edm_pickle, published_modules, weights


@pytest.fixture
def sentinel(tmp_path):
    """A file that no reading may make."""
    path = tmp_path / "sentinel"
    yield path
    assert not path.exists(), "something in the file was executed"


@pytest.fixture
def source(tmp_path):
    return tmp_path / "published"


class Calls:
    """Pickled as a call."""

    def __init__(self, function, *arguments, state=None):
        self.call = (function, arguments, state) if state is not None else (function, arguments)

    def __reduce__(self):
        return self.call


def attacks(sentinel):
    """Objects that execute something when they are unpickled, by the global that they name."""
    import os
    from builtins import eval as evaluate
    from builtins import exec as execute

    code = f"open({str(sentinel)!r}, 'w').write('x')"
    return {
        "posix.system": Calls(os.system, f"touch {sentinel}"),
        "builtins.eval": Calls(evaluate, code),
        "builtins.exec": Calls(execute, code),
        "subprocess.Popen": Calls(subprocess.Popen, ["touch", str(sentinel)]),
        "builtins.getattr": Calls(getattr, "x", "upper"),
        "torch.serialization.load": Calls(torch.load, str(sentinel)),
        "torch.storage.UntypedStorage": Calls(torch.UntypedStorage, 8),
        "_codecs.encode": Calls(__import__("codecs").encode, "x"),
    }


ATTACKS = list(attacks("unused"))


def refused(source, message, format="edm-pickle", key="ema"):
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoints.read(source, format=format, key=key)
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


def places(place, attack):
    """Put an attack somewhere into the dictionary of an EDM pickle."""

    def change(data):
        if place == "top":
            data["ema"] = attack
        elif place == "beside":
            data["loss_fn"] = attack
        elif place == "argument":
            data["ema"]._init_kwargs["model_type"] = attack
        elif place == "parameter":
            data["ema"].model.enc["32x32_conv"].bias = attack
        elif place == "state":
            data["ema"].model.enc["16x16_down"].hook = [{"deep": (attack,)}]

    return change


def test_the_attacks_do_work_on_pythons_own_unpickler(tmp_path):
    path = tmp_path / "made"
    pickle.loads(pickle.dumps(attacks(path)["builtins.eval"]))
    assert path.exists()


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("place", ["top", "beside", "argument", "parameter", "state"])
def test_a_call_anywhere_in_an_edm_pickle_is_refused_by_name(source, sentinel, tmp_path, name, place):
    edm_pickle(source, tmp_path / "embedded", changed=places(place, attacks(sentinel)[name]))
    refused(source, f"asks for {name}")


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_call_in_a_file_of_torch_is_refused_by_name(source, sentinel, name, zipped):
    value = {"state_dict": weights(), "callbacks": [attacks(sentinel)[name]]}
    torch.save(value, source, _use_new_zipfile_serialization=zipped)
    # Protocol 2 has the names of Python 2: __builtin__.eval, commands.Popen.
    refused(source, rf"asks for \w+\.{name.split('.')[-1]}|asks for {name}", "torch", "state_dict")


def test_a_call_within_a_storages_bytes_is_refused(source, sentinel):
    nested = io.BytesIO()
    torch.save(attacks(sentinel)["posix.system"], nested, _use_new_zipfile_serialization=False)
    zipped = io.BytesIO()
    torch.save(attacks(sentinel)["posix.system"], zipped)
    for data, message in (
        (nested.getvalue(), "asks for posix.system"),
        (pickle.dumps(attacks(sentinel)["posix.system"]), "asks for posix.system"),
        (zipped.getvalue(), "not in torch's own form"),
        (b"", "not a pickle"),
    ):
        source.write_bytes(pickle.dumps({"ema": Calls(torch.storage._load_from_bytes, data)}))
        refused(source, message)


def test_the_source_field_is_never_run_nor_kept(source, sentinel, tmp_path):
    edm_pickle(source, sentinel)  # its source writes the sentinel when run
    checkpoints.convert(source, tmp_path / "out.safetensors", format="edm-pickle", key="ema")
    assert b"embedded source" in source.read_bytes()
    assert b"embedded source" not in (tmp_path / "out.safetensors").read_bytes()


def test_a_gadget_in_the_source_field_is_refused(source, sentinel):
    with published_modules() as (reconstruct, _):
        meta = {"type": "class", "version": 6, "class_name": "Net", "state": {}}
        call = Calls(reconstruct, {**meta, "module_src": attacks(sentinel)["posix.system"]})
        source.write_bytes(pickle.dumps({"ema": call}))
        refused(source, "asks for posix.system")
        source.write_bytes(pickle.dumps({"ema": Calls(reconstruct, {**meta, "module_src": 3})}))
        refused(source, "source is not text")


def raw(*opcodes):
    """A pickle of protocol 4 by hand: ``{"ema": <opcodes>}``."""
    return b"\x80\x04}\x8c\x03ema" + b"".join(opcodes) + b"s."


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def named(module, name):
    return text(module) + text(name) + b"\x93"


ORDERED, TENSOR = named("collections", "OrderedDict"), named("torch._utils", "_rebuild_tensor_v2")


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        ([named("collections", "OrderedDict.fromkeys.__globals__")], "OrderedDict.fromkeys.__globals__"),
        ([named("collections.abc", "OrderedDict")], "collections.abc.OrderedDict"),
        ([named("os", "system\n; touch x")], "system"),
        ([b"K\x01K\x02\x93"], "a global whose name is not text"),
        ([b"cposix\nsystem\n"], "posix.system"),
        ([b"(S'touch x'\niposix\nsystem\n"], "opcode STRING|opcode INST"),
        ([b"\x82\x01"], "opcode EXT1"),
        ([b"\x83\x01\x00"], "opcode EXT2"),
        ([b"\x84\x01\x00\x00\x00"], "opcode EXT4"),
        ([b"(", ORDERED, b"o"], "opcode OBJ"),
        ([ORDERED, b"(K\x01t}\x92"], "arguments that it does not take"),
        ([b"I1" + b"0" * 5000 + b"\n"], "opcode INT"),
        ([b"Pposix.system\n"], "opcode PERSID"),
        ([text("storage"), b"\x85Q"], "persistent id"),
        ([b"\x96" + struct.pack("<Q", 2**62)], "broken pickle"),
        ([b"\x97"], "opcode NEXT_BUFFER"),
        ([b"2"], "opcode DUP"),
        ([ORDERED, b"}", text("__setstate__"), ORDERED, b"sb"], "gives a state to Global"),
        ([b"]}", text("__class__"), ORDERED, b"sb"], "gives a state to list"),
        ([ORDERED, b"K\x01R"], "int where tuple"),
        ([b"K\x01)R"], "int where Global"),
        ([named("builtins", "set"), text("abc"), b"\x85R"], "it is a set"),
        ([named("torch.nn.modules.container", "ModuleDict"), b")\x81K\x07b"], "not a dictionary"),
        ([b"}K\x01\x85K\x02s"], "tuple is not a parameter's name"),
        ([b"}}K\x01s"], "Dictionary is not a parameter's name"),
        ([b"h\x07"], "broken pickle"),
        ([b"j\xff\xff\xff\xff"], "broken pickle"),
        ([b"t"], "broken pickle"),
        ([b"0"], "opcode POP"),
        ([b"B\xff\xff\xff\xffab"], "broken pickle"),
        ([b"\x8e" + struct.pack("<Q", 2**60) + b"ab"], "broken pickle"),
        ([b"\x8d" + struct.pack("<Q", 2**63 + 1) + b"ab"], "broken pickle"),
        ([b"\x95" + struct.pack("<Q", 2**60), b"N"], "is NoneType"),
        ([b"r\xff\xff\xff\xffN"], "is NoneType"),
        ([TENSOR, b"(NK\x00))t", b"R"], "no storage"),
        ([TENSOR, b")R"], "arguments that it does not take"),
        ([named("torch.storage", "_load_from_bytes"), b"K\x05\x85R"], "not in torch's own form"),
        ([named("torch_utils.persistence", "_reconstruct_persistent_obj"), b"N\x85R"], "no class and state"),
        ([named("numpy", "dtype"), text("O8"), b"\x85R"], "it is numpy.dtype"),
        ([named("numpy.core.multiarray", "scalar"), b"NN\x86R"], "it is a numpy scalar"),
    ],
)
def test_a_trick_of_opcodes_is_refused(source, sentinel, opcodes, message):
    source.write_bytes(raw(*opcodes))
    refused(source, message)


def storage_bytes(elements):
    file = io.BytesIO()
    data = torch.arange(float(elements)).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=data, dtype=torch.float32, _internal=True)
    torch.save(typed, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (5,), (1,)),
        (1, (4,), (1,)),
        (2**62, (1,), (1,)),
        (-1, (1,), (1,)),
        (0, (2,), (-1,)),
        (0, (-2,), (1,)),
        (0, (2, 2), (2**62, 2**62)),
        (0, (2**40,), (0,)),
        (0, (2**33, 2**33), (0, 0)),
        (0, (2,), (1, 1)),
        (0, (0, 2**70), (1, 1)),
        (0, (2.0,), (1,)),
        (True, (2,), (1,)),
        (0, (1,) * 40, (1,) * 40),
        (5, (), ()),
        (0, [2], [1]),
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(source, offset, size, stride):
    data = Calls(torch.storage._load_from_bytes, storage_bytes(4))
    tensor = Calls(torch._utils._rebuild_tensor_v2, data, offset, size, stride, False, None)
    source.write_bytes(pickle.dumps({"ema": {"w": tensor}}))
    refused(source, "tensor")


@pytest.mark.parametrize("elements", [5, 3, 2**20, 2**40])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_storage_that_claims_other_than_its_bytes_is_refused(source, zipped, elements):
    torch.save({"w": torch.arange(4.0)}, source, _use_new_zipfile_serialization=zipped)
    number = b"\x8a\x06" + elements.to_bytes(6, "little")

    def replaced(data):
        return re.sub(rb"(cpuq.)K\x04", lambda match: match[1] + number, data)

    if zipped:
        with zipfile.ZipFile(source) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(source, "w") as archive:
            for name, data in records.items():
                archive.writestr(name, replaced(data))
    else:
        source.write_bytes(replaced(source.read_bytes()))
    assert number in source.read_bytes()
    refused(source, "storage", "torch", None)


def test_compressed_doubled_and_foreign_archives_are_refused(source):
    file = io.BytesIO()
    torch.save(weights(), file)
    with zipfile.ZipFile(file) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in records if name.endswith("data.pkl"))

    def write(extra=(), **options):
        with zipfile.ZipFile(source, "w", **options) as archive:
            for name, data in [*records.items(), *extra]:
                archive.writestr(name, data)

    write()
    assert checkpoints.read(source, format="torch")[0].keys() == weights().keys()
    write(compression=zipfile.ZIP_DEFLATED)
    refused(source, "compressed", "torch", None)
    write([("other/data.pkl", b"")])
    refused(source, "not written by torch.save: it has no data.pkl", "torch", None)
    with pytest.warns(UserWarning, match="Duplicate"):
        write([(pickled, records[pickled])])
    refused(source, "two records", "torch", None)
    write([(pickled.replace("data.pkl", "constants.pkl"), b"")])
    refused(source, "TorchScript", "torch", None)


BOMBS = {
    "tuple is not a parameter's name": b"}"
    + b")"
    + b"\x85" * 300_000
    + b"Ns",  # to hash such a key overflows C's stack
    "not a state dict": b"]" * 300_000 + b"a" * 299_999,
    "more than 1000000 opcodes": b"N" * 2_000_000,
    "broken pickle": b"(" * 900_000,
    "more than 64 deep": named("torch.nn.modules.container", "ModuleDict")
    + (
        b")\x81\x94}"
        + text("_parameters")
        + b"}s"
        + text("_buffers")
        + b"}s"
        + text("_modules")
        + b"}"
        + text("a")
        + b"h\x00ssb"
    ),  # a module in itself
}


def test_a_bomb_is_refused_in_little_time_and_memory(tmp_path):
    for index, opcodes in enumerate(BOMBS.values()):
        (tmp_path / str(index)).write_bytes(raw(opcodes))
    script = f"""
    import resource
    import torch
    from dode import checkpoints
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))  # seconds
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for index in range({len(BOMBS)}):
        try:
            checkpoints.read(f"{tmp_path}/{{index}}", format="edm-pickle", key="ema")
        except checkpoints.CheckpointError as error:
            print(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 400_000  # KiB
    """
    # In a process of its own: what is tested is also that it does not crash.
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line, message in zip(done.stdout.splitlines(), BOMBS, strict=True):
        assert message in line


EMPTY = {"_parameters": {}, "_buffers": {}}


def test_modules_that_double_at_every_level_and_arguments_that_do_are_refused():
    module, arguments = pickles.Recorded("Net", {**EMPTY, "_modules": {}}), [1]
    for _ in range(60):
        module = pickles.Recorded("Net", {**EMPTY, "_modules": {"a": module, "b": module}})
        arguments = [arguments, arguments]
    with pytest.raises(CheckpointError, match="more than 10000 modules"):
        persistent.flatten(module)
    with pytest.raises(CheckpointError, match="too many"):
        persistent.facts(pickles.Recorded("Net", {"_init_args": arguments}))


def test_one_storage_under_many_names_does_not_fill_the_disk(source):
    data = torch.randn(10_000)
    torch.save({f"w{index}": data for index in range(100)}, source)
    refused(source, "more than four times the file", "torch", None)


@settings(max_examples=mutations.examples(150), deadline=None, derandomize=True, database=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([bytes([code]) for code in b"()]}.NRbtQs0hK\x81\x85\x86\x87\x88\x89\x8f\x90\x93\x94aeu"]),
            st.sampled_from([ORDERED, TENSOR, named("builtins", "set"), text("storage"), b"K\x01", b"h\x00"]),
            st.binary(max_size=3),
        ),
        max_size=40,
    )
)
def test_any_string_of_opcodes_is_a_value_or_the_one_error(opcodes):
    with_allowed = pickles.Interpreter(sources.of_bytes(b"\x80\x04" + b"".join(opcodes) + b"."), persistent.ALLOWED)
    with contextlib.suppress(CheckpointError):
        with_allowed.load()


def test_the_allow_list_is_short_and_all_ours():
    for table in (persistent.ALLOWED, tensors.COMMON, torch_files.ALLOWED):
        for function in filter(None, table.values()):
            assert function.__module__.startswith("dode.checkpoints."), function
