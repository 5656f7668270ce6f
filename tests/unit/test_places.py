"""Which configuration a command means, wherever it is called."""

from pathlib import Path

import pytest

from dode.__main__ import main
from dode.commands import run
from dode.fetching import places
from workspace import REPOSITORY

OWN = sorted(path.stem for path in (REPOSITORY / "config").glob("*.yaml"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A folder with nothing of this project in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", OWN)
def test_this_projects_own_are_known_by_their_names(name):
    assert places.configuration(name) == REPOSITORY / "config" / f"{name}.yaml"


def test_a_file_goes_before_a_name_and_none_is_that_of_the_folder_or_the_embedded_one(elsewhere):
    embedded = REPOSITORY / "config" / "config.yaml"
    assert places.configuration() == Path(places.default_configuration(REPOSITORY)) == embedded
    for path in ("mnist", "config/config.yaml"):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).touch()
    assert places.configuration("mnist") == Path("mnist")
    assert places.configuration() == Path(places.default_configuration(REPOSITORY)) == Path("config/config.yaml")


@pytest.mark.parametrize("command", ["plan", "run", "add"])
def test_what_is_neither_is_one_sentence_of_every_command(capsys, monkeypatch, command):
    monkeypatch.setattr(run, "become_snakemake", lambda arguments: pytest.fail("it runs"))
    first = [str(REPOSITORY / "archives" / "digits.zip")] if command == "add" else []
    for named, hint in (("mnits", " (did you mean 'mnist'?)"), ("config/mnist", "")):
        assert main([command, *first, named]) == 1
        said = capsys.readouterr().err
        assert f"config: there is no file '{named}'{hint}" in said
        assert said.count("\n") == 1


def test_a_configuration_that_is_known_by_its_name_alone_is_not_edited(capsys):
    embedded = (REPOSITORY / "config" / "config.yaml").read_bytes()
    for named in ([], ["config"]):
        assert main(["add", str(REPOSITORY / "archives" / "digits.zip"), *named]) == 1
        assert "belongs to this project; copy it here" in capsys.readouterr().err
    assert (REPOSITORY / "config" / "config.yaml").read_bytes() == embedded


def test_plan_and_run_take_the_same_names(capsys, monkeypatch):
    ran = []
    monkeypatch.setattr(run, "become_snakemake", ran.extend)
    assert main(["run", "text-to-digit", "--dry-run"]) == 0
    assert ran == ["--configfile", str(REPOSITORY / "config" / "text-to-digit.yaml"), "--dry-run"]
    assert main(["plan", "text-to-digit"]) == 0
    assert "text-to-digit" in capsys.readouterr().out
