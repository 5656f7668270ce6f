"""Means and spreads are right for numbers of any size, and numpy's to the bit for ordinary ones."""

import math
import statistics

import numpy as np
import pytest

from dode.metrics import distances, scores, spread
from dode.metrics.distances import Gaussian, Statistics
from dode.metrics.extrapolation import fid_infinity
from dode.report import frame

SIZES = [1e-320, 1e-300, 1e-200, 1e-30, 1.0, 1e30, 1e200, 1e300]


@pytest.mark.parametrize("size", SIZES)
def test_a_spread_of_any_size_is_that_of_exact_arithmetic(size):
    values = [size * value for value in (1.0, 2.0, 4.0, 4.5)]
    assert spread.mean(values) == pytest.approx(float(statistics.mean(values)), rel=1e-12, abs=5e-324)
    assert spread.standard_deviation(values) == pytest.approx(statistics.stdev(values), rel=1e-12, abs=5e-324)
    summary = scores.summary(values)
    assert (summary["value"], summary["error"]) == (spread.mean(values), spread.standard_deviation(values))
    halves = frame._halves(values)
    assert (halves["value"], halves["error"]) == (summary["value"], summary["error"])
    images = np.array(values)
    assert scores.standard_error(images) == pytest.approx(statistics.stdev(values) / 2, rel=1e-12, abs=5e-324)
    assert distances.kid_error(images, 2, 4) == pytest.approx(
        statistics.stdev(values) * math.sqrt(1 / 4 + 2 / 2), rel=1e-12, abs=5e-324
    )


def test_of_ordinary_numbers_it_is_numpys_to_the_bit():
    draw = np.random.default_rng(0)
    for count in (2, 3, 10, 1000):
        values = draw.standard_normal(count) * 10.0 ** draw.integers(-30, 30)
        assert spread.mean(values) == values.mean()
        assert spread.standard_deviation(values) == values.std(ddof=1)
    columns = draw.standard_normal((5, 3)) * [1e-200, 1.0, 1e200]
    found = spread.standard_deviation(columns, axis=0)
    assert found.tolist() == pytest.approx([statistics.stdev(column) for column in columns.T.tolist()], rel=1e-12)


@pytest.mark.parametrize(
    ("values", "mean", "deviation"),
    [
        ([1.7e308, 1.7e308], 1.7e308, 0.0),
        ([-1.7e308, 1.7e308], 0.0, math.inf),
        ([0.0, 0.0], 0.0, 0.0),
        ([3.0], 3.0, math.nan),
        ([math.inf, 1.0], math.inf, math.nan),
        ([math.nan, 1.0], math.nan, math.nan),
    ],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_the_ends_of_float64(values, mean, deviation):
    assert spread.mean(values) == pytest.approx(mean, nan_ok=True)
    assert spread.standard_deviation(values) == pytest.approx(deviation, nan_ok=True)


def test_the_error_of_a_large_fid_is_a_number():
    """Features of 1e38, the largest of float32: influences of 1e76, whose squares are no float32, and errors of FID."""
    features = np.random.default_rng(0).standard_normal((40, 4)) * 1e37
    block = Statistics.of([features])
    reference = Gaussian.of_moments(np.zeros(4), np.eye(4))
    entry = scores.frechet([block], [reference])
    assert 0 < entry["error"] < entry["value"] < math.inf
    found = fid_infinity(block.features, reference)
    assert 0 < found.error < math.inf


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e39, -1e300])
def test_features_that_cannot_be_kept_are_refused(value):
    features = np.ones((3, 2))
    features[1, 1] = value
    with pytest.raises(ValueError, match="the features of an image contain NaN, infinity or numbers beyond float32"):
        Statistics.of([features])
