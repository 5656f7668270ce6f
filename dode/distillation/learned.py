"""What a method that learns says of itself where it is registered. Imports no torch: configurations are checked so.

Two kinds, each with a file per method, found by the method's name:

- a *fit* (``dode/distillation/methods/``) learns the numbers of a :class:`dode.sampling.Student`: levels, told levels,
  coefficients. It is asked for with ``distill: {fit: <name>}`` and :func:`dode.distill`.
- a *preparation* (``dode/distillation/preparations/``) makes the tensors that a solver reads: statistics of the model,
  a small network, another network in its place. It has the solver's name.

Both get a :class:`dode.distillation.task.Task` and keyword options of their own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar

from dode.distillation.registries import fits, preparations
from dode.registry import finite
from dode.solvers.base import Solver

if TYPE_CHECKING:
    from dode.distillation.task import Task
else:  # files of methods take it from here, so that they do without torch
    Task = Any

__all__ = ["Expense", "Learned", "Parts", "Span", "Task", "fit", "fits", "preparation", "preparations"]

F = TypeVar("F", bound=Callable)
#: What a method is given besides noise: nothing, the end states of the fine solution, or the teacher's trajectory.
Follows: TypeAlias = Literal["nothing", "ends", "states"]
IMAGES = 200  # noises that a method learns from by default
BACKWARD = 2  # evaluations that one costs more if gradients flow back through it

#: What values of a kind of option are, by its annotation; others are left to the method.
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "int": (lambda value: isinstance(value, int) and not isinstance(value, bool), "a whole number"),
    "float": (finite, "a finite number"),
    "float | None": (lambda value: value is None or finite(value), "a finite number, or null"),
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "str": (lambda value: isinstance(value, str), "a name"),
}
_RATES, _DECAYS = ("rate", "learning_rate", "told_learning_rate"), ("averaging",)


class Expense(NamedTuple):
    """What a method costs at most.

    Attributes:
        evaluations: of the network, each of one image, those with gradients included.
        gradients: how many of these gradients flow back through.
    """

    evaluations: int
    gradients: int = 0

    @property
    def work(self) -> int:
        """The same in evaluations without gradients."""
        return self.evaluations + BACKWARD * self.gradients


class Span(NamedTuple):
    """The levels that a method is given, as far as is known before there are any.

    Attributes:
        steps: number of their intervals.
        end: where the last one ends: 0, or any number above it.
        lowest: the model's lowest level; None where it is not known.
    """

    steps: int
    end: float = 0.0
    lowest: float | None = None


class Parts(NamedTuple):
    """What a method makes by name and reads: no import says that its result depends on them.

    Attributes:
        solvers, grids: their names.
        files: with numbers, in this package.
    """

    solvers: Sequence[str] = ()
    grids: Sequence[str] = ()
    files: Sequence[Path] = ()


class Learned:
    """A registered method; call it with a task and its options.

    Attributes:
        name: under which it is registered.
        follows: what it is given to follow.
        images: noises that it learns from by default.
        source: whose method it is, with the arXiv number and the place in the paper.
    """

    def __init__(
        self,
        function: Callable,
        name: str,
        *,
        follows: Follows,
        images: int,
        source: str,
        expense: Callable[..., Expense],
        check: Callable[..., None],
        takes: Callable[..., None],
        parts: Callable[..., Parts],
    ):
        functools.update_wrapper(self, function)  # its options are read from the signature
        self.function, self.name, self.follows = function, name, follows
        self.images, self.source = images, source
        self._expense, self._check, self._takes, self._parts = expense, check, takes, parts

    def __call__(self, task: Task, **options: Any) -> Any:
        """What the method learns: a :class:`dode.sampling.Student`, or tensors by name."""
        return self.function(task, **options)

    @property
    def options(self) -> dict[str, Any]:
        """Option names with their defaults."""
        return dict(self.function.__kwdefaults__ or {})

    def filled(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options with the defaults of those that are left out."""
        return {**self.options, **options}

    def expense(self, images: int, nfe: int, **options: Any) -> Expense:
        """What it costs at most, learnt from so many noises for a solver of ``nfe`` evaluations."""
        return self._expense(images, nfe, **self.filled(options))

    def parts(self, **options: Any) -> Parts:
        """What it makes by name and reads."""
        return self._parts(**self.filled(options))

    def check(self, images: int, nfe: int, **options: Any) -> None:
        """Raise ValueError, in one sentence, for options of other kinds, or what nothing could be learnt from."""
        self._check_kinds(options)
        self._check(images, nfe, **self.filled(options))

    def _check_kinds(self, options):
        """Options are of the kinds that the method's signature says; rates and decays are within their bounds."""
        for name, value in options.items():
            kind = self.function.__annotations__.get(name)
            is_right, allowed = _KINDS.get(getattr(kind, "__name__", str(kind)), (lambda value: True, ""))
            if not is_right(value):
                raise ValueError(f"{self.name}: {name} must be {allowed}, not {value!r}")
            if name in _RATES and value is not None and not value > 0:
                raise ValueError(f"{self.name}: {name} must be a number above 0, not {value!r}")
            if name in _DECAYS and not 0 <= value < 1:
                raise ValueError(f"{self.name}: {name} must be a decay from 0 to below 1, not {value!r}")

    def check_solver(self, solver: Solver, span: Span, **options: Any) -> None:
        """Raise ValueError, in one sentence, for a solver on such levels that the method is not for."""
        self._takes(solver, span, **self.filled(options))


def _register(registry, name, **facts):
    def add(function):
        registry.register(name)(Learned(function, name, **facts))
        return function

    return add


def _nothing(images: int, nfe: int, **options: Any) -> None:
    """Whatever is asked for can be learnt."""


def _any(solver: Solver, span: Span, **options: Any) -> None:
    """The method is for every solver."""


def _alone(**options: Any) -> Parts:
    """What the method is made of, its file imports."""
    return Parts()


def fit(
    name: str,
    *,
    source: str,
    expense: Callable[..., Expense],
    follows: Follows = "ends",
    images: int = IMAGES,
    check: Callable[..., None] = _nothing,
    takes: Callable[..., None] = _any,
    parts: Callable[..., Parts] = _alone,
) -> Callable[[F], F]:
    """Register the decorated function ``(task, **options) -> Student`` as the fit ``name``.

    Args:
        source: whose method it is: authors and year, arXiv number, the place in the paper.
        expense: ``(images, nfe, **options) -> Expense``, what it costs at most; all options are given.
        follows: ``"ends"``, the end states of the fine solution, ``"states"``, the teacher's at the solver's levels, or
            ``"nothing"``.
        images: noises that it learns from by default.
        check: ``(images, nfe, **options)`` raises ValueError for what could not be learnt, before any work.
        takes: ``(solver, span, **options)`` does so for a solver, on levels of this :class:`Span`, that it is not for.
        parts: ``(**options) -> Parts``, what it makes by name and reads; all options are given.
    """
    facts: dict[str, Any] = {"source": source, "expense": expense, "follows": follows, "images": images}
    return _register(fits, name, **facts, check=check, takes=takes, parts=parts)


def preparation(
    name: str,
    *,
    source: str,
    expense: Callable[..., Expense],
    follows: Literal["nothing", "ends"] = "nothing",
    images: int = IMAGES,
    check: Callable[..., None] = _nothing,
    takes: Callable[..., None] = _any,
    parts: Callable[..., Parts] = _alone,
) -> Callable[[F], F]:
    """Register the decorated function ``(task, **options) -> tensors`` as the preparation of the solver ``name``.

    It returns a dictionary of tensors, which the solver finds as safetensors at the path ``prepared``; arguments as of
    :func:`fit`.
    """
    facts: dict[str, Any] = {"source": source, "expense": expense, "follows": follows, "images": images}
    return _register(preparations, name, **facts, check=check, takes=takes, parts=parts)
