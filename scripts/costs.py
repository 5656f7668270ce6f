"""What the fits took, beside sampling and beside published trainings of student networks."""

from dode.benchmark import scripting
from dode.report.figures import cost_figure, style


def main(snakemake):
    params, cells = snakemake.params, []
    for cell in params.cells:
        fit = cost_figure.seconds(cell["times"]["fit"])
        sample = cost_figure.seconds(cost_figure.sampling_jobs(cell["times"]["sample"]))
        if fit and sample:
            cells.append({**cell, "fit": fit[0], "sample": sample[0], "starts": fit[1] + sample[1]})
    cost_figure.draw(cells, params.published, style.styles(params.solvers), snakemake.output)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
