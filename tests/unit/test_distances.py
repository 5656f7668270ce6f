"""Distances equal the published implementation's and closed forms."""

import tracemalloc

import numpy as np
import pytest

from dode.metrics import distances, scores
from dode.metrics.distances import Statistics
from dode.models import torchvision_operators

torchvision_operators.declare()  # so that clean-fid can be imported beside a CPU-only torch
from cleanfid import fid as cleanfid  # noqa: E402

# clean-fid's use of scipy.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def gaussian(count, seed, shift=0.0, size=6):
    draw = np.random.default_rng(seed)
    return draw.standard_normal((count, size)) @ draw.standard_normal((size, size)) + shift


def moments(x):
    return x.mean(axis=0), np.cov(x, rowvar=False)


@pytest.mark.parametrize("splits", [[], [1], [2, 3, 250], list(range(1, 400)), [399]])
@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_streaming_moments_equal_numpys_whatever_the_batches(splits, shift):
    x = gaussian(400, 0, shift)
    found = Statistics.of(np.split(x, splits))
    mean, covariance = moments(x)
    np.testing.assert_allclose(found.moments[0], mean, rtol=1e-12)
    np.testing.assert_allclose(found.moments[1], covariance, rtol=1e-9)
    assert found.count == 400
    np.testing.assert_array_equal(found.features, x.astype(np.float32))


def test_memory_is_bounded_and_the_first_features_are_kept(monkeypatch):
    monkeypatch.setattr(distances, "KEPT_FEATURES", 250)
    draw, statistics = np.random.default_rng(0), Statistics()
    first = [draw.standard_normal((100, 64)) for _ in range(3)]
    tracemalloc.start()
    try:
        for batch in first:
            statistics.add(batch)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            statistics.add(draw.standard_normal((100, 64)))
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(statistics.features, np.concatenate(first)[:250].astype(np.float32))
    assert grown < 100 * 64 * 8  # less than one of the hundred batches


@pytest.mark.parametrize("splits", [[], [1], list(range(7, 1000, 7)), [999]])
def test_of_a_known_number_a_random_sample_is_kept_whatever_the_batches(monkeypatch, splits):
    """Of images sorted by class: every class has its share."""
    monkeypatch.setattr(distances, "KEPT_FEATURES", 250)
    classes = np.repeat(np.arange(10.0), 100)
    x = np.stack([np.arange(1000.0), classes], axis=1)
    found, plain = Statistics.of(np.split(x, splits), total=1000), Statistics.of(np.split(x, splits))
    np.testing.assert_array_equal(found.features[:, 0], distances.random_rows(1000, 250))
    assert len(set(found.features[:, 0])) == 250
    _, counts = np.unique(found.features[:, 1], return_counts=True)
    assert len(counts) == 10
    assert np.abs(counts - 25).max() < 5 * np.sqrt(25 * 0.9 * 0.75)
    for ours, theirs in zip(found.moments, plain.moments, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_of_few_images_all_are_kept_in_their_order():
    x = gaussian(40, 0)
    found = Statistics.of(np.split(x, [20, 30]), total=40)
    np.testing.assert_array_equal(found.features, x.astype(np.float32))
    np.testing.assert_array_equal(found.gaussian.factor, Statistics.of(np.split(x, [20, 30])).gaussian.factor)


def test_the_factor_of_statistics_that_kept_a_sample_is_of_all(monkeypatch):
    """Not of the few features that were kept of fewer images than features."""
    monkeypatch.setattr(distances, "KEPT_FEATURES", 20)
    x = gaussian(40, 0, size=64)
    found = Statistics.of([x], total=40).gaussian
    np.testing.assert_allclose(found.factor @ found.factor.T, moments(x)[1], atol=1e-8)


@pytest.mark.parametrize("size", [6, 64])
@pytest.mark.parametrize("take_in", [Statistics.add, lambda found, x: found.merge(Statistics.of([x]))])
def test_the_gaussian_is_kept_until_more_is_taken_in(size, take_in):
    first, second = np.split(gaussian(40, 0, size=size), 2)
    found = Statistics.of([first])
    kept = found.gaussian
    assert found.gaussian is kept
    take_in(found, second)
    np.testing.assert_array_equal(found.gaussian.factor, Statistics.of([first, second]).gaussian.factor)
    assert found.gaussian.mean != pytest.approx(kept.mean)


def test_fid_of_streamed_features_is_clean_fids():
    first, second = gaussian(300, 1), gaussian(200, 2, 0.5)
    ours = distances.fid(Statistics.of(np.split(first, 3)).moments, Statistics.of(np.split(second, 4)).moments)
    assert ours == pytest.approx(cleanfid.fid_from_feats(first, second), rel=1e-9)
    assert ours == pytest.approx(cleanfid.frechet_distance(*moments(first), *moments(second)), rel=1e-9)


def test_fid_of_diagonal_gaussians_is_the_closed_form():
    """``|mu_1 - mu_2|^2 + |s_1 - s_2|^2`` for standard deviations s."""
    draw = np.random.default_rng(0)
    means, deviations = draw.standard_normal((2, 64)), draw.uniform(0.1, 3, (2, 64))
    first, second = [(mean, np.diag(deviation**2)) for mean, deviation in zip(means, deviations, strict=True)]
    expected = np.square(means[0] - means[1]).sum() + np.square(deviations[0] - deviations[1]).sum()
    assert distances.fid(first, second) == pytest.approx(expected, rel=1e-10)
    assert distances.fid(first, first) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("shift", [0.0, 1e4])
@pytest.mark.parametrize("splits", [[0], [1], [17, 18, 230], [200], [399], [400]])
def test_merged_statistics_are_those_of_all_features_whatever_the_split(splits, shift):
    x = gaussian(400, 0, shift)
    whole, merged = Statistics.of([x]), Statistics()
    for part in np.split(x, splits):
        merged.merge(Statistics.of([part] if len(part) else []))
    assert merged.count == 400
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.covariance, whole.covariance, rtol=0, atol=1e-12 * np.abs(x).max())
    np.testing.assert_array_equal(merged.features, whole.features)


def test_merging_changes_only_the_one_merged_into(monkeypatch):
    monkeypatch.setattr(distances, "KEPT_FEATURES", 150)
    first, second = gaussian(100, 0), gaussian(100, 1)
    merged, other = Statistics(), Statistics.of([second])
    merged.merge(Statistics.of([first]))
    merged.merge(other)
    merged.merge(other)
    np.testing.assert_allclose(other.covariance, np.cov(second, rowvar=False), rtol=1e-10)
    np.testing.assert_allclose(merged.covariance, np.cov(np.concatenate([first, second, second]), rowvar=False))
    np.testing.assert_array_equal(merged.features, np.concatenate([first, second])[:150].astype(np.float32))


@pytest.mark.parametrize("count", [5, 20, 63])
def test_fid_of_fewer_images_than_features_is_by_either_factor_that_of_the_product_of_roots(count):
    """``tr (S_1 S_2)^(1/2)`` by the roots of the eigenvalues of ``A_1^T S_2 A_1``, whose rank is count - 1."""
    few, many = gaussian(count, 1, size=64).astype(np.float32).astype(np.float64), gaussian(500, 2, 0.5, size=64)
    few_moments, (mean, covariance) = moments(few), moments(many)
    root = (few - few.mean(axis=0)) / np.sqrt(count - 1)
    eigenvalues = np.linalg.eigvalsh(root @ covariance @ root.T)[1:]
    expected = np.square(few_moments[0] - mean).sum() + np.trace(few_moments[1]) + np.trace(covariance)
    expected -= 2 * np.sqrt(eigenvalues).sum()
    for found in (distances.fid(few_moments, (mean, covariance)), distances.fid((mean, covariance), few_moments)):
        assert found == pytest.approx(expected, rel=1e-9)
    assert distances.fid(Statistics.of([few]).gaussian, (mean, covariance)) == pytest.approx(expected, rel=1e-9)


def test_fid_of_degenerate_covariances():
    """No variance at all, ranks that do not meet, and variances of very different size: the diagonal closed form."""
    zero, variances = np.zeros((4, 4)), np.diag([1e8, 1.0, 1e-8, 0.0])
    assert distances.fid((np.ones(4), zero), (np.zeros(4), zero)) == 4
    assert distances.fid((np.zeros(4), variances), (np.zeros(4), zero)) == pytest.approx(np.trace(variances))
    first, second = np.diag([2.0, 0, 0, 0]), np.diag([0, 3.0, 0, 0])
    assert distances.fid((np.zeros(4), first), (np.zeros(4), second)) == pytest.approx(5)
    assert distances.fid((np.zeros(4), variances), (np.zeros(4), 4 * variances)) == pytest.approx(np.trace(variances))


@pytest.mark.parametrize(
    ("covariance", "said"),
    [
        (np.diag([1.0, 1.0, -1e-3]), r"eigenvalues range from -0\.001 to 1"),
        (-np.eye(3), "eigenvalues"),
        (np.eye(3) + np.triu(np.full((3, 3), 0.1), 1), "differ from their mirror images by 0.1"),
        (np.diag([1.0, np.nan, 1.0]), "NaN or infinity"),
        (np.eye(4), r"\(3,\) and a covariance \(4, 4\)"),
    ],
)
def test_what_is_no_covariance_is_refused_on_either_side(covariance, said):
    good, bad = (np.zeros(3), np.eye(3)), (np.zeros(3), covariance)
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(ValueError, match=said):
            distances.fid(*pair)


def test_rounding_of_a_published_float32_covariance_is_none_of_these():
    x = gaussian(40, 1, size=64)
    mean, covariance = moments(x)
    rounded = covariance.astype(np.float32)
    assert np.linalg.eigvalsh(rounded.astype(np.float64))[0] < 0
    assert distances.fid((mean, rounded), (mean, covariance)) == pytest.approx(0, abs=1e-3 * np.trace(covariance))


def test_fid_refuses_other_features():
    with pytest.raises(ValueError, match="3 features per image cannot be compared with 2"):
        distances.fid((np.zeros(3), np.eye(3)), (np.zeros(2), np.eye(2)))


@pytest.mark.parametrize("paired", [False, True])
def test_the_influence_of_an_image_is_the_derivative_of_the_distance_by_its_weight(paired):
    """Of a pair, by the weight of both of its images."""
    x, z = gaussian(200, 1), gaussian(200, 2, 0.5)

    def weighted(features, image, weight):
        weights = np.full(200, (1 - weight) / 200)
        weights[image] += weight
        mean = weights @ features
        return mean, (features - mean).T * weights @ (features - mean)

    def distance(image, weight):
        return distances.fid(weighted(x, image, weight), weighted(z, image, weight if paired else 0.0))

    value, psi = distances.fid_with_influences(x, weighted(x, 0, 0.0), weighted(z, 0, 0.0), z if paired else None)
    assert value == pytest.approx(distance(0, 0.0))
    assert psi.mean() == pytest.approx(0, abs=1e-9 * np.abs(psi).max())
    step = 1e-5
    for image in (0, 7, 150):
        derivative = (distance(image, step) - distance(image, -step)) / (2 * step)
        assert psi[image] == pytest.approx(derivative, rel=1e-5)


@pytest.mark.parametrize("count", [5, 20, 500])
def test_the_distance_of_equal_sets_is_zero_and_not_what_rounding_leaves(count):
    """By either factor, with more and with fewer images than features."""
    x = gaussian(count, 1, size=64).astype(np.float32).astype(np.float64)
    statistics = Statistics.of([x])
    for other in (statistics.gaussian, statistics.moments, moments(x)):
        assert distances.fid(statistics.gaussian, other) == 0
    near = moments(x * (1 + 1e-6))
    assert distances.fid(statistics.gaussian, near) == pytest.approx(1e-12 * np.square(x).sum() / count, rel=0.5)


def test_kid_is_clean_fids_on_the_seeded_subsets():
    real, generated = gaussian(300, 1), gaussian(200, 2, 0.5)
    np.random.seed(5)  # noqa: NPY002
    expected = cleanfid.kernel_distance(real, generated, num_subsets=7, max_subset_size=50)
    assert distances.kid(real, generated, subsets=7, subset_size=50, seed=5) == pytest.approx(expected, rel=1e-12)


def test_kid_on_all_features_is_the_unbiased_closed_form():
    """Binkowski et al. 2018, Eq. 4, with the kernel ``(x.y / F + 1)^3``; one subset of everything."""
    real, generated = gaussian(40, 1), gaussian(40, 2, 0.3)

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    within = sum((kernel(x, x).sum() - np.trace(kernel(x, x))) / (40 * 39) for x in (real, generated))
    expected = within - 2 * kernel(real, generated).mean()
    assert distances.kid(real, generated, subsets=1, subset_size=40) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("real", "generated", "subsets", "size", "said"),
    [(9, 9, 3, 1, "not 3 of 1"), (1, 9, 3, 5, "1 real"), (9, 1, 3, 5, "1 generated"), (9, 9, 0, 5, "not 0 of 5")],
)
def test_kid_of_subsets_without_a_pair_is_refused_and_not_nan(real, generated, subsets, size, said):
    with pytest.raises(ValueError, match=said):
        distances.kid(gaussian(real, 1), gaussian(generated, 2), subsets=subsets, subset_size=size)


def test_kid_is_deterministic_and_leaves_numpys_global_state_as_it_was():
    real, generated = gaussian(300, 1), gaussian(200, 2)
    np.random.seed(1)  # noqa: NPY002
    state = np.random.get_state()  # noqa: NPY002
    first = distances.kid(real, generated, subsets=3, subset_size=20)
    for before, after in zip(state, np.random.get_state(), strict=True):  # noqa: NPY002
        np.testing.assert_array_equal(before, after)
    np.random.random()  # noqa: NPY002
    assert distances.kid(real, generated, subsets=3, subset_size=20) == first
    assert distances.kid(real, generated, subsets=3, subset_size=20, seed=1) != first


def rmse(first, second):
    """As a cell's score has it."""
    with np.errstate(invalid="ignore"):  # equal images have no relative error
        return scores.trajectory([distances.squared_errors(first, second)])["trajectory_rmse"]["value"]


def test_rmse_is_per_element():
    first = np.random.default_rng(0).standard_normal((4, 1, 2, 3)).astype(np.float32)
    second = first.copy()
    second[1] += 2
    assert rmse(first, first) == 0
    assert rmse(first, second) == pytest.approx(1.0)
    np.testing.assert_allclose(distances.squared_errors(first, second), [0, 4, 0, 0])
    bytes_apart = rmse(np.zeros(3, np.uint8), np.full(3, 20, np.uint8))
    assert bytes_apart == 20


def test_squared_errors_are_the_same_in_parts(monkeypatch):
    pair = np.random.default_rng(0).standard_normal((2, 7, 3, 4, 4))
    whole = distances.squared_errors(*pair)
    monkeypatch.setattr(distances, "_ROWS", 3)
    np.testing.assert_array_equal(distances.squared_errors(*pair), whole)


def test_psnr_of_known_errors():
    """An error of a tenth of the peak is 20 decibels, none is infinite."""
    np.testing.assert_allclose(distances.psnr([0.04, 4.0, 0.0]), [20, 0, np.inf])
