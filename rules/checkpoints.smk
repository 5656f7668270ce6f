rule fetch_checkpoint:
    output:
        "resources/checkpoints/{card}/{file}",
    log:
        f"{LOGS}/fetch_checkpoint/{{card}}/{{file}}.log",
    conda:
        ENV
    resources:
        mem_mb=600,
        runtime=60,
    params:
        sha256=lambda wildcards: BENCH.published(wildcards.card),
        root=os.path.relpath(workflow.basedir),
    message:
        "Fetching and verifying checkpoint {wildcards.card}"
    script:
        "../scripts/fetch.py"
