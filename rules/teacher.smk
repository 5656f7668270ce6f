rule teacher:
    input:
        unpack(of_cell(BENCH.prepared)),
        model=of_cell(BENCH.model_file),
    output:
        f"{CELL}/teacher.safetensors",
    log:
        f"{LOGS}/teacher/{names.WILDCARDS}.log",
    benchmark:
        f"{LOGS}/teacher/{names.WILDCARDS}.tsv"
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
        run=of_cell(BENCH.teacher),
        code=lambda wildcards: BENCH.code(
            "teacher.py", cell(wildcards).entry["solver"], BENCH.teacher_solver(cell(wildcards))
        ),
    message:
        "Teacher trajectory for {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"
    script:
        "../scripts/teacher.py"
