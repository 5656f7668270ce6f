"""The names of cells."""

import pytest

from dode.names import CellName, cells_with


def test_a_name_is_read_as_it_was_made():
    name = CellName("digits-edm", "d-ddim", 10)
    assert CellName.read(str(name)) == name
    assert CellName.of({"dataset": "digits-edm", "solver": "d-ddim", "nfe": 10, "label": "D-DDIM"}) == name


@pytest.mark.parametrize("text", ["", "a/b", "a/b/5", "a/b/nfe", "a/b/nfe5/c", "a//nfe5", "a/b/nfe-5", "a/b/nfe5.bak"])
def test_what_is_not_a_name_is_refused(text):
    with pytest.raises(ValueError, match="not the name of a cell"):
        CellName.read(text)


def test_folders_of_cells_are_found_in_the_order_of_their_evaluations(tmp_path):
    for folder in ("a/s/nfe10", "a/s/nfe5", "a/s/nfe5.bak", "real/digits/nfex"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "score.json").touch()
    (tmp_path / "a/s/nfe7").mkdir()
    assert [str(name) for name in cells_with(tmp_path, "score.json")] == ["a/s/nfe5", "a/s/nfe10"]
