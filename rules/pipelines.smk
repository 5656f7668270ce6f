# A pipeline of diffusers is a folder with parts: its text encoders run once for all cells of a dataset, its network in
# the jobs of solvers, which work in latents, and its decoder once for each cell.
rule fetch_pipeline:
    output:
        "resources/pipelines/{card}.json",
    log:
        f"{LOGS}/fetch_pipeline/{{card}}.log",
    localrule: EXECUTION["downloads"] == "here"
    conda:
        ENV
    resources:
        mem_mb=WORK.memory,
        runtime=WORK.walltime,
    params:
        pipeline=lambda wildcards: DEPENDS.pipeline(wildcards.card),
    message:
        "Fetching pipeline {wildcards.card}"
    script:
        "../scripts/fetch_pipeline.py"


use rule fetch_pipeline as fetch_scorer with:
    output:
        "resources/scorers/{card}.json",
    log:
        f"{LOGS}/fetch_scorer/{{card}}.log",
    message:
        "Fetching the scorer {wildcards.card}"


rule encode:
    input:
        model=lambda wildcards: FILES.checkpoint(BENCH.datasets[wildcards.dataset]["model"]),
    output:
        f"{RESULTS}/{{dataset}}/conditions/{{stream}}-{{images}}.safetensors",
    log:
        f"{LOGS}/encode/{{dataset}}/{{stream}}-{{images}}.log",
    wildcard_constraints:
        stream="sample|fit",
        images="[0-9]+",
    conda:
        ENV
    threads: EXECUTION["threads"]
    resources:
        mem_mb=WORK.memory,
        runtime=WORK.walltime,
        gpu=WORK.gpus,
        cpus_per_task=EXECUTION["threads"],
    params:
        encoding=lambda wildcards: DEPENDS.encoding(wildcards.dataset, wildcards.stream, int(wildcards.images)),
        code=lambda wildcards: DEPENDS.pipeline_code("encode.py", wildcards.dataset),
    message:
        "Encoding {wildcards.images} prompts of {wildcards.dataset} ({wildcards.stream})"
    script:
        "../scripts/encode.py"


latents = f"{CELL}/latents.npy"


use rule gather as gather_latents with:
    output:
        images=latents if EXECUTION["keep_samples"] else temp(latents),
        ends=f"{CELL}/latent-ends.npy",
        states=f"{CELL}/states.npy",
        environments=f"{CELL}/environments.json",
    log:
        f"{LOGS}/gather_latents/{names.WILDCARDS}.log",
    wildcard_constraints:
        dataset=IN_LATENTS,
    message:
        "Gathering the latents of {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"


rule decode:
    input:
        model=of_cell(FILES.model),
        images=rules.gather_latents.output.images,
        ends=rules.gather_latents.output.ends,
    output:
        images=samples if EXECUTION["keep_samples"] else temp(samples),
        ends=f"{CELL}/ends.npy",
    log:
        f"{LOGS}/decode/{names.WILDCARDS}.log",
    wildcard_constraints:
        dataset=IN_LATENTS,
    group:
        group("decode")
    conda:
        ENV
    threads: EXECUTION["threads"]
    resources:
        mem_mb=WORK.memory,
        runtime=runtime("decode"),
        gpu=WORK.gpus,
        cpus_per_task=EXECUTION["threads"],
    params:
        decoding=lambda wildcards: DEPENDS.decoding(wildcards.dataset),
        image_shape=lambda wildcards: BENCH.image_shape(wildcards.dataset),
        code=lambda wildcards: DEPENDS.pipeline_code("decode.py", wildcards.dataset),
    message:
        "Decoding the latents of {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"
    script:
        "../scripts/decode.py"
