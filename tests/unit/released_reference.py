"""The released recipes a second time, in numpy and (for noise prediction) in VP coordinates.

Written from the published formulas; nothing of ``dode`` is used. Images are flat, (B, 16).
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

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


def noise_estimate(x, index, abars=ABAR):
    """eps(x, i) of the mixture in VP coordinates; log abar is linear between integer indices, -1 is the clean image."""
    abar = np.exp(np.interp(index, np.arange(-1, len(abars)), [0.0, *np.log(abars)]))
    alpha, sigma = np.sqrt(abar), np.sqrt(1 - abar)
    return (x - alpha * clean_estimate(x / alpha, sigma / alpha)) / sigma


def cosine_betas():
    """Of improved DDPM: 4,000 steps, clipped at 0.999."""
    abar = np.cos((np.arange(4001) / 4000 + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - abar[1:] / abar[:-1], 0.999)


COSINE_ABAR = np.cumprod(1 - cosine_betas())


def cosine_model(x, time):
    """A network on the cosine schedule, trained on times in [0, 1000): what is above is as noisy as can be."""
    return noise_estimate(x, np.minimum(time * 3.984, 3983), COSINE_ABAR)


class Vp(NamedTuple):
    """A schedule and a network, ``model(x, time)``."""

    abar: np.ndarray
    model: Callable


LINEAR = Vp(ABAR, noise_estimate)
COSINE = Vp(COSINE_ABAR, cosine_model)


def fitted(direction, residual):
    """The least-squares coefficient."""
    return np.sum(direction * residual) / np.sum(direction**2)


def vp_indices(steps, total):
    """Descending: integer parts of a float32 linspace, counted from the nearer end, then -1 for the clean image."""
    width, k = np.float32(total) / np.float32(steps), np.arange(steps, dtype=np.float32)
    values = np.where(k < (steps + 1) // 2, k * width, np.float32(total) - (np.float32(steps) - k) * width)
    return [*values.astype(int)[::-1].tolist(), -1]


def ddim_step(x, noise, index, index_next, vp):
    """DDIM(x, e, a -> a')."""
    now, after = vp.abar[index], vp.abar[index_next] if index_next >= 0 else 1.0
    return np.sqrt(after) * (x - np.sqrt(1 - now) * noise) / np.sqrt(now) + np.sqrt(1 - after) * noise


def vp_student(x, steps, advance, vp):
    """DDIM; ``advance(k, proposal, direction)`` gives the next state. Pure noise is the output before the first."""
    indices, previous = vp_indices(steps, len(vp.abar)), x
    for k in range(steps):
        noise = vp.model(x, indices[k])
        x = advance(k, ddim_step(x, noise, indices[k], indices[k + 1], vp), noise - previous)
        previous = noise
    return x


def ddim_teacher(count, vp):
    """All states of DDIM on ``count`` indices; the network is called at the index itself."""
    trajectory = [FIT]
    for index, index_next in pairwise(vp_indices(count, len(vp.abar))):
        x = trajectory[-1]
        trajectory.append(ddim_step(x, vp.model(x, index), index, index_next, vp))
    return trajectory


def vp_recipe(steps, scale, vp):
    """Lambdas, and a sampler ``(latents, lambdas) -> states``, of D-DDIM for noise prediction."""
    count = min(len(vp.abar), scale * steps)
    trajectory = ddim_teacher(count, vp)
    stride = count // steps
    targets = [trajectory[k * stride] for k in range(steps)] + [trajectory[-1]]
    lambdas = []

    def fit(k, proposal, direction):
        lambdas.append(fitted(direction, targets[k + 1] - proposal))
        return proposal + lambdas[k] * direction

    vp_student(FIT, steps, fit, vp)
    return lambdas, lambda latents, coefficients: vp_student(
        latents, steps, lambda k, proposal, direction: proposal + coefficients[k] * direction, vp
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


def nearest_entries(steps, count):
    """Entries of the teacher's trajectory for steps 0..N-1: multiples of M // N, the end state for the last."""
    return [(k + 1) * (count // steps) for k in range(steps - 1)] + [count]


def linear_abar(t, vp):
    """abar(t), linear between integers."""
    return np.clip(np.interp(t, np.arange(len(vp.abar)), vp.abar), 1e-7, 1 - 1e-7)


def adams_bashforth(times, i, vp):
    """iPNDM's coefficients of step i on eps_i, eps_{i-1}, ..."""
    weights = [[1], [1.5, -0.5], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24]][min(i, 3)]
    return ddim_factor(times, i, vp) * np.array(weights)


def deis(order):
    """DEIS's coefficients of step i, as a function like :func:`adams_bashforth`."""

    def coefficients(times, i, vp):
        tau = np.linspace(times[i], times[i + 1], 10_000, endpoint=False)
        abar, last = linear_abar(tau, vp), len(vp.abar) - 1
        above = np.clip(np.searchsorted(np.arange(last + 1), tau, side="right"), 1, last)
        log_slope = np.where((abar > 1e-7) & (abar < 1 - 1e-7), (vp.abar[above] - vp.abar[above - 1]) / abar, 0)
        integrand = np.sqrt(linear_abar(times[i + 1], vp) / abar) * -0.5 * log_slope / np.sqrt(1 - abar)
        found = []
        for j in range(min(i, order) + 1):
            basis = np.ones_like(tau)
            for k in range(min(i, order) + 1):
                if k != j:
                    basis *= (tau - times[i - k]) / (times[i - j] - times[i - k])
            found.append(np.sum(integrand * basis) * (times[i + 1] - times[i]) / 10_000)
        return np.array(found)

    return coefficients


def ddim_factor(times, i, vp):
    """c_i."""
    now, after = linear_abar(times[i], vp), linear_abar(times[i + 1], vp)
    return np.sqrt(1 - after) - np.sqrt(after / now) * np.sqrt(1 - now)


def multistep(x, steps, coefficients, advance, vp):
    """iPNDM or DEIS; all states. ``advance(k, proposal, direction)`` gives the next one."""
    times = [(len(vp.abar) - 1) * (1 - i / steps) for i in range(steps + 1)]
    noises, previous, states = [], x, [x]
    for i in range(steps):
        noises.insert(0, vp.model(x, times[i] - 1))
        weights, factor = coefficients(times, i, vp), ddim_factor(times, i, vp)
        effective = sum(weight * noise for weight, noise in zip(weights, noises, strict=False)) / factor
        now, after = linear_abar(times[i], vp), linear_abar(times[i + 1], vp)
        clean = (x - np.sqrt(1 - now) * effective) / np.sqrt(now)
        x = advance(i, np.sqrt(after) * clean + np.sqrt(1 - after) * effective, effective - previous)
        previous = effective
        states.append(x)
    return states


def multistep_recipe(coefficients, steps, scale, vp):
    """As :func:`vp_recipe`; the teacher is the same solver."""
    count = min(len(vp.abar), scale * steps)
    trajectory = multistep(FIT, count, coefficients, lambda k, proposal, direction: proposal, vp)
    targets, lambdas = [trajectory[entry] for entry in nearest_entries(steps, count)], []

    def fit(k, proposal, direction):
        lambdas.append(fitted(direction, targets[k] - proposal))
        return proposal + lambdas[k] * direction

    multistep(FIT, steps, coefficients, fit, vp)
    return lambdas, lambda latents, factors: multistep(
        latents, steps, coefficients, lambda k, proposal, direction: proposal + factors[k] * direction, vp
    )[-1]


def dpm_orders(order, steps):
    """Order of each singlestep of a run with ``steps`` evaluations."""
    if order == 2:
        return [2] * (steps // 2) + [1] * (steps % 2)
    q = steps // 3 + 1
    return {0: [3] * (q - 2) + [2, 1], 1: [3] * (q - 1) + [1], 2: [3] * (q - 1) + [2]}[steps % 3]


def dpm_entries(order, steps, count):
    """Entries of the teacher's trajectory per evaluation."""
    stride = count // steps
    entries = {n: n * stride for n in range(1, steps + 1)}
    if order == 3 or steps % 2 == 1:
        entries[steps] = count
    if order == 3 and steps % 3 == 0:
        entries[steps - 2], entries[steps - 1] = count - 2 * stride, count - stride
    if order == 3 and steps % 3 == 2:
        entries[steps - 1] = count - stride
    return [entries[n] for n in range(1, steps + 1)]


def dpm_solver(x, order, steps, advance, vp):
    """Singlestep DPM-Solver; ``advance(k, proposal, direction)`` gives the state after evaluation k.

    The schedule ends where the half log-SNR falls below -5.1; the times that the network is called at are out of 1,000.
    """
    log_alphas = 0.5 * np.log(vp.abar[0.5 * np.log(vp.abar / (1 - vp.abar)) >= -5.1])
    total = len(log_alphas)
    times = np.linspace(1, 1 / total, steps + 1)

    def log_alpha(t):
        return np.interp(t, np.arange(1, total + 1) / total, log_alphas)

    def std(t):
        return np.sqrt(1 - np.exp(2 * log_alpha(t)))

    def log_snr(t):
        return log_alpha(t) - np.log(std(t))

    def evaluate(state, t):
        return vp.model(state, 1000 * (t - 1 / total))

    previous, k = x, 0
    for own in dpm_orders(order, steps):
        s, t = times[k], times[k + own]
        inner = np.linspace(s, t, own + 1)
        h = log_snr(t) - log_snr(s)
        first = evaluate(x, s)

        def euler(to, start=x, noise=first, begin=s):
            drift = -std(to) * np.expm1(log_snr(to) - log_snr(begin))
            return np.exp(log_alpha(to) - log_alpha(begin)) * start + drift * noise, drift

        proposal, factor = euler(inner[1])
        state = advance(k, proposal, factor * (first - previous))
        previous = first
        if own == 2:
            second = evaluate(state, inner[1])
            proposal, factor = euler(t)
            factor = factor / (2 * (log_snr(inner[1]) - log_snr(s)) / h)
            state = advance(k + 1, proposal + factor * (second - first), factor * (second - first))
            previous = second
        if own == 3:
            r1, r2 = ((log_snr(level) - log_snr(s)) / h for level in inner[1:3])
            second = evaluate(state, inner[1])
            proposal, _ = euler(inner[2])
            factor = -(r2 / r1) * std(inner[2]) * (np.expm1(r2 * h) / (r2 * h) - 1)
            state = advance(k + 1, proposal + factor * (second - first), factor * (second - first))
            third = evaluate(state, inner[2])
            proposal, _ = euler(t)
            factor = -std(t) * (np.expm1(h) / h - 1) / r2
            state = advance(k + 2, proposal + factor * (third - first), factor * (third - second))
            previous = third
        x, k = state, k + own
    return x


def dpm_recipe(order, steps, scale, vp):
    """As :func:`vp_recipe`; the teacher is DDIM on the whole schedule."""
    count = min(len(vp.abar), scale * steps)
    trajectory, lambdas = ddim_teacher(count, vp), []
    targets = [trajectory[entry] for entry in dpm_entries(order, steps, count)]

    def fit(k, proposal, direction):
        lambdas.append(fitted(direction, targets[k] - proposal))
        return proposal + lambdas[k] * direction

    dpm_solver(FIT, order, steps, fit, vp)
    return lambdas, lambda latents, factors: dpm_solver(
        latents, order, steps, lambda k, proposal, direction: proposal + factors[k] * direction, vp
    )


def noise_recipe(solver, order, steps, scale, vp=LINEAR):
    """The recipe of a solver for noise prediction by name: lambdas and sampler."""
    if solver == "ddim":
        return vp_recipe(steps, scale, vp)
    if solver == "dpm-solver":
        return dpm_recipe(order, steps, scale, vp)
    return multistep_recipe(adams_bashforth if solver == "ipndm" else deis(order), steps, scale, vp)
