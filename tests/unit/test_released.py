"""The released recipes against a second implementation, in numpy and (for noise prediction) in VP coordinates.

Everything here is written from the published formulas: nothing of ``dode`` but ``released.run`` itself is called.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch

from dode import released

SPREAD = 0.25
MEANS = np.random.RandomState(0).randn(5, 16) * 0.8
ABAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
FIT = np.random.default_rng(1).standard_normal((24, 16))
NEW = np.random.default_rng(2).standard_normal((8, 16))


def clean_estimate(x, sigma):
    """D(x; sigma) of the Gaussian mixture, x (B, 16)."""
    variance = SPREAD**2 + sigma**2
    logits = -np.square(x[:, None] - MEANS).sum(axis=2) / (2 * variance)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    mean = weights / weights.sum(axis=1, keepdims=True) @ MEANS
    return mean + SPREAD**2 / variance * (x - mean)


def noise_estimate(x, index):
    """eps(x, i) of the mixture in VP coordinates at an integer index."""
    alpha, sigma = np.sqrt(ABAR[index]), np.sqrt(1 - ABAR[index])
    return (x - alpha * clean_estimate(x / alpha, sigma / alpha)) / sigma


def fitted(direction, residual):
    """The least-squares coefficient."""
    return np.sum(direction * residual) / np.sum(direction**2)


def vp_indices(steps):
    """Descending: integer parts of a float32 linspace, counted from the nearer end, then -1 for the clean image."""
    width, k = np.float32(1000) / np.float32(steps), np.arange(steps, dtype=np.float32)
    values = np.where(k < (steps + 1) // 2, k * width, np.float32(1000) - (np.float32(steps) - k) * width)
    return [*values.astype(int)[::-1].tolist(), -1]


def ddim_step(x, noise, index, index_next):
    """DDIM(x, e, a -> a')."""
    now, after = ABAR[index], ABAR[index_next] if index_next >= 0 else 1.0
    return np.sqrt(after) * (x - np.sqrt(1 - now) * noise) / np.sqrt(now) + np.sqrt(1 - after) * noise


def vp_student(x, steps, advance):
    """DDIM; ``advance(k, proposal, direction)`` gives the next state. Pure noise is the output before the first."""
    indices, previous = vp_indices(steps), x
    for k in range(steps):
        noise = noise_estimate(x, indices[k])
        x = advance(k, ddim_step(x, noise, indices[k], indices[k + 1]), noise - previous)
        previous = noise
    return x


def vp_recipe(steps, scale):
    """Lambdas, and a sampler ``(latents, lambdas) -> states``, of D-DDIM for noise prediction."""
    count = min(1000, scale * steps)
    indices, trajectory = vp_indices(count), [FIT]
    for index, index_next in pairwise(indices):
        trajectory.append(ddim_step(trajectory[-1], noise_estimate(trajectory[-1], index), index, index_next))
    stride = count // steps
    targets = [trajectory[k * stride] for k in range(steps)] + [trajectory[-1]]
    lambdas = []

    def fit(k, proposal, direction):
        lambdas.append(fitted(direction, targets[k + 1] - proposal))
        return proposal + lambdas[k] * direction

    vp_student(FIT, steps, fit)
    return lambdas, lambda latents, coefficients: vp_student(
        latents, steps, lambda k, proposal, direction: proposal + coefficients[k] * direction
    )


def edm_grid(steps):
    """Grid(M)."""
    high, low = 80 ** (1 / 7), 0.002 ** (1 / 7)
    return [*((high + np.arange(steps) / (steps - 1) * (low - high)) ** 7).tolist(), 0.0]


def edm_teacher(steps):
    """All states of Euler's method on Grid(M)."""
    sigmas = edm_grid(steps)
    trajectory = [sigmas[0] * FIT]
    for sigma, sigma_next in pairwise(sigmas):
        x = trajectory[-1]
        trajectory.append(x + (sigma_next - sigma) * (x - clean_estimate(x, sigma)) / sigma)
    return trajectory


def edm_euler(latents, steps, advance):
    """Euler; the first step has no direction."""
    sigmas, previous = edm_grid(steps), None
    x = sigmas[0] * latents
    for i in range(steps):
        denoised = clean_estimate(x, sigmas[i])
        proposal = x + (sigmas[i + 1] - sigmas[i]) * (x - denoised) / sigmas[i]
        x = proposal if i == 0 else advance(i, proposal, denoised - previous)
        previous = denoised
    return x


def edm_heun(latents, steps, advance):
    """Heun with the evaluation of the corrector at the corrected predictor; evaluations 2i and 2i + 1 of step i."""
    sigmas, previous = edm_grid(steps), None
    x = sigmas[0] * latents
    for i in range(steps):
        sigma, sigma_next = sigmas[i], sigmas[i + 1]
        denoised = clean_estimate(x, sigma)
        slope = (x - denoised) / sigma
        predicted = x + (sigma_next - sigma) * slope
        if i > 0:
            predicted = advance(2 * i, predicted, denoised - previous)
        if i == steps - 1:
            return predicted
        again = clean_estimate(predicted, sigma_next)
        slope_next = (predicted - again) / sigma_next
        x = advance(2 * i + 1, x + (sigma_next - sigma) * (slope + slope_next) / 2, again - denoised)
        previous = again
    return x


def edm_recipe(student, evaluations, steps, scale):
    """As :func:`vp_recipe`, for data prediction: evaluation k is held against entry (k + 1) S of the teacher."""
    trajectory, lambdas = edm_teacher(scale * evaluations), np.zeros(evaluations)

    def fit(k, proposal, direction):
        lambdas[k] = fitted(direction, trajectory[(k + 1) * scale] - proposal)
        return proposal + lambdas[k] * direction

    student(FIT, steps, fit)
    return lambdas, lambda latents, coefficients: student(
        latents, steps, lambda k, proposal, direction: proposal + coefficients[k] * direction
    )


def images(flat):
    """(B, 16) as a tensor of images."""
    return torch.from_numpy(flat).view(-1, 1, 4, 4)


def noise_model(x, index):
    """:func:`noise_estimate` for tensors; only an integer index is answered."""
    assert float(index) == int(index) >= 0
    return images(noise_estimate(x.flatten(1).numpy(), int(index)))


def data_model(x, sigma):
    """:func:`clean_estimate` for tensors."""
    return images(clean_estimate(x.flatten(1).numpy(), float(sigma)))


def close(result, lambdas, sampler):
    """Baseline and distilled samples agree to 1e-6."""
    expected = {
        "baseline_new": sampler(NEW, np.zeros(len(lambdas))),
        "distilled_fit": sampler(FIT, lambdas),
        "distilled_new": sampler(NEW, lambdas),
    }
    for name, flat in expected.items():
        torch.testing.assert_close(
            getattr(result, name), images(flat), rtol=0, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert not torch.allclose(result.baseline_new, result.distilled_new, atol=1e-3)


@pytest.mark.parametrize(
    ("steps", "scale"), [(4, 10), (5, 10), (6, 10), (10, 10), (4, 20), (5, 20), (6, 20), (10, 20), (60, 20), (26, 10)]
)
def test_ddim_for_noise_prediction(steps, scale):
    """60 steps, scale 20: the teacher is capped at the 1,000 training steps, and its stride is 1000 // 60 = 16."""
    lambdas, sampler = vp_recipe(steps, scale)
    result = released.run("noise", "ddim", None, steps, scale, noise_model, images(FIT), images(NEW))
    np.testing.assert_allclose(result.lambdas.numpy(), lambdas, rtol=1e-6, atol=1e-12)
    close(result, lambdas, sampler)


@pytest.mark.parametrize("steps", [4, 5, 6, 10])
@pytest.mark.parametrize("scale", [10, 20])
def test_ddim_for_data_prediction(steps, scale):
    lambdas, sampler = edm_recipe(edm_euler, steps, steps, scale)
    result = released.run("data", "ddim", None, steps, scale, data_model, images(FIT), images(NEW))
    assert result.lambdas[0] == 0
    close(result, lambdas, sampler)


@pytest.mark.parametrize("steps", [4, 5, 6, 10])
@pytest.mark.parametrize("scale", [10, 20])
def test_heun_for_data_prediction(steps, scale):
    lambdas, sampler = edm_recipe(edm_heun, 2 * steps - 1, steps, scale)
    result = released.run("data", "heun", None, steps, scale, data_model, images(FIT), images(NEW))
    assert result.lambdas.shape == (2 * steps - 1,)
    assert result.lambdas[0] == 0
    close(result, lambdas, sampler)


@pytest.mark.parametrize(
    ("prediction", "solver", "order", "message"),
    [
        ("image", "ddim", None, "prediction must be 'noise' or 'data', not 'image'"),
        ("noise", "ddim", 2, "solver 'ddim' has no order to choose"),
        ("noise", "heun", None, "'heun'.* noise prediction"),
        ("noise", "dimm", None, r"unknown solver 'dimm' \(did you mean 'ddim'\?\)"),
    ],
)
def test_recipes_that_do_not_exist_are_refused(prediction, solver, order, message):
    with pytest.raises(ValueError, match=message):
        released.run(prediction, solver, order, 4, 10, noise_model, images(FIT), images(NEW))
