"""Reading what the cells left behind, for tables and figures."""

from dode import storage
from dode.report import tables


def scores(cells, paths):
    """The facts of each cell with the blocks of those metrics of its ``score.json`` that tables show."""
    found = []
    for facts, path in zip(cells, paths, strict=True):
        entries = storage.read_json(path)["metrics"]
        shown = {name: entry["blocks"] for name, entry in entries.items() if name in tables.METRICS}
        found.append({**facts, "metrics": shown})
    return found


def floors(paths):
    """The floor of each dataset that has one (``{dataset id: path}``)."""
    return [{"dataset": dataset, "floor": storage.read_json(path)["floor"]} for dataset, path in paths.items()]


def fits(cells, paths):
    """The facts of each distilled cell with its ``lambdas.json``."""
    return [{**facts, **storage.read_json(path)} for facts, path in zip(cells, paths, strict=True)]


def frame(cells, score_paths, floor_paths):
    """The tidy table of everything: one row a cell and metric."""
    return tables.tidy(scores(cells, score_paths), floors(floor_paths))
