"""Scores against NFE on one dataset, a small panel for each method."""

from dode.benchmark import scripting
from dode.report import collection
from dode.report.figures import curves


def main(snakemake):
    params, wildcards = snakemake.params, snakemake.wildcards
    frame = collection.frame(params.cells, snakemake.input.cells, {}, snakemake.input.elsewhere)
    curves.families(frame, wildcards.metric, wildcards.dataset, snakemake.output)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
