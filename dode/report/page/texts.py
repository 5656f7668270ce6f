"""How the page writes numbers, counts and lists."""

import json
import math
from collections.abc import Iterable

from dode.report import numbers


def many(count: int, noun: str) -> str:
    """A count with its noun.

    >>> many(1, "cell"), many(2500, "image")
    ('1 cell', '2,500 images')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(texts: Iterable[str], word: str = "and") -> str:
    """Texts as a list in a sentence.

    >>> listed(["a", "b", "c"], "or")
    'a, b or c'
    """
    *others, last = [*texts] or [""]
    return f"{', '.join(others)} {word} {last}" if others else last


def signed(value: float | None, decimals: int) -> str:
    """A number with so many decimals, or an exponent, and a proper minus sign; a dash where there is none."""
    return numbers.fixed(value, decimals).replace("-", "−") or "–"


def _measured(value, error):
    return " ± ".join(filter(None, numbers.measured(value, error))).replace("-", "−")


def short(value: float | None) -> str:
    """A number with three significant digits.

    >>> short(0.012345), short(-123456.0), short(None)
    ('0.0123', '−123000', '–')
    """
    return "–" if value is None else f"{float(f'{value:.3g}'):.9g}".replace("-", "−")


def scaled(value: float | None, scale: float) -> float | None:
    """A value times ``scale``; None where it is None or that is not finite."""
    return None if value is None or not math.isfinite(value * scale) else value * scale


def score(entry: list | None, metric: dict) -> str:
    """A score with its error.

    Args:
        entry: ``[value, error, ...]``, unscaled; the value is None where it is not finite, the error where it is not
            known. None where there is no score.
        metric: ``scale`` is the factor on both.
    """
    if entry is None:
        return "–"
    return _measured(*(scaled(part, metric["scale"]) for part in entry[:2])) or "not finite"


def factor(gain: dict) -> str:
    """How many times better (:func:`dode.report.verdicts.gain`), with its error."""
    if gain["factor"] is None or gain["error"] is None:
        return short(gain["factor"])
    return _measured(gain["factor"], gain["error"])


def plain(value: object) -> str:
    """Parameters as text, without braces and quotes.

    >>> plain({"grid": {"name": "karras", "rho": 7}, "stages": True})
    'grid name karras, rho 7, stages true'
    """
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or "none"
    if isinstance(value, float):
        return f"{value:.12g}"
    return value if isinstance(value, str) else json.dumps(value)


def parsed(text: str) -> str:
    """JSON as :func:`plain` writes its value."""
    return plain(json.loads(text))


def environment(made: dict) -> str:
    """What a job ran on: the machine, and versions that may change the last digits."""
    machine = dict(made["machine"])
    cpu, threads, device = (machine.pop(key) for key in ("cpu", "threads", "device"))
    where = f"{cpu}, {many(threads, 'thread')}" if device == "cpu" else device
    return ", ".join([where, *(f"{key} {value}" for key, value in (machine | made["software"]).items())])
