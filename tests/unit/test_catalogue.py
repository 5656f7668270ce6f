"""What is said of the metrics: complete, in one place, and seen by no code that computes a score."""

import subprocess
import sys
from pathlib import Path

import pytest

from dode.benchmark import digests
from dode.metrics import catalogue
from dode.metrics.catalogue import METRICS

ROOT = Path(__file__).parents[2]


def test_an_edited_sentence_makes_no_score_again():
    file = Path(catalogue.__file__)
    assert file in digests.code_of(ROOT / "scripts" / "page.py")
    for stage in ("real", "published_statistics", "statistics", "sample", "score", "collect"):
        assert file not in digests.code_of(ROOT / "scripts" / f"{stage}.py"), stage


def test_the_catalogue_is_read_without_torch():
    code = "import sys, dode.metrics.catalogue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_says_what_it_means_how_to_read_it_and_on_how_many_images(name):
    metric = METRICS[name]
    for sentence in (metric.meaning, metric.count, *metric.bias.values(), *filter(None, [metric.warning])):
        assert sentence[0].isupper()
        assert sentence[-1] in ".?"
    assert metric.direction.capitalize() in metric.description
    assert metric.any_count == metric.count.endswith("is the same for every number of images.")


def test_a_direction_is_said_on_the_axis_behind_name_and_unit():
    assert METRICS["fid"].axis() == "FID (lower is better)"
    assert METRICS["trajectory_psnr"].axis("\n") == "trajectory PSNR, dB\n(higher is better)"
