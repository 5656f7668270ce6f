"""The fine-step solution between its steps, where it is known, and distances to it."""

import numpy as np
import pytest

from dode.report.fine_solution import Fine, standardised

LEVELS = np.append(np.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), 40) ** 7, 0.0)
NOISE = np.random.default_rng(0).standard_normal((3, 2, 4, 4))


def gaussian(sigmas, spread):
    """Of data N(0, s^2 I) the solution is proportional to sqrt(s^2 + sigma^2)."""
    return NOISE[:, None] * np.sqrt(spread**2 + np.asarray(sigmas) ** 2)[:, None, None, None]


@pytest.mark.parametrize("spread", [1.0, 0.5, 0.3, 0.1, 0.05])
def test_between_its_states_it_is_that_of_a_gaussian(spread):
    sigmas = np.geomspace(79, 0.002, 300)
    found = list(Fine(LEVELS, gaussian(LEVELS, spread)).at(sigmas))
    np.testing.assert_allclose(found, gaussian(sigmas, spread), rtol=1e-4)


def test_at_its_own_levels_it_is_its_states_and_outside_of_them_nothing():
    fine = Fine(LEVELS, gaussian(LEVELS, 0.3))
    np.testing.assert_allclose(list(fine.at(LEVELS)), fine.states, rtol=1e-12)
    assert np.isnan(list(fine.at([81.0]))).all()


def test_distances_are_the_root_mean_square_over_all_images_where_there_is_a_difference():
    sigmas = [100.0, 80.0, 3.0, 0.41, 0.0]
    own = gaussian(sigmas, 0.5) + np.array([1.0, 0.0, 0.3, 0.2, 0.1])[:, None, None, None]
    own[0, 4] += 0.3
    found = Fine(LEVELS, gaussian(LEVELS, 0.5)).distances(sigmas, own.astype(np.float32))
    assert np.isnan(found[:2]).all()
    np.testing.assert_allclose(found[2:], [0.3, 0.2, np.sqrt((0.4**2 + 2 * 0.1**2) / 3)], rtol=1e-3)


def test_noise_and_images_of_unit_variance_are_of_one_size():
    found = standardised(LEVELS, gaussian(LEVELS, 1.0)[0])
    np.testing.assert_allclose(found, np.tile(NOISE[0].ravel(), (len(LEVELS), 1)))
