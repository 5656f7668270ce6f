"""Noise that a solver adds on its way: a function of the start noise and the step, normal, and independent of both."""

import numpy as np
import pytest
import torch
from scipy import stats

import dode
from dode import solvers
from dode.images import noise
from dode.models import mixture
from dode.solvers.further_noise import further_noise

START = noise.latents(range(200), (1, 8, 8), seed=0)


def test_it_is_of_the_image_alone_whatever_the_batch():
    whole = further_noise(80 * START)(3)
    parts = torch.cat([further_noise(80 * part)(3) for part in START.split(70)])
    assert whole.dtype == torch.float64
    assert torch.equal(whole, parts)
    assert torch.equal(further_noise(80 * START.flip(0))(3), whole.flip(0))


def test_the_order_in_which_steps_are_asked_for_is_of_no_account():
    first, second = further_noise(START), further_noise(START)
    later = first(5)
    assert not torch.equal(first(4), later)
    assert torch.equal(second(4), first(4))
    assert torch.equal(second(5), later)


def test_what_single_precision_does_not_hold_changes_nothing():
    rounded = START.float().double()
    assert torch.equal(further_noise(rounded)(0), further_noise(rounded * (1 + 1e-12))(0))


def test_it_is_unit_normal():
    values = torch.stack([further_noise(START)(step) for step in range(4)]).flatten().numpy()  # 51,200
    assert stats.kstest(values, "norm").pvalue > 1e-3
    assert values.std() == pytest.approx(1, abs=5 * np.sqrt(1 / 2 / values.size))
    assert abs(values.mean()) < 5 / np.sqrt(values.size)


def test_it_is_independent_of_the_start_noise_of_other_steps_of_other_images_and_of_the_scored_noise():
    drawn = further_noise(80 * START)
    columns = [START, drawn(0), drawn(1), drawn(2), drawn(1).roll(1, 0), noise.latents(range(200), (1, 8, 8), seed=1)]
    for power in (1, 2):  # linear dependence, and of the sizes
        correlations = np.corrcoef([column.flatten().numpy() ** power for column in columns])
        off = correlations[~np.eye(len(columns), dtype=bool)]
        assert np.abs(off).max() < 5 / np.sqrt(START.numel())
    # Pixels of an image with each other.
    pixels = np.corrcoef(torch.cat([drawn(step).flatten(1) for step in range(10)]).T.numpy())
    assert np.abs(pixels[~np.eye(64, dtype=bool)]).max() < 5 / np.sqrt(2000)


def test_a_value_of_it_is_known():
    """A change would make other samples of the same seed."""
    drawn = further_noise(torch.arange(4.0).view(1, 1, 2, 2))(2).flatten().tolist()
    assert drawn == pytest.approx([1.0916162552112882, -2.113252802323182, 0.028671473340768066, -1.2606742991018116])


def test_steps_of_a_gaussian_keep_its_spread():
    """Of data N(0, s^2), whose consistency function is known, every step but the last adds noise and takes it away."""

    def exact(x, sigma):
        return x * 0.7 / (0.49 + sigma**2) ** 0.5

    latents = mixture.latents(4000, 1)
    end = dode.sample(solvers.create("consistency", sigma_min=0.0), exact, latents, [80.0, 2.0, 0.5, 0.0])
    # From 80 a start of standard deviation 80 and not sqrt(80^2 + s^2) is what every sampler begins with.
    assert float(end.std()) == pytest.approx(0.7, rel=0.01)
    again = dode.sample(solvers.create("consistency", sigma_min=0.0), exact, latents, [80.0, 2.0, 0.5, 0.0])
    assert torch.equal(end, again)
    correlation = float((end * latents).mean() / end.std())
    assert correlation < 0.9  # one step would be the start noise again
