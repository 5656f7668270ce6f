"""requirements.lock, requirements-dev.lock and envs/dode.yaml hold what pyproject.toml asks for."""

import re
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from workspace import REPOSITORY

PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
PROJECT, UV = PYPROJECT["project"], PYPROJECT["tool"]["uv"]
RUN = PROJECT["dependencies"]
DEV = [*RUN, *PROJECT["optional-dependencies"]["hub"], *PROJECT["optional-dependencies"]["dev"]]
LOCKS = {"requirements.lock": RUN, "requirements-dev.lock": DEV}
APART = {"torch", "torchvision"}


def pins(lock):
    """Of a lock: requirement -> its hashes."""
    lines = (REPOSITORY / lock).read_text().replace("\\\n", "").splitlines()
    entries = [re.split(r"\s+--hash=", line) for line in lines if line and not line.startswith("#")]
    return {Requirement(text): hashes for text, *hashes in entries}


def versions(requirements):
    assert all(re.fullmatch(r"==[^*,]+", str(requirement.specifier)) for requirement in requirements)
    found = {requirement.name: str(requirement.specifier)[2:] for requirement in requirements}
    assert len(found) == len(requirements)
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_every_dependency_is_pinned_and_every_pin_is_hashed(lock):
    entries = pins(lock)
    assert all(re.fullmatch("[0-9a-f]{64}", h.removeprefix("sha256:")) for hashes in entries.values() for h in hashes)
    assert [str(requirement) for requirement, hashes in entries.items() if not hashes] == []
    locked = versions(entries)
    for requirement in map(Requirement, LOCKS[lock]):
        name = canonicalize_name(requirement.name)
        if name in APART:
            assert name not in locked
            assert str(requirement.specifier).startswith("==")
        else:
            assert locked[name] in requirement.specifier


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_complete(lock):
    """It is installed without looking for dependencies."""
    locked, missing = versions(pins(lock)), {}
    for name in [*locked, *APART]:
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        needs = [need for need in map(Requirement, needs) if need.marker is None or need.marker.evaluate({"extra": ""})]
        names = {canonicalize_name(need.name) for need in needs}
        if absent := names - APART - {*locked, *UV["exclude-dependencies"]}:
            missing[name] = absent
    assert missing == {}


def test_the_locks_agree_and_have_no_builds_for_cuda():
    run, dev = (versions(pins(lock)) for lock in LOCKS)
    assert run.items() <= dev.items()
    assert [name for name in dev if re.match("cuda|nvidia|triton", name)] == []


def test_the_environment_of_conda_has_the_same_pins():
    environment = yaml.safe_load((REPOSITORY / "envs/dode.yaml").read_text())
    found = versions([Requirement(text) for text in environment["dependencies"][-1]["pip"]])
    apart = versions([need for need in map(Requirement, RUN) if need.name in APART])
    assert found == versions(pins("requirements.lock")) | apart


def test_the_locks_are_made_for_the_oldest_python_that_is_promised():
    assert PROJECT["requires-python"] == f">={UV['pip']['python-version']}"
