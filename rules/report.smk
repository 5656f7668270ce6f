from dode.benchmark import digests, facts, figure_cells, provenance
from dode.fetching import places
from dode.metrics.catalogue import METRICS

CONFIGURATION = {key: value for key, value in BENCH.config.items() if key != "execution"}
CONFIGURATION |= FILES.precisions.configuration()


# What tables and figures say of the cells of one dataset, or a part of them.
rule collect:
    input:
        scores=lambda wildcards: FILES.of_cells("score.json", FILES.part(wildcards)[0]),
        fits=lambda wildcards: FILES.of_cells("lambdas.json", FILES.part(wildcards)[1]),
        prepared=lambda wildcards: list(FILES.prepared_of_part(wildcards).values()),
    output:
        f"{RESULTS}/{{dataset}}/collected/{{part}}.json",
    log:
        f"{LOGS}/collect/{{dataset}}/{{part}}.log",
    localrule: True
    conda:
        ENV
    params:
        cells=lambda wildcards: [str(each) for each in FILES.part(wildcards)[0]],
        fitted=lambda wildcards: [str(each) for each in FILES.part(wildcards)[1]],
        prepared=lambda wildcards: list(FILES.prepared_of_part(wildcards)),
        code=lambda wildcards: DEPENDS.code("collect.py"),
    message:
        "Collecting the scores of {wildcards.dataset}, part {wildcards.part}"
    script:
        "../scripts/collect.py"


ELSEWHERE = [elsewhere.place(RESULTS, number) for number, _ in enumerate(BENCH.config["archives"], 1)]


# The first is the one that says which solver to take.
SHOWN = figure_cells.curves(BENCH)
DRAWN = {name: METRICS[name] for name in SHOWN}
LINES = "Plain solvers are dashed, distilled ones solid; bars are the errors given in the table."
if ELSEWHERE:
    LINES += " What is marked \u2020 was measured elsewhere; the table says by whom."


rule tables:
    input:
        cells=FILES.collected(),
        elsewhere=ELSEWHERE,
        halves=halves,
    output:
        csv=report(f"{RESULTS}/table.csv", category="Tables", caption="../report/table.rst", labels={"table": "CSV"}),
        md=f"{RESULTS}/table.md",
        tex=f"{RESULTS}/table.tex",
        provenance=f"{RESULTS}/provenance.json",
    log:
        f"{LOGS}/tables.log",
    localrule: True
    conda:
        ENV
    params:
        cells=[FACTS.of_cell(each) for each in BENCH.cells.values()],
        real=[FACTS.real_text(each.dataset["id"]) for each in BENCH.cells.values()],
        published=lambda wildcards: [FACTS.published_fids(each) for each in BENCH.cells.values()],
        incomparable=lambda wildcards: FACTS.incomparable(),
        halves_of=[dataset["id"] for dataset in BENCH.with_data()],
        title=BENCH.config["benchmark"],
        provenance=lambda wildcards: provenance.names(BENCH),
        code=lambda wildcards: DEPENDS.code("tables.py"),
    message:
        "Writing the tables"
    script:
        "../scripts/tables.py"


rule curves:
    input:
        cells=FILES.collected(),
        elsewhere=ELSEWHERE,
        halves=halves,
    output:
        [figure(name, "Curves", name, metric=metric.name) for name, metric in DRAWN.items()],
    log:
        f"{LOGS}/curves.log",
    localrule: True
    conda:
        ENV
    params:
        metrics=list(DRAWN),
        captions={
            name: f"{metric.name} against the number of network evaluations (NFE). {metric.description} {LINES}"
            for name, metric in DRAWN.items()
        },
        cells=rules.tables.params.cells,
        halves_of=[dataset["id"] for dataset in BENCH.with_data()],
        code=lambda wildcards: DEPENDS.code("curves.py"),
    message:
        "Drawing scores against NFE"
    script:
        "../scripts/curves.py"


rule coefficients:
    input:
        FILES.collected(),
    output:
        lambdas=figure("lambdas", "Distillation", "lambdas", figure="coefficients"),
        residuals=figure("residuals", "Distillation", "residuals", figure="residuals"),
    log:
        f"{LOGS}/coefficients.log",
    localrule: True
    conda:
        ENV
    params:
        cells=[FACTS.of_cell(each) for each in BENCH.stepwise()],
        code=lambda wildcards: DEPENDS.code("coefficients.py"),
    message:
        "Drawing the fitted coefficients"
    script:
        "../scripts/coefficients.py"


rule joint_fits:
    input:
        FILES.collected(),
    output:
        levels=figure("levels", "Distillation", "levels", figure="noise levels"),
        weights=figure("weights", "Distillation", "weights", figure="weights"),
    log:
        f"{LOGS}/joint_fits.log",
    localrule: True
    conda:
        ENV
    params:
        cells=[FACTS.of_cell(each) for each in BENCH.joint()],
        code=lambda wildcards: DEPENDS.code("joint_fits.py"),
    message:
        "Drawing the joint fits"
    script:
        "../scripts/joint_fits.py"


rule sample_grid:
    input:
        lambda wildcards: FILES.of_cells("ends.npy", FACTS.shown(wildcards.dataset)),
    output:
        figure("samples-{dataset}", "Samples", "samples", dataset="{dataset}"),
    log:
        f"{LOGS}/sample_grid/{{dataset}}.log",
    localrule: True
    conda:
        ENV
    params:
        images=16,
        labels=lambda wildcards: [f"{each.entry['label']}, NFE {each.nfe}" for each in FACTS.shown(wildcards.dataset)],
        title="{dataset}",
        code=lambda wildcards: DEPENDS.code("sample_grid.py"),
    message:
        "Drawing samples of {wildcards.dataset} side by side"
    script:
        "../scripts/sample_grid.py"


rule real_images:
    input:
        lambda wildcards: BENCH.sources[wildcards.data].files,
    output:
        figure(
            "real-{data}", "Samples", "real", lambda wildcards: {"dataset": f"{BENCH.sources[wildcards.data]} (real)"}
        ),
    log:
        f"{LOGS}/real_images/{{data}}.log",
    localrule: True
    conda:
        ENV
    params:
        images=lambda wildcards: BENCH.sources[wildcards.data].params,
        shown=100,
        title=lambda wildcards: str(BENCH.sources[wildcards.data]),
        code=lambda wildcards: DEPENDS.code("real_images.py"),
    message:
        "Drawing real images of {wildcards.data}"
    script:
        "../scripts/real_images.py"


# Where one panel of all solvers is crowded: a panel for each method.
rule families:
    input:
        cells=lambda wildcards: FILES.collected(wildcards.dataset),
        elsewhere=ELSEWHERE,
    output:
        figure(
            "{metric}-{dataset}",
            "Curves",
            "families",
            lambda wildcards: {"metric": METRICS[wildcards.metric].name, "dataset": wildcards.dataset},
        ),
    log:
        f"{LOGS}/families/{{metric}}-{{dataset}}.log",
    wildcard_constraints:
        metric="|".join(SHOWN[:2]),
    localrule: True
    conda:
        ENV
    params:
        name=lambda wildcards: METRICS[wildcards.metric].name,
        lines=LINES,
        cells=lambda wildcards: [FACTS.of_cell(each) for each in BENCH.cells_of(wildcards.dataset)],
        solvers=figure_cells.solvers(BENCH),
        code=lambda wildcards: DEPENDS.code("families.py"),
    message:
        "Drawing {params.name} on {wildcards.dataset}, a panel for each method"
    script:
        "../scripts/families.py"


rule trajectories:
    input:
        cells=lambda wildcards: FILES.of_cells("states.npy", figure_cells.followed(BENCH, wildcards.dataset)),
        reference=lambda wildcards: FILES.of_cell(BENCH.reference(wildcards.dataset), "states.npy"),
    output:
        figure("trajectories-{dataset}", "Trajectories", "trajectories", dataset="{dataset}"),
    log:
        f"{LOGS}/trajectories/{{dataset}}.log",
    localrule: True
    conda:
        ENV
    params:
        cells=lambda wildcards: [FACTS.of_cell(each) for each in figure_cells.followed(BENCH, wildcards.dataset)],
        solvers=figure_cells.solvers(BENCH),
        title="{dataset}",
        code=lambda wildcards: DEPENDS.code("trajectories.py"),
    message:
        "Drawing trajectories of {wildcards.dataset}"
    script:
        "../scripts/trajectories.py"


SWEEPS = figure_cells.sweeps(BENCH)


rule ablations:
    input:
        FILES.collected(),
    output:
        figure("ablations", "Distillation", "ablations", figure="ablations"),
    log:
        f"{LOGS}/ablations.log",
    localrule: True
    conda:
        ENV
    params:
        sweeps=SWEEPS,
        metric=SHOWN[0],
        name=METRICS[SHOWN[0]].name,
        cells=[FACTS.of_cell(each) for each in BENCH.fitted()],
        solvers=figure_cells.solvers(BENCH),
        code=lambda wildcards: DEPENDS.code("ablations.py"),
    message:
        "Drawing what the fit depends on"
    script:
        "../scripts/ablations.py"


rule costs:
    input:
        FILES.collected(),
    output:
        csv=report(
            f"{RESULTS}/costs.csv", category="Tables", caption="../report/costs.rst", labels={"table": "costs, CSV"}
        ),
        md=f"{RESULTS}/costs.md",
        costs=figure("costs", "Distillation", "costs", figure="costs"),
        gains=figure("gains", "Distillation", "gains", figure="gains"),
    log:
        f"{LOGS}/costs.log",
    localrule: True
    conda:
        ENV
    params:
        title=BENCH.config["benchmark"],
        cells=lambda wildcards: figure_cells.costs(BENCH, WORK, LOGS),
        published=FACTS.published_costs,
        solvers=figure_cells.solvers(BENCH),
        code=lambda wildcards: DEPENDS.code("costs.py"),
    message:
        "Reporting what was learnt and what it took"
    script:
        "../scripts/costs.py"


rule figures:
    input:
        rules.curves.output,
        rules.coefficients.output if BENCH.stepwise() else [],
        rules.joint_fits.output if BENCH.joint() else [],
        rules.costs.output if BENCH.distilled() else [],
        rules.ablations.output if SWEEPS else [],
        [expand(rules.families.output, metric=name, dataset=own) for name, own in figure_cells.panels(BENCH)],
        expand(rules.trajectories.output, dataset=BENCH.datasets),
        expand(rules.sample_grid.output, dataset=BENCH.datasets),
        expand(rules.real_images.output, data=BENCH.sources),
    localrule: True


# Snakemake's own report of everything above, the record of how it was made. It is made by a second Snakemake that is given
# these files as its targets, so that a plain `snakemake` ends in it and a killed run resumes before it.
rule workflow_report:
    input:
        rules.tables.output,
        rules.figures.input,
    output:
        f"{RESULTS}/report.html",
    log:
        f"{LOGS}/workflow_report.log",
    localrule: True
    conda:
        ENV
    params:
        config=CONFIGURATION,
        captions=digests.folder_digest(ROOT / "report"),
        code=lambda wildcards: DEPENDS.code("workflow_report.py"),
    message:
        "Writing Snakemake's report {output}"
    script:
        "../scripts/workflow_report.py"


# Thumbnails of the cells of one dataset, or a part of them, for the page.
rule thumbnails:
    input:
        ends=lambda wildcards: FILES.of_cells("ends.npy", FILES.part(wildcards)[0]),
        states=lambda wildcards: FILES.of_cells("states.npy", FILES.part(wildcards)[0]),
        fine=lambda wildcards: FILES.of_cell(BENCH.reference(wildcards.dataset), "states.npy"),
    output:
        f"{RESULTS}/{{dataset}}/collected/{{part}}.thumbnails.json",
    log:
        f"{LOGS}/thumbnails/{{dataset}}/{{part}}.log",
    localrule: True
    conda:
        ENV
    params:
        cells=rules.collect.params.cells,
        most=facts.share(len(BENCH.cells)),
        code=lambda wildcards: DEPENDS.code("thumbnails.py"),
    message:
        "Making thumbnails of {wildcards.dataset}, part {wildcards.part}"
    script:
        "../scripts/thumbnails.py"


rule page:
    input:
        cells=FILES.collected(),
        thumbnails=[path.replace(".json", ".thumbnails.json") for path in FILES.collected()],
        elsewhere=ELSEWHERE,
        halves=halves,
        provenance=rules.tables.output.provenance,
        precisions=FILES.precisions.tables(),
        costs=[rules.costs.output.csv] if BENCH.distilled() else [],
    output:
        page=f"{RESULTS}/index.html",
        facts=f"{RESULTS}/facts.json",
    log:
        f"{LOGS}/page.log",
    localrule: True
    conda:
        ENV
    params:
        cells=lambda wildcards: FACTS.cells(),
        datasets=lambda wildcards: FACTS.datasets(),
        halves_of=rules.tables.params.halves_of,
        config=CONFIGURATION,
        assets=digests.folder_digest(places.PACKAGE / "report" / "page" / "assets"),
        sources=lambda wildcards: FACTS.sources(),  # that the page cites, which no digest of code has
        code=lambda wildcards: DEPENDS.code("page.py"),
    message:
        "Writing the page {output.page}"
    script:
        "../scripts/page.py"
