rule teacher:
    input:
        unpack(of_cell(FILES.prepared)),
        unpack(of_cell(FILES.fitted_on)),
        model=of_cell(FILES.model),
    output:
        f"{CELL}/teacher.safetensors",
    log:
        f"{LOGS}/teacher/{names.WILDCARDS}.log",
    group:
        group("teacher")
    conda:
        ENV
    threads: EXECUTION["threads"]
    resources:
        mem_mb=WORK.memory,
        runtime=runtime("teacher"),
        gpu=WORK.gpus,
        cpus_per_task=EXECUTION["threads"],
    params:
        cell=params_of(DEPENDS.trajectory),
        teacher=params_of(DEPENDS.teacher),
        code=of_cell(DEPENDS.teacher_code),
    message:
        "Teacher trajectory for {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"
    script:
        "../scripts/teacher.py"
