# The grid `searched`: levels chosen for the cell's model and number of steps (dode/distillation/search.py).
rule search_grid:
    input:
        unpack(of_cell(FILES.running)),
        unpack(of_cell(FILES.searched_on)),
        model=of_cell(FILES.model),
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
        cell=params_of(DEPENDS.trajectory),
        search=lambda wildcards: cell(wildcards).grid_options,
        code=of_cell(DEPENDS.search_code),
    message:
        "Searching a grid for {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"
    script:
        "../../scripts/search_grid.py"
