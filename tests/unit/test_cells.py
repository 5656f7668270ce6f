"""From a configuration to cells, files and parameters."""

import copy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from dode import sampling, storage
from dode.benchmark import config as configs
from dode.benchmark import digests, evaluations, jobs
from dode.benchmark.cells import Benchmark
from dode.benchmark.dependencies import Dependencies, computed
from dode.benchmark.facts import Facts
from dode.benchmark.files import Files
from dode.solvers import base
from dode.validation import ConfigError

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((Path(__file__).parent / "cells.yaml").read_text())


@pytest.fixture
def benchmark():
    return Benchmark(CONFIG, ROOT)


def edited(**changes):
    """The configuration of cells.yaml with ``path=value`` changes, keys and indices of the path joined by ``__``."""
    config = copy.deepcopy(CONFIG)
    for path, value in changes.items():
        *front, last = [int(part) if part.isdigit() else part for part in path.split("__")]
        place = config
        for part in front:
            place = place[part]
        place[last] = value
    return Benchmark(config, ROOT)


def names(value):
    """Every key of nested dictionaries."""
    if isinstance(value, dict):
        return set(value).union(*map(names, value.values()))
    return set().union(*map(names, value)) if isinstance(value, list) else set()


def test_a_benchmark_has_a_cell_per_dataset_solver_and_nfe(benchmark):
    """By hand: DDIM 3, D-DDIM 3, m=3 2, released 2 on two datasets; Heun 3, D-Heun 3 on one; 2 references."""
    assert len(benchmark.cells) == 2 * (3 + 3 + 2 + 2) + 3 + 3 + 2
    assert len(benchmark.fitted()) == 2 * (3 + 2 + 2) + 3
    assert sum(cell.fitted for cell in benchmark.cells_of("digits-ddpm")) == 3 + 2 + 2
    assert ("digits-ddpm", "heun", 5) not in benchmark.cells
    assert all(cell.key == key for key, cell in benchmark.cells.items())


def test_the_files_of_a_cell_lie_under_its_names(benchmark):
    files = Files(benchmark).of_cells("scores.json")
    assert len(files) == len(set(files)) == len(benchmark.cells)
    assert "results/digits/digits-edm/d-heun/nfe9/scores.json" in files
    distilled = [cell for cell in benchmark.cells_of("digits-edm") if cell.fitted]
    assert Files(benchmark).of_cells("lambdas.json", distilled)[0] == (
        "results/digits/digits-edm/d-ddim/nfe5/lambdas.json"
    )
    assert list(benchmark.sources) == ["digits"]


def test_wildcards_find_their_cell(benchmark):
    cell = benchmark.cell(SimpleNamespace(dataset="digits-edm", solver="d-heun", nfe="9"))
    assert (str(cell), cell.fitted, cell.entry["solver"]) == ("digits-edm/d-heun/nfe9", True, "heun")


def test_each_dataset_has_one_reference_cell_by_its_fine_solver(benchmark):
    for dataset in ("digits-ddpm", "digits-edm"):
        cell = benchmark.reference(dataset)
        assert cell.key == (dataset, "reference", 79)
        assert cell.entry["solver"] == "heun"
        assert not cell.fitted


def test_the_picture_shows_nfes_in_order_and_the_reference_last(benchmark):
    shown = Facts(benchmark).shown("digits-edm")
    assert [cell.nfe for cell in shown[:-1]] == sorted(cell.nfe for cell in shown[:-1])
    assert shown[-1] is benchmark.reference("digits-edm")
    assert {cell.dataset["id"] for cell in shown} == {"digits-edm"}


FOLLOWING = {"alignment": "aligned", "substeps": 10, "directions": 1, "stages": True}


def test_defaults_are_filled_in():
    minimal = {
        "benchmark": "b",
        "datasets": [
            {"id": "d", "model": "digits-edm", "data": "digits", "features": "digits-classifier"}
            | {"grid": {"name": "karras"}}
        ],
        "solvers": [{"id": "s", "solver": "ddim", "nfe": [5], "distill": {"fit": "greedy"}}],
    }
    benchmark = Benchmark(minimal, ROOT)
    dataset, cell = benchmark.datasets["d"], benchmark.cells["d", "s", 5]
    assert (dataset["images"], dataset["seeds"], dataset["trajectory_images"]) == (50_000, 3, 500)
    assert dataset["reference"] == {"solver": "heun", "nfe": 79, "grid": {"name": "karras", "options": {}}}
    assert (cell.entry["label"], cell.entry["datasets"], cell.entry["options"]) == ("s", ["d"], {})
    assert cell.entry["grid"] == {"name": "karras", "options": {}}
    assert cell.entry["distill"] == {"fit": "greedy", "images": 100, **FOLLOWING}
    assert benchmark.config["seed"] == 0
    assert benchmark.config["kid"] == {"subsets": 10, "subset_size": 500}
    assert benchmark.config["neighbours"] == {"precision_recall": 3, "density_coverage": 5, "images": 10_000}
    how = {"device": "auto", "batch_size": 500, "shards": 1, "threads": 1, "channels_last": False, "compile": False}
    how |= {"precision": "card", "forked_jobs": True}
    cluster = {"gpus": 0, "mem_mb": 4000, "runtime": 60, "job_minutes": 15, "keep_samples": True, "downloads": "here"}
    assert benchmark.config["execution"] == {**how, **cluster, "datasets": {}}


JOINT = {"fit": "joint", "directions": 3, "family": "auto"}


@pytest.mark.parametrize(
    ("given", "complete"),
    [
        ({}, {"fit": "joint", "directions": 3, "family": "auto", "images": 200}),
        ({"fit": "joint", "images": 80}, {"fit": "joint", "directions": 3, "family": "auto", "images": 80}),
        ({"family": "lambda"}, {"fit": "joint", "directions": 1, "family": "lambda", "images": 200}),
        ({"budget": 9000, "iterations": 3, "images": 150}, {"budget": 9000, "iterations": 3, "images": 150} | JOINT),
        ({"fit": "greedy", "substeps": 3}, {"fit": "greedy", "images": 12, **FOLLOWING, "substeps": 3}),
        ({"fit": "refined", "images": 30}, {"fit": "refined", "images": 30, **FOLLOWING, "iterations": 12}),
    ],
    ids=str,
)
def test_each_kind_of_fit_has_defaults_of_its_own(given, complete):
    """A joint fit takes 200 images where the dataset has fewer for its fits, even fewer than it could be judged on."""
    benchmark = edited(solvers__1__distill=given, datasets__0__fit_images=12, datasets__1__fit_images=300)
    for dataset, images in (("digits-ddpm", {}), ("digits-edm", {} if "images" in given else {"images": 300})):
        for nfe in (5, 10, 15):
            expected = {"fit": "joint", "images": 200, **complete, **images}
            assert benchmark.cells[dataset, "d-ddim", nfe].entry["distill"] == expected


@pytest.mark.parametrize(
    ("fit", "key", "value", "allowed"),
    [
        ("joint", "substeps", 3, "greedy, refined, dc-solver, pas"),
        ("joint", "alignment", "aligned", "greedy, refined"),
        ("joint", "teacher", "heun", "greedy, refined, dc-solver, pas"),
        ("joint", "stages", True, "greedy, refined"),
        ("greedy", "family", "auto", "joint"),
        ("refined", "family", "auto", "joint"),
        ("greedy", "budget", 4000, "joint"),
        ("refined", "budget", 4000, "joint"),
        ("greedy", "iterations", 12, "joint, refined"),
    ],
)
def test_a_key_of_another_kind_of_fit_is_refused_by_name(fit, key, value, allowed):
    with pytest.raises(configs.ConfigError) as caught:
        edited(solvers__1__distill={"fit": fit, key: value})
    sentence = f"solvers[1].distill.{key}: a {fit} fit has no such key; allowed with fit: {allowed}"
    assert str(caught.value) == sentence


def test_a_joint_fit_needs_images_to_be_judged_on():
    with pytest.raises(
        configs.ConfigError, match=r"solvers\[1\]\.distill\.images: 8 images are too few for a joint fit"
    ):
        edited(solvers__1__distill={"images": 8})
    assert edited(solvers__1__distill={"images": 80}).cells["digits-edm", "d-ddim", 5].is_joint


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"solvers__1__distill": {"images": 24}},
            "solvers[1].distill: 24 images, a quarter of them held out, cannot carry the 20 numbers of family 'levels' "
            "at 5 evaluations: at least 26 are needed, or fewer directions than 3",
        ),
        (
            {"solvers__1__distill": {"budget": 8999}},
            "solvers[1].distill: budget must be an integer of at least 9,000 network evaluations, which are 3 runs of "
            "200 images at 15 evaluations, not 8999",
        ),
        (
            {"solvers__1__distill": {"family": "lambda", "directions": 2}},
            "solvers[1].distill: family 'lambda' has one direction, not 2; leave 'directions' out",
        ),
        (
            {"solvers__1__distill": {}, "datasets__0__reference": {"solver": "heun", "nfe": 13}},
            "solvers[1].distill.fit: with NFE 15 it would follow the fine solution of dataset 'digits-ddpm', "
            "whose reference.nfe is only 13",
        ),
    ],
    ids=["images", "budget", "directions", "reference"],
)
def test_a_joint_fit_that_could_fit_nothing_is_refused_before_any_job(change, sentence):
    with pytest.raises(configs.ConfigError) as caught:
        edited(**change)
    assert str(caught.value) == sentence


def test_the_authors_recipes_have_no_joint_fit():
    with pytest.raises(
        configs.ConfigError, match=r"solvers\[1\]\.distill\.fit: the grid 'released' has a fit of its own; .*: greedy"
    ):
        edited(solvers__1__distill={}, solvers__1__grid={"name": "released"})


def test_joint_fits_of_a_dataset_share_the_end_states_of_the_same_images():
    """By hand: D-DDIM at three NFEs and m = 3 at two have the same 80 images, D-Heun another seed, the last 200."""
    fits = [{"images": 80}, {"images": 80, "seed": CONFIG["seed"]}, {"images": 80, "seed": 7}, {}]
    benchmark = edited(**{f"solvers__{entry}__distill": fit for entry, fit in zip((1, 2, 6, 4), fits, strict=True)})
    files = Files(benchmark)
    for dataset in ("digits-ddpm", "digits-edm"):
        joint = [cell for cell in benchmark.cells_of(dataset) if cell.is_joint]
        paths = {}
        for cell in joint:
            paths.setdefault(files.teacher(cell)["ends"], []).append(cell)
        folder, own = f"results/digits/{dataset}/fine-ends", {"80-seed0": 5}
        own |= {"80-seed7": 3, "200-seed0": 2} if dataset == "digits-edm" else {}
        assert {path: len(cells) for path, cells in paths.items()} == {
            f"{folder}/{name}.safetensors": count for name, count in own.items()
        }
        for cells in paths.values():
            assert benchmark.with_fine_ends(dataset, *benchmark.fine_ends(cells[0])) == cells
            counted = [evaluations.count(benchmark, "fine_ends", cell) for cell in cells]
            assert counted == [cells[0].entry["distill"]["images"] * 79] + [0] * (len(cells) - 1)
        others = [cell for cell in benchmark.cells_of(dataset) if not cell.is_joint]
        assert {evaluations.count(benchmark, "fine_ends", cell) for cell in others} == {0}
        assert not any("ends" in files.teacher(cell) for cell in others)


def test_by_default_no_more_trajectories_are_kept_than_there_are_images():
    assert edited(datasets__0__images=20).datasets["digits-ddpm"]["trajectory_images"] == 20


def test_a_solver_keeps_its_own_grid_and_takes_the_datasets_otherwise(benchmark):
    assert benchmark.cells["digits-ddpm", "ddim", 5].entry["grid"]["options"] == {"spacing": "trailing"}
    assert benchmark.cells["digits-ddpm", "d-ddim-released-vp", 5].entry["grid"]["options"] == {"spacing": "leading"}
    assert benchmark.cells["digits-edm", "ddim", 5].entry["grid"] == {"name": "karras", "options": {"rho": 7}}


def test_loading_does_not_modify_its_argument():
    config = copy.deepcopy(CONFIG)
    loaded, _ = configs.load(config, ROOT)
    assert config == CONFIG
    loaded["datasets"][0]["grid"]["options"]["spacing"] = "leading"
    loaded["solvers"][0]["nfe"].append(99)
    assert config == CONFIG


def test_what_is_done_to_a_loaded_configuration_does_not_reach_the_next_one():
    first, _ = configs.load(CONFIG, ROOT)
    first["kid"]["subsets"] = 99
    assert configs.load(CONFIG, ROOT)[0]["kid"]["subsets"] == 10


def test_looking_at_cells_does_not_modify_the_configuration(benchmark):
    before = copy.deepcopy(benchmark.config)
    everything(benchmark)
    for cell in benchmark.cells.values():
        Facts(benchmark).of_cell(cell)
    assert benchmark.config == before


def everything(benchmark):
    """All parameters of all cells, in an order of their own."""
    depends = Dependencies(benchmark)
    return {
        key: [
            part(cell).params()
            for part in (depends.trajectory, depends.samples, *([depends.teacher, depends.fit] * cell.fitted))
        ]
        for key, cell in benchmark.cells.items()
    }


def test_parameters_hold_no_words_and_no_way_of_execution(benchmark):
    found = names(list(everything(benchmark).values()))
    assert not found & {
        "label",
        "licence",
        "training",
        "urls",
        "loss",
        "id",
        "batch_size",
        "device",
        "shards",
        "threads",
    }
    assert {"model", "solver", "grid", "nfe", "seed", "sha256", "images", "seeds", "substeps"} <= found


@pytest.mark.parametrize(
    "change",
    [
        {"solvers__0__label": "another"},
        {"execution__batch_size": 7},
        {"execution__shards": 5},
        {"execution__device": "cpu"},
        {"execution__compile": True},
        {"execution__datasets": {"digits-edm": {"batch_size": 7}}},
        {"kid": {"subsets": 3}},
        {"neighbours": {"images": 20}},
        {"benchmark": "another"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_no_result_depends_on_changes_no_parameter(benchmark, change):
    assert everything(edited(**change)) == everything(benchmark)


@pytest.mark.parametrize(
    ("change", "touched"),
    [
        ({"seed": 1}, lambda cell: True),
        ({"datasets__0__images": 100}, lambda cell: cell.dataset["id"] == "digits-ddpm"),
        ({"datasets__0__trajectory_images": 9}, lambda cell: cell.dataset["id"] == "digits-ddpm"),
        (
            {"datasets__1__grid__options__rho": 6},
            lambda cell: cell.key[:2] != ("digits-edm", "reference") and cell.dataset["id"] == "digits-edm",
        ),
        ({"solvers__1__distill__substeps": 3}, lambda cell: cell.entry["id"] == "d-ddim"),
        ({"solvers__6__distill__stages": False}, lambda cell: cell.entry["id"] == "d-heun"),
        ({"solvers__2__distill": {"fit": "refined"}}, lambda cell: cell.entry["id"] == "d-ddim-m3"),
        ({"solvers__2__distill": {"budget": 20_000}}, lambda cell: cell.entry["id"] == "d-ddim-m3"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_a_result_depends_on_changes_the_parameters_of_just_those_cells(benchmark, change, touched):
    before, after = everything(benchmark), everything(edited(**change))
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {key for key, cell in benchmark.cells.items() if touched(cell)}


def test_the_number_of_scored_images_and_the_directions_do_not_touch_the_teacher(benchmark):
    other = edited(datasets__1__images=7, solvers__6__distill__directions=2)
    cells = [bench.cells["digits-edm", "d-heun", 9] for bench in (benchmark, other)]
    depends = [Dependencies(bench) for bench in (benchmark, other)]
    for part in (Dependencies.trajectory, Dependencies.teacher):
        assert part(depends[0], cells[0]) == part(depends[1], cells[1])
    for part in (Dependencies.samples, Dependencies.fit):
        assert part(depends[0], cells[0]) != part(depends[1], cells[1])


def test_the_teachers_solver_is_heun_unless_said_otherwise(benchmark):
    def teacher(bench, solver):
        return bench.cells["digits-edm", solver, 5].teacher

    assert teacher(benchmark, "d-ddim") == teacher(benchmark, "d-heun") == "heun"
    assert teacher(benchmark, "d-ddim-released-edm") == "ddim"
    assert teacher(edited(solvers__1__distill={"fit": "greedy", "teacher": "ddim"}), "d-ddim") == "ddim"


SEARCHED = {"name": "searched", "options": {"images": 7}}


def test_only_a_cell_that_needs_it_has_a_preparation(benchmark):
    other = edited(solvers__1__grid=SEARCHED)
    assert all(Files(benchmark).preparations(cell) == {} for cell in benchmark.cells.values())
    for key, cell in other.cells.items():
        path = f"results/digits/{'/'.join(map(str, key[:2]))}/nfe{key[2]}/prepared/searched.json"
        assert Files(other).preparations(cell) == ({"prepared_grid": path} if key[1] == "d-ddim" else {})


def test_the_options_of_a_prepared_grid_have_their_defaults():
    other = edited(solvers__1__grid=SEARCHED)
    assert other.cells["digits-edm", "d-ddim", 5].grid_options == {
        "over": {"name": "karras"},
        "candidates": 61,
        "images": 7,
        "coefficient": 1.0,
        "teacher": "heun",
        "end": "zero",
        "afs": False,
    }


def test_another_searched_grid_changes_the_parameters_of_its_cells_alone(benchmark):
    one, two = edited(solvers__1__grid=SEARCHED), edited(solvers__1__grid={**SEARCHED, "options": {"images": 8}})
    before, after = everything(one), everything(two)
    assert {key[1] for key in before if before[key] != after[key]} == {"d-ddim"}
    plain = everything(benchmark)
    assert {key[1] for key in before if before[key] != plain[key]} == {"d-ddim"}


def test_the_code_of_the_search_counts_where_it_is_run_and_nowhere_else():
    def files(script):
        return {str(path.relative_to(ROOT)) for path in digests.code_of(ROOT / "scripts" / script)}

    search = "dode/distillation/search.py"
    assert {search, "dode/distillation/teacher.py", "dode/grids/variables.py"} <= files("search_grid.py")
    assert not any(search in files(script) for script in ("sample.py", "teacher.py", "distill.py"))


@pytest.fixture
def statistics(monkeypatch):
    """A solver that must be prepared."""
    monkeypatch.setattr(base, "_methods", dict(base._methods))

    @base.solver("statistics", order=1, teacher="heun", prepare="statistics.txt")
    def method(denoise, x, sigmas, *, prepared=None):
        factor = float(Path(prepared).read_text())
        for sigma in sigmas[1:]:
            x = yield base.Proposal(factor * denoise(x, sigma + 1), sigma, x)

    method.__module__ = "dode.solvers.ddim"


def test_a_solver_that_must_be_prepared_takes_the_same_road(statistics, tmp_path):
    benchmark = edited(solvers__0__solver="statistics", solvers__0__grid=SEARCHED)
    cell = benchmark.cells["digits-edm", "ddim", 5]
    folder = "results/digits/digits-edm/ddim/nfe5/prepared"
    assert Files(benchmark).preparations(cell) == {
        "prepared_solver": f"{folder}/statistics.txt",
        "prepared_grid": f"{folder}/searched.json",
    }
    inputs = {"prepared_solver": tmp_path / "statistics.txt", "prepared_grid": tmp_path / "searched.json"}
    inputs["prepared_solver"].write_text("0.5")
    storage.write_json(inputs["prepared_grid"], {"sigmas": [80.0, 9.0, 5.0, 2.0, 1.0, 0.0]})
    checkpoint = ROOT / "config/models/digits-edm.safetensors"
    trajectory = Dependencies(benchmark).trajectory(cell).params()
    job = jobs.of_cell(trajectory, checkpoint, {"device": "cpu", "batch_size": 4}, inputs)
    assert job.sigmas.tolist() == [80.0, 9.0, 5.0, 2.0, 1.0, 0.0]
    noise = job.latents(range(2))
    end = sampling.sample(job.solver, lambda x, sigma: x, noise, job.sigmas)
    torch.testing.assert_close(end, 80 * noise / 2**5, rtol=1e-12, atol=0)


def test_a_solver_that_must_be_prepared_is_nobodys_teacher(statistics):
    with pytest.raises(configs.ConfigError, match=r"solvers\[1\]\.distill\.teacher: 'statistics' must be prepared"):
        edited(solvers__1__distill={"fit": "greedy", "teacher": "statistics"})
    with pytest.raises(configs.ConfigError, match=r"solvers\[0\]\.grid\.options: .* teacher cannot be 'statistics'"):
        edited(solvers__0__grid={"name": "searched", "options": {"teacher": "statistics"}})
    with pytest.raises(configs.ConfigError, match=r"solvers\[0\]\.options: 'prepared' is filled in by the workflow"):
        edited(solvers__0__solver="statistics", solvers__0__options={"prepared": "mine.txt"})
    with pytest.raises(
        ValueError, match="solver 'alone' must be prepared, so it must name another solver as its teacher"
    ):
        base.solver("alone", order=1, prepare="alone.json")


def test_facts_are_what_tables_need(benchmark):
    assert Facts(benchmark).of_cell(benchmark.cells["digits-edm", "d-heun", 9]) == {
        "dataset": "digits-edm",
        "solver": "d-heun",
        "label": "D-Heun",
        "method": "heun",
        "options": "{}",
        "distilled": True,
        "fitted": True,
        "reference": False,
        "nfe": 9,
        "images": 2500,
        "seeds": 3,
    }
    assert Facts(benchmark).of_cell(benchmark.reference("digits-edm"))["reference"] is True


def test_real_images_are_called_what_the_configuration_calls_them(tmp_path):
    (tmp_path / "a.png").touch()
    sources = {"digits": "digits", "folder": {"folder": str(tmp_path)}}
    said = {"digits": "digits", "folder": f"folder {tmp_path}"}
    for name, source in sources.items():
        changed = edited(datasets__0__data=source)
        dataset = CONFIG["datasets"][0]["id"]
        assert Facts(changed).real_text(dataset) == said[name]
        assert str(changed.sources[changed.real(changed.datasets[dataset])["data"]]) == said[name]
        assert Facts(changed).datasets()[0]["real"] == said[name]


def test_the_computed_part_of_a_card_is_all_but_its_remarks(benchmark):
    assert set(computed(benchmark.cards["digits-edm"])) == {
        "role",
        "sha256",
        "image_shape",
        "prediction",
        "precision",
        "preconditioning",
        "sigma_min",
        "sigma_max",
        "network",
    }


def test_reading_the_configuration_does_not_import_torch():
    code = (
        "import sys, yaml; from dode.benchmark import provenance\n"
        "from dode.benchmark.cells import Benchmark\n"
        "from dode.benchmark.dependencies import Dependencies\n"
        "from dode.benchmark.facts import Facts\n"
        "from dode.benchmark.files import Files\n"
        "bench = Benchmark(yaml.safe_load(open('config/config.yaml')), '.')\n"
        "facts, depends = Facts(bench), Dependencies(bench)\n"
        "facts.cells(), facts.datasets(), Files(bench).kept(), provenance.names(bench)\n"
        "cell = bench.cells['digits-edm', 'd-heun', 9]\n"
        "depends.trajectory(cell), depends.teacher(cell), depends.fit(cell), depends.samples(cell)\n"
        "depends.cell_code('sample.py', cell), depends.fit_code(cell), depends.score(cell.dataset['id'])\n"
        "print(*sorted({'torch', 'scipy', 'sklearn', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"solver": "heun", "nfe": [5], "distill": {"fit": "pas"}}, "distill.fit: .* unlike 'heun'"),
        ({"distill": {"fit": "dc-solver"}}, "distill.fit: fit 'dc-solver': the solver must be 'unipc' without afs"),
        (
            {"distill": {"fit": "neural-solver"}, "nfe": [4]},
            "table 'flow' has 5, 6, 7, 8, 9, 10, 15 evaluations, not 4",
        ),
        *(
            (
                {"distill": {"fit": "pas", "alignment": alignment}},
                "distill.alignment: a pas fit has no such key; allowed with fit: greedy, refined",
            )
            for alignment in ("aligned", "local", "released")
        ),
        ({"distill": {"fit": "gs", "substeps": 3}}, "fit has no such key; allowed with fit: .*, dc-solver, pas"),
        ({"distill": {"fit": "pas", "teacher": "hoin"}}, r"distill\.teacher: unknown solver 'hoin'"),
        ({"distill": {"fit": "pas", "teacher": "dpm-solver"}}, r"distill\.teacher: .* cannot be a teacher: it does"),
        (
            {"solver": "unipc", "distill": {"fit": "dc-solver", "teacher": "dpm-solver-v3"}},
            r"distill\.teacher: 'dpm-solver-v3' must be prepared itself; take another teacher",
        ),
        ({"distill": {"directions": {"basis": 2}}}, "directions: a basis depends on the image"),
        ({"grid": {"name": "karras", "options": {"afs": True}}, "nfe": [5], "solver": "heun"}, "cannot make 5"),
        ({"grid": {"name": "karras", "options": {"end": "0"}}}, "end must be one of 'zero', 'sigma_min', not '0'"),
    ],
)
def test_what_no_job_could_fit_or_step_on_is_refused(entry, message):
    config = copy.deepcopy(CONFIG)
    config["solvers"] = [{"id": "s", "label": "s", "solver": "ipndm", "nfe": [5], **entry}]
    config["figures"] = {}
    with pytest.raises(ConfigError, match=message):
        Benchmark(config, ROOT)


def test_a_method_that_follows_the_teachers_states_has_them_without_an_alignment():
    config = copy.deepcopy(CONFIG)
    distill = {"fit": "pas", "substeps": 3, "teacher": "heun"}
    config["solvers"] = [{"id": "s", "label": "s", "solver": "ddim", "nfe": [5], "distill": distill}]
    config["figures"] = {}
    benchmark = Benchmark(config, ROOT)
    cell = benchmark.cells[CONFIG["datasets"][0]["id"], "s", 5]
    assert "teacher" in Files(benchmark).teacher(cell)
    assert (cell.teacher, Dependencies(benchmark).teacher(cell).alignment) == ("heun", None)
    # Heun with three steps in each of five, of which the last interval has fewer.
    assert evaluations.count(benchmark, "teacher", cell) >= cell.entry["distill"]["images"] * (2 * 13 - 1)


def test_a_fine_solution_has_no_savings_of_its_datasets_grid():
    """And one of its own that asks for them is refused."""
    grid = {"name": "karras", "options": {"afs": True, "end": "sigma_min", "rho": 5}}
    benchmark = edited(datasets__0__grid=grid, datasets__0__reference={"solver": "heun", "nfe": 31})
    name = CONFIG["datasets"][0]["id"]
    assert benchmark.reference(name).entry["grid"] == {"name": "karras", "options": {"rho": 5}}
    own = {"solver": "heun", "nfe": 30, "grid": {"name": "karras", "options": {"afs": True}}}
    with pytest.raises(ConfigError, match=r"reference\.grid\.options\.afs: the fine solution makes every step"):
        edited(datasets__0__reference=own)
