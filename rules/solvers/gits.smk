# The grid `searched`: levels chosen for the cell's model and number of steps (dode/distillation/search.py).
rule search_grid:
    input:
        unpack(of_cell(BENCH.classifier)),
        model=of_cell(BENCH.model_file),
    output:
        f"{CELL}/prepared/searched.json",
    log:
        f"{LOGS}/search_grid/{names.WILDCARDS}.log",
    group:
        group("search_grid")
    conda:
        f"../{ENV}"
    threads: EXECUTION["threads"]
    resources:
        mem_mb=WORK.memory,
        runtime=runtime("search_grid"),
        gpu=WORK.gpus,
        cpus_per_task=EXECUTION["threads"],
    params:
        run=of_cell(BENCH.run),
        search=of_cell(BENCH.grid_options),
        code=lambda wildcards: BENCH.code(
            "search_grid.py", cell(wildcards).entry["solver"], BENCH.grid_options(cell(wildcards))["teacher"]
        ),
    message:
        "Searching a grid for {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"
    script:
        "../../scripts/search_grid.py"
