"""Which of several measured values is best with regard to their errors, and what distillation gains.

An entry is one metric of a cell as in its ``score.json``: ``value``, ``error`` (one standard deviation, None where it
cannot be told), ``error_kind`` and ``blocks``. Values of cells share the noise and the real images, so errors taken as
independent are too large rather than too small: a tie is named too often rather than a winner too early.
"""

import math

#: Two values are tied where they are no further apart than so many standard errors of their difference.
TIE = 2.0


def known(entry):
    """Whether there is an entry with a finite value."""
    return entry is not None and entry["value"] is not None and math.isfinite(entry["value"])


def standard_error(entry):
    """Of the value: an error over seeds is of one seed block, and the value is their mean; 0 where it is unknown."""
    error = entry["error"] or 0.0
    return error / math.sqrt(len(entry["blocks"])) if entry["error_kind"] == "seeds" else error


def tied(one, other):
    """Whether two entries differ by no more than :data:`TIE` standard errors of their difference."""
    return abs(one["value"] - other["value"]) <= TIE * math.hypot(standard_error(one), standard_error(other))


def choice(cells, metric, budget, *, lower=True):
    """The best solver that needs at most ``budget`` evaluations, and those tied with it.

    Args:
        cells: dicts with ``name``, ``solver``, ``nfe`` and ``scores``, metric -> entry.
        metric: a key of ``scores``; cells without a finite value are left out.
        budget: most network evaluations of an image.
        lower: whether lower is better.

    Returns:
        ``{"best": name, "ties": [names]}``, the ties from best to worst; None where no cell qualifies. Of each solver
        its best cell counts.
    """
    sign = 1 if lower else -1
    found = [cell for cell in cells if cell["nfe"] <= budget and known(cell["scores"].get(metric))]
    found.sort(key=lambda cell: (sign * cell["scores"][metric]["value"], cell["nfe"]))
    own = {}
    for cell in found:
        own.setdefault(cell["solver"], cell)
    if not own:
        return None
    best, *others = own.values()
    ties = [cell["name"] for cell in others if tied(cell["scores"][metric], best["scores"][metric])]
    return {"best": best["name"], "ties": ties}


def choices(cells, metric, *, lower=True):
    """The :func:`choice` for every number of evaluations there is, among the plain and among the distilled solvers.

    Returns:
        A list by ascending ``nfe`` of ``{"nfe", "plain", "distilled", "better"}``; ``better`` is ``"plain"``,
        ``"distilled"``, ``"tied"``, or None where one of the two has no cell.
    """
    kinds = {kind: [c for c in cells if c["distilled"] is (kind == "distilled")] for kind in ("plain", "distilled")}
    entries = {cell["name"]: cell["scores"].get(metric) for cell in cells}
    found = []
    for budget in sorted({cell["nfe"] for cell in cells}):
        row = {kind: choice(own, metric, budget, lower=lower) for kind, own in kinds.items()}
        better = None
        if None not in row.values():
            better = verdict(*(entries[row[kind]["best"]] for kind in kinds), lower=lower)
        found.append({"nfe": budget, **row, "better": better})
    return found


def verdict(plain, distilled, *, lower=True):
    """Which of two entries is the better: ``"plain"``, ``"distilled"`` or ``"tied"``."""
    if tied(plain, distilled):
        return "tied"
    return "distilled" if (distilled["value"] < plain["value"]) is lower else "plain"


def gain(plain, distilled, *, lower=True):
    """What a distilled entry gains on its plain one.

    Returns:
        ``factor``, how many times better, ``plain / distilled`` where lower is better and ``distilled / plain`` where
        higher is, with its ``error`` by the delta method, ``f sqrt((e_p / p)^2 + (e_d / d)^2)``, of the same kind as
        the entries'; both None where a value is not positive. ``better`` is :func:`verdict`.
    """
    factor = error = None
    above, below = (plain, distilled) if lower else (distilled, plain)
    if above["value"] > 0 and below["value"] > 0:
        factor = above["value"] / below["value"]
        if plain["error"] is not None and distilled["error"] is not None:
            error = factor * math.hypot(*(entry["error"] / entry["value"] for entry in (plain, distilled)))
    return {"factor": factor, "error": error, "better": verdict(plain, distilled, lower=lower)}


def gains(cells, metric, *, lower=True):
    """The :func:`gain` of every distilled cell whose plain one (``plain``, a name) is measured too, by ascending NFE."""
    entries = {cell["name"]: cell["scores"].get(metric) for cell in cells}
    pairs = [(cell["plain"], cell["name"]) for cell in sorted(cells, key=lambda cell: cell["nfe"]) if cell["plain"]]
    return [
        {"plain": plain, "distilled": name, **gain(entries[plain], entries[name], lower=lower)}
        for plain, name in pairs
        if known(entries.get(plain)) and known(entries[name])
    ]
