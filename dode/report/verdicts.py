"""Which of several measured values is best with regard to their errors, and what distillation gains.

An entry is one metric of a cell as in its ``score.json``: ``value``, ``error`` (one standard deviation, None where it
is not known), ``error_kind`` and ``blocks``, a value per seed. The cells of a dataset share noise and real images: a
seed that is hard for one solver is hard for all, and blocks rise and fall together (FID of the digits at NFE 10: most
correlations are above 0.9). So it is differences seed by seed that tell solvers apart, not the two spreads.
"""

import math
import statistics
from collections.abc import Mapping
from typing import Any, TypeAlias, TypeGuard

from scipy import special

#: One metric of a cell.
Entry: TypeAlias = Mapping[str, Any]

#: Two values are tied where zero is in the interval of this confidence around their difference.
CONFIDENCE = 0.95
WHOLE = 1e-6  # by which the count of images that a share stands for may miss a whole number


def known(entry: Entry | None) -> TypeGuard[Entry]:
    """Whether there is an entry with a finite value."""
    return entry is not None and entry["value"] is not None and math.isfinite(entry["value"])


def standard_error(entry: Entry) -> float | None:
    """Standard error of an entry's value, the mean over its blocks; None where it is not known."""
    return None if entry["error"] is None else entry["error"] / math.sqrt(len(entry["blocks"]))


def margin(one: Entry, other: Entry, confidence: float = CONFIDENCE) -> float | None:
    """Half the width of the confidence interval around the difference of two entries.

    With as many seeds in both, at least two, that of Student's paired test, ``t s / sqrt(n)``, s the standard deviation
    of the n differences of their blocks. Else that of Welch's test (1947), ``t sqrt(e_1^2 + e_2^2)``, e the standard
    errors, with ``(e_1^2 + e_2^2)^2 / (e_1^4 / (n_1 - 1) + e_2^4 / (n_2 - 1))`` degrees of freedom; the error of a
    single seed, which is of its images, counts as known. That is too wide where they share noise and real images.

    Of shares of images it is at least ``z sqrt(|d| / N) + 1 / N``, d the difference, N the images of all seeds:
    McNemar's test (1947) with its correction for continuity where no more images than d says count in one entry and
    not in the other. Seeds that differ by the same few images, as they do by chance, have no spread to tell from.

    Returns:
        None where an error is not known, so that nothing can be said.
    """
    own = _of_seeds(one, other, confidence)
    return own if own is None else max(own, _of_counts(one, other, confidence))


def _of_seeds(one, other, confidence):
    if _paired(one, other):
        differences = _differences(one, other)
        return _of_differences(differences, len(differences), confidence)
    errors = [error for error in map(standard_error, (one, other)) if error is not None]
    if len(errors) < 2:
        return None
    spread = math.hypot(*errors)
    seeds = [len(entry["blocks"]) for entry in (one, other)]
    # Of shares: the fourth power of a large error is no number.
    shares = [error / spread if spread else 0.0 for error in errors]
    uncertain = sum(share**4 / (count - 1) for share, count in zip(shares, seeds, strict=True) if count > 1)
    bound = special.stdtrit(1 / uncertain if uncertain else math.inf, (1 + confidence) / 2)
    return float(bound * spread)


def _differences(one, other):
    """By seed."""
    return [a - b for a, b in zip(one["blocks"], other["blocks"], strict=True)]


def _of_differences(differences, seeds, confidence):
    """The margin of Student's test, where so many ``seeds`` have the standard deviation of ``differences``."""
    bound = special.stdtrit(seeds - 1, (1 + confidence) / 2)
    return float(bound * statistics.stdev(differences) / math.sqrt(seeds))


def _of_counts(one, other, confidence, more=0):
    """The least margin of shares of images, with so many ``more`` seeds; 0 of other scores."""
    counts = [_count(entry) for entry in (one, other)]
    if None in counts:
        return 0.0
    images = min(count * (len(entry["blocks"]) + more) for count, entry in zip(counts, (one, other), strict=True))
    bound = special.ndtri((1 + confidence) / 2)
    return float(bound * math.sqrt(abs(one["value"] - other["value"]) / images) + 1 / images)


def _count(entry):
    """Of how many images the blocks of an entry are shares; None where they are none."""
    count = entry.get("images")
    if not count or not all(0 <= block <= 1 for block in entry["blocks"]):
        return None
    return count if all(abs(count * block - round(count * block)) < WHOLE for block in entry["blocks"]) else None


def tied(one: Entry, other: Entry) -> bool:
    """Whether two finite entries cannot be told apart: by their :func:`margin`, or because there is none."""
    own = margin(one, other)
    return own is None or abs(one["value"] - other["value"]) <= own


def unsettled(one: Entry, other: Entry) -> bool:
    """Whether two entries are tied only because they have two seeds each, too few for Student's test.

    With one degree of freedom its interval is 3.6 times as wide as with two: with a third seed and the same mean and
    standard deviation of the differences, they would be told apart.
    """
    if not (_paired(one, other) and len(one["blocks"]) == 2 and tied(one, other)):
        return False
    differences = _differences(one, other)
    own = max(_of_differences(differences, 3, CONFIDENCE), _of_counts(one, other, CONFIDENCE, more=1))
    return bool(abs(statistics.fmean(differences)) > own)


def _paired(one, other):
    return len(one["blocks"]) == len(other["blocks"]) > 1


def choice(cells: list[dict[str, Any]], metric: str, budget: int, *, lower: bool = True) -> dict[str, Any] | None:
    """The best solver that needs at most ``budget`` evaluations, and those tied with it.

    Args:
        cells: dicts with ``name``, ``solver``, ``nfe`` and ``scores``, metric -> entry.
        metric: a key of ``scores``; cells without a finite value are left out.
        budget: most network evaluations of an image.
        lower: whether lower is better.

    Returns:
        ``{"best": name, "ties": [names], "worse": count}``, the ties from best to worst and how many solvers are told
        from the best; None where no cell qualifies. Of each solver its best cell counts.
    """
    sign = 1 if lower else -1
    found = [cell for cell in cells if cell["nfe"] <= budget and known(cell["scores"].get(metric))]
    found.sort(key=lambda cell: (sign * cell["scores"][metric]["value"], cell["nfe"]))
    own: dict[str, dict[str, Any]] = {}
    for cell in found:
        own.setdefault(cell["solver"], cell)
    if not own:
        return None
    best, *others = own.values()
    ties = [cell["name"] for cell in others if tied(cell["scores"][metric], best["scores"][metric])]
    return {"best": best["name"], "ties": ties, "worse": len(others) - len(ties)}


def choices(cells: list[dict[str, Any]], metric: str, *, lower: bool = True) -> list[dict[str, Any]]:
    """The :func:`choice` for every number of evaluations, among the plain and among the distilled solvers.

    Returns:
        A list by ascending ``nfe``, without those that no finite value is at or below, of ``{"nfe", "plain",
        "distilled", "better", "take", "unsettled"}``; ``better`` is ``"plain"``,
        ``"distilled"``, ``"tied"``, or None where one of the two has no cell; ``take`` is which of them to take, plain
        where they are tied, for it has nothing to learn; ``unsettled``: under each kind the names of the
        ties that are :func:`unsettled`, under ``better`` whether that of the two best is.
    """
    kinds = {kind: [c for c in cells if c["distilled"] is (kind == "distilled")] for kind in ("plain", "distilled")}
    entries = {cell["name"]: cell["scores"].get(metric) for cell in cells}
    found = []
    for budget in sorted({cell["nfe"] for cell in cells}):
        row: dict[str, Any] = {kind: choice(own, metric, budget, lower=lower) for kind, own in kinds.items()}
        better, take = None, next((kind for kind in kinds if row[kind]), None)
        if take is None:
            continue
        if None not in row.values():
            better = verdict(*(entries[row[kind]["best"]] for kind in kinds), lower=lower)
            take = "distilled" if better == "distilled" else "plain"
        open_ties: dict[str, Any] = {
            kind: [name for name in own["ties"] if unsettled(entries[name], entries[own["best"]])]
            for kind, own in row.items()
            if own is not None
        }
        two = better is not None and unsettled(*(entries[row[kind]["best"]] for kind in kinds))
        found.append({"nfe": budget, **row, "better": better, "take": take, "unsettled": {**open_ties, "better": two}})
    return found


def verdict(plain: Entry, distilled: Entry, *, lower: bool = True) -> str:
    """Which of two entries is the better: ``"plain"``, ``"distilled"`` or ``"tied"``."""
    if tied(plain, distilled):
        return "tied"
    return "distilled" if (distilled["value"] < plain["value"]) is lower else "plain"


def better(cells: list[dict[str, Any]], metric: str, level: Entry | None, *, lower: bool = True) -> list[str]:
    """Names of the cells that are better than ``level``, an entry, and not tied with it."""
    return [
        cell["name"]
        for cell in cells
        if known(level)
        and known(entry := cell["scores"].get(metric))
        and verdict(level, entry, lower=lower) == "distilled"  # of the two that it is given, the second
    ]


def gain(plain: Entry, distilled: Entry, *, lower: bool = True) -> dict[str, Any]:
    """What a distilled entry gains on its plain one.

    Returns:
        ``factor``, how many times better, ``plain / distilled`` where lower is better and ``distilled / plain`` where
        higher is; ``error``, the standard deviation over seeds of that ratio, of a single seed by the delta method,
        ``f sqrt((e_p / p)^2 + (e_d / d)^2)``; both None where a value is not positive or the ratio no finite number.
        ``better`` is :func:`verdict`.
    """
    found: dict[str, Any] = {"factor": None, "error": None, "better": verdict(plain, distilled, lower=lower)}
    above, below = (plain, distilled) if lower else (distilled, plain)
    if min(*above["blocks"], *below["blocks"], above["value"], below["value"]) > 0:
        found["factor"] = above["value"] / below["value"]
        ratios = [a / b for a, b in zip(above["blocks"], below["blocks"], strict=False)]
        if not math.isfinite(found["factor"]) or not all(map(math.isfinite, ratios)):
            found["factor"] = None
        elif _paired(plain, distilled):
            found["error"] = statistics.stdev(ratios)
        elif None not in (plain["error"], distilled["error"]):
            shares = [entry["error"] / entry["value"] for entry in (plain, distilled)]
            found["error"] = found["factor"] * math.hypot(*shares)
    return found


def gains(cells: list[dict[str, Any]], metric: str, *, lower: bool = True) -> list[dict[str, Any]]:
    """The :func:`gain` of every distilled cell whose ``plain`` one (a name) is measured too, by ascending NFE."""
    entries = {cell["name"]: cell["scores"].get(metric) for cell in cells}
    pairs = [(cell["plain"], cell["name"]) for cell in sorted(cells, key=lambda cell: cell["nfe"]) if cell["plain"]]
    return [
        {"plain": plain, "distilled": name, **gain(entries[plain], entries[name], lower=lower)}
        for plain, name in pairs
        if known(entries.get(plain)) and known(entries[name])
    ]
