"""Every bad configuration ends before any job in one message that says where, what, and what would be right."""

from pathlib import Path

import pytest
import yaml

CASES = yaml.safe_load((Path(__file__).parent / "configs" / "bad.yaml").read_text())


@pytest.mark.parametrize("case", CASES.values(), ids=[name.replace(" ", "-") for name in CASES])
def test_bad_configuration_is_refused_in_one_message(fresh, case):
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
