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
    assert len(text.splitlines()) <= 4, text


def test_names_of_what_the_rules_write_are_reserved():
    """As ids they would lead two jobs to the same place."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "rules").rglob("*.smk"))
    found = set(re.findall(r"\{RESULTS\}/(?:\{\{dataset\}\}/)?([a-z][a-z.-]*)", text))
    assert {"index.html", "fine-ends", "logs"} <= found
    assert found <= set(RESERVED)
