"""Where jointly fitted solvers step, and what they make their states of."""

from dode.benchmark import scripting
from dode.report import collection
from dode.report.figures import joint_figure


def main(snakemake):
    fits = collection.fits(snakemake.params.cells, snakemake.input)
    joint_figure.levels(fits, snakemake.output.levels)
    joint_figure.weights(fits, snakemake.output.weights)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
