# What a solver is registered to need: the model's statistics, a small network, another network in its place.
rule prepare:
    input:
        unpack(of_cell(FILES.running)),
        unpack(of_cell(FILES.prepared_on)),
        model=of_cell(FILES.model),
    output:
        f"{CELL}/prepared/{{prepared}}.safetensors",
    log:
        f"{LOGS}/prepare/{names.WILDCARDS}/{{prepared}}.log",
    wildcard_constraints:
        prepared="[^/]+",
    group:
        group("prepare")
    conda:
        ENV
    threads: EXECUTION["threads"]
    resources:
        mem_mb=WORK.memory,
        runtime=runtime("prepare"),
        gpu=WORK.gpus,
        cpus_per_task=EXECUTION["threads"],
    params:
        cell=params_of(DEPENDS.trajectory),
        code=of_cell(DEPENDS.preparation_code),
    message:
        "Preparing {wildcards.prepared} for {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"
    script:
        "../scripts/prepare.py"
