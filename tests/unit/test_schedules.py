"""Noise schedules against the published formulas, written out again here."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest

from dode.grids import schedules

LINEAR = schedules.schedules.create("linear")
COSINE = schedules.schedules.create("cosine")


def exact_alphas_cumprod():
    """The table of Ho et al. 2020 in 40 decimal digits."""
    low, high, product, table = Decimal("0.0001"), Decimal("0.02"), Decimal(1), []
    with localcontext() as context:
        context.prec = 40
        for i in range(1000):
            product *= 1 - (low + (high - low) * i / 999)
            table.append(float(product))
    return np.array(table)


def test_linear_schedule_has_the_ddpm_table():
    table = exact_alphas_cumprod()
    np.testing.assert_allclose(LINEAR.alphas_cumprod, table, rtol=1e-12)
    assert LINEAR.alphas_cumprod[0] == pytest.approx(0.9999, rel=1e-15)
    assert LINEAR.alphas_cumprod[999] == pytest.approx(4.0358e-5, rel=1e-4)
    assert LINEAR.sigma_max == pytest.approx(157.407, rel=1e-5)
    assert LINEAR.sigma_min == pytest.approx(math.sqrt(1e-4 / 0.9999), rel=1e-11)


def test_cosine_schedule_is_the_published_one_with_its_last_beta_clipped():
    def squared_cosine(time):
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    for i in (0, 100, 2000, 3900):
        expected = squared_cosine((i + 1) / 4000) / squared_cosine(0)
        assert COSINE.alphas_cumprod[i] == pytest.approx(expected, rel=1e-10)
    assert len(COSINE) == 4000
    assert COSINE.alphas_cumprod[-1] == pytest.approx(COSINE.alphas_cumprod[-2] * 0.001, rel=1e-9)


@pytest.mark.parametrize("schedule", [LINEAR, COSINE], ids=["linear", "cosine"])
def test_index_inverts_sigma(schedule):
    fractional = np.linspace(-0.95, len(schedule) - 1.03, 977)
    np.testing.assert_allclose(schedule.index(schedule.sigma(fractional)), fractional, rtol=0, atol=1e-6)
    whole = np.arange(-1, len(schedule))
    assert schedule.index(schedule.sigma(whole)).tolist() == whole.tolist()


def test_index_snaps_only_within_a_millionth():
    assert LINEAR.index(LINEAR.sigma(500 + 5e-7)) == 500
    assert LINEAR.index(LINEAR.sigma(500 + 2e-6)) == pytest.approx(500 + 2e-6, abs=1e-9)


def test_log_abar_is_linear_between_integers_and_the_clean_image_is_index_minus_one():
    middle = math.sqrt(LINEAR.alphas_cumprod[41] * LINEAR.alphas_cumprod[42])
    assert math.exp(LINEAR.log_abar(41.5)) == pytest.approx(middle, rel=1e-14)
    assert LINEAR.sigma(-1) == 0
    assert LINEAR.log_abar(-0.5) == pytest.approx(math.log(0.9999) / 2, rel=1e-12)


def test_openais_linear_schedule_of_other_lengths_must_be_spelt_out():
    """Its betas are scaled by 1000 / steps (improved and guided diffusion), those of diffusers are not."""
    with pytest.raises(ValueError, match=r"to beta_min: 2\.5e-05 and beta_max: 0\.005, others do not"):
        schedules.schedules.create("linear", steps=4000)
    with pytest.raises(ValueError, match="schedule 'linear' of 4000 steps needs beta_min and beta_max"):
        schedules.schedules.create("linear", steps=4000, beta_max=0.005)
    own = schedules.schedules.create("linear", steps=4000, beta_min=2.5e-5, beta_max=0.005)
    betas = np.linspace(1000 / 4000 * 0.0001, 1000 / 4000 * 0.02, 4000)
    np.testing.assert_allclose(own.alphas_cumprod, np.cumprod(1 - betas), rtol=1e-12)


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "sigmoid"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 500}, "of 500 steps needs beta_min and beta_max"),
        ({"beta_max": "0.02"}, "beta_max of a schedule must be a finite number from 0 to 1e6, not '0.02'"),
        ({"beta_min": True}, "beta_min of a schedule must be a finite number from 0 to 1e6, not True"),
        ({"beta_max": 10**400}, "beta_max of a schedule must be a finite number from 0 to 1e6, not 1000"),
        ({"beta_max": 2.0}, "all above 0 and below 1"),
        ({"beta_min": 0.02, "beta_max": 1e-4}, "beta_min of a schedule must be at most beta_max, not 0.02 and 0.0001"),
    ],
)
def test_options_that_make_no_schedule_are_refused(name, options, said):
    with pytest.raises(ValueError, match=said):
        schedules.schedules.create(name, **options)


def test_the_first_indices_of_a_schedule_are_a_schedule():
    cut = COSINE.first(3984)
    assert len(cut) == 3984
    assert cut.sigma_max == COSINE.sigma(3983)
    whole = np.arange(-1, 3984)
    assert cut.index(cut.sigma(whole)).tolist() == whole.tolist()
