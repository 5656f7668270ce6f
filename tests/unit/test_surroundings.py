"""What a run must find: a path that Snakemake can use, arguments that it does not take for something else."""

import shutil
import subprocess
import sys

import pytest

from dode.benchmark import surroundings
from dode.validation import ConfigError
from workspace import REPOSITORY


@pytest.mark.parametrize("path", ["/usr/bin/python3.11", "/home/jos\u00e9/dode+x,y@2/.venv/bin/python", "/a~1/b"])
def test_paths_that_work(path):
    surroundings.check_paths(path, "/home/a b/dode")


@pytest.mark.parametrize("character", [" ", "{", "}", "'", "$", "&", "(", ";", "\t", "*"])
def test_a_python_that_cannot_be_put_into_a_command_is_refused(character):
    with pytest.raises(ConfigError, match=r"the path of Python, /a.b/python, contains ['\"]"):
        surroundings.check_paths(f"/a{character}b/python", "/dode")


@pytest.mark.parametrize("character", "{}")
def test_a_checkout_whose_path_is_a_format_is_refused(character):
    with pytest.raises(ConfigError, match=r"the path of this checkout, /a.b, contains '"):
        surroundings.check_paths("/usr/bin/python", f"/a{character}b")


@pytest.mark.parametrize("name", ["My Projects", "a{b}", "it's"])
def test_make_says_at_once_that_the_demo_cannot_run_here(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    for file in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(REPOSITORY / file, folder)
    done = subprocess.run(
        ["make", "demo", f"PYTHON={sys.executable}"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert done.stderr.startswith("Snakemake cannot start scripts from a path with ")
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize(
    "arguments", [["--config", "seed=010"], ["--config", "a=1", "seed=-07"], ["-C", "seed=00"], ["--config=seed=010"]]
)
def test_octal_numbers_on_the_command_line_are_refused(arguments):
    with pytest.raises(ConfigError, match=r"--config seed: -?0\d+ is an octal number"):
        surroundings.check_arguments(["-n", *arguments, "--cores", "1"])


def test_other_arguments_are_let_through(tmp_path):
    (tmp_path / "a.yaml").write_text("seed: 1")
    given = ["--configfile", str(tmp_path / "a.yaml"), "--config", "seed=0", "label=10", "--", "results/010"]
    surroundings.check_arguments(["-n", "-c1", *given])
    surroundings.check_arguments(["--configfile"])  # Snakemake says what is wrong


def test_every_configuration_file_that_is_named_is_read(tmp_path):
    (tmp_path / "a.yaml").write_text("seed: 1")
    for arguments in (["--configfile", "a.yaml", "none.yaml"], ["--configfiles=none.yaml"]):
        with pytest.raises(ConfigError, match=r"none\.yaml: No such file"):
            surroundings.check_arguments([each.replace("a.yaml", str(tmp_path / "a.yaml")) for each in arguments])


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        ("- benchmark\n", "is a list"),
        ("[]", "is a list"),
        ("", "is empty"),
        ("# nothing but a remark\n", "is empty"),
        ("null", "is empty"),
        ("benchmark\n", "is a single value, 'benchmark'"),
        ("3", "is a single value, 3"),
    ],
)
def test_a_configuration_without_keys_is_refused_in_our_words(tmp_path, contents, says):
    path = tmp_path / "mine.yaml"
    path.write_text(contents)
    with pytest.raises(ConfigError) as caught:
        surroundings.check_arguments(["--configfile", str(path)])
    assert str(caught.value) == f"{path}: {says}; allowed: keys with their values, such as 'benchmark: mine'"


def test_the_configuration_that_a_profile_names_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text("configfile: [none.yaml]")
    for profile in ("mine", "mine/config.yaml"):
        with pytest.raises(ConfigError, match=r"none\.yaml: No such file"):
            surroundings.check_arguments(["--profile", profile])
    (tmp_path / "other.yaml").write_text("seed: 1")
    surroundings.check_arguments(["--profile", "mine", "--configfile", "other.yaml"])  # which stands in its place
    surroundings.check_arguments(["--profile", "somewhere-else"])
    (tmp_path / "mine" / "config.yaml").write_text("jobs: 1\njobs: 2")
    with pytest.raises(ConfigError, match=r"mine/config\.yaml, line 2: .*'jobs' is given twice"):
        surroundings.check_arguments(["--profile=mine"])
