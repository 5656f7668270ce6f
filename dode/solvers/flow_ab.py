"""Adams-Bashforth methods on the velocity of flow matching."""

from collections import deque
from itertools import pairwise

from dode.solvers.base import Denoise, Proposal, Proposals, Tensor, solver
from dode.solvers.formulas import combine, euler, flow_time, polynomial_weights, velocity


@solver(
    "flow-ab",
    order=lambda order: order,
    choices={"order": (1, 2, 3, 4)},
    source="Bashforth & Adams 1883; in diffusion models, Zhang & Chen 2023, arXiv:2204.13902",
)
def flow_ab(denoise: Denoise, x: Tensor, sigmas: Tensor, *, order: int = 2) -> Proposals:
    """``x'_t = x_t + int_t^t' P(s) ds``, P the polynomial in t through the last velocities.

    Adams-Bashforth with the true steps for ``dx_t/dt = v``, ``t = sigma / (1 + sigma)``; ``ipndm_v`` has the noise
    estimate and sigma in the places of v and t. One evaluation a step; order 1, 2, ... over the first steps; the
    denoising output is that of the effective velocity.
    """
    past: deque[tuple[float, Tensor]] = deque(maxlen=order - 1)
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        denoised = denoise(x, sigmas.new_tensor(sigma))
        if order == 1:
            level = sigmas.new_tensor(sigma_next)
            x = yield Proposal(euler(x, denoised, sigma, sigma_next), level, denoised)
            continue
        time, ratio = flow_time(sigma), sigma_next / sigma
        times = [time, *(earlier for earlier, _ in past)]
        older = [tensor for _, tensor in past]
        newest, *others = (-time * weight for weight in polynomial_weights(times, flow_time(sigma_next)))
        of_x, of_denoised = velocity(sigma)
        # D = x_t - t v, in which x cancels where there is no history.
        effective = [1 / (1 + sigma) + newest * of_x, newest * of_denoised, *others]
        ahead = [ratio, *[0] * (1 + len(older)), 1 - ratio]
        output, x_next, own = combine((x, denoised, *older), effective, ahead, (of_x, of_denoised))
        past.appendleft((time, own))
        x = yield Proposal(x_next, sigmas.new_tensor(sigma_next), output)
