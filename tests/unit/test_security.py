"""What comes from a configuration cannot leave its folder, reach a shell, or bring a secret into logs."""

import ast
import copy
from pathlib import Path

import pytest
import yaml

from dode.benchmark.cells import Benchmark
from dode.benchmark.config import ConfigError
from dode.fetching import cards

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((Path(__file__).parent / "cells.yaml").read_text())
HOSTILE = [
    *("..", "../up", "a/b", "/etc", "a b", "a;b", "$(x)", "`x`", "a|b", "a&b", "a>b", "a\nb", "a'b", 'a"b', "*", "?"),
    *("~", "-rf", ".hidden", "", "a\0b", "{wildcards.nfe}", "%j", "é", "a" * 61),
]
PLACES = {
    "benchmark": lambda config, value: config.update(benchmark=value),
    "datasets[0].id": lambda config, value: config["datasets"][0].update(id=value),
    "datasets[0].model": lambda config, value: config["datasets"][0].update(model=value),
    "datasets[0].features": lambda config, value: config["datasets"][0].update(features=value),
    "datasets[0].statistics": lambda config, value: config["datasets"][0].update(statistics=value),
    "datasets[0].guidance.classifier": lambda config, value: config["datasets"][0].update(
        guidance={"name": "classifier", "scale": 1, "classifier": value}
    ),
    "solvers[0].id": lambda config, value: config["solvers"][0].update(id=value),
}


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("place", PLACES)
def test_a_name_that_is_no_plain_word_is_refused_by_its_key(place, value):
    config = copy.deepcopy(CONFIG)
    PLACES[place](config, value)
    with pytest.raises(ConfigError) as caught:
        Benchmark(config, ROOT)
    assert place in str(caught.value)
    allowed = ("allowed: text that matches", "at most 60 characters, not 61", "which cannot be seen")
    assert any(sentence in str(caught.value) for sentence in allowed)


def test_no_command_goes_through_a_shell():
    for path in [*ROOT.glob("dode/**/*.py"), *ROOT.glob("scripts/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                if isinstance(node.func, ast.Attribute):
                    assert ast.unparse(node.func) not in ("os.system", "os.popen", "subprocess.getoutput"), path
                assert "shell" not in {keyword.arg for keyword in node.keywords}, path


def test_no_rule_has_a_shell_command():
    for path in [ROOT / "Snakefile", *ROOT.glob("rules/**/*.smk")]:
        assert "shell:" not in path.read_text()


def card_with(folder, *urls):
    """The card of an embedded model with other URLs, read."""
    card = yaml.safe_load((ROOT / "config" / "models" / "digits-edm.yaml").read_text())
    (folder / "config" / "models").mkdir(parents=True)
    (folder / "config" / "schemas").symlink_to(ROOT / "config" / "schemas")
    (folder / "config" / "models" / "mine.yaml").write_text(yaml.safe_dump({**card, "urls": list(urls)}))
    return cards.load_card(folder, "mine", "model")


@pytest.mark.parametrize(
    "url",
    [
        "https://user:pass@example.org/file.pt",
        "https://token@example.org/file.pt",
        "https://example.org/file.pt?token=abc",
        "https://example.org/file.pt?a=1&X-Amz-Signature=abc",
        "https://example.org/file.pt?AccessKey=abc",
    ],
)
def test_a_card_with_a_credential_in_a_url_is_refused_without_repeating_it(tmp_path, url):
    with pytest.raises(ConfigError, match=r"urls: the one at example\.org contains a credential") as caught:
        card_with(tmp_path, "https://example.org/file.pt?download=1", url)
    assert "abc" not in str(caught.value)
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (
            "file:a#b.pt",
            "urls: file:a#...: what follows the '#' is no part of the file's name; allowed: %23 in its place",
        ),
        ("file:a?b.pt", "urls: file:a?...: what follows the '?'"),
        ("hf:me/model/a#b.pt@v1", "urls: hf:me/model/a#...: what follows the '#'"),
        ("https://example.org/a.pt#token=abc", "urls: https://example.org/a.pt#...: what follows the '#'"),
    ],
)
def test_a_card_with_a_url_of_which_a_part_would_be_lost_is_refused(tmp_path, url, says):
    with pytest.raises(ConfigError, match=r"^config/models/mine\.yaml: urls: ") as caught:
        card_with(tmp_path, url)
    assert says in str(caught.value)
    assert "token" not in str(caught.value)
