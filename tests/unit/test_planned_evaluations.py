"""How many evaluations are planned, against those that the jobs make, counted as their scripts call the denoiser."""

import importlib.util
import itertools
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from torch import nn

import dode
import variants
from dode import grids, storage
from dode.benchmark import evaluations, software
from dode.benchmark.cells import Benchmark
from dode.benchmark.dependencies import Dependencies
from dode.benchmark.files import Files
from dode.benchmark.workloads import Workloads
from dode.directions import Directions
from dode.distillation import fit_checks, greedy, refinement
from dode.models import loading

ROOT = Path(__file__).parents[2]
SLACK = 1.3  # that a number may be too large by
COUNTED = ("search_grid", "fine_ends", "teacher", "distill", "sample")
EXECUTION = {"device": "cpu", "batch_size": 100, "shards": 1}
SMALL = {"images": 3, "seeds": 2, "fit_images": 12, "reference": {"solver": "heun", "nfe": 5}}


class Counting:
    """A denoiser that notes for how many images it is called; what it is bound to is noted on the same account."""

    def __init__(self, denoise, account):
        self.denoise, self.account = denoise, account

    def __call__(self, x, sigma):
        self.account.append(len(x))
        return self.denoise(x, sigma)

    def __getattr__(self, name):
        return getattr(self.denoise, name)

    def conditioned(self, labels):
        return Counting(self.denoise.conditioned(labels), self.account)

    def for_images(self, start, stop):
        return Counting(self.denoise.for_images(start, stop), self.account)

    def at(self, *where, **time):
        return Counting(self.denoise.at(*where, **time), self.account)


class Network(nn.Module):
    """In the place of a card's network, so that nothing but the loops around it takes time; logits of a classifier."""

    def __init__(self, card):
        super().__init__()
        self.role, self.weight = card["role"], nn.Parameter(torch.tensor(0.7))

    def forward(self, x, condition, labels=None):
        return x.flatten(1) if self.role == "classifier" else torch.tanh(self.weight * x)


class Named(dict):
    """As ``snakemake.input`` and the like: by name and as attributes."""

    __getattr__ = dict.__getitem__


def script(rule):
    specification = importlib.util.spec_from_file_location(rule, ROOT / "scripts" / f"{rule}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.main


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """``counted(benchmark, cell)``: the evaluations that each rule's job of the cell has made."""
    account, load = [], loading.load
    monkeypatch.setattr(loading, "load_network", lambda card, checkpoint, **how: Network(card))
    monkeypatch.setattr(loading, "load", lambda *arguments, **options: Counting(load(*arguments, **options), account))
    monkeypatch.setattr(software, "environment", lambda device: {})  # takes longer than the jobs
    monkeypatch.setattr(storage, "_on_disk", lambda path: None)
    main = {rule: script(rule) for rule in COUNTED}

    def run(benchmark, cell):
        files, depends, folder = Files(benchmark), Dependencies(benchmark), tmp_path / str(cell)
        prepared = dict.fromkeys(files.preparations(cell), folder / "searched.json")
        inputs = {"model": "none", **files.guiding(cell)}
        params = {"cell": depends.trajectory(cell).params(), "samples": depends.samples(cell).params(), "code": "none"}
        rules, teacher, lambdas = ["search_grid"] * bool(prepared), folder / "teacher", folder / "lambdas.json"
        fine = {"cell": depends.trajectory(benchmark.reference(cell.dataset["id"])).params()}
        if prepared:
            params["search"] = cell.grid_options
        if cell.fitted:
            params |= {"teacher": depends.teacher(cell).params(), "fit": depends.fit(cell).params()}
            rules += ["teacher"] * cell.with_teacher + ["fine_ends"] * cell.is_joint + ["distill"]
        more = {
            "teacher": prepared,
            "fine_ends": {},
            "distill": {**prepared, **dict.fromkeys(files.teacher(cell), teacher)},
            "sample": {**prepared, **({"lambdas": lambdas} if cell.fitted else {})},
        }
        outputs = {"search_grid": [folder / "searched.json"], "distill": [lambdas]}
        outputs |= {"teacher": [teacher], "fine_ends": [teacher]}
        outputs["sample"] = Named({name: folder / name for name in ("images", "ends", "states", "environment")})
        made = dict.fromkeys(COUNTED, 0)
        for rule in [*rules, "sample"]:
            account.clear()
            given = {**inputs, **more.get(rule, {})}
            main[rule](
                SimpleNamespace(
                    input=Named({name: str(path) for name, path in given.items()}),
                    output=outputs[rule],
                    params=Named(params | (fine if rule == "fine_ends" else {})),
                    config={"execution": {**EXECUTION, "datasets": {}}},
                    wildcards=Named(dataset=cell.dataset["id"], shard="0", shards="1"),
                )
            )
            made[rule] = sum(account)
        if cell.fitted and cell.entry["distill"]["fit"] == "refined":
            made["iterations"] = storage.read_json(lambdas)["refinement"]["iterations"]
        shutil.rmtree(folder)
        return made

    return run


def fewest(distill, evaluations):
    """The fewest images that these coefficients can be fitted on."""
    joint = distill["fit"] == "joint"
    directions = Directions.of(distill.get("directions", 3 if joint else 1), "data").count
    for images in itertools.count(1):
        try:
            if joint:
                fit_checks.check_joint(images, "auto", directions, evaluations, evaluations)
                return images
            fit_checks.check_images(images, directions, evaluations, int(distill["fit"] == "refined"))
        except ValueError:
            continue
        return images


def check(benchmark, cell, made, slack=SLACK):
    """What is planned is what was made; of a searched grid and a refinement no less, and little more."""
    refined = cell.fitted and cell.entry["distill"]["fit"] == "refined"
    bounded = {"teacher": grids.grids.get(cell.entry["grid"]["name"]).prepare is not None, "distill": refined}
    for rule in COUNTED:
        planned = evaluations.count(benchmark, rule, cell)
        if cell.is_joint and rule == "distill":  # a budget
            assert made[rule] <= planned, f"{rule} of {cell}"
        elif rule == "fine_ends":  # planned with the first of the cells that share them
            assert planned in (0, made[rule]), f"{rule} of {cell}"
        elif bounded.get(rule):
            assert made[rule] <= planned <= slack * made[rule], f"{rule} of {cell}"
        else:
            assert made[rule] == planned, f"{rule} of {cell}"


@pytest.fixture
def to_the_end(monkeypatch):
    """Refinements make all their iterations, with all directions."""
    monkeypatch.setattr(refinement, "ENOUGH", -1.0)
    monkeypatch.setattr(refinement, "PATIENCE", math.inf)
    monkeypatch.setattr(greedy, "ROUNDING", 0.0)


@pytest.mark.parametrize("name", ["config", "solvers", "ablation"])
def test_shipped_benchmarks_make_what_is_planned(name, counted, to_the_end):
    """On few images, each solver at its two smallest NFEs, those that are refined at 3 and 5; joint fits are short."""
    config = yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text()) | {"execution": EXECUTION, "figures": {}}
    for dataset in config["datasets"]:
        dataset |= SMALL | {"reference": {"solver": "heun", "nfe": 11}}
    for entry in config["solvers"]:
        distill = entry.get("distill", {})
        entry["nfe"] = [nfe for nfe in entry["nfe"] if nfe <= (5 if distill.get("fit") == "refined" else 10)][:2]
        if "distill" in entry:
            short = {"budget": 3000} if distill["fit"] == "joint" else {}
            entry["distill"] = {**distill, "images": fewest(distill, max(entry["nfe"])), **short}
        if entry.get("grid", {}).get("name") == "searched":
            entry["grid"] = {"name": "searched", "options": {"candidates": 21, "images": 7}}
    benchmark = Benchmark(config, ROOT)
    for cell in benchmark.cells.values():
        check(benchmark, cell, counted(benchmark, cell))


def of_entries(entries, *, model, root=ROOT, **dataset):
    """A benchmark with these solvers on a model, each a dictionary without its id, on few images."""
    dataset = {"id": "d", "model": model, "data": "digits", "features": "digits-classifier", **SMALL, **dataset}
    solvers = [{"id": f"s{number}", "label": str(number), **entry} for number, entry in enumerate(entries)]
    config = {"benchmark": "planned", "datasets": [dataset], "solvers": solvers, "execution": EXECUTION}
    return Benchmark(config, root)


def check_all(benchmark, counted):
    for cell in benchmark.cells.values():
        check(benchmark, cell, counted(benchmark, cell))


MODELS = {"digits-ddpm": "uniform-index", "digits-edm": "karras"}


@pytest.mark.parametrize("alignment", ["aligned", "local"])
@pytest.mark.parametrize("model", MODELS)
def test_every_solver_with_its_teacher_and_with_those_that_have_inner_stages(model, alignment, counted):
    entries = []
    for name, options in [*variants.READY_DEFAULTS, ("dpm-solver", {"order": 2}), ("dpm-solver++", {"variant": "2S"})]:
        solver = dode.solvers.create(name, **options)
        for teacher in ({}, {"teacher": "pndm"}, {"teacher": "heun"}):
            distill = {"fit": "greedy", "alignment": alignment, "images": 4, "substeps": 3, **teacher}
            nfe = [solver.nfe(steps) for steps in (1, 5)]
            entries.append({"solver": name, "options": options, "nfe": nfe, "distill": distill})
    check_all(of_entries(entries, model=model, grid={"name": MODELS[model]}), counted)


@pytest.mark.parametrize("model", MODELS)
def test_every_grid(model, counted):
    """Of an interval that ends in 0 the substeps below the least noise level are left out, grid by grid."""
    families = [{"name": name} for name in grids.families()]
    families += [{"name": "uniform-index", "options": {"spacing": "leading"}}]
    families += [{"name": "explicit", "options": {"sigmas": [60, 2.5, 0.5]}}, {"name": "karras", "options": {"rho": 3}}]
    entries = []
    for grid, solver, alignment in itertools.product(families, ("ddim", "heun", "dpm-solver"), ("aligned", "local")):
        nfe = [dode.solvers.create(solver).nfe(3)]
        distill = {"fit": "greedy", "alignment": alignment, "images": 4, "substeps": 15}
        entries.append({"solver": solver, "nfe": nfe, "grid": grid, "distill": distill})
    check_all(of_entries(entries, model=model, grid={"name": "karras"}), counted)


@pytest.mark.parametrize("options", [{"afs": True}, {"end": "sigma_min"}, {"afs": True, "end": "sigma_min"}], ids=str)
@pytest.mark.parametrize("model", MODELS)
def test_the_options_of_every_grid(model, options, counted):
    """Of every solver on the model's own grid, plain and with a teacher, and on some other grids."""
    entries = []
    for name, own in [*variants.READY_DEFAULTS, ("dpm-solver", {"order": 2}), ("dpm-solver++", {"variant": "2S"})]:
        solver = dode.solvers.create(name, **own)
        solver = grids.placed(solver, options)
        nfe = [solver.nfe(steps, end=float("end" in options)) for steps in (3, 5)]
        for alignment in ("aligned",) if "afs" in options else ("aligned", "local"):
            distill = {"fit": "greedy", "alignment": alignment, "images": 4, "substeps": 3}
            entries.append({"solver": name, "options": own, "nfe": nfe, "distill": distill})
    searched = {"name": "searched", "options": {"candidates": 11, "images": 7, **options}}
    entries.append({"solver": "ipndm", "nfe": [4], "grid": searched})
    entries.append({"solver": "ipndm", "nfe": [4], "distill": {"images": 40, "budget": 1000}})
    check_all(of_entries(entries, model=model, grid={"name": MODELS[model], "options": options}), counted)


@pytest.mark.parametrize("substeps", [3, 400])
@pytest.mark.parametrize("model", MODELS)
def test_the_authors_pairing_on_every_grid_and_their_recipes(model, substeps, counted):
    """A schedule of 1,000 steps bounds their teachers for noise prediction, whichever of the solvers is on a grid."""
    prediction = {"digits-ddpm": "noise", "digits-edm": "data"}[model]
    limited = {"uniform-index", "quadratic", "timesteps"} if prediction == "data" and substeps == 400 else set()
    names = [name for kind, name in sorted(fit_checks.RELEASED) if kind == prediction]
    chosen = [
        (name, {}, grid)
        for number, grid in enumerate(grids.families())
        for name in (names if substeps == 3 else [names[number % len(names)]])
    ]
    chosen = [case for case in chosen if case[2] not in limited]
    for (kind, name), orders in fit_checks.RECIPES.items():
        if kind == prediction:
            chosen += [(name, {"order": order} if order else {}, "released") for order in orders or (None,)]
    distill = {"fit": "greedy", "alignment": "released", "images": 4, "substeps": substeps}
    entries = [
        {
            "solver": name,
            "options": options,
            "nfe": [3, 5][: 500 // substeps],
            "grid": {"name": grid},
            "distill": distill,
        }
        for name, options, grid in chosen
    ]
    check_all(of_entries(entries, model=model, grid={"name": "karras"}), counted)


DIRECTIONS = [1, 2, {"differences": 2, "outputs": "both"}, {"differences": 0, "drift": True}]


@pytest.mark.parametrize("stages", [True, False])
@pytest.mark.parametrize("directions", DIRECTIONS)
def test_refinements_that_make_all_their_iterations(stages, directions, counted, to_the_end):
    distill = {"fit": "refined", "directions": directions, "iterations": 12, "substeps": 2, "stages": stages}
    entries = [
        {"solver": name, "nfe": [nfe], "distill": {**distill, "images": fewest(distill, nfe)}}
        for name, nfe in (("ddim", 7), ("heun", 11))
    ]
    benchmark = of_entries(entries, model="digits-edm", grid={"name": "karras"})
    for cell in benchmark.fitted():
        made = counted(benchmark, cell)
        assert made["iterations"] == 12
        check(benchmark, cell, made)


@pytest.mark.parametrize("stages", [True, False])
@pytest.mark.parametrize("directions", DIRECTIONS)
def test_refinements_of_few_coefficients_or_that_end_early_make_no_more_than_is_planned(stages, directions, counted):
    distill = {"fit": "refined", "directions": directions, "iterations": 5, "substeps": 2, "stages": stages}
    entries = [
        {"solver": name, "nfe": [nfe], "distill": {**distill, "images": fewest(distill, nfe)}}
        for name, nfe in (("ddim", 2), ("heun", 3), ("pndm", 5), ("dpm-solver", 6))
    ]
    benchmark = of_entries(entries, model="digits-ddpm", grid={"name": "uniform-index"})
    for cell in benchmark.fitted():
        check(benchmark, cell, counted(benchmark, cell), slack=math.inf)


@pytest.mark.parametrize("family", ["lambda", "told", "auto"])
@pytest.mark.parametrize("budget", [None, 540, 1000, 3000])
def test_a_joint_fit_makes_no_more_than_its_budget_and_the_check_that_its_solver_is_linear(budget, family, counted):
    """And the end states of the fine solution are those of the reference."""
    distill = {"family": family, **({} if budget is None else {"budget": budget})}
    chosen = {"told": ("ddim", 2), "auto": ("dpm-solver", 4), "lambda": ("ipndm", 5)}
    entries = [
        {"solver": name, "nfe": [nfe], "distill": {**distill, "images": 26 + 2 * nfe}}
        for name, nfe in (chosen.values() if budget else [chosen[family]])  # the usual budget is a large one
    ]
    benchmark = of_entries(entries, model="digits-edm", grid={"name": "karras"})
    for cell in benchmark.fitted():
        made = counted(benchmark, cell)
        planned = evaluations.count(benchmark, "distill", cell)
        assert planned == (fit_checks.BUDGET * cell.nfe if budget is None else budget) + 2 * 4 * cell.nfe
        assert 2 * 4 * cell.nfe <= made["distill"] <= planned
        assert made["fine_ends"] == evaluations.count(benchmark, "fine_ends", cell) == (26 + 2 * cell.nfe) * 5
        assert made["sample"] == evaluations.count(benchmark, "sample", cell)
        assert made["teacher"] == evaluations.count(benchmark, "teacher", cell) == 0


def scripted(monkeypatch, gains):
    """Each step that a refinement tries gains something or nothing, as ``gains`` has it."""
    gains = iter(gains)

    def error(problem, lambdas):
        problem.runs += 1
        return 2.0**-problem.runs if problem.first or problem.runs == 1 or next(gains, False) else math.inf

    monkeypatch.setattr(refinement._Problem, "error", error)


@pytest.mark.parametrize(
    ("iterations", "gains"),
    [(1, []), (1, [False] * 15 + [True]), (3, [False] * 15 + [True, False, True, False]), (4, [True] * 4)],
)
def test_a_refinement_tries_no_more_steps_than_are_planned(iterations, gains, monkeypatch, to_the_end):
    scripted(monkeypatch, gains)
    ones = torch.ones(2, 1, dtype=torch.float64)
    latents = torch.randn(4, 1, 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    _, record = refinement.refine_jointly(
        lambda lambdas, noise, start: noise * lambdas.sum(), ones, ones, latents, latents, 1, iterations=iterations
    )
    assert record.runs <= 1 + iterations * (1 + len(ones) + 2) + evaluations.FURTHER_TRIES
    if not gains:
        assert record.runs == 1 + 1 + len(ones) + evaluations.FURTHER_TRIES


def add_card(root, name, *, like, **changes):
    """A card as another one but for these keys, in the folder ``root``."""
    cards = root / "config" / "models"
    if not cards.exists():
        shutil.copytree(ROOT / "config", root / "config")
    (cards / f"{name}.yaml").write_text(
        yaml.safe_dump({**yaml.safe_load((cards / f"{like}.yaml").read_text()), **changes})
    )


@pytest.mark.parametrize("alignment", ["aligned", "local"])
def test_a_grid_whose_levels_the_model_rounds(alignment, tmp_path, counted):
    levels = {"prediction": "noise", "preconditioning": {"name": "iddpm"}, "sigma_min": 0.1}
    add_card(tmp_path, "digits-rounded", like="digits-edm", **levels)
    distill = {"fit": "greedy", "alignment": alignment, "images": 4, "substeps": 40}
    entries = [
        {"solver": "ddim", "nfe": [3], "distill": distill, "grid": {"name": name}} for name in ("karras", "log-snr")
    ]
    check_all(of_entries(entries, model="digits-rounded", root=tmp_path, grid={"name": "karras"}), counted)


def test_guidance_is_a_part_of_an_evaluation(tmp_path, counted):
    """A model that is unguided, or guided in any way, makes as many."""
    options = {"image_size": 8, "in_channels": 1, "multipliers": [1], "attention_resolutions": [], "classes": 10}
    with_classes = {"name": "adm-unet", "options": options}
    add_card(tmp_path, "digits-classes", like="digits-ddpm", classes=10, network=with_classes)
    add_card(tmp_path, "digits-worse", like="digits-ddpm", classes=10, network=with_classes)
    network = {"name": "adm-classifier", "options": {"classes": 10}}
    add_card(tmp_path, "digits-judge", like="adm-imagenet128-classifier", network=network)
    distill = {"fit": "greedy", "images": 4, "substeps": 3}
    entries = [
        {"solver": "ddim", "nfe": [5], "distill": distill},
        {"solver": "heun", "nfe": [3], "distill": {**distill, "alignment": "local"}},
        {"solver": "ddim", "nfe": [3], "grid": {"name": "searched", "options": {"candidates": 9, "images": 7}}},
    ]
    planned = []
    others = {"classifier": {"classifier": "digits-judge"}, "autoguidance": {"guide": "digits-worse"}}
    for name in (None, "classifier-free", *others):
        own = others.get(name, {})
        guidance = {"guidance": {"name": name, "scale": 2.0, **own}} if name else {}
        benchmark = of_entries(entries, model="digits-classes", root=tmp_path, grid={"name": "karras"}, **guidance)
        check_all(benchmark, counted)
        planned.append(
            [evaluations.count(benchmark, rule, cell) for cell in benchmark.cells.values() for rule in COUNTED]
        )
    assert planned[0] == planned[1] == planned[2] == planned[3]


def test_numbers_by_hand():
    """Heun takes two evaluations per interval, and one on the last; 61 candidates are 60 intervals and 60 slopes."""
    entries = [
        {
            "solver": "ddim",
            "nfe": [10],
            "grid": {"name": "searched"},
            "distill": {"fit": "greedy", "alignment": "local"},
        },
        {"solver": "ddim", "nfe": [10], "distill": {"fit": "greedy"}},
        {"solver": "heun", "nfe": [9], "distill": {"fit": "refined", "iterations": 2, "directions": 2, "images": 40}},
    ]
    benchmark = of_entries(entries, model="digits-edm", grid={"name": "karras"}, fit_images=100)
    searched, plain, refined = (benchmark.cells["d", f"s{number}", nfe] for number, nfe in enumerate((10, 10, 9)))
    assert evaluations.count(benchmark, "search_grid", searched) == 100 * (2 * 60 - 1 + 60) == 17_900
    assert evaluations.count(benchmark, "teacher", searched) == 0
    assert evaluations.count(benchmark, "distill", searched) == 100 * (10 + 9 * 20 + 19)
    assert evaluations.count(benchmark, "search_grid", plain) == 0
    assert evaluations.count(benchmark, "teacher", plain) == 100 * (9 * 10 * 2 + 1)
    assert evaluations.count(benchmark, "distill", plain) == 100 * 10
    # 30 images: the fit; the error; twice the state, 9 drifts and 8 differences; 20 tries. 10 images: the error thrice.
    assert evaluations.count(benchmark, "distill", refined) == 9 * (30 * (1 + 1 + 2 * (1 + 9 + 8) + 20) + 10 * 3)


def test_an_unknown_rule_is_refused_by_name():
    benchmark = of_entries([{"solver": "ddim", "nfe": [2]}], model="digits-edm", grid={"name": "karras"})
    cell = benchmark.cells["d", "s0", 2]
    for planned in (Workloads(benchmark).evaluations, Workloads(benchmark).seconds):
        with pytest.raises(
            ValueError,
            match=r"^unknown rule 'sampel' \(did you mean 'sample'\?\); known: decode, distill, fine_ends, gather",
        ):
            planned("sampel", cell)
