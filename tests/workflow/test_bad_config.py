"""Every bad configuration ends before any job in one message that says where, what, and what would be right."""

import re
from pathlib import Path

import pytest
import yaml

from dode.benchmark.cells import Benchmark
from dode.benchmark.config import RESERVED, ConfigError
from workspace import REPOSITORY, TINY, change

CASES = yaml.safe_load((Path(__file__).parent / "configs" / "bad.yaml").read_text())


@pytest.mark.parametrize("case", CASES.values(), ids=[name.replace(" ", "-") for name in CASES])
def test_bad_configuration_is_refused_in_one_sentence(case):
    config = yaml.safe_load(TINY.read_text())
    for key, value in case["change"].items():
        change(config, key, value)
    with pytest.raises(ConfigError) as caught:
        Benchmark(config, REPOSITORY)
    message = str(caught.value)
    assert "\n" not in message
    for part in case["says"]:
        assert part in message


@pytest.mark.parametrize("name", ["misspelt key", "impossible nfe", "misspelt card"])
def test_snakemake_says_nothing_besides(fresh, name):
    case = CASES[name]
    fresh.config(case["change"])
    status, output, errors = fresh.attempt("--dry-run")
    text = output + errors
    assert status != 0
    messages = [line for line in text.splitlines() if case["says"][0] in line]
    assert len(messages) == 1, text
    for part in case["says"]:
        assert part in messages[0]
    assert "Traceback" not in text
    assert "WorkflowError" not in text
    assert len(text.splitlines()) <= 2, text


def test_names_of_what_the_rules_write_are_reserved():
    """As ids they would lead two jobs to the same place."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "rules").rglob("*.smk"))
    found = set(re.findall(r"\{RESULTS\}/(?:\{\{dataset\}\}/)?([a-z][a-z.-]*)", text))
    assert {"index.html", "fine-ends", "logs"} <= found
    assert found <= set(RESERVED)


@pytest.fixture
def said(fresh):
    """``said(*arguments)``: what ``snakemake`` says of itself as it refuses them, line by line."""

    def attempt(*arguments):
        status, output, errors = fresh.attempt(*arguments)
        assert status != 0
        assert "Traceback" not in output + errors
        return [line for line in (output + errors).splitlines() if not line.startswith("Using ")]

    return attempt


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        (None, "mine.yaml: No such file or directory"),
        (b"benchmark: caf\xe9\n", "mine.yaml, line 1: the byte 0xe9 is not UTF-8; allowed: text in UTF-8"),
        (b"a: &a\n  b: *a\n", "mine.yaml, line 1: a.b: it holds itself, by the anchor in that line; write it out"),
        (b"on: 1\n", "mine.yaml, line 1: (top level): a key 'on' is read as bool, but keys are text; put it in quotes"),
        (b"seed: 1\nseed: 2\n", "mine.yaml, line 2: (top level): the key 'seed' is given twice, first in line 1"),
    ],
)
def test_a_file_that_snakemake_reads_by_itself_is_refused_in_one_sentence(said, fresh, contents, says):
    if contents is not None:
        (fresh.folder / "mine.yaml").write_bytes(contents)
    assert said("--dry-run", "--configfile", "mine.yaml") == [f"snakemake: {says}"]


@pytest.mark.parametrize(
    ("path", "arguments"), [("mine.yaml", ["--configfile", "mine.yaml"]), ("config/config.yaml", [])]
)
def test_a_configuration_without_keys_is_refused_in_our_words(said, fresh, path, arguments):
    (fresh.folder / path).write_text("- benchmark\n")
    (line,) = said("--dry-run", *arguments)
    assert f"{path}: is a list; allowed: keys with their values" in line


def test_a_lock_file_that_is_none_is_refused_in_one_sentence(said, fresh):
    (fresh.folder / "config" / "checkpoints.lock").write_text("- x\n")
    (line,) = said("--dry-run")
    assert line.endswith("config/checkpoints.lock: expected entries named <card>/<file>")


def test_an_octal_number_on_the_command_line_is_refused(said):
    sentence = "--config seed: 010 is an octal number in YAML 1.1; write it without the leading 0"
    assert said("--dry-run", "--config", "seed=010") == [f"snakemake: {sentence}"]


@pytest.mark.parametrize(
    ("path", "line", "says"),
    [
        ("profiles/slurm/config.yaml", "jobs: 1", "the key 'jobs' is given twice, first in line"),
        ("config/models/digits-edm.yaml", "role: features", "the key 'role' is given twice, first in line 1"),
        ("config/config.yaml", "benchmark: x", "the key 'benchmark' is given twice, first in line"),
    ],
)
def test_a_key_given_twice_in_a_file_of_the_project_is_refused_with_its_line(said, fresh, path, line, says):
    last = len((fresh.folder / path).read_text(encoding="utf-8").splitlines()) + len(line.splitlines())
    fresh.append(path, f"{line}\n")
    (line,) = said("--dry-run")
    assert f"{path}, line {last}: (top level): {says}" in line


def test_the_workflow_included_in_another_one_is_refused_in_a_sentence(said, fresh):
    fresh.append("outer.smk", "include: 'Snakefile'\n")
    (line,) = said("--dry-run", "--snakefile", "outer.smk")
    assert line.startswith("this workflow cannot be included in another one")
    assert f'module dode: snakefile: "{fresh.folder}/Snakefile"' in line


def test_what_no_job_could_use_is_refused_before_any(said, fresh):
    card = fresh.folder / "config" / "models" / "digits-edm.yaml"
    card.write_text(
        card.read_text(encoding="utf-8").replace("  options:", "  options:\n    widht: 3"), encoding="utf-8"
    )
    lines = said()
    assert any(
        "digits-edm.yaml: network.options: network 'residual-mlp': unknown option 'widht'" in line for line in lines
    )
    assert not fresh.contents("re[s]*/**/*.*")
