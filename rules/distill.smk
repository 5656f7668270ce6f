rule distill:
    input:
        unpack(of_cell(FILES.prepared)),
        unpack(of_cell(FILES.fitted_on)),
        unpack(of_cell(FILES.teacher)),
        model=of_cell(FILES.model),
    output:
        f"{CELL}/lambdas.json",
    log:
        f"{LOGS}/distill/{names.WILDCARDS}.log",
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
        cell=params_of(DEPENDS.trajectory),
        teacher=params_of(DEPENDS.teacher),
        fit=params_of(DEPENDS.fit),
        code=of_cell(DEPENDS.fit_code),
    message:
        "Fitting lambdas for {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"
    script:
        "../scripts/distill.py"
