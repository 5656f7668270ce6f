"""What is made again after a change, and what is not."""

import json
import os
import re

import numpy as np
import pytest
import yaml

from dode.images import trajectories
from workspace import CHANGED

PLAIN, FITTED, HEUN, FINE = "ddim/nfe2", "d-ddim/nfe2", "heun/nfe3", "reference/nfe5"
CELLS = [PLAIN, FITTED, HEUN, FINE]
PAGES = {"page", "workflow_report"}
TABLES = {"tables", "curves"} | PAGES
SCORED = TABLES | {"collect", "coefficients", "costs"}
SHOWN = SCORED | {"sample_grid", "trajectories", "thumbnails"}
FIT = {f"teacher {FITTED}", f"distill {FITTED}"}


def sampled(*cells):
    return {f"{rule} {cell}" for rule in ("sample", "gather") for cell in cells}


def scored(*cells):
    return {f"score {cell}" for cell in cells}


def test_second_run_has_nothing_to_do(workspace):
    before = workspace.contents()
    assert "Nothing to be done" in workspace.snakemake()
    assert workspace.contents() == before


def test_touched_files_rerun_nothing(workspace):
    patterns = [
        "Snakefile",
        "rules/**/*.smk",
        "scripts/*",
        "dode/**/*.py",
        "config/**/*",
        "report/*",
        "envs/*",
        "profiles/*/*",
    ]
    patterns += ["resources/checkpoints/*/*", "results/tiny/digits-edm/**/*", "results/tiny/real/**/*"]
    for pattern in patterns:
        files = list(workspace.folder.glob(pattern))
        assert files, pattern
        for path in files:
            os.utime(path)
    assert workspace.plan() == set()


def test_comment_and_layout_rerun_nothing(workspace):
    for path in ("dode/solvers/heun.py", "dode/sampling.py", "scripts/sample.py", "scripts/page.py"):
        workspace.append(path, "\n\n# A remark.\n")
    assert workspace.plan() == set()


def test_docstrings_rerun_nothing(workspace):
    for path in (
        "dode/solvers/heun.py",
        "dode/report/figures/images.py",
        "dode/metrics/distances.py",
        "scripts/score.py",
    ):
        source = (workspace.folder / path).read_text()
        assert '"""' in source
        (workspace.folder / path).write_text(re.sub('"""', '"""Changed. ', source, count=1))
    assert workspace.plan() == set()


def test_code_of_a_solver_reruns_its_cells_and_what_follows(workspace):
    """The reference and the teacher of d-ddim run Heun, and all scores are held against the reference."""
    workspace.append("dode/solvers/heun.py", CHANGED)
    expected = sampled(HEUN, FINE, FITTED) | FIT | {"reference_statistics"} | scored(*CELLS) | SHOWN
    assert workspace.plan() == expected


def test_code_of_a_solver_leaves_other_solvers_alone(workspace):
    workspace.append("dode/solvers/ddim.py", CHANGED)
    assert workspace.plan() == sampled(PLAIN, FITTED) | FIT | scored(PLAIN, FITTED) | SHOWN


def test_new_solver_file_reruns_nothing(workspace):
    source = (workspace.folder / "dode/solvers/ddim.py").read_text()
    (workspace.folder / "dode/solvers/new.py").write_text(source.replace('@solver("ddim"', '@solver("new"'))
    assert workspace.plan() == set()


def test_code_of_the_figures_reruns_figures_and_pages_alone(workspace):
    workspace.append("dode/report/figures/style.py", CHANGED)
    drawn = {"curves", "coefficients", "costs", "trajectories", "sample_grid", "real_images"}
    assert workspace.plan() == drawn | PAGES


@pytest.mark.parametrize("path", ["page.py", "views.py", "assets/chart.js", "assets/trust.html.j2"])
def test_code_of_the_page_reruns_the_page_alone(workspace, path):
    workspace.append(f"dode/report/page/{path}", CHANGED)
    assert workspace.plan() == {"page"}


def test_code_of_the_metrics_leaves_samples_and_fits_alone(workspace):
    workspace.append("dode/metrics/distances.py", CHANGED)
    assert workspace.plan() == {"real_statistics", "reference_statistics"} | scored(*CELLS) | SCORED


def test_execution_settings_rerun_nothing(plan_after):
    changes = {"batch_size": 7, "shards": 3, "threads": 2, "device": "auto", "channels_last": True, "gpus": 1}
    changes |= {"mem_mb": 700, "evaluations_per_second": 10.0, "keep_samples": False, "runtime": 3, "downloads": "job"}
    assert plan_after({f"execution.{key}": value for key, value in changes.items()}) == set()


def test_order_of_keys_and_written_defaults_rerun_nothing(workspace):
    workspace.config({"solvers[1].distill.alignment": "aligned", "solvers[1].distill.stages": True})
    path = workspace.folder / "config/config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()), sort_keys=True))
    assert workspace.plan() == set()


def test_remarks_in_a_card_and_another_source_rerun_the_page_alone(workspace):
    """Which says where the model is from, and under which licence."""
    path = workspace.folder / "config/models/digits-edm.yaml"
    card = path.read_text().replace("urls:\n", "urls:\n- https://mirror.invalid/digits-edm.safetensors\n")
    path.write_text(re.sub("licence: .*", "licence: Apache-2.0", card))
    assert "mirror.invalid" in path.read_text()
    assert workspace.plan() == {"page"}


def test_new_nfe_runs_its_cell_alone(plan_after):
    expected = sampled("ddim/nfe4") | scored("ddim/nfe4") | SHOWN - {"trajectories"}
    assert plan_after({"solvers[0].nfe": [2, 4]}) == expected


def test_new_solver_entry_runs_its_cell_alone(plan_after):
    entry = {"id": "more", "solver": "heun", "nfe": [7]}
    assert plan_after({"solvers[3]": entry}) == sampled("more/nfe7") | scored("more/nfe7") | SHOWN


SEARCHED = {
    "id": "gits",
    "solver": "ddim",
    "nfe": [3],
    "grid": {"name": "searched", "options": {"candidates": 11, "images": 8}},
    "distill": {"fit": "greedy", "images": 16, "substeps": 3},
}
SEARCH = "gits/nfe3"
FITTED_SEARCH = {f"search_grid {SEARCH}", f"teacher {SEARCH}", f"distill {SEARCH}"} | sampled(SEARCH) | scored(SEARCH)


def test_a_searched_grid_is_prepared_for_its_cell_alone(workspace):
    """Added to a finished benchmark; run; then what follows from the search's code and from its options."""
    before = workspace.contents("results/**/nfe*/*")
    workspace.config({"solvers[3]": SEARCHED})
    assert workspace.plan() == FITTED_SEARCH | SHOWN
    score = workspace.cell(SEARCH) / "score.json"
    text = workspace.snakemake(str(score.relative_to(workspace.folder)))
    assert {
        path: content for path, content in workspace.contents("results/**/nfe*/*").items() if path in before
    } == before
    assert len(re.findall("^Job .*: ", text, flags=re.M)) == 6
    found = json.loads((workspace.cell(SEARCH) / "prepared/searched.json").read_text())
    assert {"software", "machine"} <= set(found)
    sigmas = found["sigmas"]
    assert (len(sigmas), sigmas[0], sigmas[-1]) == (4, 80.0, 0.0)
    assert json.loads((workspace.cell(SEARCH) / "lambdas.json").read_text())["sigmas"][-3:] == sigmas[-3:]
    assert {name for name in workspace.plan() if SEARCH in name} == set()
    workspace.append("dode/distillation/search.py", CHANGED)
    assert {name for name in workspace.plan() if "nfe" in name} == FITTED_SEARCH
    workspace.config({"solvers[3].grid.options.images": 9})
    assert {name for name in workspace.plan() if "nfe" in name} == FITTED_SEARCH


def test_entry_taken_away_reruns_tables_and_figures_alone(plan_after):
    assert plan_after({"solvers[2]": None}) == SHOWN


def test_label_reruns_tables_and_figures_alone(plan_after):
    assert plan_after({"solvers[0].label": "Euler"}) == TABLES | {"sample_grid", "costs", "trajectories"}


def test_published_fids_of_a_checkpoint_rerun_the_tables_alone(workspace):
    """One of another file reruns nothing."""
    columns = (workspace.folder / "config/published_fids.csv").read_text().splitlines()[0].split(",")
    row = dict.fromkeys(columns, "") | {"nfe": "5", "fid": "1.0", "n_samples": "50000", "source": "a test"}
    for file, plan in (("another.pkl", set()), ("digits-edm.safetensors", {"tables"} | PAGES)):
        workspace.append("config/published_fids.csv", ",".join({**row, "file": file}.values()) + "\n")
        assert workspace.plan() == plan


def test_seed_reruns_every_cell(plan_after):
    expected = FIT | sampled(*CELLS) | scored(*CELLS) | {"reference_statistics"} | SHOWN
    assert plan_after({"seed": 1}) == expected


def test_seed_of_a_fit_reruns_its_cell_alone(plan_after):
    assert plan_after({"solvers[1].distill.seed": 1}) == FIT | sampled(FITTED) | scored(FITTED) | SHOWN


def test_what_a_figure_shows_reruns_the_figure_alone(plan_after):
    assert plan_after({"figures": {"trajectories": {"solvers": ["heun"]}}}) == {"trajectories"} | PAGES


def test_fitting_set_reruns_the_distilled_cells_alone(plan_after):
    assert plan_after({"solvers[1].distill.images": 17}) == FIT | sampled(FITTED) | scored(FITTED) | SHOWN


def test_neighbour_settings_rerun_the_cells_scores_alone(plan_after):
    assert plan_after({"neighbours": {"precision_recall": 2}}) == scored(*CELLS) | SCORED


def test_kid_settings_rerun_scores_alone(plan_after):
    assert plan_after({"kid.subsets": 3}) == {"real_statistics"} | scored(*CELLS) | SCORED


@pytest.mark.parametrize(("batch_size", "levels", "error"), [(10, 0, 0), (7, 1, 1e-4)], ids=["same", "other"])
def test_samples_do_not_depend_on_shards(workspace, batch_size, levels, error):
    """Byte for byte where the batches are the same; else up to what another batch size does to float32 sums."""
    files = [workspace.cell(FITTED) / name for name in ("samples.npy", "ends.npy", "states.npy")]
    content, arrays = [path.read_bytes() for path in files], [np.load(path) for path in files[:2]]
    for path in files:
        path.unlink()
    workspace.config({"execution.batch_size": batch_size, "execution.shards": 3})
    workspace.snakemake(*(str(path.relative_to(workspace.folder)) for path in files))
    if not levels:
        assert [path.read_bytes() for path in files] == content
    images, ends = (np.load(path) for path in files[:2])
    _, states = trajectories.read(files[2])
    assert np.array_equal(states[:, -1], ends[: len(states)])
    worst = np.abs(images.astype(int) - arrays[0].astype(int)).max(), np.abs(ends - arrays[1]).max()
    print(f"largest difference: {worst[0]} grey levels, {worst[1]:.2g} in the end states")
    assert worst[0] <= levels
    assert worst[1] <= error
    assert not list(workspace.cell(FITTED).glob("shards/*"))


def test_shards_of_another_number_that_a_dead_run_left_are_removed(workspace):
    """Two of three have been made, and one more was begun, as the number is set back to one."""
    cell, files = workspace.cell(PLAIN), []
    for name in ("samples.npy", "ends.npy", "states.npy"):
        (cell / name).unlink()
        files.append(str((cell / name).relative_to(workspace.folder)))
    workspace.config({"execution.shards": 3})
    shards = [f"{files[0].removesuffix('samples.npy')}shards/{shard}-of-3.npy" for shard in (0, 1)]
    workspace.snakemake("--notemp", *shards)
    (cell / "shards/.2-of-3.npy.abcdefgh.npy").write_bytes(b"cut off")
    assert len([path for path in cell.glob("shards/*") if path.is_file()]) == 9
    workspace.config({"execution.shards": 1})
    workspace.snakemake(*files)
    assert not list(cell.glob("shards/*"))
