"""What was learnt and what it took: a table, and figures beside sampling, published trainings and what was gained."""

from dode.benchmark import scripting
from dode.report import collection, costs
from dode.report.figures import cost_figure, style


def main(snakemake):
    params, output = snakemake.params, snakemake.output
    cells = [cost_figure.timed(cell) for cell in collection.learnt(params.cells, snakemake.input)]
    frame, styles = costs.frame(cells), style.styles(params.solvers)
    costs.write(frame, params.title, output.csv, output.md)
    cost_figure.draw([cell for cell in cells if cell["fit"] and cell["sample"]], params.published, styles, output.costs)
    cost_figure.gains(frame, styles, output.gains)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
