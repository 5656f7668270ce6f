"""A file that is not what was written is noticed and set aside."""

import json

import pytest

from dode.__main__ import main
from dode.benchmark import records


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "samples.npy"
    path.write_bytes(bytes(range(256)) * 100)
    records.write(path, None)
    return path


def flipped(path, place=1000):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_file_as_it_was_written_passes(written):
    assert records.damage(written) is None
    records.check([written, written.parent / "absent"])
    assert written.is_file()


def test_a_truncated_file_is_set_aside_and_named(written):
    written.write_bytes(written.read_bytes()[:-1])
    with pytest.raises(records.DamagedError, match=r"samples\.npy has 25599 bytes, but 25600 were written"):
        records.check([written])
    assert not written.exists()
    assert not records.record_of(written).exists()
    assert (written.parent / "samples.npy.damaged").stat().st_size == 25599


def test_a_single_flipped_bit_is_noticed_unless_sizes_alone_are_looked_at(written):
    flipped(written)
    assert records.damage(written, contents=False) is None
    with pytest.raises(records.DamagedError, match="other contents"):
        records.check([written])


@pytest.mark.parametrize("record", ["", "{", "[]", "{}", json.dumps({"size": 3})])
def test_a_record_that_was_cut_off_says_nothing(written, record):
    records.record_of(written).write_text(record)
    assert records.damage(written) is None


def test_the_command_finds_what_is_damaged_under_a_folder(written, capsys):
    assert main(["verify", str(written.parent)]) == 0
    flipped(written)
    assert main(["verify", "--sizes", str(written.parent)]) == 0
    assert main(["verify", "--keep", str(written.parent)]) == 1
    assert written.is_file()
    assert main(["verify", str(written.parent)]) == 1
    assert not written.exists()
    said = capsys.readouterr().out
    assert "other contents" in said
    assert f"before anything else, make it again: the command of the run, and after it -- {written}" in said
    assert main(["verify", str(written.parent)]) == 0


def test_the_command_names_a_folder_that_is_not_there(tmp_path, capsys):
    assert main(["verify", str(tmp_path / "absent")]) == 1
    assert "absent: no such folder" in capsys.readouterr().err


def test_a_file_that_no_rule_makes_is_known_by_its_size_and_time(tmp_path):
    """A zip of real images that somebody replaces."""
    images, output = tmp_path / "images.zip", tmp_path / "statistics.npz"
    images.write_bytes(b"one image")
    output.write_bytes(b"statistics")
    made = records.Made.of({"code": "1a2b"}, {"": [records.as_input(images)]})
    records.write(output, made)
    assert records.differences(output, made) == []
    images.write_bytes(b"other images")
    now = records.Made.of({"code": "1a2b"}, {"images": [], "": [records.as_input(images)]})
    assert records.differences(output, records.Made(now.params, {"": now.inputs[""]})) == [""]


def test_what_differs_is_named(tmp_path):
    output = tmp_path / "samples.npy"
    output.write_bytes(b"samples")
    made = records.Made.of({"cell": {"seed": 0}, "code": "1a2b"}, {"model": [("5b0e", "c81a")]})
    assert records.differences(output, made) == ["no record of it"]
    records.write(output, made)
    assert records.differences(output, made) == []
    for params, inputs, expected in (
        ({"cell": {"seed": 1}, "code": "1a2b"}, {"model": [("5b0e", "c81a")]}, ["cell"]),
        ({"cell": {"seed": 0}, "code": "1a2c"}, {"model": [("5b0e", "c81a")]}, ["code"]),
        ({"cell": {"seed": 0}, "code": "1a2b"}, {"model": [("77d1", "c81a")]}, ["its inputs"]),
        ({"cell": {"seed": 0}, "code": "1a2b"}, {"model": [("5b0e", "9a3e")]}, ["model"]),
    ):
        assert records.differences(output, records.Made.of(params, inputs)) == expected
    output.write_bytes(b"sampl")
    assert records.differences(output, made) == ["its size"]


def test_equally_made_inputs_count_once_so_that_shards_do_not(tmp_path):
    one, three = (records.Made.of({}, {"images": [("5b0e", None)] * count}) for count in (1, 3))
    assert one.digest == three.digest
    assert one.digest != records.Made.of({}, {"images": [("5b0e", None), ("77d1", None)]}).digest
