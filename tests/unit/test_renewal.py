"""``make lock-checkpoints``: entries are made, kept, renewed on purpose and dropped."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import faulty_server
from dode.fetching import checksums, renewal

ROOT = Path(__file__).parents[2]
KEY = "mine/model.pt"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with the schemas and two cards, one of them with its whole sha256; the working directory."""
    shutil.copytree(ROOT / "config" / "schemas", tmp_path / "config" / "schemas")
    (tmp_path / "config" / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    with faulty_server.serving() as server:
        card = {"role": "features", "licence": "any", "network": {"name": "digit-classifier", "options": {}}}
        cards = {"mine": {**card, "file": "model.pt", "urls": [f"{server.url}/good"]}}
        cards["whole"] = {**card, "file": "other.pt", "urls": [f"{server.url}/missing"], "sha256": "0" * 64}
        for name, content in cards.items():
            (tmp_path / "config" / "models" / f"{name}.yaml").write_text(yaml.safe_dump(content))
        yield server


def lock(*names):
    said = []
    good = renewal.lock(Path(), names, None, said.append)
    return good, [line for line in said if KEY in line]


def digest(content):
    return hashlib.sha256(content).hexdigest()


def test_an_entry_is_made_kept_and_renewed_on_purpose_alone(checkout):
    good, (line,) = lock()
    assert good
    assert line.startswith("added")
    assert digest(faulty_server.GOOD) in line
    first = checksums.read(".")
    assert set(first) == {KEY}
    assert lock() == (True, [])  # what has an entry is not fetched again
    assert lock("mine")[1][0].startswith("unchanged")

    checkout.content = faulty_server.WRONG
    assert lock() == (True, [])
    assert checksums.read(".") == first
    (line,) = lock("mine")[1]
    assert line.startswith("CHANGED")
    assert digest(faulty_server.WRONG) in line
    assert f"was {digest(faulty_server.GOOD)}" in line
    assert checksums.read(".")[KEY]["sha256"] == digest(faulty_server.WRONG)
    assert Path("resources/checkpoints", KEY).read_bytes() == faulty_server.WRONG


def test_an_entry_that_no_card_needs_is_dropped_and_a_failure_keeps_the_others(checkout):
    lock()
    Path("config/models/mine.yaml").rename("config/models/other.yaml")
    checkout.content = b"<!DOCTYPE html><html></html>"
    said = []
    assert not renewal.lock(Path(), [], None, said.append)
    assert any(line.startswith("failed     other/model.pt") and "web page" in line for line in said)
    assert any(line.startswith(f"removed    {KEY}") for line in said)
    assert checksums.read(".") == {}


def test_the_command_refuses_a_card_that_needs_no_entry(checkout):
    command = [sys.executable, str(ROOT / "scripts" / "lock_checkpoints.py"), "whole"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode != 0
    assert done.stderr.strip().endswith("whole: no such card needs an entry; those that do: mine")
