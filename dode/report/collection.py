"""Reading what the cells left behind, for tables and figures."""

from dode import storage
from dode.report import tables


def read(kind, cells, paths):
    """The facts of each cell with its ``scores`` or its ``fits``, from the files that the rule ``collect`` makes."""
    found = {}
    for path in paths:
        found |= storage.read_json(path)[kind]
    return [{**facts, **found[name_of(facts)]} for facts in cells]


def name_of(facts):
    """A cell's name in these files (``str`` of a :class:`dode.cells.Cell`)."""
    return f"{facts['dataset']}/{facts['solver']}/nfe{facts['nfe']}"


def scores(cells, paths):
    """The facts of each cell with the blocks of those metrics that tables show."""
    found = read("scores", cells, paths)
    for cell in found:
        entries = cell["metrics"].items()
        cell["metrics"] = {name: entry["blocks"] for name, entry in entries if name in tables.METRICS}
    return found


def floors(paths):
    """The floor of each dataset that has one (``{dataset id: path}``)."""
    return [{"dataset": dataset, "floor": storage.read_json(path)["floor"]} for dataset, path in paths.items()]


def frame(cells, collected, floor_paths):
    """The tidy table of everything: one row a cell and metric."""
    return tables.tidy(scores(cells, collected), floors(floor_paths))
