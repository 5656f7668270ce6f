"""The page, one self-contained file, and what it says besides scores, for archives."""

import os

from dode import storage
from dode.benchmark import scripting
from dode.report import collection
from dode.report.archives import added
from dode.report.page import page


def main(snakemake):
    params, inputs, output = snakemake.params, snakemake.input, snakemake.output
    halves = dict(zip(params.halves_of, inputs.halves, strict=True))
    others = collection.elsewhere(inputs.elsewhere)
    cells = [*params.cells, *(facts for each in others for facts in each["facts"])]
    found = page.data(
        cells,
        params.datasets,
        [*inputs.cells, *inputs.elsewhere],
        halves,
        added.provenance(storage.read_json(inputs.provenance), others),
        inputs.precisions,
        costs=next(iter(inputs.costs), None),
        elsewhere=added.about(others, collection.made(inputs.cells)[0]),
    )
    thumbnails = {name: own for path in inputs.thumbnails for name, own in storage.read_json(path).items()}
    thumbnails |= {name: own for each in others for name, own in each["thumbnails"].items()}
    page.write(output.page, found, thumbnails, params.config)
    paths = {name: os.path.relpath(path, os.path.dirname(output.facts)) for name, path in halves.items()}
    facts = {"cells": params.cells, "datasets": params.datasets, "config": params.config, "halves": paths}
    storage.write_json(output.facts, facts)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
