"""Which of what was learnt is best at a number of evaluations, and whether it is worth its cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from dode.distillation.fit_checks import FITS
from dode.report import verdicts

#: What a cost is counted in: evaluations of the network, where one with gradients counts as three; or seconds.
COSTS = ("work", "seconds")


def judged(cells: Sequence[Mapping[str, Any]], metric: str, cost: str, *, lower: bool = True) -> dict[str, Any] | None:
    """What is best, what is cheaper and as good, and which fits of this project lose to cheaper methods of others.

    Args:
        cells: those of one dataset and NFE: dicts with ``name``, ``distilled``, ``scores`` (metric -> entry) and
            ``cost``, a dict of ``learnt`` (by what) and of :data:`COSTS` (None where unknown), or None.
        metric: a key of ``scores``; cells without a finite value are left out.
        cost: one of :data:`COSTS`; distilled cells whose cost is unknown are left out.
        lower: whether a lower score is better.

    Returns:
        None where no distilled cell is left, else ``{"best": name, "others", "cheaper", "plain", "beaten", "rivals"}``:

        - ``others``: how many distilled cells there are besides;
        - ``cheaper``: the cheapest of those that cost less than the best and are tied with it, ``{"name",
          "unsettled"}``, None where there is none;
        - ``plain``: the best plain cell where it is not worse than the best, ``{"name", "better", "unsettled"}``;
        - ``beaten``: a list of ``{"by": name, "fits": [names]}``: fits of this project, and the best method of others
          that is better at an equal or a lower cost;
        - ``rivals``: whether there is a fit of this project, and a method of others at no more than its cost.

        ``unsettled`` is that of :func:`dode.report.verdicts.unsettled`.
    """
    sign = 1 if lower else -1
    known = [cell for cell in cells if verdicts.known(cell["scores"].get(metric))]
    known.sort(key=lambda cell: sign * cell["scores"][metric]["value"])
    plain = [cell for cell in known if not cell["distilled"]]
    learnt = [cell for cell in known if cell["distilled"] and (cell["cost"] or {}).get(cost) is not None]
    if not learnt:
        return None
    best, *others = learnt
    entry = best["scores"][metric]
    within = [
        cell
        for cell in others
        if cell["cost"][cost] < best["cost"][cost] and verdicts.tied(cell["scores"][metric], entry)
    ]
    beaten, rivals = _beaten(learnt, metric, cost, lower)
    return {
        "best": best["name"],
        "others": len(others),
        "cheaper": _named(min(within, key=lambda cell: cell["cost"][cost]), metric, entry) if within else None,
        "plain": _plain(plain[0], metric, entry, lower) if plain else None,
        "beaten": beaten,
        "rivals": rivals,
    }


def _named(cell, metric, entry):
    return {"name": cell["name"], "unsettled": verdicts.unsettled(cell["scores"][metric], entry)}


def _plain(cell, metric, entry, lower):
    better = verdicts.verdict(cell["scores"][metric], entry, lower=lower)
    return None if better == "distilled" else {**_named(cell, metric, entry), "better": better == "plain"}


def _beaten(learnt, metric, cost, lower):
    """``beaten`` and ``rivals`` of :func:`judged`; the cells come from best to worst."""
    found: dict[str, list[str]] = {}
    rivals = False
    for own in (cell for cell in learnt if cell["cost"]["learnt"] in FITS):
        others = [
            cell for cell in learnt if cell["cost"]["learnt"] not in FITS and cell["cost"][cost] <= own["cost"][cost]
        ]
        rivals |= bool(others)
        better = [
            cell
            for cell in others
            if verdicts.verdict(own["scores"][metric], cell["scores"][metric], lower=lower) == "distilled"  # the second
        ]
        if better:
            found.setdefault(better[0]["name"], []).append(own["name"])
    return [{"by": name, "fits": fits} for name, fits in found.items()], rivals
