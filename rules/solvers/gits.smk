# The grid `searched`: levels chosen for the cell's model and number of steps (dode/search.py).
rule search_grid:
    input:
        unpack(lambda wildcards: BENCH.classifier(cell(wildcards))),
        model=model,
    output:
        f"{CELL}/prepared/searched.json",
    log:
        f"{LOGS}/search_grid/{{dataset}}/{{solver}}/nfe{{nfe}}.log",
    conda:
        f"../{ENV}"
    threads: EXECUTION["threads"]
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        run=lambda wildcards: BENCH.run(cell(wildcards)),
        search=lambda wildcards: BENCH.grid_options(cell(wildcards)),
        code=lambda wildcards: BENCH.code(
            "search_grid.py", cell(wildcards).entry["solver"], BENCH.grid_options(cell(wildcards))["teacher"]
        ),
    message:
        "Searching a grid for {wildcards.dataset}, {wildcards.solver}, NFE {wildcards.nfe}"
    script:
        "../../scripts/search_grid.py"
