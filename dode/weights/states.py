"""State dicts: found in what a file holds, their names as a network knows them, their numbers such as weights are."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from dode.weights.errors import CheckpointError, kind_of, shown
from dode.weights.views import View

#: What programs put before every name when they wrap a network; no network's own names begin so.
WRAPPERS = ("module.", "_orig_mod.")
MAX_NAMES = 20_000


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
        raise CheckpointError(f"not a state dict: {contents(value)}; {where}")
    for name, view in value.items():
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 500:
            raise CheckpointError(f"{shown(name)} is not a parameter's name; {where}")
        if not isinstance(view, View):
            raise CheckpointError(f"{shown(name)} is {kind_of(view)}, not a tensor; {where}")
    if len(value) > MAX_NAMES:
        raise CheckpointError(f"the state dict has {len(value)} tensors, more than {MAX_NAMES}")
    return unwrapped(value)


def unwrapped(named: Mapping[str, Any]) -> dict[str, Any]:
    """Without the prefixes of :data:`WRAPPERS` that all names have, however many."""
    found = dict(named)
    for _ in range(8):
        for wrapper in WRAPPERS:
            if all(name.startswith(wrapper) and name != wrapper for name in found):
                found = {name.removeprefix(wrapper): value for name, value in found.items()}
    return found


def below(named: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """What is named ``<prefix>...``, without it.

    Raises:
        CheckpointError: where nothing is, with the beginnings of the names that there are.
    """
    found = {name[len(prefix) :]: value for name, value in named.items() if name.startswith(prefix) and name != prefix}
    if not found:
        raise CheckpointError(f"no name begins with the card's prefix {prefix!r}; the names are {listed(named)}")
    return unwrapped(found)


def fitted(named: Mapping[str, Any], wanted: Collection[str], prefix: str | None = None) -> dict[str, Any]:
    """The tensors that a network's parameters have, which may stand behind a prefix such as ``model.``.

    Args:
        named: all of a file.
        wanted: the names that the network knows.
        prefix: what its names begin with in the file; None to find it, where there is only one that all of ``wanted``
            are found behind.

    Raises:
        CheckpointError: where several prefixes fit, or only some of the file does and the rest may be other weights of
            the same network (an average, ``ema``).
    """
    if set(named) == set(wanted) or not wanted:
        return dict(named)
    if prefix is not None:
        return below(named, prefix) if any(name.startswith(prefix) for name in named) else dict(named)
    last = max(sorted(wanted), key=len)
    possible = [
        name[: -len(last)] for name in named if name.endswith(last) and name[-len(last) - 1 : -len(last)] in ("", ".")
    ]
    possible = [found for found in possible if all(f"{found}{name}" in named for name in wanted)]
    if possible in ([], [""]):
        return dict(named)
    rest = [name for name in named if not any(name.startswith(found) for found in possible)]
    averages = [name for name in rest if re.search(r"(?i)(^|[^a-z])ema|average", name)]
    if len(possible) > 1 or averages:
        places = " and behind ".join(map(repr, possible))
        beside = f", and beside them is {shown(averages[0])}" if averages else ""
        raise CheckpointError(
            f"the network's parameters are found behind {places}{beside}: the card's 'prefix' says which are meant"
        )
    return below(named, possible[0])


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
