rule distill:
    input:
        unpack(prepared),
        unpack(trajectory),
        model=model,
    output:
        f"{CELL}/lambdas.json",
    log:
        f"{LOGS}/distill/{{dataset}}/{{solver}}/nfe{{nfe}}.log",
    conda:
        ENV
    threads: EXECUTION["threads"]
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        run=lambda wildcards: BENCH.fit(cell(wildcards)),
        code=lambda wildcards: BENCH.code("distill.py", *BENCH.fit_solvers(cell(wildcards))),
    message:
        "Fitting lambdas for {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"
    script:
        "../scripts/distill.py"
