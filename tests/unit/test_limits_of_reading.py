"""Foreign bytes are read in bounded memory and time: small files that ask for much, and archives with two contents."""

import contextlib
import io
import json
import os
import random
import resource
import struct
import subprocess
import sys
import textwrap
import time
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from dode import checkpoints
from dode.checkpoints import CheckpointError, conversion
from dode.weights import safetensors_files, sources
from published_files import edm_pickle, weights


@pytest.fixture
def source(tmp_path):
    return tmp_path / "published"


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def named(module, name):
    return text(module) + text(name) + b"\x93"


def put(place):
    return b"q" + bytes([place])


def get(place):
    return b"h" + bytes([place])


def pickled(*opcodes):
    """``{"ema": ..., "ema": [opcodes]}`` of protocol 4."""
    return b"\x80\x04}" + text("ema") + b"]" + b"".join(opcodes) + b"s."


def zipped(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return file.getvalue()


MODULE = named("torch.nn.modules.container", "ModuleDict")
PARTS = b")R}" + text("_parameters") + b"}s" + text("_buffers") + b"}s"


def chain(name, depth=60):
    """Modules within each other, each by the same long name."""
    inner = get(0) + PARTS + text("_modules") + b"}sb"
    for _ in range(depth):
        inner = get(0) + PARTS + text("_modules") + b"}" + get(1) + inner + b"ssb"
    return (
        b"\x80\x04}"
        + text("x")
        + b"]"
        + MODULE
        + put(0)
        + b"a"
        + text(name)
        + put(1)
        + b"as"
        + text("ema")
        + inner
        + b"s."
    )


def nested_storage(elements=25_000):
    file = io.BytesIO()
    data = torch.storage.TypedStorage(
        wrap_storage=torch.ones(elements).untyped_storage(), dtype=torch.float32, _internal=True
    )
    torch.save(data, file, _use_new_zipfile_serialization=False)
    return b"B" + struct.pack("<I", len(file.getvalue())) + file.getvalue()


KEYS = b"]" + put(1) + b"(" + b"".join(text(f"key{index}") for index in range(3000)) + b"ea"


def calls(function, argument, count):
    return argument + function + put(2) + b"a(" + (get(2) + get(1) + b"\x85R") * count + b"e"


# Files of at most some hundred kilobytes that once took gigabytes, and their neighbours.
GREEDY = {
    "bytearray": (
        "torch",
        zipped(pickled(named("builtins", "bytearray"), b"J" + struct.pack("<i", 2**30) + b"\x85Ra")),
    ),
    "bytes": ("torch", zipped(pickled(named("builtins", "bytes"), b"J" + struct.pack("<i", 2**30) + b"\x85Ra"))),
    "tensor": ("torch", zipped(pickled(named("torch", "FloatTensor"), b"J" + struct.pack("<i", 2**30) + b"\x85Ra"))),
    "array": ("torch", zipped(pickled(named("numpy", "ones"), b"J" + struct.pack("<i", 2**30) + b"\x85Ra"))),
    "size": (
        "torch",
        zipped(pickled(calls(named("torch", "Size"), b"(" + b"K\1" * 16_000 + b"t" + put(1) + b"a", 15_000))),
    ),
    "sets": ("edm-pickle", pickled(calls(named("builtins", "set"), KEYS, 9000))),
    "sets of torch": ("torch", zipped(pickled(calls(named("builtins", "set"), KEYS, 9000)))),
    "empty sets": ("edm-pickle", pickled(b"(" + b"\x8f" * 100_000 + b"e")),
    "long names": ("edm-pickle", chain("x" * 3000)),
    "names that add up": ("edm-pickle", chain("x" * 400)),
    "storages": (
        "edm-pickle",
        pickled(calls(named("torch.storage", "_load_from_bytes"), nested_storage() + put(1) + b"a", 30_000)),
    ),
    "names of globals": (
        "torch",
        zipped(pickled(text("a" * 10_000) + put(1) + b"a(" + (get(1) * 2 + b"\x93") * 50_000 + b"e")),
    ),
    "characters": (
        "torch",
        zipped(
            pickled(
                text("a" * 100_000)
                + put(1)
                + b"a"
                + text("latin1")
                + put(3)
                + b"a"
                + named("_codecs", "encode")
                + put(2),
                b"a(" + (get(2) + get(1) + get(3) + b"\x86R") * 30_000 + b"e",
            )
        ),
    ),
    "header": ("safetensors", struct.pack("<Q", 3_000_000) + b"[" + b"[]," * 999_999 + b"[]]"[:2]),
    "depth": ("safetensors", struct.pack("<Q", 1_000_000) + b"[" * 1_000_000),
    "claims": ("safetensors", struct.pack("<Q", 2**62) + b"{}"),
    "tensors": (
        "safetensors",
        (lambda header: struct.pack("<Q", len(header)) + header)(
            json.dumps({f"{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(60_000)}).encode()
        ),
    ),
}


def test_a_small_file_takes_little_memory_and_time(tmp_path):
    for index, (_, content) in enumerate(GREEDY.values()):
        (tmp_path / str(index)).write_bytes(content)
    script = f"""
    import resource, time
    import torch
    from dode import checkpoints
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for index, format in enumerate({[format for format, _ in GREEDY.values()]}):
        begun = time.process_time()
        try:
            checkpoints.read(f"{tmp_path}/{{index}}", format=format, key=None if format == "safetensors" else "ema")
        except checkpoints.CheckpointError as error:
            used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            print(used // 1024, time.process_time() - begun, len(str(error)))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for name, line in zip(GREEDY, lines, strict=True):
        megabytes, seconds, length = map(float, line.split())
        assert megabytes < 120, name
        assert seconds < 10, name
        assert length < 1000, name


# The child


def test_the_limits_are_as_said():
    assert conversion.limits(0) == (2**29, 120)
    assert conversion.limits(10**9) == (2**29 + 4 * 10**9, 320)


BODY = {
    "memory": "def wanted(*_): return bytearray(2**36)",
    "malloc": "def wanted(*_):\n import torch; return torch.empty(2**36)",
    "time": "def wanted(*_):\n while True: pass",
    "crash": "def wanted(*_):\n import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "leave": "def wanted(*_):\n import os; os._exit(3)",
    "write": "def wanted(*_):\n import errno; raise OSError(errno.ENOSPC, 'No space left on device')",
}
DEATHS = {
    "memory": "needs more than 512 MiB of memory$",
    "malloc": "needs more than 512 MiB of memory$",
    "time": "needs more than 1 s of CPU time$",
    "crash": "ended by SIGSEGV$",
    "leave": "ended with status 3",
}


@pytest.fixture
def child(monkeypatch, tmp_path):
    """A function that replaces, in the child alone, what reads a file."""
    own = tmp_path / "own"
    own.mkdir()

    def replace(body):
        change = f"{body}\nfrom dode.weights import states\nstates.select = wanted\n"
        change += "from dode.checkpoints import conversion\nconversion.SECONDS = 1\n" * ("while" in body)
        (own / "sitecustomize.py").write_text(change)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(own), *sys.path]))

    return replace


@pytest.mark.parametrize("name", list(DEATHS))
def test_the_death_of_the_process_that_reads_is_one_sentence(source, tmp_path, child, monkeypatch, name):
    torch.save(weights(), source)
    if name == "time":
        monkeypatch.setattr(conversion, "SECONDS", 1)
    child(BODY[name])
    with pytest.raises(CheckpointError, match=DEATHS[name]) as caught:
        checkpoints.convert(source, tmp_path / "out.safetensors", format="torch")
    assert str(source) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own", "published"]


def test_a_full_disk_is_told_as_such(source, tmp_path, child):
    torch.save(weights(), source)
    child(BODY["write"])
    with pytest.raises(OSError, match="No space left"):
        checkpoints.convert(source, tmp_path / "out.safetensors", format="torch")


def test_what_lies_in_the_working_directory_is_not_imported(source, tmp_path, monkeypatch):
    torch.save(weights(), source)
    for name in ("torch", "dode", "json", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'sentinel')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    checkpoints.convert(source, tmp_path / "out.safetensors", format="torch")
    assert not (tmp_path / "sentinel").exists()


def test_the_memory_of_a_conversion_does_not_grow_with_the_file(tmp_path):
    """100 MB in tensors of 1 MB, each layout, cast: less than 60 MB above those of a small file.

    The peak of a process and its children never falls: one process, which begins with the small file, tells both.
    """
    files = []
    for size, zipped_ in ((1, True), (100, True), (100, False)):
        state = {f"module.w{index}": torch.randn(2**18) for index in range(size)}
        torch.save({"state_dict": state}, path := tmp_path / f"{size}{zipped_}", _use_new_zipfile_serialization=zipped_)
        files.append(path)
    script = """
    import resource, sys
    from dode import checkpoints
    for path in sys.argv[1:]:
        checkpoints.convert(path, path + ".out", format="torch", key="state_dict", dtype="float16")
        each = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        print(max(each) // 1024)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), *files], capture_output=True, text=True)
    small, *large = map(int, done.stdout.split())
    assert len(large) == 2
    assert max(large) - small < 60


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        for format in checkpoints.FORMATS:
            with pytest.raises(CheckpointError, match="not a regular file"):
                checkpoints.read(path, format=format)
        with pytest.raises(CheckpointError, match="not a regular file"):
            checkpoints.convert(path, tmp_path / "out", format="torch")
    with pytest.raises(CheckpointError, match="No such file"):
        checkpoints.read(tmp_path / "absent", format="torch")


# Archives


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def test_an_archive_is_parsed_once(source, monkeypatch):
    """Another reader would believe other fields; there is none."""

    def no_other(*_, **__):
        raise AssertionError("torch's own reader was called")

    source.write_bytes(saved(weights()))
    monkeypatch.setattr(torch, "load", no_other)
    monkeypatch.setattr(torch._C, "PyTorchFileReader", no_other)
    assert set(checkpoints.read(source, format="torch")[0]) == set(weights())


@pytest.mark.parametrize("first", [True, False])
def test_two_archives_in_one_file_give_the_tensors_of_one_of_them_or_an_error(source, first):
    one, other = saved({"w": torch.zeros(4)}), saved({"w": torch.ones(4)})
    source.write_bytes(one + other if first else other + one)
    with contextlib.suppress(CheckpointError):
        found = checkpoints.read(source, format="torch")[0]["w"]
        assert found.unique().numel() == 1


def central(content):
    """Offsets of the records in the central directory."""
    place, found = content.index(b"PK\1\2"), []
    while content[place : place + 4] == b"PK\1\2":
        found.append(place)
        sizes = struct.unpack("<3H", content[place + 28 : place + 34])
        place += 46 + sum(sizes)
    return found


@pytest.mark.parametrize("field", ["offset", "size", "both sizes", "name", "flags", "crc", "method"])
def test_a_central_directory_that_contradicts_the_records_is_refused(source, field):
    content = bytearray(saved(weights()))
    places = central(content)
    places_of = {"offset": 42, "size": 24, "both sizes": 20, "name": 46, "flags": 8, "crc": 16, "method": 10}
    for record in places[:3]:
        changed = bytearray(content)
        place = record + places_of[field]
        if field == "offset":
            changed[place : place + 4] = content[places[3] + 42 : places[3] + 46]
        elif field == "both sizes":
            changed[place : place + 8] = struct.pack("<2I", 3, 3)
        else:
            changed[place] ^= 1
        source.write_bytes(changed)
        with pytest.raises(CheckpointError):
            checkpoints.read(source, format="torch")


def test_another_order_of_bytes_is_refused(source):
    file = io.BytesIO(saved(weights()))
    with zipfile.ZipFile(file) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    (order,) = (name for name in records if name.endswith("byteorder"))
    with zipfile.ZipFile(source, "w") as archive:
        for name, data in records.items():
            archive.writestr(name, b"big" if name == order else data)
    with pytest.raises(CheckpointError, match="another order of bytes"):
        checkpoints.read(source, format="torch")


def test_an_integer_of_thousands_of_digits_is_told_in_one_sentence(source):
    for value in (10**600, 10**5000):
        torch.save({"w": value}, source)
        with pytest.raises(CheckpointError, match=r"'w' is (int|an integer), not a tensor"):
            checkpoints.read(source, format="torch")
    huge = b"\x8a\xff" + b"\x7f" * 255
    for content in (
        named("torch._utils", "_rebuild_tensor_v2") + b"(N" + huge + (huge * 3 + b"\x87") * 2 + b"\x89NtR",
        named("torch._utils", "_rebuild_tensor_v2")
        + b"("
        + named("torch.storage", "_load_from_bytes")
        + nested_storage(2)
        + b"\x85R"
        + b"K\0"
        + (huge * 3 + b"\x87") * 2
        + b"\x89NtR",
    ):
        source.write_bytes(b"\x80\x04}" + text("ema") + content + b"s.")
        with pytest.raises(CheckpointError, match=r"no storage|offset, size and strides are invalid"):
            checkpoints.read(source, format="edm-pickle", key="ema")


# safetensors

KINDS = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "bool"]


def mixed():
    generator = torch.Generator().manual_seed(1)
    made = {
        f"{kind} {size}": torch.rand(size, 3, generator=generator).mul(9).to(getattr(torch, kind))
        for kind in KINDS
        for size in (0, 1, 5)
    }
    return {**made, "scalar": torch.tensor(2.0), 'é"\\\n/': torch.ones(1, dtype=torch.float16), "a": torch.ones(2)}


def test_what_is_written_is_what_the_library_writes_to_the_byte(tmp_path):
    state = mixed()
    save_file(state, tmp_path / "library", metadata={"dode": '{"a": "é\\n"}'})
    kinds = {name: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)) for name, tensor in state.items()}
    safetensors_files.write(tmp_path / "own", kinds, state.__getitem__, {"dode": '{"a": "é\\n"}'})
    assert (tmp_path / "own").read_bytes() == (tmp_path / "library").read_bytes()


def test_what_is_read_is_what_the_library_reads(tmp_path):
    save_file(mixed(), tmp_path / "file", metadata={"b": "c"})
    views, metadata = safetensors_files.read(tmp_path / "file")
    expected = load_file(tmp_path / "file")
    assert metadata == {"b": "c"}
    assert set(views) == set(expected)
    for name, view in views.items():
        assert view.load().dtype == expected[name].dtype
        assert torch.equal(view.load(), expected[name])


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def headed(header, data=bytes(8)):
    text_ = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text_)) + text_ + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 8,
        headed(b"\xff\xfe{}"),
        headed(b"{"),
        headed(b"[" * 5000),
        headed(b"[]"),
        headed(b"3"),
        headed(b'{"a": ' + b"9" * 5000 + b"}"),
        headed(b'{"a": NaN}'),
        headed({"a": None}),
        headed({"a": []}),
        headed({"a": {}}),
        headed({"a": {**ENTRY, "more": 1}}),
        headed({"a": {**ENTRY, "dtype": "F8_E4M3"}}),
        headed({"a": {**ENTRY, "dtype": ["F32"]}}),
        headed({"a": {**ENTRY, "shape": 2}}),
        headed({"a": {**ENTRY, "shape": [2.0]}}),
        headed({"a": {**ENTRY, "shape": [True, 2]}}),
        headed({"a": {**ENTRY, "shape": [-2]}}),
        headed({"a": {**ENTRY, "shape": [2**62, 2**62]}}),
        headed({"a": {**ENTRY, "shape": ["2"]}}),
        headed({"a": {**ENTRY, "shape": [1] * 100 + [2]}}),
        headed({"a": {**ENTRY, "data_offsets": [0, 16]}}),
        headed({"a": {**ENTRY, "data_offsets": [8, 0]}}),
        headed({"a": {**ENTRY, "data_offsets": [0]}}),
        headed({"a": {**ENTRY, "data_offsets": None}}),
        headed({"a": ENTRY, "b": ENTRY}),
        headed({"a": ENTRY}, bytes(9)),
        headed({"a": ENTRY}, bytes(7)),
        headed({"a": ENTRY, "__metadata__": {"x": 1}}),
        headed({"a": ENTRY, "__metadata__": "x"}),
        headed({"": ENTRY}),
        headed({"a\n": ENTRY}),
        headed(b'{"a": ' + json.dumps(ENTRY).encode() + b', "a": ' + json.dumps(ENTRY).encode() + b"}"),
        headed({}),
    ],
)
def test_a_broken_header_is_refused_in_one_sentence(source, content):
    source.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        checkpoints.read(source, format="safetensors")
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("origin", ["", "[", "[" * 5000, "[]", "3", '{"a": NaN}', '{"a": ' + "9" * 5000 + "}"])
def test_a_broken_record_of_the_origin_is_refused_in_one_sentence(source, origin):
    save_file(weights(), source, metadata={"dode": origin})
    with pytest.raises(CheckpointError, match="what its header says of its origin"):
        checkpoints.header(source)
    save_file(weights(), source)
    assert checkpoints.header(source) == {}


# Any bytes


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("valid")
    torch.save({"args": [1, {"a"}], "ema": weights()}, folder / "zip")
    torch.save({"args": [1, {"a"}], "ema": weights()}, folder / "legacy", _use_new_zipfile_serialization=False)
    edm_pickle(folder / "edm", folder / "sentinel")
    edm_pickle(folder / "edm2", folder / "sentinel", protocol=2)
    save_file(weights(), folder / "safetensors")
    return folder


FORMATS = {"zip": "torch", "legacy": "torch", "edm": "edm-pickle", "edm2": "edm-pickle", "safetensors": "safetensors"}


def mutated(content, chance):
    """A few bytes changed, removed, repeated or exchanged for lengths that no file has."""
    content = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(content)) if chance.random() < 0.5 else chance.randrange(min(len(content), 400))
        kind = chance.randrange(6)
        if kind == 0:
            content[place] = chance.randrange(256)
        elif kind == 1:
            del content[place : place + chance.randint(1, 8)]
        elif kind == 2:
            content[place:place] = chance.choice([b"\xff" * 8, bytes(8), b"2147483647", b"[" * 2000, b"9" * 5000, b'"'])
        elif kind == 3:
            content[place : place + 8] = struct.pack("<Q", chance.choice([2**31, 2**40, 2**63, 2**64 - 1, 0]))
        elif kind == 4:
            content[place:place] = content[place : place + chance.randint(1, 64)]
        else:
            content[place] ^= 1 << chance.randrange(8)
        content = content or bytearray(b"\0")
    return bytes(content)


@pytest.mark.parametrize("name", list(FORMATS))
def test_any_mutation_is_read_or_refused_with_one_kind_of_error(valid, tmp_path, name):
    original, chance = (valid / name).read_bytes(), random.Random(name)
    path, begun = tmp_path / "mutated", time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(300):
        content = mutated(original, chance)
        path.write_bytes(content)
        refusal = ""
        try:
            found, facts = checkpoints.read(path, format=FORMATS[name], key="ema" if name != "safetensors" else None)
        except CheckpointError as error:
            refusal = str(error)
        else:
            assert sum(tensor.nbytes for tensor in found.values()) <= 4 * len(content)
            json.dumps(facts, allow_nan=False)
        assert len(refusal) < 1000
        assert "\n" not in refusal
    assert time.process_time() - begun < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
    assert not (valid / "sentinel").exists()


def test_a_source_reads_what_a_file_would(tmp_path):
    content = bytes(random.Random(0).randrange(256) for _ in range(200_000)).replace(b"\n", b" ", 600)
    (tmp_path / "file").write_bytes(content)
    file, own, chance = io.BytesIO(content), sources.of_file(tmp_path / "file"), random.Random(1)
    for _ in range(2000):
        if chance.random() < 0.2:
            place = chance.randrange(len(content))
            assert own.seek(place) == file.seek(place)
        elif chance.random() < 0.3:
            assert own.readline() == file.readline()
        else:
            count = chance.choice([1, 4, 100, 70_000])
            assert own.read(count) == file.read(count)
        assert own.tell() == file.tell()
    assert own.read() == file.read()
