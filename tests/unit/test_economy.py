"""What is said of costs: the best, what is cheaper and as good, and fits that lose to a cheaper method of others."""

import numpy as np
import pytest

from dode.report import economy, verdicts
from dode.report.page import charts


def entry(*blocks):
    error = float(np.std(blocks, ddof=1)) if len(blocks) > 1 else 0.01
    return {"value": float(np.mean(blocks)), "error": error, "error_kind": "seeds", "blocks": list(blocks)}


def cell(name, learnt, value, work, seconds=None, *, blocks=None):
    cost = {"learnt": learnt, "work": work, "seconds": seconds}
    score = entry(*(blocks or (value - 0.001, value, value + 0.0012)))
    return {"name": name, "distilled": learnt != "plain", "scores": {"fid": score}, "cost": cost}


PLAIN = cell("plain", "plain", 3.0, 0)
JOINT = cell("joint", "joint", 1.0, 1000, 10.0)


def test_the_best_is_among_what_was_learnt_and_a_cheaper_one_within_its_error_is_named():
    near = cell("near", "gs", 1.0, 400, 20.0, blocks=(0.5, 1.1, 1.6))
    nearer = cell("nearer", "epd", 1.0, 100, 30.0, blocks=(0.6, 1.1, 1.6))
    worse = cell("worse", "greedy", 2.0, 10, 0.1)
    found = economy.judged([PLAIN, worse, near, nearer, JOINT], "fid", "work")
    assert (found["best"], found["others"]) == ("joint", 3)
    assert found["cheaper"] == {"name": "nearer", "unsettled": False}
    assert found["plain"] is None
    assert economy.judged([PLAIN, worse, near, nearer, JOINT], "fid", "seconds")["cheaper"] is None


def test_where_higher_is_better_the_highest_is_best():
    cells = [cell("low", "gs", 1.0, 10), cell("high", "joint", 2.0, 100)]
    assert economy.judged(cells, "fid", "work", lower=False)["best"] == "high"
    assert economy.judged(cells, "fid", "work")["best"] == "low"


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ((0.2, 0.201, 0.202), {"better": True, "unsettled": False}),
        ((0.4, 1.1, 1.6), {"better": False, "unsettled": False}),
        ((3.0, 3.1, 3.2), None),
    ],
    ids=["better", "tied", "worse"],
)
def test_a_plain_solver_that_is_no_worse_is_named(blocks, expected):
    plain = cell("plain", "plain", None, 0, blocks=blocks)
    found = economy.judged([plain, JOINT], "fid", "work")["plain"]
    assert found == (None if expected is None else {"name": "plain", **expected})


def test_a_fit_that_a_method_of_others_beats_at_no_more_cost_is_said_to_lose():
    """Not to what costs more, to what is tied with it, to a fit of this project, or to a plain solver."""
    others = [
        cell("equal-cost", "gs", 0.5, 1000),
        cell("dearer", "bns", 0.1, 1001),
        cell("tied", "ld3", 1.0, 900),
        cell("ours", "refined", 0.7, 500),
        cell("searched", "searched", 0.9, 100),
        cell("free", "plain", 0.2, 0),
    ]
    found = economy.judged([*others, JOINT, cell("greedy", "greedy", 2.0, 50)], "fid", "work")
    assert found["beaten"] == [{"by": "equal-cost", "fits": ["joint"]}]
    assert found["rivals"] is True
    found = economy.judged([*others, JOINT, cell("greedy", "greedy", 2.0, 1200)], "fid", "work")
    assert found["beaten"] == [{"by": "equal-cost", "fits": ["joint"]}, {"by": "dearer", "fits": ["greedy"]}]


def test_without_a_method_of_others_at_no_more_cost_there_is_nothing_to_say():
    found = economy.judged([JOINT, cell("dearer", "gs", 0.1, 1001)], "fid", "work")
    assert (found["beaten"], found["rivals"]) == ([], False)
    found = economy.judged([JOINT, cell("cheaper", "gs", 1.5, 999)], "fid", "work")
    assert (found["beaten"], found["rivals"]) == ([], True)


def test_cells_of_unknown_cost_and_scores_that_are_not_finite_are_left_out():
    lost = {**cell("lost", "gs", 0.1, 10), "cost": None}
    failed = cell("failed", "gs", 0.1, 10)
    failed["scores"]["fid"] = {**failed["scores"]["fid"], "value": None}
    assert economy.judged([lost, failed, JOINT], "fid", "work")["best"] == "joint"
    assert economy.judged([lost, failed, PLAIN], "fid", "work") is None
    assert economy.judged([JOINT], "kid", "work") is None
    assert economy.judged([cell("untimed", "gs", 0.1, 10)], "fid", "seconds") is None


def test_two_seeds_that_cannot_separate_what_a_third_would():
    """The spreads are of .65 +- .13 and .05 +- .02: the differences .5 and .7, or .45 and .75."""
    plain, fit = entry(0.558, 0.742), entry(0.036, 0.064)
    assert verdicts.tied(plain, fit)
    assert verdicts.unsettled(plain, fit)
    third = entry(*plain["blocks"], 0.65), entry(*fit["blocks"], 0.05)
    assert not verdicts.tied(*third)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (entry(1.0, 1.2), entry(1.1, 1.05)),  # a third would not tell them apart either
        (entry(1.0, 1.0), entry(1.0, 1.0)),  # equal
        (entry(1.0, 1.001), entry(2.0, 2.001)),  # not tied
        (entry(0.5, 0.6, 0.7), entry(0.45, 0.65, 0.72)),  # three seeds
        (entry(0.6), entry(0.5)),
        (entry(0.558, 0.742), entry(0.05)),
    ],
)
def test_otherwise_nothing_is_said_of_a_third_seed(one, other):
    assert not verdicts.unsettled(one, other)


def test_in_the_chart_what_cost_nothing_stands_left_of_all_costs():
    """Also a solver that learnt from a printed table; one whose cost is not known stands nowhere."""

    class Drawn:
        key, levels, metric, dataset = "fid", [], {"scale": 1, "axis": "FID", "name": "FID"}, {"id": "digits"}
        table, untold = cell("table", "neural-solver", 2.0, 0, 1.5), {**cell("untold", "gs", 1.5, 0), "cost": None}
        cells = (PLAIN, JOINT, cell("dear", "gs", 0.5, 2_000_000, 300.0), table, untold)

        def __init__(self):
            self.page = self
            self.solvers = {own["name"]: {"label": own["name"], "distilled": own["distilled"]} for own in self.cells}

        def at(self, _):
            """The cells as the page has them."""
            scores = [own["scores"]["fid"] for own in self.cells]
            pairs = [{"fid": [score["value"], score["error"]]} for score in scores]
            return [{**own, "solver": own["name"], "scores": pair} for own, pair in zip(self.cells, pairs, strict=True)]

        def kind(self, own):
            return "distilled" if own["distilled"] else "plain"

        def text(self, own):
            return own["name"]

    found = charts.costs(Drawn(), 5)
    points = {line["name"]: line["points"][0] for line in found["lines"]}
    for kind, costs in (("work", [1000, 2_000_000]), ("seconds", [10.0, 300.0])):
        axis = found["axes"][kind]
        assert axis["words"][0] == "plain"
        assert len(axis["words"]) == len(axis["ticks"])
        assert axis["ticks"] == sorted(axis["ticks"])
        assert points["plain"]["at"][kind] == axis["ticks"][0] < min(costs) / 2
        assert [points[name]["at"][kind] for name in ("joint", "dear")] == costs
        assert points["untold"]["at"][kind] is None
    assert points["table"]["at"] == {"work": found["axes"]["work"]["ticks"][0], "seconds": 1.5}
    assert points["table"]["text"] == "table; 0 evaluations, 1.5 seconds"
    assert points["plain"]["text"] == "plain; learnt nothing"
    assert found["axes"]["work"]["words"][-1] == "1M"


@pytest.mark.parametrize("third", [False, True])
def test_choices_tell_which_ties_two_seeds_leave_open(third):
    more = lambda values, value: entry(*values, *([value] if third else []))  # noqa: E731

    def of(name, scores, *, distilled):
        return {"name": name, "solver": name, "nfe": 5, "distilled": distilled, "scores": {"fid": scores}}

    cells = [
        of("plain", more((0.558, 0.742), 0.65), distilled=False),
        of("other", more((0.9, 1.3), 1.1), distilled=False),
        of("fit", more((0.036, 0.064), 0.05), distilled=True),
    ]
    (row,) = verdicts.choices(cells, "fid")
    assert row["take"] == ("distilled" if third else "plain")
    assert row["unsettled"] == {"plain": [] if third else ["other"], "distilled": [], "better": not third}
