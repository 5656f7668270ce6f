# In resources/checkpoints a file is as it was published; jobs read safetensors, and nothing else that could hold code.
rule convert_checkpoint:
    input:
        lambda wildcards: FILES.fetched(wildcards.card),
    output:
        "resources/models/{card}.safetensors",
    log:
        f"{LOGS}/convert_checkpoint/{{card}}.log",
    conda:
        ENV
    resources:
        mem_mb=WORK.memory,
        runtime=WORK.walltime,
    params:
        reading=lambda wildcards: DEPENDS.reading(wildcards.card),
        code=lambda wildcards: DEPENDS.code("convert.py"),
    message:
        "Reading checkpoint {wildcards.card}"
    script:
        "../scripts/convert.py"


rule fetch_checkpoint:
    output:
        "resources/checkpoints/{card}/{file}",
    log:
        f"{LOGS}/fetch_checkpoint/{{card}}/{{file}}.log",
    localrule: EXECUTION["downloads"] == "here"
    conda:
        ENV
    resources:
        mem_mb=WORK.memory,
        runtime=WORK.walltime,
    params:
        sha256=lambda wildcards: DEPENDS.expected(wildcards.card),
    message:
        "Fetching and verifying checkpoint {wildcards.card}"
    script:
        "../scripts/fetch.py"
