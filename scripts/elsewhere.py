"""What of an archive is comparable with this benchmark, as tables, figures and the page take it."""

from dode import storage
from dode.benchmark import elsewhere as here
from dode.benchmark import scripting
from dode.report.archives import elsewhere, format


def main(snakemake):
    params, number = snakemake.params, int(snakemake.wildcards.archive)
    archive = format.read(snakemake.input.archive)
    inputs = snakemake.input
    own = here.with_precisions(params.record, dict(zip(params.measured, inputs.precisions, strict=True)))
    own = here.with_manifests(own, dict(zip(params.pipelines, inputs.manifests, strict=True)))
    chosen = elsewhere.select(archive, own, solvers=params.solvers)
    storage.write_json(snakemake.output[0], elsewhere.taken(archive, chosen, number))


if __name__ == "__main__":
    scripting.execute(main, snakemake)
