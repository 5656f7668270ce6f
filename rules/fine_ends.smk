# The end states of a dataset's fine solution on fitting images, which all cells that are jointly fitted on these share.
rule fine_ends:
    input:
        unpack(lambda wildcards: FILES.prepared(BENCH.reference(wildcards.dataset))),
        unpack(lambda wildcards: FILES.conditions(BENCH.datasets[wildcards.dataset], "fit", int(wildcards.images))),
        model=lambda wildcards: FILES.model(BENCH.reference(wildcards.dataset)),
    output:
        f"{RESULTS}/{{dataset}}/fine-ends/{{images}}-seed{{seed}}.safetensors",
    log:
        f"{LOGS}/fine_ends/{{dataset}}/{{images}}-seed{{seed}}.log",
    wildcard_constraints:
        images="[0-9]+",
        seed="[0-9]+",
    conda:
        ENV
    threads: EXECUTION["threads"]
    resources:
        mem_mb=WORK.memory,
        runtime=lambda wildcards, attempt: WORK.runtime("fine_ends", first_of(wildcards), attempt),
        gpu=WORK.gpus,
        cpus_per_task=EXECUTION["threads"],
    params:
        cell=lambda wildcards: DEPENDS.trajectory(BENCH.reference(wildcards.dataset)).params(),
        teacher=lambda wildcards: {"images": int(wildcards.images), "seed": int(wildcards.seed)},
        code=lambda wildcards: DEPENDS.fine_ends_code(wildcards.dataset),
    message:
        "Fine solution of {wildcards.images} fitting images of {wildcards.dataset}"
    script:
        "../scripts/fine_ends.py"
