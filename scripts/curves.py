"""Scores against NFE, a figure a metric."""

from dode.benchmark import scripting
from dode.report import collection
from dode.report.figures import curves


def main(snakemake):
    params = snakemake.params
    halves = dict(zip(params.halves_of, snakemake.input.halves, strict=True))
    frame = collection.frame(params.cells, snakemake.input.cells, halves, snakemake.input.elsewhere)
    for metric in params.metrics:
        curves.curves(frame, metric, [path for path in snakemake.output if f"/{metric}." in path])


if __name__ == "__main__":
    scripting.execute(main, snakemake)
