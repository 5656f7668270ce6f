rule sample:
    input:
        unpack(of_cell(FILES.prepared)),
        unpack(of_cell(FILES.sampled_on)),
        unpack(of_cell(FILES.lambdas)),
        model=of_cell(FILES.model),
    output:
        images=temp(f"{CELL}/shards/{{shard}}-of-{{shards}}.npy"),
        ends=temp(f"{CELL}/shards/{{shard}}-of-{{shards}}.ends.npy"),
        states=temp(f"{CELL}/shards/{{shard}}-of-{{shards}}.states.npy"),
        environment=temp(f"{CELL}/shards/{{shard}}-of-{{shards}}.json"),
    log:
        f"{LOGS}/sample/{names.WILDCARDS}/{{shard}}-of-{{shards}}.log",
    group:
        group("sample")
    conda:
        ENV
    threads: EXECUTION["threads"]
    resources:
        mem_mb=WORK.memory,
        runtime=runtime("sample"),
        gpu=WORK.gpus,
        cpus_per_task=EXECUTION["threads"],
    params:
        cell=params_of(DEPENDS.trajectory),
        samples=params_of(DEPENDS.samples),
        code=lambda wildcards: DEPENDS.cell_code("sample.py", cell(wildcards)),
    message:
        "Sampling {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}, shard {wildcards.shard} of {wildcards.shards}"
    script:
        "../scripts/sample.py"


samples = f"{CELL}/samples.npy"


# The samples of a cell are one file whatever the number of shards, and its parameters are theirs: another number of
# shards leaves finished cells alone.
rule gather:
    input:
        # The shards' records go with the shards; what the samples were made with is known here.
        unpack(of_cell(FILES.precision)),
        unpack(of_cell(FILES.preparations)),
        unpack(of_cell(FILES.lambdas)),
        images=lambda wildcards: WORK.shard_files(cell(wildcards), ".npy"),
        ends=lambda wildcards: WORK.shard_files(cell(wildcards), ".ends.npy"),
        states=lambda wildcards: WORK.shard_files(cell(wildcards), ".states.npy"),
        environments=lambda wildcards: WORK.shard_files(cell(wildcards), ".json"),
    output:
        images=samples if EXECUTION["keep_samples"] else temp(samples),
        ends=f"{CELL}/ends.npy",
        states=f"{CELL}/states.npy",
        environments=f"{CELL}/environments.json",
    log:
        f"{LOGS}/gather/{names.WILDCARDS}.log",
    wildcard_constraints:
        dataset=IN_PIXELS,
    group:
        group("gather")
    conda:
        ENV
    resources:
        mem_mb=WORK.memory,
        runtime=runtime("gather"),
    params:
        cell=rules.sample.params.cell,
        samples=rules.sample.params.samples,
        code=of_cell(DEPENDS.sampling_code),
        gathering=lambda wildcards: DEPENDS.code("gather.py"),
    message:
        "Gathering the samples of {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"
    script:
        "../scripts/gather.py"
