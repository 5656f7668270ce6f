"""The comparison tables: CSV (one row a cell and metric), Markdown, LaTeX; and what the cells were made of."""

from dode import storage
from dode.benchmark import provenance, scripting
from dode.fetching import places
from dode.report import collection, tables
from dode.report import frame as frames
from dode.report.archives import added


def main(snakemake):
    params, output = snakemake.params, snakemake.output
    halves = dict(zip(params.halves_of, snakemake.input.halves, strict=True))
    said = zip(params.cells, params.published, params.real, strict=True)
    cells = [{**facts, "published": published, "real": real} for facts, published, real in said]
    scores = collection.frame(cells, snakemake.input.cells, halves, snakemake.input.elsewhere)
    made = collection.made(snakemake.input.cells)
    others = collection.elsewhere(snakemake.input.elsewhere)
    frames.write_csv(scores, output.csv)
    closing = added.section(others, made[0])
    tables.write_markdown(scores, output.md, title=params.title, incomparable=params.incomparable, closing=closing)
    tables.write_latex(scores, output.tex)
    record = provenance.completed(params.provenance, places.workflow(), *made)
    storage.write_json(output.provenance, {**record, **added.record(others)})


if __name__ == "__main__":
    scripting.execute(main, snakemake)
