"""AMED and its plugins: a small network chooses, image by image, where in a step the slope is taken."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from dode.solvers.base import Denoise, Proposal, Proposals, Tensor, solver
from dode.solvers.bottleneck import Bottleneck
from dode.solvers.ipndm import ADAMS_BASHFORTH

HIDDEN, CODED, FREQUENCIES = 128, 4, 4  # of the authors' network
LONGEST = 3  # slopes that are kept


class Chosen(NamedTuple):
    """What the network chooses for each image, (B, 1, 1, 1) or numbers.

    Attributes:
        share: r of the middle level ``sigma'^r sigma^(1 - r)``, between 0 and 1.
        direction: factor on the slope in the middle.
        time: factor on the level that the denoiser is told there.
    """

    share: Any
    direction: Any
    time: Any


#: ``choose(denoised, sigma, sigma_next)``, asked after the first evaluation of each step.
Choose = Callable[[Tensor, Tensor, Tensor], Chosen]


def _mean_direction(x, inner, slopes, past, levels, chosen):
    sigma, _, sigma_next = levels
    return x + chosen.direction * (sigma_next - sigma) * slopes[1]


def _dpm_solver(x, inner, slopes, past, levels, chosen):
    sigma, _, sigma_next = levels
    weight = 1 / (2 * chosen.share)
    return x + chosen.direction * (sigma_next - sigma) * (weight * slopes[1] + (1 - weight) * slopes[0])


def _ipndm(x, inner, slopes, past, levels, chosen):
    _, middle, sigma_next = levels
    return inner + chosen.direction * (sigma_next - middle) * _adams_bashforth([slopes[1], slopes[0], *past])


def _adams_bashforth(slopes: Sequence[Tensor]) -> Tensor:
    weights = ADAMS_BASHFORTH[min(len(slopes), LONGEST + 1)]
    return sum(weight * slope for weight, slope in zip(weights, slopes, strict=False))  # type: ignore[return-value]


#: How a step ends, by what the network is plugged into.
BASES = {"amed": _mean_direction, "dpm-solver": _dpm_solver, "ipndm": _ipndm}
MULTISTEP = ("ipndm",)


@solver(
    "amed",
    order=2,
    evaluations=lambda steps, **_: 2 * steps - 1,
    evaluations_above=lambda steps, **_: 2 * steps,
    teacher="heun",
    choices={"base": tuple(BASES)},
    per_image=True,
    prepare="amed.safetensors",
    source="Zhou et al. 2024, arXiv:2312.00094, Sec. 3.3 and 3.4",
)
def amed(denoise: Denoise, x: Tensor, sigmas: Tensor, *, base: str = "amed", prepared: str | None = None) -> Proposals:
    """``x' = x + c (sigma' - sigma) d(x_m; a m)``, ``x_m = x + (m - sigma) d(x; sigma)``, ``m = sigma'^r sigma^(1-r)``.

    AMED-Solver (Zhou et al. 2024, arXiv 2312.00094, Sec. 3.3): r, c and a of each image by a small network
    (:func:`chosen`), of what the denoiser's own bottleneck made of the state. As a plugin (Sec. 3.4) of ``base``
    ``"dpm-solver"``, DPM-Solver-2 with r, or ``"ipndm"``, iPNDM of order 4 with m as a level of its grid. Two
    evaluations per step, and one in a step to 0, which is that of the base. Without ``prepared``, r is 1/2, and c and a
    are 1.
    """
    if prepared is None:
        yield from steps(denoise, x, sigmas, lambda *_: Chosen(0.5, 1.0, 1.0), base=base)
        return
    from safetensors.torch import load_file

    tensors = {name: tensor.to(x.device) for name, tensor in load_file(prepared).items()}
    inputs = tensors["enter.weight"].shape[1]
    with Bottleneck(denoise) as bottleneck:

        def choose(denoised, *levels):
            return chosen(tensors, bottleneck.features(denoised, inputs), *levels)

        yield from steps(bottleneck, x, sigmas, choose, base=base)


def steps(
    denoise: Denoise, x: Tensor, sigmas: Tensor, choose: Choose, *, base: str, past: Sequence[Tensor] = ()
) -> Proposals:
    """The steps of :func:`amed`; ``past`` are the slopes before the first, newest first."""
    for sigma, sigma_next in pairwise(sigmas):
        denoised = denoise(x, sigma)
        slope = (x - denoised) / sigma
        ahead = _adams_bashforth([slope, *past]) if base in MULTISTEP else slope
        if sigma_next == 0:
            x = yield Proposal(x - sigma * ahead, sigma_next, denoised)
            return
        own = choose(denoised, sigma, sigma_next)
        middle = sigma_next**own.share * sigma ** (1 - own.share)
        inner = yield Proposal(x + (middle - sigma) * ahead, middle, denoised, stage=True)
        denoised = denoise(inner, own.time * middle)
        inner_slope = (inner - denoised) / middle
        proposed = BASES[base](x, inner, (slope, inner_slope), past, (sigma, middle, sigma_next), own)
        x = yield Proposal(proposed, sigma_next, denoised)
        past = [inner_slope, slope, *past][:LONGEST]


def chosen(tensors: dict[str, Tensor], features: Tensor, sigma: Tensor, sigma_next: Tensor) -> Chosen:
    """The network of AMED: a code of the features, and sines and cosines of both levels, give logits of r, c and a.

    ``r = s(logit)``, ``c = 1 + scale (2 s(logit) - 1)`` and a alike, with the logistic function s.

    Args:
        tensors: weights and biases of ``levels``, ``enter``, ``code`` and ``heads`` (share, direction, time), and
            ``scales`` (2,): by how much c and a may be off 1.
        features: (B, inputs).
        sigma, sigma_next: 0-d, the levels of the step.
    """
    import torch
    from torch.nn.functional import linear, silu

    def layer(name, x):
        return linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    like = tensors["enter.weight"]
    # In single precision, as the authors have it, whatever the weights are.
    frequencies = 1e-4 ** (torch.arange(FREQUENCIES, dtype=torch.float32) / (FREQUENCIES - 1))
    angles = torch.stack([sigma, sigma_next]).to(like)[:, None] * frequencies.to(like)
    embedded = silu(layer("levels", torch.cat([angles.sin(), angles.cos()], dim=1))).flatten()
    code = layer("code", silu(layer("enter", features.to(like))))
    logits = layer("heads", torch.cat([code, embedded.expand(len(code), -1)], dim=1))
    share, *factors = torch.sigmoid(logits.to(sigma.dtype)).view(-1, 3, 1, 1, 1).unbind(1)
    scaled = (1 + scale * (2 * own - 1) for own, scale in zip(factors, tensors["scales"].tolist(), strict=True))
    return Chosen(share, *scaled)
