"""The comparison tables: CSV (one row a cell and metric), Markdown, LaTeX; and what the cells were made of."""

from dode import storage
from dode.benchmark import provenance, scripting
from dode.fetching import places
from dode.report import collection, tables
from dode.report import frame as frames


def main(snakemake):
    params, output = snakemake.params, snakemake.output
    halves = dict(zip(params.halves_of, snakemake.input.halves, strict=True))
    said = zip(params.cells, params.published, params.real, strict=True)
    cells = [{**facts, "published": published, "real": real} for facts, published, real in said]
    scores = collection.frame(cells, snakemake.input.cells, halves)
    made = collection.made(snakemake.input.cells)
    frames.write_csv(scores, output.csv)
    tables.write_markdown(scores, output.md, title=params.title, incomparable=params.incomparable)
    tables.write_latex(scores, output.tex)
    storage.write_json(output.provenance, provenance.completed(params.provenance, places.workflow(), *made))


if __name__ == "__main__":
    scripting.execute(main, snakemake)
