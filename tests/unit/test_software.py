"""What is recorded of where a result was made."""

import os
import subprocess

import pytest

from dode.benchmark import software

GIT = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}


@pytest.fixture
def git(tmp_path):
    def run(*arguments):
        own = {**os.environ, **GIT, "GIT_CONFIG_GLOBAL": os.devnull}
        done = subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True, text=True, env=own)
        return done.stdout.strip()

    return run


def test_the_revision_is_the_commit_and_says_of_changes(git, tmp_path):
    assert software.revision(tmp_path) is None
    git("init", "--quiet")
    assert software.revision(tmp_path) is None  # there is no commit yet
    (tmp_path / "Snakefile").write_text("one")
    git("add", "Snakefile")
    git("commit", "--quiet", "--message", "one")
    git("tag", "--annotate", "v1", "--message", "v1")
    assert software.revision(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "mine.yaml").write_text("")  # a configuration is in the record itself
    assert software.revision(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "Snakefile").write_text("two")
    assert software.revision(tmp_path) == git("rev-parse", "HEAD") + "+changes"
    git("checkout", "--", "Snakefile")
    (tmp_path / "dode" / "solvers").mkdir(parents=True)
    (tmp_path / "dode" / "solvers" / "mine.py").write_text("")
    assert software.revision(tmp_path) == git("rev-parse", "HEAD") + "+changes"


def test_an_environment_names_threads_device_and_versions_and_no_host(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = software.environment()
    assert found["machine"].keys() == {"cpu", "threads", "device"}
    assert (found["machine"]["threads"], found["machine"]["device"]) == (3, "cpu")
    assert found["machine"]["cpu"]
    assert found["software"].keys() == {"python", *software.NUMERICAL}
    assert os.uname().nodename not in str(found)
