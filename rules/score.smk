rule real_statistics:
    input:
        lambda wildcards: BENCH.sources[wildcards.data].files,
        features=lambda wildcards: BENCH.checkpoint(wildcards.features),
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
        code=lambda wildcards: BENCH.code("real.py"),
    message:
        "Statistics of the real images {wildcards.data} under {wildcards.features}"
    script:
        "../scripts/real.py"


rule published_statistics:
    input:
        statistics=lambda wildcards: BENCH.checkpoint(BENCH.datasets[wildcards.dataset]["statistics"]),
        features=lambda wildcards: BENCH.features_file(wildcards.dataset),
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
        card=lambda wildcards: BENCH.features_card(wildcards.dataset),
        statistics=lambda wildcards: BENCH.statistics_of(wildcards.dataset),
        image_shape=lambda wildcards: BENCH.image_shape(wildcards.dataset),
        code=lambda wildcards: BENCH.code("published_statistics.py"),
    message:
        "Published statistics of {wildcards.dataset}"
    script:
        "../scripts/published_statistics.py"


rule reference_statistics:
    input:
        features=lambda wildcards: BENCH.features_file(wildcards.dataset),
        images=lambda wildcards: BENCH.files("samples.npy", [BENCH.reference(wildcards.dataset)])[0],
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
        card=lambda wildcards: BENCH.features_card(wildcards.dataset),
        seeds=lambda wildcards: BENCH.datasets[wildcards.dataset]["seeds"],
        code=lambda wildcards: BENCH.code("statistics.py"),
    message:
        "Statistics of the fine-step samples of {wildcards.dataset}"
    script:
        "../scripts/statistics.py"


rule score:
    input:
        unpack(fine_statistics),
        features=lambda wildcards: BENCH.features_file(wildcards.dataset),
        real=real_of,
        reference_ends=lambda wildcards: BENCH.files("ends.npy", [BENCH.reference(wildcards.dataset)])[0],
        images=rules.gather.output.images,
        ends=rules.gather.output.ends,
        environments=rules.gather.output.environments,
    output:
        f"{CELL}/score.json",
    log:
        f"{LOGS}/score/{names.WILDCARDS}.log",
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
        card=lambda wildcards: BENCH.features_card(wildcards.dataset),
        seeds=lambda wildcards: cell(wildcards).dataset["seeds"],
        real=lambda wildcards: BENCH.scored_against(wildcards.dataset),
        kid=BENCH.config["kid"],
        neighbours=BENCH.config["neighbours"],
        code=lambda wildcards: BENCH.code("score.py"),
    message:
        "Scoring {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"
    script:
        "../scripts/score.py"
