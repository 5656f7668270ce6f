# What of an archive can stand beside this benchmark's own cells. The archive is known by its checksum, wherever it lies.
rule elsewhere:
    input:
        archive=lambda wildcards: BENCH.config["archives"][int(wildcards.archive) - 1]["file"],
        precisions=list(elsewhere.choices(BENCH).values()),
        manifests=list(elsewhere.manifests(BENCH).values()),
    output:
        f"{RESULTS}/elsewhere/{{archive}}.json",
    log:
        f"{LOGS}/elsewhere/{{archive}}.log",
    wildcard_constraints:
        archive="[1-9][0-9]*",
    localrule: True
    conda:
        ENV
    params:
        sha256=lambda wildcards: BENCH.config["archives"][int(wildcards.archive) - 1]["sha256"],
        solvers=lambda wildcards: BENCH.config["archives"][int(wildcards.archive) - 1].get("solvers"),
        measured=list(elsewhere.choices(BENCH)),
        pipelines=list(elsewhere.manifests(BENCH)),
        record=lambda wildcards: elsewhere.record(BENCH),
        code=lambda wildcards: DEPENDS.code("elsewhere.py"),
    message:
        "Comparing the cells of archive {wildcards.archive} with these"
    script:
        "../scripts/elsewhere.py"
