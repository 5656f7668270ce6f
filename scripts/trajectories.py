"""Solvers on their way from noise to image, from the same noise."""

from dode.benchmark import scripting
from dode.images import trajectories
from dode.report.figures import style, trajectory_figure


def main(snakemake):
    params = snakemake.params
    styles = style.styles(params.solvers)
    others = [
        (cell["label"], styles[cell["method"], cell["label"]], *trajectories.read(path))
        for cell, path in zip(params.cells, snakemake.input.cells, strict=True)
    ]
    fine = trajectories.read(snakemake.input.reference)
    title = ", ".join([params.title, *(f"NFE {nfe}" for nfe in sorted({cell["nfe"] for cell in params.cells}))])
    trajectory_figure.draw(fine, others, snakemake.output, title)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
