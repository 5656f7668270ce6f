"""Which scores are best with regard to their errors, and how solvers rank over datasets.

Two scores are told apart where their error bars (value - error to value + error) do not meet; a score without an error
has a bar of no length. Bars of one standard deviation that meet are weak evidence of a difference, and bars that do not
meet no proof of one.
"""

import numpy as np

BEST, SECOND, UNMARKED = 0, 1, 2


def apart(value, error, others, errors):
    """Whether ``value`` is told apart from each of ``others``."""
    return np.abs(np.subtract(others, value)) > np.nan_to_num(errors) + np.nan_to_num(error)


def places(values, errors, *, lower_is_better=True):
    """:data:`BEST` for the best value and those not told apart from it, :data:`SECOND` likewise of the rest.

    Values that are not finite have no place. Arrays of one length in, a list out.
    """
    values, errors = np.array(values, dtype=float), np.array(errors, dtype=float)
    loss = np.where(np.isfinite(values), values if lower_is_better else -values, np.inf)
    found = np.full(len(values), UNMARKED)
    for place in (BEST, SECOND):
        left = (found == UNMARKED) & np.isfinite(loss)
        if not left.any():
            break
        best = np.argmin(np.where(left, loss, np.inf))
        found[left & ~apart(values[best], errors[best], values, errors)] = place
    return found.tolist()


def ranks(values, errors, *, lower_is_better=True):
    """The rank of each value, from 1: one more than how many are better, ties counted half.

    What is not told apart is a tie, so that ranks are the ordinary mid-ranks where a tie's ties are its own. A value
    that is not finite ties with others of the kind behind all.
    """
    values, errors = np.array(values, dtype=float), np.array(errors, dtype=float)
    finite = np.isfinite(values)
    loss = values if lower_is_better else -values
    found = []
    for i in range(len(values)):
        if not finite[i]:
            found.append(1 + finite.sum() + 0.5 * ((~finite).sum() - 1))
            continue
        distinct = finite & apart(values[i], errors[i], values, errors)
        better, ties = distinct & (loss < loss[i]), finite & ~distinct
        found.append(float(1 + better.sum() + 0.5 * (ties.sum() - 1)))
    return [float(rank) for rank in found]


def mean_ranks(cells, *, lower_is_better=True):
    """Mean rank over datasets of each solver at each NFE: ``{label: {nfe: (mean rank, solvers ranked)}}``.

    Ranked at an NFE are the solvers that every dataset has there; none at an NFE where those are fewer than two.

    Args:
        cells: rows of one metric of :func:`dode.report.frame.tidy`, without real halves and references.
    """
    datasets, found = cells["dataset"].nunique(), {}
    for nfe, column in cells.groupby("nfe"):
        counts = column.groupby("label", sort=False)["dataset"].nunique()
        labels = [label for label, count in counts.items() if count == datasets]
        if len(labels) < 2:
            continue
        total = np.zeros(len(labels))
        for _, rows in column.groupby("dataset"):
            own = rows.set_index("label").loc[labels]
            total += ranks(own["value"], own["error"], lower_is_better=lower_is_better)
        for label, rank in zip(labels, total / datasets, strict=True):
            found.setdefault(label, {})[nfe] = (float(rank), len(labels))
    return found
