"""The benchmark of the page, with a browser of its own and therefore not beside the tests that share one."""

import importlib.util
import sys
from pathlib import Path

import pytest

import browsers

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browsers.executable() is None, reason=f"none of {', '.join(browsers.NAMES)} is installed"),
]
ROOT = Path(__file__).parents[2]


def test_the_benchmark_of_the_page_runs(monkeypatch, capsys):
    specification = importlib.util.spec_from_file_location("benchmark_of_the_page", ROOT / "benchmarks" / "page.py")
    benchmark = importlib.util.module_from_spec(specification)
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which it adds
    specification.loader.exec_module(benchmark)
    config = str(ROOT / "config" / "config.yaml")
    monkeypatch.setattr(sys, "argv", ["page.py", "--config", config, "--runs", "1"])
    benchmark.main()
    rows = dict(line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:])
    assert rows["images of a cell"] == "16 to 16"
    assert float(rows["first paint (ms), median of 1"]) > 0
