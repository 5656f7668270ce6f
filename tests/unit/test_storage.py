"""Files are whole or absent, whatever happens to the writer."""

import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest

from dode import storage
from processes import killed, started


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [None, "whole"])
def test_an_exception_leaves_the_folder_as_it_was(tmp_path, error, before):
    target = tmp_path / "file.txt"
    if before is not None:
        target.write_text(before)

    def fail():
        with storage.atomic(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == ({"file.txt": before} if before else {})


def test_a_file_that_cannot_be_put_in_place_is_removed(tmp_path):
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"), storage.atomic(tmp_path / "folder") as temporary:
        temporary.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


WRITES_HALF = """
import sys
from dode import storage
with storage.atomic(sys.argv[1]) as temporary, temporary.open("w") as file:
    file.write("half")
    file.flush()
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("before", [None, "whole"])
def test_a_killed_writer_leaves_no_half_file_under_the_final_name(tmp_path, before):
    target = tmp_path / "file.txt"
    if before is not None:
        target.write_text(before)
    killed(started(WRITES_HALF, target))
    assert (target.read_text() if target.exists() else None) == before
    storage.write_json(target, 1)
    assert storage.read_json(target) == 1


def test_on_success_the_file_alone_remains_and_missing_folders_are_made(tmp_path):
    target = tmp_path / "a" / "b" / "file.json"
    storage.write_json(target, {"b": 1, "a": 2})
    assert [path.name for path in target.parent.iterdir()] == ["file.json"]
    assert target.read_text().index('"a"') < target.read_text().index('"b"')


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(tmp_path, mask):
    previous = os.umask(mask)
    try:
        storage.write_json(tmp_path / "file.json", {})
        assert os.umask(mask) == mask
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "file.json").stat().st_mode) == 0o666 & ~mask


def test_nan_and_infinity_become_null_however_deep(tmp_path):
    value = {"a": [1.5, float("nan"), (float("inf"), {"b": np.float64("nan")})], "c": None, "d": "NaN", "e": True}
    storage.write_json(tmp_path / "file.json", value)

    def refuse(constant):
        raise AssertionError(constant)

    found = json.loads((tmp_path / "file.json").read_text(), parse_constant=refuse)
    assert found == {"a": [1.5, None, [None, {"b": None}]], "c": None, "d": "NaN", "e": True}


def test_what_json_cannot_say_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(TypeError):
        storage.write_json(tmp_path / "file.json", {"a": np.arange(2)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("lengths", [(3,), (2, 5, 1), (4, 0, 3)])
def test_gathered_arrays_equal_concatenate(tmp_path, monkeypatch, dtype, lengths):
    monkeypatch.setattr(storage, "ROWS", 2)
    draw = np.random.default_rng(0)
    parts = [draw.uniform(0, 255, (length, 1, 2, 3)).astype(dtype) for length in lengths]
    paths = [tmp_path / f"{index}.npy" for index in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        storage.write_array(path, part)
    storage.gather_arrays(paths, tmp_path / "whole.npy")
    found = storage.read_array(tmp_path / "whole.npy")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.concatenate(parts))
    assert {path.name for path in tmp_path.iterdir()} == {"whole.npy", *(path.name for path in paths)}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([np.zeros((2, 3), np.uint8)], "should have 4 rows, but 2 were written"),
        ([np.zeros((5, 3), np.uint8)], "should have 4 rows, but 5 were written"),
        ([np.zeros((4, 2), np.uint8)], r"has rows uint8 \(3,\), not uint8 \(2,\)"),
        ([np.zeros((4, 3), np.float32)], r"has rows uint8 \(3,\), not float32"),
    ],
)
def test_an_array_that_did_not_grow_as_announced_is_not_there(tmp_path, rows, message):
    def grow():
        with storage.growing_array(tmp_path / "array.npy", (4, 3), np.uint8) as append:
            for some in rows:
                append(some)

    with pytest.raises(ValueError, match=message):
        grow()
    assert list(tmp_path.iterdir()) == []


FULL = """
import resource, signal, sys
import numpy as np
from dode import storage
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    with storage.growing_array(sys.argv[1], (100, 1000), np.uint8) as append:
        for _ in range(100):
            append(np.zeros((1, 1000), np.uint8))
except OSError as error:
    print(error)
"""


def test_an_array_that_finds_no_room_is_an_error_and_no_killed_process(tmp_path):
    found = subprocess.run([sys.executable, "-c", FULL, tmp_path / "array.npy"], capture_output=True, text=True)
    assert (found.returncode, found.stdout.strip()) == (0, "[Errno 27] File too large")
    assert list(tmp_path.iterdir()) == []


def test_a_read_array_is_mapped_and_not_copied(tmp_path):
    storage.write_array(tmp_path / "array.npy", np.zeros((4, 2)))
    assert isinstance(storage.read_array(tmp_path / "array.npy"), np.memmap)


def test_a_file_that_a_user_names_is_replaced_whole_and_keeps_its_permissions_also_behind_links(tmp_path):
    shared = tmp_path / "shared" / "mine.json"
    shared.parent.mkdir()
    shared.write_text("old")
    shared.chmod(0o600)
    neighbour = shared.parent / ".mine.json.12345678.json"  # as leftovers of the workflow's own writers are named
    neighbour.write_text("not ours")
    for name, to in (("link", shared), ("second", tmp_path / "link"), ("new", tmp_path / "shared" / "new.json")):
        (tmp_path / name).symlink_to(to)
    storage.write_where_told(tmp_path / "second", "λ")
    storage.write_where_told(tmp_path / "new", "new")
    assert shared.read_text(encoding="utf-8") == "λ"
    assert stat.S_IMODE(shared.stat().st_mode) == 0o600
    assert (tmp_path / "shared" / "new.json").read_text() == "new"
    assert neighbour.read_text() == "not ours"
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert len(list(shared.parent.iterdir())) == 3


def test_what_is_no_regular_file_is_written_to(tmp_path, capsys):
    storage.write_where_told("-", "to the output")
    storage.write_where_told("-", b" and bytes")
    assert capsys.readouterr().out == "to the output and bytes"
    storage.write_where_told("/dev/null", "nothing")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    storage.write_where_told(tmp_path / "pipe", "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


def test_what_cannot_be_written_is_left_as_it_was(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for path in ("folder", "loop", "folder/none/mine.json"):
        with pytest.raises(OSError, match=f"{path}'?$"):
            storage.write_where_told(tmp_path / path, "text")
    (tmp_path / "mine.json").write_text("old")
    monkeypatch.setattr(storage.os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        storage.write_where_told(tmp_path / "mine.json", "text")
    assert (tmp_path / "mine.json").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "loop", "mine.json"]
