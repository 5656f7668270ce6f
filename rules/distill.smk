rule distill:
    input:
        unpack(of_cell(BENCH.prepared)),
        unpack(of_cell(BENCH.trajectory)),
        model=of_cell(BENCH.model_file),
    output:
        f"{CELL}/lambdas.json",
    log:
        f"{LOGS}/distill/{names.WILDCARDS}.log",
    benchmark:
        f"{LOGS}/distill/{names.WILDCARDS}.tsv"
    group:
        group("distill")
    conda:
        ENV
    threads: EXECUTION["threads"]
    resources:
        mem_mb=WORK.memory,
        runtime=runtime("distill"),
        gpu=WORK.gpus,
        cpus_per_task=EXECUTION["threads"],
    params:
        run=of_cell(BENCH.fit),
        code=lambda wildcards: BENCH.code("distill.py", *BENCH.fit_solvers(cell(wildcards))),
    message:
        "Fitting lambdas for {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"
    script:
        "../scripts/distill.py"
