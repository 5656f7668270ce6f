"""Fitted coefficients and residuals against the evaluation."""

from dode.benchmark import scripting
from dode.report import collection
from dode.report.figures import fitted


def main(snakemake):
    fits = collection.fits(snakemake.params.cells, snakemake.input)
    fitted.coefficients(fits, snakemake.output.lambdas)
    fitted.residuals(fits, snakemake.output.residuals)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
