"""What a solver is: a generator that makes one proposal after every network evaluation.

A solver file defines one function ``method(denoise, x, sigmas, *, option=default)`` under ``@solver(...)``. The
function evaluates ``denoise(x, sigma)`` once, yields a :class:`Proposal`, receives the state to go on with, and so on
until the last noise level. It knows nothing of models, files or distillation: the driver (:mod:`dode.sampling`) sends
back the proposal itself (plain), the proposal plus a fitted correction (distilled), or a correction fitted on the spot.

Solver files do not import torch at module level, so that the configuration is checked without it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from dode.registry import check_options, keyword_only, unknown

if TYPE_CHECKING:
    from torch import Tensor
else:  # solver files take it from here, so that they do without torch
    Tensor = Any

F = TypeVar("F", bound=Callable)

_methods: dict[str, Method] = {}


class Denoise(Protocol):
    """A model: the estimate of the clean image from x (B, C, H, W) at sigma, 0-d or (B, 1, 1, 1); of x's shape."""

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor: ...


class Proposal(NamedTuple):
    """What a solver proposes after one evaluation.

    Attributes:
        x: the proposed state, (B, C, H, W).
        sigma: its noise level, a 0-d tensor, or (B, 1, 1, 1) where it differs by image (``per_image``).
        denoised: the *denoising output* O_k of this evaluation as an estimate of the clean image: the evaluation
            itself, or for a multistep method the effective one, with which Euler's step would make the same proposal.
            The matching noise estimate is ``(x_k - denoised) / sigma_k`` at the point (x_k, sigma_k) of the evaluation.
        stage: True where the state is an inner stage (Heun's predictor), False at the end of a step.
    """

    x: Tensor
    sigma: Tensor
    denoised: Tensor
    stage: bool = False


#: What a method returns: it yields proposals and is sent the state to go on with.
Proposals: TypeAlias = Generator[Proposal, Tensor, None]


@dataclasses.dataclass(frozen=True)
class Method:
    """A registered method; arguments as of :func:`solver`, those that may depend on the options as functions."""

    name: str
    function: Callable
    order: Callable
    evaluations: Callable
    evaluations_above: Callable
    teacher: Callable
    levels: Callable | None = None
    levels_above: Callable | None = None
    choices: Mapping[str, Sequence[object]] = dataclasses.field(default_factory=dict)
    spanning: Callable = lambda **_: False
    per_image: bool = False
    depth: Callable | None = None
    prepare: str | None = None
    source: str | None = None
    network: Literal["own", "consistency"] | None = None
    stochastic: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Option names with their defaults."""
        return {key: parameter.default for key, parameter in keyword_only(self.function).items()}


def _function_of_options(value):
    return value if callable(value) else lambda **_: value


def solver(
    name: str,
    *,
    order: int | Callable[..., int],
    evaluations: Callable[..., int] = lambda steps, **_: steps,
    evaluations_above: Callable[..., int] | None = None,
    levels: Callable[..., int] | None = None,
    levels_above: Callable[..., int] | None = None,
    teacher: str | Callable[..., str | None] | None = None,
    choices: Mapping[str, Sequence[object]] | None = None,
    spanning: bool | Callable[..., bool] = False,
    per_image: bool = False,
    depth: Callable[..., int] | None = None,
    prepare: str | None = None,
    source: str | None = None,
    network: Literal["own", "consistency"] | None = None,
    stochastic: bool = False,
) -> Callable[[F], F]:
    """Register the decorated generator function as the solver ``name``.

    Args:
        order: order of accuracy of the end state, a number or a function of the options; a test measures it.
        evaluations: number of network evaluations over ``steps`` grid intervals to 0, ``(steps, **options) -> int``,
            increasing in ``steps``.
        evaluations_above: the same where the grid ends above 0; None for as many.
        levels: number of different noise levels that its proposals have over ``steps`` grid intervals to 0, ``(steps,
            **options) -> int``, where two proposals share one; None where each has its own.
        levels_above: the same where the grid ends above 0; None for as many, or where each has its own.
        teacher: name of the solver that makes the trajectory to follow, or a function of the options; None for the
            method itself with the same options.
        choices: ``{option: allowed values}``; every other value is refused.
        spanning: whether a step covers several intervals of the grid (or a function of the options); such a method
            cannot be a teacher.
        per_image: whether noise levels at which it evaluates the network depend on the image. Then there is no list of
            them: such a method is no teacher, is not fitted, and is not exported.
        depth: how many of the evaluations over ``steps`` grid intervals to 0 must wait for one another, ``(steps,
            **options) -> int``, where some are of states that are known at the same time; None where all must.
        prepare: file name of an artefact that the method needs, made by a rule of its own in ``rules/solvers``; its
            path is the method's option ``prepared``.
        source: whose method it is, with the arXiv number of the paper and the place in it: exported results cite it.
        network: where it runs another network than the model's, one of the same kind whose weights are what is
            prepared: as the model's is otherwise (``"own"``), or behind the boundary scalings of a consistency model
            (``"consistency"``, :class:`dode.models.boundary.Boundary`). Without ``prepare``, the model must be such.
        stochastic: whether it adds noise to the state on its way, so that it solves no differential equation: it has
            order 0, is nobody's teacher, and no fit corrects it.
    """

    if prepare and not teacher:
        raise ValueError(f"solver '{name}' must be prepared, so it must name another solver as its teacher")

    def add(function):
        if name in _methods:
            raise ValueError(f"solver '{name}' is registered twice")
        _methods[name] = Method(
            name=name,
            function=function,
            order=_function_of_options(order),
            evaluations=evaluations,
            evaluations_above=evaluations_above or evaluations,
            levels=levels,
            levels_above=levels_above,
            teacher=_function_of_options(teacher),
            choices=choices or {},
            spanning=_function_of_options(spanning),
            per_image=per_image,
            depth=depth,
            prepare=prepare,
            source=source,
            network=network,
            stochastic=stochastic,
        )
        return function

    return add


def names() -> list[str]:
    """Names of all solvers, sorted."""
    return sorted(_methods)


def create(name: str, **options: Any) -> Solver:
    """The solver ``name`` with its options.

    Raises:
        ValueError: for an unknown name, option or value of an option; the message lists the known ones.

    >>> create("heun").nfe(steps=5)
    9
    """
    if name not in _methods:
        raise ValueError(unknown("solver", name, _methods))
    method = _methods[name]
    check_options("solver", name, method.function, options)
    for option, allowed in method.choices.items():
        value = options.get(option, method.options[option])
        if not any(type(value) is type(choice) and value == choice for choice in allowed):  # 2.0 is no order
            raise ValueError(f"solver '{name}': {option} must be one of {', '.join(map(str, allowed))}, not {value!r}")
    return Solver(method, options)


def create_teacher(name: str, **options: Any) -> Solver:
    """The solver ``name`` with its options as a teacher; ValueError where it does not stop at every level of its grid.

    >>> create_teacher("dpm-solver")
    Traceback (most recent call last):
    ValueError: solver 'dpm-solver' cannot be a teacher: it does not stop at every level of its grid
    """
    found = create(name, **options)
    if found.method.stochastic:
        raise ValueError(f"solver '{name}' cannot be a teacher: it adds noise on its way")
    if found.method.spanning(**found.options):
        raise ValueError(f"solver '{name}' cannot be a teacher: it does not stop at every level of its grid")
    if found.per_image:
        raise ValueError(f"solver '{name}' cannot be a teacher: its noise levels depend on the image")
    return found


def _again(options, afs, name):
    """A solver that was pickled."""
    made = create(name, **options)
    return made.with_afs() if afs else made


class Solver:
    """A method with its options; call it to get the generator. Made by :func:`create`.

    Attributes:
        afs: whether its first evaluation is the analytic one (:meth:`with_afs`).
    """

    def __init__(self, method: Method, options: Mapping[str, Any], *, afs: bool = False):
        self.method = method
        self.options = {**method.options, **options}
        self.afs = afs

    def __call__(self, denoise: Denoise, x: Tensor, sigmas: Tensor) -> Proposals:
        """The generator of proposals from state ``x`` at ``sigmas[0]`` down the grid ``sigmas``."""
        return self.method.function(denoise, x, sigmas, **self.options)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # By name: functions that a decorator was given, such as lambdas, cannot be pickled.
        return functools.partial(_again, self.options, self.afs), (self.name,)

    def __repr__(self) -> str:
        made = f"create({', '.join([repr(self.name), *(f'{k}={v!r}' for k, v in self.options.items())])})"
        return f"{made}.with_afs()" if self.afs else made

    def of_model(self, sigma_min: float | None) -> Solver:
        """The same for a model with this lowest level, which is its option ``sigma_min`` where it has one left out."""
        if sigma_min is None or self.options.get("sigma_min", sigma_min) is not None:
            return self
        return Solver(self.method, {**self.options, "sigma_min": sigma_min}, afs=self.afs)

    def with_afs(self) -> Solver:
        """The same with the analytic first step: what the driver answers to its first evaluation is no network's.

        At a high noise level the slope of every model is nearly ``x / sqrt(1 + sigma^2)`` (AFS: Dockhorn, Vahdat &
        Kreis 2022, arXiv 2210.05475, App. C.1), so that one evaluation is saved. Later steps have it in their history.

        >>> create("ipndm").with_afs().nfe(steps=5)
        4
        """
        return Solver(self.method, self.options, afs=True)

    @property
    def name(self) -> str:
        """The registered name."""
        return self.method.name

    @property
    def order(self) -> int:
        """Order of accuracy."""
        return self.method.order(**self.options)

    @property
    def teacher(self) -> Solver:
        """The solver whose fine trajectory this one is fitted to by default, all by the network."""
        name = self.method.teacher(**self.options)
        return create(name) if name else Solver(self.method, self.options) if self.afs else self

    def nfe(self, steps: int, *, end: float | Tensor = 0.0) -> int:
        """Number of network evaluations over ``steps`` grid intervals, the last of which ends at the level ``end``.

        >>> create("heun").nfe(steps=5, end=0.002)
        10
        """
        own = self.method
        return (own.evaluations_above if end > 0 else own.evaluations)(steps, **self.options) - self.afs

    @property
    def per_image(self) -> bool:
        """Whether noise levels at which it evaluates the network depend on the image."""
        return self.method.per_image

    def check_shared_levels(self) -> None:
        """Raise ValueError for a solver that chooses noise levels by image, which nothing but a run of it can tell."""
        if self.per_image:
            raise ValueError(
                f"solver '{self.name}' chooses its noise levels by image, so it has no list of them that a fit, a file "
                "or a scheduler could hold; it runs in dode.sample alone"
            )

    def depth(self, steps: int, *, end: float | Tensor = 0.0) -> int:
        """Number of network evaluations over ``steps`` grid intervals that must wait for one another.

        As many as :meth:`nfe` where each needs the one before; ``end`` as there.
        """
        own = self.method
        return self.nfe(steps, end=end) if own.depth is None else own.depth(steps, **self.options)

    def levels(self, steps: int, *, end: float | Tensor = 0.0) -> int:
        """Number of different noise levels of its proposals over ``steps`` grid intervals to the level ``end``.

        >>> create("heun").levels(steps=5)
        5
        """
        own = self.method
        above = own.levels_above or own.levels or own.evaluations_above
        return (above if end > 0 else own.levels or own.evaluations)(steps, **self.options)

    def steps(self, nfe: int, *, end: float = 0.0) -> int:
        """Number of grid intervals to the level ``end`` for ``nfe`` evaluations.

        Raises:
            ValueError: where no number of intervals takes ``nfe`` evaluations, naming the nearest that do.

        >>> create("heun").steps(nfe=9)
        5
        """
        possible = []
        for steps in range(1 + self.afs, max(nfe, 1) + 2 + self.afs):
            possible.append(self.nfe(steps, end=end))
            if possible[-1] == nfe:
                return steps
            if possible[-1] > nfe:
                break
        around = sorted({n for n in possible[-2:] if n != nfe})
        raise ValueError(
            f"solver '{self.name}' cannot make {nfe} evaluations; the nearest possible: {' or '.join(map(str, around))}"
        )
