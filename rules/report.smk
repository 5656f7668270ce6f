from dode import digests
from dode.report import provenance

CONFIGURATION = {key: value for key, value in BENCH.config.items() if key != "execution"}


# What tables and figures say of the cells of one dataset, or a part of them.
rule collect:
    input:
        scores=lambda wildcards: BENCH.files("score.json", BENCH.part(wildcards)[0]),
        fits=lambda wildcards: BENCH.files("lambdas.json", BENCH.part(wildcards)[1]),
    output:
        f"{RESULTS}/{{dataset}}/collected/{{part}}.json",
    log:
        f"{LOGS}/collect/{{dataset}}/{{part}}.log",
    localrule: True
    conda:
        ENV
    params:
        cells=lambda wildcards: [str(each) for each in BENCH.part(wildcards)[0]],
        distilled=lambda wildcards: [str(each) for each in BENCH.part(wildcards)[1]],
        code=BENCH.code("collect.py"),
    message:
        "Collecting the scores of {wildcards.dataset}, part {wildcards.part}"
    script:
        "../scripts/collect.py"


# Self-FID needs the fine-step samples of another seed.
METRICS = ["fid", *["self_fid"] * BENCH.several_seeds, "trajectory_rmse"]


rule tables:
    input:
        cells=BENCH.collected,
        floors=floors,
    output:
        csv=report(f"{RESULTS}/table.csv", category="Tables", caption="../report/table.rst", labels={"table": "CSV"}),
        md=f"{RESULTS}/table.md",
        tex=f"{RESULTS}/table.tex",
    log:
        f"{LOGS}/tables.log",
    localrule: True
    conda:
        ENV
    params:
        cells=[BENCH.facts(each) for each in BENCH.cells.values()],
        published=lambda wildcards: [BENCH.published_fids(each) for each in BENCH.cells.values()],
        incomparable=lambda wildcards: BENCH.incomparable(),
        floors_of=[dataset["id"] for dataset in BENCH.with_data()],
        title=BENCH.config["benchmark"],
        code=BENCH.code("tables.py"),
    message:
        "Writing the tables"
    script:
        "../scripts/tables.py"


rule curves:
    input:
        cells=BENCH.collected,
        floors=floors,
    output:
        [figure(metric, "Curves", metric, metric=metric) for metric in METRICS],
    log:
        f"{LOGS}/curves.log",
    localrule: True
    conda:
        ENV
    params:
        metrics=METRICS,
        cells=rules.tables.params.cells,
        floors_of=[dataset["id"] for dataset in BENCH.with_data()],
        code=BENCH.code("curves.py"),
    message:
        "Drawing scores against NFE"
    script:
        "../scripts/curves.py"


rule coefficients:
    input:
        BENCH.collected,
    output:
        lambdas=figure("lambdas", "Distillation", "lambdas", figure="coefficients"),
        residuals=figure("residuals", "Distillation", "residuals", figure="residuals"),
    log:
        f"{LOGS}/coefficients.log",
    localrule: True
    conda:
        ENV
    params:
        cells=[BENCH.facts(each) for each in BENCH.distilled()],
        code=BENCH.code("coefficients.py"),
    message:
        "Drawing the fitted coefficients"
    script:
        "../scripts/coefficients.py"


rule sample_grid:
    input:
        lambda wildcards: BENCH.files("ends.npy", BENCH.shown(wildcards.dataset)),
    output:
        figure("samples-{dataset}", "Samples", "samples", dataset="{dataset}"),
    log:
        f"{LOGS}/sample_grid/{{dataset}}.log",
    localrule: True
    conda:
        ENV
    params:
        images=16,
        labels=lambda wildcards: [f"{each.entry['label']}, NFE {each.nfe}" for each in BENCH.shown(wildcards.dataset)],
        title="{dataset}",
        code=BENCH.code("sample_grid.py"),
    message:
        "Drawing samples of {wildcards.dataset} side by side"
    script:
        "../scripts/sample_grid.py"


rule real_images:
    input:
        lambda wildcards: BENCH.sources[wildcards.data].files,
    output:
        figure("real-{data}", "Samples", "real", dataset="{data} (real)"),
    log:
        f"{LOGS}/real_images/{{data}}.log",
    localrule: True
    conda:
        ENV
    params:
        images=lambda wildcards: BENCH.sources[wildcards.data].params,
        shown=100,
        title="{data}",
        code=BENCH.code("real_images.py"),
    message:
        "Drawing real images of {wildcards.data}"
    script:
        "../scripts/real_images.py"


# Snakemake's own report of everything above, the record of how it was made. It is made by a second Snakemake that is given
# these files as its targets, so that a plain `snakemake` ends in it and a killed run resumes before it.
rule workflow_report:
    input:
        rules.tables.output,
        rules.curves.output,
        rules.coefficients.output if BENCH.distilled() else [],
        expand(rules.sample_grid.output, dataset=BENCH.datasets),
        expand(rules.real_images.output, data=BENCH.sources),
    output:
        f"{RESULTS}/report.html",
    log:
        f"{LOGS}/workflow_report.log",
    localrule: True
    conda:
        ENV
    params:
        snakefile=os.path.relpath(Path(workflow.basedir) / "Snakefile"),
        config=CONFIGURATION,
        captions=[path.read_text() for path in sorted((Path(workflow.basedir) / "report").glob("*.rst"))],
        code=BENCH.code("workflow_report.py"),
    message:
        "Writing Snakemake's report {output}"
    script:
        "../scripts/workflow_report.py"


# Thumbnails of the cells of one dataset, or a part of them, for the page.
rule thumbnails:
    input:
        ends=lambda wildcards: BENCH.files("ends.npy", BENCH.part(wildcards)[0]),
    output:
        f"{RESULTS}/{{dataset}}/collected/{{part}}.thumbnails.json",
    log:
        f"{LOGS}/thumbnails/{{dataset}}/{{part}}.log",
    localrule: True
    conda:
        ENV
    params:
        cells=rules.collect.params.cells,
        most=provenance.share(len(BENCH.cells)),
        code=BENCH.code("thumbnails.py"),
    message:
        "Making thumbnails of {wildcards.dataset}, part {wildcards.part}"
    script:
        "../scripts/thumbnails.py"


rule page:
    input:
        cells=BENCH.collected,
        thumbnails=[path.replace(".json", ".thumbnails.json") for path in BENCH.collected],
        floors=floors,
    output:
        f"{RESULTS}/index.html",
    log:
        f"{LOGS}/page.log",
    localrule: True
    conda:
        ENV
    params:
        cells=lambda wildcards: provenance.cells(BENCH),
        datasets=lambda wildcards: provenance.datasets(BENCH),
        floors_of=rules.tables.params.floors_of,
        config=CONFIGURATION,
        assets=digests.folder_digest(Path(workflow.basedir) / "dode" / "report" / "assets"),
        code=BENCH.code("page.py"),
    message:
        "Writing the page {output}"
    script:
        "../scripts/page.py"
