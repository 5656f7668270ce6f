"""Scores against what the fit was given."""

from dode.benchmark import scripting
from dode.report import collection
from dode.report.figures import ablation_figure, style


def main(snakemake):
    params, name_of = snakemake.params, collection.name_of
    measured = collection.scores(params.cells, snakemake.input)
    scores = {name_of(cell): cell["metrics"][params.metric] for cell in measured}
    fits = {name_of(cell): cell["lambdas"] for cell in collection.fits(params.cells, snakemake.input)}
    colors = {}
    for (method, _), line in style.styles(params.solvers).items():
        colors.setdefault(method, line["color"])
    ablation_figure.draw(params.sweeps, scores, fits, colors, snakemake.output, params.metric)


if __name__ == "__main__":
    scripting.execute(main, snakemake)
