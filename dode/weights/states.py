"""State dicts: found in what a file holds, their names as a network knows them, their numbers such as weights are."""

import collections
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from dode.weights.errors import CheckpointError, kind_of, shown
from dode.weights.views import View

#: What programs put before every name when they wrap a network; no network's own names begin so.
WRAPPERS = ("module.", "_orig_mod.")
MAX_NAMES = 20_000
#: What programs name the other weights of a network that they keep, an average of the steps or a teacher:
#: ``model_ema``, ``ema_params``, ``shadow_params``, ``netEMA``, ``swa_model``, ``target_model``.
OTHERS = re.compile(
    "(?i:(?<![a-z])(?:ema|swa|avg|averag|shadow|polyak|target|teacher))"
    "|(?<=[a-z])(?:EMA|Ema|SWA|Swa|AVG|Avg|Averag|Shadow|Target|Teacher)"  # netEMA, modelEma
)
ALIKE = (
    0.9  # the share of a network's tensors of whose shapes there are others, from which these may be its weights too
)


def select(value: Any, key: Any) -> Any:
    """The part of a file's value that ``key`` names: a key, an index, or a list of them, outermost first."""
    for step in key if isinstance(key, list | tuple) else [] if key is None else [key]:
        places = range(-len(value), len(value)) if type(value) in (list, tuple) else ()
        if step not in (value if isinstance(value, dict) else places):
            raise CheckpointError(f"the file has no {step!r} where the key {key!r} leads; {contents(value)}")
        value = value[step]
    return value


def contents(value: Any) -> str:
    """What could be selected instead, for a message."""
    if isinstance(value, dict) and value:
        return "it has the keys " + ", ".join(shown(name) for name in list(value)[:8])
    if type(value) in (list, tuple):
        return f"it is a list of {len(value)}"
    return f"it is {kind_of(value) if not isinstance(value, dict) or hasattr(value, 'name') else 'empty'}"


def views(value: Any) -> dict[str, View]:
    """Names and tensors of a state dict.

    Raises:
        CheckpointError: where it is none, has entries that are no tensors, or lacks some of its own.
    """
    where = "the card's 'key' says where in the file the weights are"
    if (odd := getattr(value, "odd", None)) is not None:
        raise CheckpointError(f"{odd} is not a parameter's name; {where}")
    if not isinstance(value, dict) or not value:
        if type(value) in (list, tuple) and value and all(isinstance(tensor, View) for tensor in value):
            where = "the card's 'names' says where in the file the state dict is whose names they have in order"
        raise CheckpointError(f"not a state dict: {contents(value)}; {where}")
    for name, view in value.items():
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 500:
            raise CheckpointError(f"{shown(name)} is not a parameter's name; {where}")
        if not isinstance(view, View):
            raise CheckpointError(f"{shown(name)} is {kind_of(view)}, not a tensor; {where}")
    if len(value) > MAX_NAMES:
        raise CheckpointError(f"the state dict has {len(value)} tensors, more than {MAX_NAMES}")
    return dict(value)


def in_order(value: Any, named: Mapping[str, View]) -> dict[str, View]:
    """The tensors of a list by the names that they have in order in a state dict, whose other entries stay its own.

    So programs keep averages (``shadow_params``): of the parameters that are trained, without their names.

    Raises:
        CheckpointError: where it is no list of tensors, these are not so many of the entries by their shapes, or are in
            more than one way.
    """
    if type(value) not in (list, tuple) or not value or not all(isinstance(tensor, View) for tensor in value):
        raise CheckpointError(
            f"the card's 'names' is for a list of tensors, but where its 'key' leads, {contents(value)}"
        )
    shapes, names = [tensor.shape for tensor in value], list(named)
    first = _chosen(shapes, [(name, named[name].shape) for name in names])
    last = _chosen(shapes[::-1], [(name, named[name].shape) for name in names[::-1]])
    if first is None or last is None:
        raise CheckpointError(
            f"the list's {len(value)} tensors do not have the shapes, in order, of the {len(names)} entries by whose "
            "names they are"
        )
    if first != last[::-1]:
        odd = next(shown(one) for one, other in zip(first, last[::-1], strict=True) if one != other)
        raise CheckpointError(f"the list's tensors fit the names in more than one way, from {odd} on")
    return {**named, **dict(zip(first, value, strict=True))}


def _chosen(shapes, entries):
    """The names of the first entries that have these shapes in order; None where there are none."""
    found, left = [], iter(entries)
    for shape in shapes:
        name = next((name for name, own in left if own == shape), None)
        if name is None:
            return None
        found.append(name)
    return found


def unwrapped(named: Mapping[str, Any]) -> dict[str, Any]:
    """Without the prefixes of :data:`WRAPPERS` that all names have, however many."""
    found = dict(named)
    for _ in range(8):
        for wrapper in WRAPPERS:
            if all(name.startswith(wrapper) and name != wrapper for name in found):
                found = {name.removeprefix(wrapper): value for name, value in found.items()}
    return found


def below(named: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """What is named ``<prefix>...``, without it; the prefix may be given with or without those of :data:`WRAPPERS`.

    Raises:
        CheckpointError: where nothing is, with the beginnings of the names that there are.
    """
    for names in (named, unwrapped(named)):
        found = {name[len(prefix) :]: names[name] for name in names if name.startswith(prefix) and name != prefix}
        if found:
            return unwrapped(found)
    beginnings = dict.fromkeys(re.sub(r"\..*", ".", name, flags=re.DOTALL) for name in unwrapped(named))
    raise CheckpointError(
        f"no name begins with the card's prefix {prefix!r}; allowed: what the names begin with ({listed(beginnings)}), "
        "or no prefix"
    )


def fitted(named: Mapping[str, Any], wanted: Collection[str], prefix: str | None = None) -> dict[str, Any]:
    """The tensors that a network's parameters have, which may stand behind a prefix such as ``model.``.

    Args:
        named: all of a file.
        wanted: the names that the network knows.
        prefix: what its names begin with in the file, ``""`` for nothing; None to find it, where there is only one that
            all of ``wanted`` are found behind.

    Raises:
        CheckpointError: where no name begins with ``prefix``; without one, where several fit, or only some of the file
            does and the rest may be other weights of the same network (an average, :data:`OTHERS`).
    """
    if prefix is not None:
        found = below(named, prefix)
        inner = tuple(place for place in _places(found, wanted) if place)  # the same network again
        return {name: value for name, value in found.items() if not name.startswith(inner)}
    named = unwrapped(named)
    possible = _places(named, wanted)
    if possible in ([], [""]):
        return named
    rest = {name: value for name, value in named.items() if not name.startswith(tuple(possible))}
    beside = next((name for name in rest if OTHERS.search(name)), None) or _copy(named, wanted, possible[0], rest)
    if len(possible) > 1 or beside is not None:
        places = " and behind ".join(map(repr, possible))
        others = "" if beside is None else f", and beside them is {shown(beside)}"
        raise CheckpointError(
            f"the network's parameters are found behind {places}{others}: the card's 'prefix' says which are meant"
        )
    return below(named, possible[0])


def _places(named, wanted):
    """All prefixes, which are empty or end with a dot, behind which there are all of the names ``wanted``."""
    last = max(sorted(wanted), key=len, default="")
    possible = [name[: -len(last)] for name in named if last and name.endswith(last)]
    return [
        place for place in possible if place[-1:] in ("", ".") and all(f"{place}{name}" in named for name in wanted)
    ]


def _copy(named, wanted, place, rest):
    """A name of ``rest`` where this may be the same network again, whatever its names: by its tensors' shapes."""
    shapes = collections.Counter(tuple(named[f"{place}{name}"].shape) for name in wanted)
    others = collections.Counter(tuple(value.shape) for value in rest.values())
    if (shapes & others).total() < ALIKE * shapes.total():
        return None
    return next(name for name, value in rest.items() if tuple(value.shape) in shapes)


def both_sides(named: Mapping[str, Any], wanted: Iterable[str]) -> str:
    """How the names of a file differ from those that a network knows, for a message; empty where they do not."""
    wanted = set(wanted)
    missing, unknown = sorted(wanted - set(named)), sorted(set(named) - wanted)
    if not missing and not unknown:
        return ""
    return (
        f"{len(missing)} of the network's {len(wanted)} parameters are not in the file ({listed(missing)}), and "
        f"{len(unknown)} of the file's {len(named)} not in the network ({listed(unknown)})"
    )


def listed(names: Collection[str]) -> str:
    """The first few names, for a message."""
    shortened = ", ".join(shown(name) for name in list(names)[:3])
    return f"{shortened}, ..." if len(names) > 3 else shortened or "none"


def weight(name: str, view: View, dtype: str = "keep") -> Any:
    """A tensor as torch has it, cast to ``dtype`` where it is floating-point and that is not ``"keep"``.

    Raises:
        CheckpointError: naming the tensor, where it is not one of weights: quantized, or with NaN or infinity.
    """
    import torch

    if view.dtype in ("int8", "uint8"):
        raise CheckpointError(
            f"{shown(name)} is {view.dtype}: quantized weights mean nothing without their scales, and are not supported"
        )
    tensor = view.load()
    if tensor.is_floating_point():
        cast = tensor if dtype == "keep" else tensor.to(getattr(torch, dtype))
        if not bool(cast.isfinite().all()):
            finite = bool(tensor.isfinite().all())
            raise CheckpointError(
                f"{shown(name)} has numbers beyond {dtype}" if finite else f"{shown(name)} contains NaN or infinity"
            )
        return cast
    return tensor
