"""What the fits took, beside sampling and beside published trainings of student networks."""

from dode.benchmark import scripting
from dode.report import collection
from dode.report.figures import cost_figure, style


def main(snakemake):
    params, cells = snakemake.params, []
    for cell in collection.fits(params.cells, snakemake.input):
        fit = cost_figure.seconds(cell["times"]["fit"])
        sample = cost_figure.seconds(cost_figure.sampling_jobs(cell["times"]["sample"]))
        if fit and sample:
            evaluations = cell["evaluations"] + sum(rung["evaluations"] for rung in cell["rungs"])
            times = {"fit": fit[0], "sample": sample[0], "starts": fit[1] + sample[1]}
            cells.append({**cell, **times, "evaluations": evaluations})
    cost_figure.draw(cells, params.published, style.styles(params.solvers), snakemake.output)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
