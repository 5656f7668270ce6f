# The precision that the networks of cells run in, where it is measured: docs/architecture.md says what is chosen by what.
rule precision:
    input:
        unpack(lambda wildcards: FILES.guiding(BENCH.reference(wildcards.dataset))),
        model=lambda wildcards: FILES.model(BENCH.reference(wildcards.dataset)),
        features=lambda wildcards: FILES.features(wildcards.dataset),
    output:
        table=f"{RESULTS}/{{dataset}}/precision/{{part}}/table.json",
        choice=f"{RESULTS}/{{dataset}}/precision/{{part}}/choice.json",
    log:
        f"{LOGS}/precision/{{dataset}}/{{part}}.log",
    wildcard_constraints:
        part="fine|nfe[0-9]+",
    conda:
        ENV
    threads: EXECUTION["threads"]
    resources:
        mem_mb=WORK.memory,
        runtime=lambda wildcards, attempt: WORK.measuring_runtime(wildcards.dataset, wildcards.part, attempt),
        gpu=WORK.gpus,
        cpus_per_task=EXECUTION["threads"],
    params:
        measured=lambda wildcards: DEPENDS.precision(wildcards.dataset, wildcards.part),
        code=lambda wildcards: DEPENDS.precision_code(wildcards.dataset, wildcards.part),
    message:
        "Measuring which precision suffices for {wildcards.dataset}, {wildcards.part}"
    script:
        "../scripts/precision.py"
