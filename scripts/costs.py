"""What the fits took, beside sampling and beside published trainings of student networks."""

from dode import scripting
from dode.report import cost_figure, style


def main(snakemake):
    params, cells = snakemake.params, []
    for cell in params.cells:
        fit = [cost_figure.seconds(path) for path in cell["times"]["fit"]]
        sample = cost_figure.sampling_seconds(cell["times"]["sample"])
        if sample is not None and fit[-1] is not None:  # a local fit has no teacher's job
            cells.append({**cell, "fit": sum(filter(None, fit)), "sample": sample})
    cost_figure.draw(cells, params.published, style.styles(params.solvers), snakemake.output)


if __name__ == "__main__":
    scripting.run(main, snakemake)
