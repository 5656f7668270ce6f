"""PNDM, the pseudo-numerical method with its Runge-Kutta start."""

from itertools import pairwise

from dode.solvers.base import Denoise, Proposal, Proposals, Tensor, solver
from dode.solvers.formulas import PURE_NOISE, combine, euler, flow_step, middle_in_time, multistep, velocity
from dode.solvers.ipndm import ADAMS_BASHFORTH

WARM_UP = 3  # steps of four evaluations before the four-step formula has its history


@solver(
    "pndm",
    order=4,
    evaluations=lambda steps: min(4 * steps - 3, steps + 3 * WARM_UP),
    evaluations_above=lambda steps: min(4 * steps, steps + 3 * WARM_UP),
    levels=lambda steps: min(2 * steps - 1, steps + WARM_UP),
    levels_above=lambda steps: min(2 * steps, steps + WARM_UP),
    source="Liu et al. 2022, arXiv:2202.09778, Alg. 2",
)
def pndm(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Proposals:
    """Three steps of pseudo Runge-Kutta, then fourth-order Adams-Bashforth on the noise estimate.

    F-PNDM (Liu et al. 2022, arXiv 2202.09778, Alg. 2, Eqs. 11-13), where the transfer part is a DDIM step, here Euler's
    in sigma. A Runge-Kutta step goes to the midpoint in sigma twice and to the end once, each time from its beginning,
    and then takes ``(eps_1 + 2 eps_2 + 2 eps_3 + eps_4) / 6``: four evaluations. The step to sigma = 0 is Euler's
    where it would be a Runge-Kutta step, so N steps cost N + 9 evaluations, 4N - 3 for N < 4 (4N where they end above
    0). Weights are those of equal steps, as in ``ipndm``. Denoising outputs: in the start the evaluations, then the
    effective noise estimate. A Runge-Kutta step from pure noise (``PURE_NOISE``), where sigma is infinite, has the time
    and the velocity of flow matching in the places of sigma and eps.
    """
    history: list[tuple[float, Tensor]] = []
    for sigma, sigma_next in pairwise(sigmas[: WARM_UP + 1]):
        if sigma_next == 0:
            denoised = denoise(x, sigma)
            yield Proposal(euler(x, denoised, sigma, sigma_next), sigma_next, denoised)
            return
        if sigma >= PURE_NOISE:
            x, difference = yield from _from_pure_noise(denoise, x, sigma, sigma_next)
            history.insert(0, (float(sigma), difference))
            continue
        middle, h = (sigma + sigma_next) / 2, float(sigma_next - sigma)
        begin, at, differences = x, sigma, []
        for end in (middle, middle, sigma_next):
            denoised = denoise(x, at)
            difference, x_next = combine((x, denoised, begin), (1, -1), (0, 0, 1, (end - sigma) / at))
            differences.append(difference)
            x = yield Proposal(x_next, end, denoised, stage=True)
            at = end
        denoised = denoise(x, at)
        weights = [h / 6 / float(sigma), h / 3 / float(middle), h / 3 / float(middle), h / 6 / float(at)]
        x_next = combine((begin, *differences, x, denoised), (1, *weights, -weights[-1]))
        x = yield Proposal(x_next, sigma_next, denoised)
        history.insert(0, (float(sigma), differences[0]))

    def adams_bashforth(levels, sigma_next, left):
        return ADAMS_BASHFORTH[4]

    rest = sigmas[WARM_UP:]
    if len(rest) > 1:
        yield from multistep(denoise, x, rest, adams_bashforth, length=4, noise=True, history=history)


def _from_pure_noise(denoise, x, sigma, sigma_next):
    """A Runge-Kutta step in the time of flow matching; the state after it and ``x - D`` at its beginning."""
    begin, at = x, sigma
    middle = sigma.new_tensor(middle_in_time(float(sigma), float(sigma_next)))
    points = []
    for end in (middle, middle, sigma_next):
        denoised = denoise(x, at)
        points.append((float(at), x, denoised))
        x = yield Proposal(_in_time(begin, sigma, end, [1], points[-1:]), end, denoised, stage=True)
        at = end
    denoised = denoise(x, at)
    points.append((float(at), x, denoised))
    x = yield Proposal(_in_time(begin, sigma, sigma_next, [1 / 6, 1 / 3, 1 / 3, 1 / 6], points), sigma_next, denoised)
    return x, begin - points[0][2]


def _in_time(begin, sigma, sigma_next, weights, points):
    """``x'_t = x_t + (t' - t) sum_i w_i v_i``, v_i the velocities at ``points``, (level, state, D)."""
    step = (1 + float(sigma_next)) * flow_step(float(sigma), float(sigma_next))
    shares = [
        step * weight * share for weight, (at, _, _) in zip(weights, points, strict=True) for share in velocity(at)
    ]
    tensors = [tensor for _, *pair in points for tensor in pair]
    return combine([begin, *tensors], [float((1 + sigma_next) / (1 + sigma)), *shares])
