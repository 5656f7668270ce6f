"""Paired FID: known answers, what pairs images and what does not, its error and its bias.

``pytest -s tests/unit/test_paired_fid.py`` prints the tables of docs/scores.md.
"""

import itertools

import numpy as np
import pytest
import torch

import dode
from dode.metrics import distances, scores, statistics_files
from dode.metrics.distances import Statistics

CARD = {"network": {"name": "pixels"}}
KINDS = ["stretched", "turned", "own noise"]
DEVIATIONS = np.arange(1, 65) ** -0.5


def paired(blocks, fine):
    """The entry of paired FID of blocks of features against those of the fine steps, as a score has it."""
    generated, references = ([Statistics.of([features]) for features in own] for own in (blocks, fine))
    partners = references[0].features if len(references) == 1 else None
    return scores.frechet(generated, [each.gaussian for each in references], partners)


def images(draw, count):
    return draw.standard_normal((count, 64)) * DEVIATIONS


def pairs(draw, count, kind, size):
    """Features of the fine steps and, ``size`` away, of a solver: stretched and shifted, turned, or with own noise."""
    fixed = np.random.default_rng(1)
    x, square = images(draw, count), fixed.standard_normal((64, 64)) / 8
    if kind == "stretched":
        return x, x + size * (x @ (square + square.T) / 2 + DEVIATIONS)
    if kind == "turned":
        return x, x @ torch.matrix_exp(torch.from_numpy(size * (square - square.T))).numpy().T
    return x, x + size * images(draw, count)


def truth(kind, size):
    """The distance of infinitely many images, from the exact covariances."""
    fixed = np.random.default_rng(1)
    square, covariance = fixed.standard_normal((64, 64)) / 8, np.diag(DEVIATIONS**2)
    if kind == "stretched":
        step = size * (square + square.T) / 2  # symmetric, so that x + step x + shift is the optimal map itself
        return np.trace(step @ covariance @ step) + np.square(size * DEVIATIONS).sum()
    if kind == "turned":
        turn = torch.matrix_exp(torch.from_numpy(size * (square - square.T))).numpy()
        return distances.fid((np.zeros(64), turn @ covariance @ turn.T), (np.zeros(64), covariance))
    return np.square((np.sqrt(1 + size**2) - 1) * DEVIATIONS).sum()


def test_ddim_on_gaussian_data_costs_what_the_closed_form_says():
    """It multiplies each pixel by one number, and the exact solution by another."""
    deviations = torch.linspace(0.1, 1.0, 16).double().view(1, 4, 4)
    sigmas = dode.grids.karras(steps=40, sigma_min=0.002, sigma_max=80.0)

    def denoise(x, sigma):
        return deviations**2 / (deviations**2 + sigma**2) * x

    latents = torch.randn(2000, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ends = dode.sample(dode.solvers.create("ddim"), denoise, latents, sigmas)
    fine = latents * 80 * deviations / (deviations**2 + 80**2).sqrt()
    factor = torch.ones_like(deviations)
    for sigma, after in itertools.pairwise(sigmas):
        factor = factor * (1 + (after - sigma) * sigma / (deviations**2 + sigma**2))
    exact = (80 * factor - 80 * deviations / (deviations**2 + 80**2).sqrt()).square().sum().item()
    found = paired([ends.flatten(1).numpy()], [fine.flatten(1).numpy()])
    assert found["value"] == pytest.approx(exact, rel=0.02)
    assert abs(found["value"] - exact) < 4 * found["error"]
    # On other noise there is a floor above that.
    other = torch.randn(latents.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    unpaired = paired([ends.flatten(1).numpy()], [(fine / latents * other).flatten(1).numpy()])
    assert unpaired["value"] > exact + 10 * found["error"]


@pytest.mark.parametrize("count", [20, 500])
def test_it_compares_sets_of_the_same_noise_and_not_images(count):
    draw = np.random.default_rng(0)
    fine, own = (list(each) for each in zip(*(pairs(draw, count, "turned", 0.1) for _ in range(2)), strict=True))
    value = paired(own, fine)["value"]
    assert paired(own, own)["value"] == pytest.approx(0, abs=1e-12)
    assert paired([block[::-1] for block in own], fine)["value"] == pytest.approx(value, rel=1e-9)
    assert paired(own, fine[::-1])["value"] > 5 * value


def test_a_solver_that_only_exchanges_images_costs_nothing_though_each_of_them_is_wrong():
    x = images(np.random.default_rng(0), 500)
    assert paired([np.roll(x, 1, axis=0)], [x])["value"] == pytest.approx(0, abs=1e-12)
    assert distances.squared_errors(np.roll(x, 1, axis=0), x).mean() > 0.1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [10, 64, 300])
def test_it_is_at_most_the_mean_squared_distance_of_the_pairs(count, kind):
    """Any pairing of two sets costs at least their optimal transport, and that at least what their moments need."""
    fine, own = pairs(np.random.default_rng(0), count, kind, 0.2)
    most = np.square(own - fine).sum(axis=1).mean() * count / (count - 1)
    assert 0 < paired([own], [fine])["value"] <= most


@pytest.mark.parametrize("size", [0.1, 0.01])
@pytest.mark.parametrize("kind", KINDS)
def test_its_bias_is_a_share_of_that_on_other_noise_as_small_as_the_squared_error(kind, size):
    """64 features, means of 40 sets."""
    exact, draw = truth(kind, size), np.random.default_rng(0)
    print(f"\n{kind}, size {size}: true {exact:.6f}")
    for count in (32, 128, 500, 2500):
        found = []
        for _ in range(40):
            fine, own = (Statistics.of([each]).gaussian for each in pairs(draw, count, kind, size))
            other = Statistics.of([images(draw, count)]).gaussian
            found.append([distances.fid(own, fine), distances.fid(own, other)])
        same, others = np.mean(found, axis=0)
        print(f"  {count} images: {same:.6f} on the same noise, {others:.4f} on other noise")
        assert abs(same - exact) < 2 * size**2 * (others - exact)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [40, 128, 500])
def test_the_error_of_a_single_block_is_the_spread_over_sets_of_images(count, kind):
    draw = np.random.default_rng(0)
    found = [paired([own], [fine]) for fine, own in (pairs(draw, count, kind, 0.1) for _ in range(60))]
    spread = np.std([each["value"] for each in found], ddof=1)
    ratio = np.mean([each["error"] for each in found]) / spread
    print(f"\nerror told over true spread, {kind}, {count} images: {ratio:.2f}")
    assert 0.75 < ratio < 1.8


def test_the_error_is_that_of_a_bootstrap_of_the_pairs():
    draw = np.random.default_rng(0)
    fine, own = pairs(draw, 1500, "turned", 0.1)
    resampled = [draw.integers(0, 1500, 1500) for _ in range(100)]
    spread = np.std([paired([own[rows]] * 2, [fine[rows]] * 2)["value"] for rows in resampled], ddof=1)
    assert paired([own], [fine])["error"] == pytest.approx(spread, rel=0.25)  # of 100 resamples, 3.5 standard errors


def test_statistics_of_other_blocks_are_refused(tmp_path):
    blocks = [Statistics.of([images(np.random.default_rng(seed), 80)]) for seed in range(2)]
    statistics_files.write_blocks(tmp_path / "fine.npz", blocks, CARD)
    found = statistics_files.read_blocks(tmp_path / "fine.npz", CARD, [80, 80])
    for block, read in zip(blocks, found, strict=True):
        np.testing.assert_array_equal(read.moments[1], block.covariance)
        assert (read.features, read.images) == (None, 80)
    for counts in ([80], [80, 80, 80], [80, 79]):
        with pytest.raises(ValueError, match=r"blocks of \[80, 80\] images, but the cell has blocks of \["):
            statistics_files.read_blocks(tmp_path / "fine.npz", CARD, counts)
    statistics_files.write_blocks(tmp_path / "one.npz", blocks[:1], CARD)
    (read,) = statistics_files.read_blocks(tmp_path / "one.npz", CARD, [80])
    np.testing.assert_array_equal(read.features, blocks[0].features)
