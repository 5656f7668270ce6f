"""From a finished benchmark to a file, and from the file to the cell's own images."""

import json
import re

import numpy as np
import pytest
import yaml

import dode
from dode import models
from dode.__main__ import main
from dode.images import noise
from workspace import REPOSITORY

CELLS = ["ddim/nfe2", "d-ddim/nfe2", "heun/nfe3", "reference/nfe5"]


@pytest.mark.parametrize("cell", CELLS)
def test_an_exported_cell_makes_its_own_ends_again_to_the_bit(finished, tmp_path, cell):
    solver, nfe = cell.split("/nfe")
    path = tmp_path / "mine.json"
    assert main(["export", str(finished.results), "digits-edm", solver, nfe, "--output", str(path)]) == 0
    cards = REPOSITORY / "config" / "models"
    card = yaml.safe_load((cards / "digits-edm.yaml").read_text())
    denoise = models.load(card, cards / "digits-edm.safetensors", batch_size=10)
    sampler = dode.load(path)
    assert sampler.record["model"]["sha256"] == card["sha256"]
    ends = np.load(finished.cell(cell) / "ends.npy")
    for block, expected in enumerate(np.split(ends, 2)):
        latents = noise.latents(range(10), (1, 8, 8), seed=0, block=block)
        np.testing.assert_array_equal(sampler.sample(denoise, latents).float().numpy(), expected)


def test_what_the_page_says_to_take_is_exported_by_itself(finished, tmp_path, capsys, monkeypatch):
    """The page says it for 2 and 3 evaluations; 7 are enough for what it says of 3."""
    monkeypatch.chdir(tmp_path)
    text = (finished.results / "index.html").read_text()
    for nfe, said_for in ((2, 2), (7, 3)):
        choice = re.search(rf'id="choice/digits-edm/fid/{said_for}">(.*?)</script>', text, flags=re.S)[1]
        lead, *cards = choice.split('<div class="choice')
        (card,) = [card for card in cards if card.startswith(' wins">')]
        taken = re.search(r'data-open="(.*?)"', card)[1]
        _, solver, folder = taken.split("/")
        assert main(["export", str(finished.results), "digits-edm", "--best", "fid", "--nfe", str(nfe)]) == 0
        said = capsys.readouterr().out
        assert said.startswith(f"digits-edm-{solver}-{folder}.json: tiny/{taken}")
        ties = "cannot be told apart from it" in lead or "Cannot be told apart from it:" in card
        assert ("Cannot be told apart from it by fid: " in said) == ties
        assert dode.load(tmp_path / f"digits-edm-{solver}-{folder}.json").nfe == int(folder.removeprefix("nfe"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["digits-edm", "d-ddimm", "2"], "unknown solver 'd-ddimm' (did you mean 'd-ddim'?)"),
        (["digits-ed", "d-ddim", "2"], "unknown dataset 'digits-ed'"),
        (["digits-ed", "--best", "fid", "--nfe", "2"], "unknown dataset 'digits-ed' (did you mean 'digits-edm'?)"),
        (["digits-edm", "d-ddim", "3"], "unknown NFE '3'; known: 2"),
        (["digits-edm", "d-ddim"], "name the solver and the nfe"),
        (["digits-edm", "--best", "fdi", "--nfe", "2"], "unknown metric 'fdi'"),
        (["digits-edm", "--best", "fid", "--nfe", "1"], "no cell of 'digits-edm' with at most 1 evaluations has a fid"),
        (["digits-edm", "d-ddim", "2", "--nfe", "3"], "leave one of them out"),
    ],
)
def test_a_bad_request_is_one_sentence(finished, capsys, arguments, says):
    assert main(["export", str(finished.results), *arguments]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


def test_the_record_names_what_every_cell_was_made_of(finished):
    record = json.loads((finished.results / "provenance.json").read_text())
    assert set(record["cells"]) == {f"digits-edm/{cell}" for cell in CELLS}
    assert "fit" in record["cells"]["digits-edm/d-ddim/nfe2"]
    assert all(len(entry["sha256"]) == 64 for entry in record["checkpoints"].values())
    assert set(record["software"]) >= {"dode", "torch", "numpy", "python"}
    assert main(["compare", str(finished.results), str(finished.results), "--fail-on-difference"]) == 0
