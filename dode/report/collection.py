"""Reading what the cells left behind, for tables and figures."""

from dode import storage
from dode.report import tables


def scores(cells, paths):
    """The facts of each cell with the metrics of its ``score.json``."""
    return [{**facts, **storage.read_json(path)} for facts, path in zip(cells, paths, strict=True)]


def floors(datasets, paths):
    """The floor of each dataset (``{dataset id: path}``)."""
    return [{"dataset": dataset, "floor": storage.read_json(paths[dataset])["floor"]} for dataset in datasets]


def fits(cells, paths):
    """The facts of each distilled cell with its ``lambdas.json``."""
    return [{**facts, **storage.read_json(path)} for facts, path in zip(cells, paths, strict=True)]


def frame(cells, score_paths, floor_paths):
    """The tidy table of everything: one row a cell and metric."""
    datasets = dict.fromkeys(facts["dataset"] for facts in cells)
    return tables.tidy(scores(cells, score_paths), floors(datasets, floor_paths))
