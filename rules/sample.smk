rule sample:
    input:
        unpack(prepared),
        unpack(lambdas),
        model=model,
    output:
        images=temp(f"{CELL}/shards/{{shard}}-of-{{shards}}.npy"),
        ends=temp(f"{CELL}/shards/{{shard}}-of-{{shards}}.ends.npy"),
    log:
        f"{LOGS}/sample/{{dataset}}/{{solver}}/nfe{{nfe}}/{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{LOGS}/sample/{{dataset}}/{{solver}}/nfe{{nfe}}/{{shard}}-of-{{shards}}.tsv"
    conda:
        ENV
    threads: EXECUTION["threads"]
    resources:
        mem_mb=1000,
        runtime=120,
    params:
        run=lambda wildcards: BENCH.samples(cell(wildcards)),
        code=lambda wildcards: BENCH.code("sample.py", cell(wildcards).entry["solver"]),
    message:
        "Sampling {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}, shard {wildcards.shard} of {wildcards.shards}"
    script:
        "../scripts/sample.py"


# The samples of a cell are one file whatever the number of shards, and its parameters are theirs: another number of
# shards leaves finished cells alone.
rule gather:
    input:
        images=shards_of(""),
        ends=shards_of(".ends"),
    output:
        images=f"{CELL}/samples.npy",
        ends=f"{CELL}/ends.npy",
    log:
        f"{LOGS}/gather/{{dataset}}/{{solver}}/nfe{{nfe}}.log",
    conda:
        ENV
    resources:
        mem_mb=600,
        runtime=30,
    params:
        run=rules.sample.params.run,
        code=rules.sample.params.code,
    message:
        "Gathering the samples of {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"
    script:
        "../scripts/gather.py"
