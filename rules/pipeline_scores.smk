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
        dataset=IN_LATENTS,
    message:
        "Scoring the images of {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"


rule score_pipeline:
    input:
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
        group("score")
    conda:
        ENV
    resources:
        mem_mb=WORK.memory,
        runtime=runtime("score"),
    params:
        seeds=lambda wildcards: cell(wildcards).dataset["seeds"],
        code=lambda wildcards: DEPENDS.code("score_pipeline.py"),
    message:
        "Completing the scores of {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"
    script:
        "../scripts/score_pipeline.py"
