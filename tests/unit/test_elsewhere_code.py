"""All code that made a cell is in what archives are compared by: that of preparations and of searches too."""

import pytest

from dode.benchmark.dependencies import Dependencies
from dode.report.archives import elsewhere as comparison
from dode.report.differences import differences
from test_elsewhere import record

SAMPLED = {"sample", "score"}
FINE = "digits-edm/reference/nfe79"


@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        ({}, {}),
        ({"grid": {"name": "searched"}}, {"search_grid": "search_code"}),
        ({"solver": "dpm-solver-v3"}, {"prepare": "preparation_code"}),
        ({"solver": "sfd"}, {"prepare": "preparation_code"}),
        ({"solver": "progressive-distillation"}, {"prepare": "preparation_code", "fine_ends": "fine_ends_code"}),
        (
            {"solver": "progressive-distillation", "grid": {"name": "searched"}},
            {"prepare": "preparation_code", "fine_ends": "fine_ends_code", "search_grid": "search_code"},
        ),
    ],
)
def test_another_preparation_or_search_makes_another_cell(monkeypatch, entry, parts):
    entry = {"id": "own", "label": "Own", "solver": "ddim", "nfe": [4], **entry}
    name, own = "digits-edm/own/nfe4", record(solvers=[entry])
    assert set(own["cells"][name]["code"]) == SAMPLED | set(parts)
    for part, method in parts.items():
        with monkeypatch.context() as patch:
            patch.setattr(Dependencies, method, lambda self, of: "f" * 16)
            other = record(solvers=[entry])
        found = differences(comparison.making(own, name), comparison.making(other, name))
        assert [key for key, *_ in found] == [f"code.{part}"]
        assert other["cells"][FINE] == own["cells"][FINE]
