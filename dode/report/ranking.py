"""Which scores are best with regard to their errors, and how solvers rank over datasets.

Scores are entries as in :mod:`dode.report.verdicts`, whose :func:`~dode.report.verdicts.tied` tells them apart.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dode.report import frame as frames
from dode.report import verdicts
from dode.report.verdicts import Entry

BEST, SECOND, UNMARKED = 0, 1, 2
#: What marks mean; ``{}`` is how the second place is set.
LEGEND = (
    "Bold marks the best score of a column and all that cannot be told apart from it; {} marks the best of the rest in "
    "the same way."
)


def places(entries: Sequence[Entry], *, lower_is_better: bool = True) -> list[int]:
    """:data:`BEST` for the best entry and those tied with it, :data:`SECOND` likewise of the rest.

    What is not finite has no place; nor has anything where all are tied, or there is one.
    """
    loss = _losses(entries, lower_is_better)
    found = np.full(len(entries), UNMARKED)
    for place in (BEST, SECOND):
        left = (found == UNMARKED) & np.isfinite(loss)
        if not left.any():
            break
        found[left & _tied(entries, int(np.argmin(np.where(left, loss, np.inf))))] = place
    distinct = (found[np.isfinite(loss)] != BEST).any()
    return found.tolist() if distinct else [UNMARKED] * len(entries)


def ranks(entries: Sequence[Entry], *, lower_is_better: bool = True) -> list[float]:
    """The rank of each entry, from 1: one more than how many are better, ties counted half.

    So ranks are the ordinary mid-ranks where a tie's ties are its own. What is not finite ties with others of the kind
    behind all.
    """
    loss, tied = _losses(entries, lower_is_better), _ties(entries)
    finite = np.isfinite(loss)
    better = finite & ~tied & (loss < loss[:, None])
    found = 1 + better.sum(axis=1) + 0.5 * (tied.sum(axis=1) - 1)
    last = 1 + finite.sum() + 0.5 * ((~finite).sum() - 1)
    return [float(rank) for rank in np.where(finite, found, last)]


def _losses(entries, lower_is_better):
    sign = 1 if lower_is_better else -1
    return np.array([sign * entry["value"] if verdicts.known(entry) else np.inf for entry in entries])


def _ties(entries):
    """Whether each two entries are tied, itself included; what is not finite is tied with nothing."""
    return np.array([_tied(entries, index) for index in range(len(entries))])


def _tied(entries, index):
    """Whether each entry is tied with the one at ``index``."""
    one = entries[index]
    return np.array([verdicts.known(one) and verdicts.known(other) and verdicts.tied(one, other) for other in entries])


def mean_ranks(cells: pd.DataFrame, *, lower_is_better: bool = True) -> dict[str, dict[int, tuple[float, int]]]:
    """Mean rank over datasets of each solver at each NFE: ``{label: {nfe: (mean rank, solvers ranked)}}``.

    Ranked at an NFE are the solvers that every dataset has there; none at an NFE where those are fewer than two.

    Args:
        cells: rows of one metric of :func:`dode.report.frame.tidy`, without real halves and references.
    """
    datasets = cells["dataset"].nunique()
    found: dict[str, dict[int, tuple[float, int]]] = {}
    for nfe, column in cells.groupby("nfe"):
        counts = column.groupby("label", sort=False)["dataset"].nunique()
        labels = [label for label, count in counts.items() if count == datasets]
        if len(labels) < 2:
            continue
        total = np.zeros(len(labels))
        for _, rows in column.groupby("dataset"):
            own = frames.entries(rows.set_index("label").loc[labels])
            total += ranks(own, lower_is_better=lower_is_better)
        for label, rank in zip(labels, total / datasets, strict=True):
            found.setdefault(label, {})[nfe] = (float(rank), len(labels))
    return found
