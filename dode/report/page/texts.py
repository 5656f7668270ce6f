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


def compact(value: float) -> str:
    """A count or a number of seconds with at most three digits and a letter for thousands.

    >>> compact(1234567), compact(50000), compact(0.25), compact(999.7)
    ('1.23M', '50k', '0.25', '1k')
    """
    rounded = float(f"{value:.3g}")
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rounded >= factor:
            return f"{rounded / factor:.4g}{letter}"
    return f"{rounded:.4g}"


def costing(value: float | None, kind: str) -> str:
    """A cost in words: ``work`` in evaluations of the network, or ``seconds``.

    >>> costing(1234567, "work"), costing(4.06, "seconds"), costing(1, "work")
    ('1,230,000 evaluations', '4.06 seconds', '1 evaluation')
    """
    if value is None:
        return "–"
    if kind == "seconds":
        return f"{short(value)} seconds"
    return many(int(float(f"{value:.3g}")), "evaluation")


def share(part: float, whole: float) -> str:
    """What share of a whole a part is, in words.

    >>> share(0, 5), share(90, 100), share(20, 100), share(1, 3.1), share(1e-9, 1)
    ('nothing', '90 %', '20 %', 'a third', 'less than 1 %')
    """
    found = part / whole if whole else 1.0
    if not part:
        return "nothing"
    if found < 0.01:
        return "less than 1 %"
    words = {2: "half", 3: "a third", 4: "a quarter"}
    near = next((word for count, word in words.items() if abs(found * count - 1) < 0.05), None)
    return near or f"{found:.0%}".replace("%", " %")


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
