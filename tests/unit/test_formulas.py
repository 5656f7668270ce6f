"""The arithmetic that solver files share."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from dode.solvers import deis, formulas, ipndm

LEVELS = [3.0, 4.5, 7.0, 11.0]
VARIABLES = {"sigma": lambda sigma: sigma, **deis.VARIABLES}


@pytest.mark.parametrize("count", [1, 7, formulas.BLOCK, 2 * formulas.BLOCK + 3])
def test_combine_is_the_weighted_sum_whatever_the_size(count):
    tensors = torch.randn(3, count, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind()
    first, second, third = formulas.combine(tensors, (0.5, -2, 3), (1, 0, 0.25), (0, 0, 0))
    torch.testing.assert_close(first, 0.5 * tensors[0] - 2 * tensors[1] + 3 * tensors[2], rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(second, tensors[0] + 0.25 * tensors[2], rtol=1e-14, atol=1e-14)
    assert not third.any()


def test_combine_takes_tensors_that_are_not_contiguous():
    x = torch.arange(24, dtype=torch.float64).view(2, 3, 2, 2)
    turned = x.permute(0, 1, 3, 2)
    result = formulas.combine((x, turned), (2, 1))
    assert torch.equal(result, 2 * x + turned)
    assert result.is_contiguous()


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("length", [1, 2, 3, 4])
@pytest.mark.parametrize("sigma_next", [2.9, 1.0, 1e-3, 0.0])
def test_quadrature_is_converged(variable, length, sigma_next, monkeypatch):
    if variable == "log-sigma" and sigma_next == 0 and length > 1:
        pytest.skip("singular: deis takes one level there")
    levels, function = LEVELS[:length], VARIABLES[variable]
    weights = formulas.lagrange_weights(levels, sigma_next, function)
    monkeypatch.setattr(formulas, "_nodes", lambda: np.polynomial.legendre.leggauss(512))
    finer = formulas.lagrange_weights(levels, sigma_next, function)
    np.testing.assert_allclose(weights, finer, rtol=1e-10, atol=1e-10)
    assert sum(weights) == pytest.approx(1)


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_quadrature_in_sigma_is_the_exact_integral(length):
    exact = formulas.polynomial_weights(LEVELS[:length], 1.0)
    found = formulas.lagrange_weights(LEVELS[:length], 1.0, VARIABLES["sigma"])
    np.testing.assert_allclose(found, exact, rtol=1e-10)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_variable_steps_that_are_equal_have_the_adams_bashforth_weights(order):
    levels = [5.0 + 2 * lag for lag in range(order)]
    np.testing.assert_allclose(formulas.polynomial_weights(levels, 3.0), ipndm.ADAMS_BASHFORTH[order], rtol=1e-12)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_weights_integrate_polynomials_of_their_degree(degree):
    """Of ``eps = sigma^degree``, ``int eps dsigma`` over the step."""
    levels, end = LEVELS[: degree + 1], 1.0
    weights = formulas.polynomial_weights(levels, end)
    exact = (end ** (degree + 1) - levels[0] ** (degree + 1)) / (degree + 1)
    assert (end - levels[0]) * np.dot(weights, np.power(levels, degree)) == pytest.approx(exact)


def published_spans(order, count):
    """The order schedule for ``count`` evaluations as Lu et al. 2022 state it."""
    if order == 2:
        return [2] * (count // 2) + [1] * (count % 2)
    q = count // 3 + 1
    return {0: [3] * (q - 2) + [2, 1], 1: [3] * (q - 1) + [1], 2: [3] * (q - 1) + [2]}[count % 3]


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("count", range(1, 25))
def test_singlestep_spans_are_the_published_schedule_but_for_a_last_step_to_zero(order, count):
    above = [float(level) for level in range(count + 1, 0, -1)]
    spans = formulas.singlestep_spans(order, above)
    assert [end - begin for begin, end in spans] == published_spans(order, count)
    to_zero = formulas.singlestep_spans(order, [level - 1 for level in above])
    assert (to_zero[0][0], to_zero[-1]) == (0, (count - 1, count))
    assert all(one[1] == other[0] for one, other in pairwise(to_zero))


def test_backward_differences_are_exact_for_polynomials_in_log_snr():
    """``D_1`` and ``D_2`` are first derivative and half the second, in units of the step."""
    levels, end = [2.0, 3.0, 5.0], 1.5
    h = formulas.log_step(levels[0], end)
    places = [formulas.log_step(levels[0], level) / h for level in levels]
    values = np.array([1.0 + 2 * place + 3 * place**2 for place in places])
    first = np.dot(formulas.difference_weights(levels, h, [1.0, 0.0]), values) - values[0]
    second = np.dot(formulas.difference_weights(levels, h, [0.0, 1.0]), values) - values[0]
    assert (first, second) == (pytest.approx(2), pytest.approx(3))
    assert formulas.difference_weights(levels[:2], h, [0.5, None]) == pytest.approx(
        [1 + 0.5 / -places[1], 0.5 / places[1]]
    )
    assert math.isclose(sum(formulas.difference_weights(levels, h, [0.3, 0.7])), 1)


def test_weighted_sums_may_build_on_earlier_ones_and_overwrite():
    size = formulas.BLOCK + 3
    a, b, c = torch.randn(3, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = [1.5 * a - 0.5 * b + 2 * c, a - b, 3 * b - 2 * (1.5 * a - 0.5 * b + 2 * c), torch.zeros_like(a)]
    memory = c.clone()
    rows = ([1.5, -0.5, 2], [1, -1], [0, 3, 0, -2], [])
    results = formulas.combine((a, b, memory), *rows, into=(None, memory))
    assert results[1] is memory
    for result, wanted in zip(results, expected, strict=True):
        torch.testing.assert_close(result, wanted, rtol=1e-14, atol=1e-14)
