rule teacher:
    input:
        unpack(prepared),
        model=model,
    output:
        f"{CELL}/teacher.safetensors",
    log:
        f"{LOGS}/teacher/{{dataset}}/{{solver}}/nfe{{nfe}}.log",
    conda:
        ENV
    threads: EXECUTION["threads"]
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        run=lambda wildcards: BENCH.teacher(cell(wildcards)),
        code=lambda wildcards: BENCH.code(
            "teacher.py", cell(wildcards).entry["solver"], BENCH.teacher_solver(cell(wildcards))
        ),
    message:
        "Teacher trajectory for {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"
    script:
        "../scripts/teacher.py"
