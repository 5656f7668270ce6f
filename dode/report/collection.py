"""Reading what the cells left behind, for tables and figures."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from dode import storage
from dode.names import CellName
from dode.report import costs
from dode.report import frame as frames


def _collected(kind, paths):
    found = {}
    for path in paths:
        found |= storage.read_json(path)[kind]
    return found


def fits(cells: list[dict[str, Any]], paths: Iterable[str | Path]) -> list[dict[str, Any]]:
    """The facts of each fitted cell with its fit, from the files that the rule ``collect`` makes."""
    found = _collected("fits", paths)
    return [{**found[name_of(facts)], **facts} for facts in cells]


def learnt(cells: list[dict[str, Any]], paths: Iterable[str | Path]) -> list[dict[str, Any]]:
    """The facts of each cell with its scores, and what the learning of its solver cost by what its files say.

    ``evaluations`` of the facts are those that no file says.
    """
    paths = list(paths)
    of_fits, prepared, found = _collected("fits", paths), _collected("prepared", paths), []
    for cell in scores(cells, paths):
        name, cost = name_of(cell), dict.fromkeys(costs.COUNTS, 0)
        said = [costs.of_fit(of_fits[name])] if name in of_fits else []
        said += [costs.of_preparation(prepared[name])] if name in prepared else []
        for own in said:
            cost = {key: value + own[key] for key, value in cost.items()}
        found.append({**cell, **cost, "evaluations": cost["evaluations"] + cell["evaluations"]})
    return found


def name_of(facts: dict[str, Any]) -> str:
    """A cell's name in these files."""
    return str(CellName.of(facts))


def scores(cells: list[dict[str, Any]], paths: Iterable[str | Path]) -> list[dict[str, Any]]:
    """The facts of each cell with its scores; ``against`` is what the file of scores calls ``reference``."""
    found = _collected("scores", paths)
    return [{**(own := found[name_of(facts)]), "against": own["reference"], **facts} for facts in cells]


def made(paths: Iterable[str | Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the scores and the fits of all cells say of themselves: two dictionaries by cell."""
    return _collected("scores", paths), _collected("fits", paths)


def halves(paths: Mapping[str, str | Path]) -> list[dict[str, Any]]:
    """How random halves of real images compare, of each dataset that has images (``{dataset id: path}``)."""
    return [{"dataset": dataset, **storage.read_json(path)} for dataset, path in paths.items()]


def elsewhere(paths: Iterable[str | Path]) -> list[dict[str, Any]]:
    """What was taken of each archive (:func:`dode.report.archives.elsewhere.taken`)."""
    return [storage.read_json(path) for path in paths]


def frame(
    cells: list[dict[str, Any]],
    collected: Iterable[str | Path],
    halves_paths: Mapping[str, str | Path],
    elsewhere_paths: Iterable[str | Path] = (),
) -> pd.DataFrame:
    """The tidy table of everything: one row per cell and metric, those that were measured elsewhere last."""
    others = [*elsewhere_paths]
    cells = [*cells, *(facts for each in elsewhere(others) for facts in each["facts"])]
    return frames.tidy(scores(cells, [*collected, *others]), halves(halves_paths))
