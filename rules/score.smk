rule real_statistics:
    input:
        lambda wildcards: BENCH.sources[wildcards.data].files,
        features=lambda wildcards: FILES.checkpoint(wildcards.features),
    output:
        statistics=f"{RESULTS}/real/{{data}}/{{features}}.npz",
        halves=f"{RESULTS}/real/{{data}}/{{features}}.json",
    log:
        f"{LOGS}/real_statistics/{{data}}/{{features}}.log",
    conda:
        ENV
    threads: EXECUTION["threads"]
    resources:
        mem_mb=WORK.memory,
        runtime=WORK.walltime,
        gpu=WORK.gpus,
        cpus_per_task=EXECUTION["threads"],
    params:
        images=lambda wildcards: BENCH.sources[wildcards.data].params,
        card=lambda wildcards: computed(BENCH.cards[wildcards.features]),
        kid=BENCH.config["kid"],
        halvings=5,
        code=lambda wildcards: DEPENDS.features_code("real.py", wildcards.features),
    message:
        "Statistics of the real images {wildcards.data} under {wildcards.features}"
    script:
        "../scripts/real.py"


rule published_statistics:
    input:
        statistics=lambda wildcards: FILES.checkpoint(BENCH.datasets[wildcards.dataset]["statistics"]),
        features=lambda wildcards: FILES.features(wildcards.dataset),
    output:
        f"{RESULTS}/{{dataset}}/published-statistics.npz",
    log:
        f"{LOGS}/published_statistics/{{dataset}}.log",
    conda:
        ENV
    threads: EXECUTION["threads"]
    resources:
        mem_mb=WORK.memory,
        runtime=WORK.walltime,
        gpu=WORK.gpus,
        cpus_per_task=EXECUTION["threads"],
    params:
        card=lambda wildcards: DEPENDS.features(wildcards.dataset),
        statistics=lambda wildcards: DEPENDS.statistics(wildcards.dataset),
        image_shape=lambda wildcards: BENCH.image_shape(wildcards.dataset),
        code=lambda wildcards: DEPENDS.features_code("published_statistics.py", features_of(wildcards)),
    message:
        "Published statistics of {wildcards.dataset}"
    script:
        "../scripts/published_statistics.py"


rule reference_statistics:
    input:
        features=lambda wildcards: FILES.features(wildcards.dataset),
        images=lambda wildcards: FILES.of_cell(BENCH.reference(wildcards.dataset), "samples.npy"),
    output:
        f"{RESULTS}/{{dataset}}/reference-statistics.npz",
    log:
        f"{LOGS}/reference_statistics/{{dataset}}.log",
    conda:
        ENV
    threads: EXECUTION["threads"]
    resources:
        mem_mb=WORK.memory,
        runtime=WORK.walltime,
        gpu=WORK.gpus,
        cpus_per_task=EXECUTION["threads"],
    params:
        card=lambda wildcards: DEPENDS.features(wildcards.dataset),
        seeds=lambda wildcards: BENCH.datasets[wildcards.dataset]["seeds"],
        code=lambda wildcards: DEPENDS.features_code("statistics.py", features_of(wildcards)),
    message:
        "Statistics of the fine-step samples of {wildcards.dataset}"
    script:
        "../scripts/statistics.py"


rule score:
    input:
        features=lambda wildcards: FILES.features(wildcards.dataset),
        real=real_of,
        reference=rules.reference_statistics.output[0],
        reference_ends=lambda wildcards: FILES.of_cell(BENCH.reference(wildcards.dataset), "ends.npy"),
        images=rules.gather.output.images,
        ends=rules.gather.output.ends,
        environments=rules.gather.output.environments,
    output:
        f"{CELL}/score.json",
    log:
        f"{LOGS}/score/{names.WILDCARDS}.log",
    wildcard_constraints:
        dataset=IN_PIXELS,
    group:
        group("score")
    conda:
        ENV
    threads: EXECUTION["threads"]
    resources:
        mem_mb=WORK.memory,
        runtime=runtime("score"),
        gpu=WORK.gpus,
        cpus_per_task=EXECUTION["threads"],
    params:
        scoring=lambda wildcards: DEPENDS.score(wildcards.dataset),
        seeds=lambda wildcards: cell(wildcards).dataset["seeds"],
        code=lambda wildcards: DEPENDS.features_code("score.py", features_of(wildcards)),
    message:
        "Scoring {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"
    script:
        "../scripts/score.py"
