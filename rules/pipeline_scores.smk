# The scores of a pipeline's cell: those that every cell has, of which the trajectory's are of latents, and its own.
use rule score as score_images with:
    input:
        features=lambda wildcards: FILES.features(wildcards.dataset),
        real=real_of,
        reference=rules.reference_statistics.output[0],
        reference_ends=lambda wildcards: FILES.of_cell(BENCH.reference(wildcards.dataset), "latent-ends.npy"),
        images=rules.decode.output.images,
        ends=rules.gather_latents.output.ends,
        environments=rules.gather_latents.output.environments,
    output:
        f"{CELL}/image-scores.json",
    log:
        f"{LOGS}/score_images/{names.WILDCARDS}.log",
    wildcard_constraints:
        dataset=f"(?!({WITHOUT_FEATURES})/)({IN_LATENTS})",
    message:
        "Scoring the images of {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"


# The same without features, which leaves those of the trajectory.
rule score_ends:
    input:
        reference_ends=rules.score_images.input.reference_ends,
        ends=rules.gather_latents.output.ends,
        environments=rules.gather_latents.output.environments,
    output:
        f"{CELL}/image-scores.json",
    log:
        f"{LOGS}/score_ends/{names.WILDCARDS}.log",
    wildcard_constraints:
        dataset=WITHOUT_FEATURES,
    group:
        group("score")
    conda:
        ENV
    resources:
        mem_mb=WORK.memory,
        runtime=WORK.walltime,
    params:
        scoring=lambda wildcards: DEPENDS.score(wildcards.dataset),
        seeds=lambda wildcards: cell(wildcards).dataset["seeds"],
        code=lambda wildcards: DEPENDS.score_code(wildcards.dataset),
    message:
        "Scoring the ends of {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"
    script:
        "../scripts/score_ends.py"


rule prompt_score:
    input:
        model=lambda wildcards: FILES.checkpoint(wildcards.card),
        images=rules.decode.output.images,
    output:
        f"{CELL}/prompt-scores/{{card}}.json",
    log:
        f"{LOGS}/prompt_score/{names.WILDCARDS}/{{card}}.log",
    wildcard_constraints:
        dataset=IN_LATENTS,
    group:
        group("prompt_score")
    conda:
        ENV
    threads: EXECUTION["threads"]
    resources:
        mem_mb=WORK.memory,
        runtime=runtime("prompt_score"),
        gpu=WORK.gpus,
        cpus_per_task=EXECUTION["threads"],
    params:
        scoring=lambda wildcards: DEPENDS.prompt_score(wildcards.dataset, wildcards.card),
        seeds=lambda wildcards: cell(wildcards).dataset["seeds"],
        code=lambda wildcards: DEPENDS.prompt_score_code(wildcards.card),
    message:
        "Scoring {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe} by {wildcards.card}"
    script:
        "../scripts/prompt_score.py"


rule score_pipeline:
    input:
        prompt_scores=of_cell(FILES.prompt_scores),
        scores=rules.score_images.output[0],
        reference_ends=lambda wildcards: FILES.of_cell(BENCH.reference(wildcards.dataset), "ends.npy"),
        ends=rules.decode.output.ends,
    output:
        f"{CELL}/score.json",
    log:
        f"{LOGS}/score_pipeline/{names.WILDCARDS}.log",
    wildcard_constraints:
        dataset=IN_LATENTS,
    group:
        group("score_pipeline")
    conda:
        ENV
    resources:
        mem_mb=WORK.memory,
        runtime=runtime("score_pipeline"),
    params:
        seeds=lambda wildcards: cell(wildcards).dataset["seeds"],
        code=lambda wildcards: DEPENDS.decoded_code(wildcards.dataset),
    message:
        "Completing the scores of {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"
    script:
        "../scripts/score_pipeline.py"
