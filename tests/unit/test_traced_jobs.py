"""What a job runs and reads is what its digest counts: tiny jobs of all that learns, traced.

Parts that are made by name are the ones that imports do not tell of.
"""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.iocontainers import InputFiles, Params, Wildcards

from dode.benchmark import digests
from dode.benchmark.dependencies import Dependencies
from dode.distillation import fit_checks, learned
from test_student_jobs import ROOT, benchmark, cell_of

EXECUTION = {"device": "cpu", "batch_size": 100, "datasets": {}}
TRAINED = {"iterations": 2, "batch": 4}
#: A cell of each fit by its name: solver, options of the fit, evaluations.
FITTED = {
    **dict.fromkeys(("bns", "gs", "s4s", "dyweight", "epd"), ("ddim", TRAINED, 3)),
    **{"ld3": ("ddim", {"rounds": 1, "told_rounds": 1}, 3), "pas": ("ddim", {"epochs": 2}, 3)},
    **{"dc-solver": ("unipc", {"tries": 4}, 3), "neural-solver": ("ddim", {}, 5)},
}
PREPARED = {
    "amed": (TRAINED, 3),
    "consistency-distillation": ({**TRAINED, "scales": 6}, 2),
    "dpm-solver-v3": ({"levels": 8}, 3),
    "ect": (TRAINED, 2),
    "progressive-distillation": ({**TRAINED, "start": 4}, 2),
    "sfd": ({**TRAINED, "substeps": 2}, 2),
}
IMAGES = 24
opened: list[Path] = []
watching = []  # an audit hook stays as long as its process


def _audit(event, arguments):
    if watching and event == "open" and isinstance(arguments[0], str):
        opened.append(Path(arguments[0]).resolve())


@pytest.fixture(scope="module", autouse=True)
def audited():
    sys.addaudithook(_audit)


def traced(script, given):
    """The files of the package whose functions a script ran, and the other ones that it opened."""
    spec = importlib.util.spec_from_file_location(Path(script).stem, ROOT / "scripts" / script)
    main = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(main)
    ran = set()

    def called(frame, event, _):
        if event == "call" and frame.f_code.co_name != "<module>":
            ran.add(frame.f_code.co_filename)

    for name, module in sys.modules.items():  # what a method has read once it keeps
        if name.startswith("dode.distillation."):
            for value in vars(module).values():
                getattr(value, "cache_clear", bool)()
    before = sys.getprofile()
    opened.clear()
    watching.append(True)
    sys.setprofile(called)
    try:
        main.main(given)
    finally:
        sys.setprofile(before)
        watching.clear()
    own = {Path(file).resolve() for file in ran if not file.startswith("<")}
    below = digests.PACKAGE.resolve()
    read = {path for path in opened if path.suffix not in (".py", ".pyc")}
    return [{path for path in paths if path.is_relative_to(below)} for paths in (own, read)]


class Job:
    """The jobs of one cell that make what its samples need, each traced and compared with what its digest counts."""

    def __init__(self, folder, monkeypatch, entry):
        self.folder, self.monkeypatch, found = folder, monkeypatch, benchmark(**entry)
        self.cell, self.depends = cell_of(found, nfe=entry["nfe"][0]), Dependencies(found)
        self.checkpoint = ROOT / "config" / "models" / f"{self.cell.dataset['model']}.safetensors"

    def counted(self, code, *arguments):
        """The files that a digest counts."""
        found = {}
        with self.monkeypatch.context() as patch:
            patch.setattr(digests, "code_digest", lambda *parts: found.update(digests.code_of(*parts)) or "")
            getattr(self.depends, code)(*arguments)
        return set(found)

    def run(self, script, counted, output, params, cell=None, **inputs):
        """Run a script; returns the path of what it has made."""
        path, cell = str(self.folder / output), cell or self.cell
        given = SimpleNamespace(
            input=InputFiles(fromdict={"model": str(self.checkpoint), **inputs}),
            output=[path],
            params=Params(fromdict={"cell": self.depends.trajectory(cell).params(), "code": "", **params}),
            wildcards=Wildcards(fromdict={"dataset": "d"}),
            config={"execution": EXECUTION},
        )
        ran, read = traced(script, given)
        assert Path(path).is_file()
        missed = {*ran, *read} - counted - {digests.FRAME.resolve()}
        assert not missed, f"{script} has run or read what its digest does not count: {sorted(map(str, missed))}"
        return path

    def ends(self, images, seed=0):
        """End states of the fine solution, by the cell's reference."""
        counted = self.counted("fine_ends_code", "d")
        reference, params = self.depends.benchmark.reference("d"), {"teacher": {"images": images, "seed": seed}}
        return self.run("fine_ends.py", counted, "ends.safetensors", params, reference)

    def followed(self):
        """What the cell's fit reads besides the model."""
        images = self.cell.entry["distill"]["images"]
        if self.cell.fit_follows_ends:
            return {"ends": self.ends(images)}
        if not self.cell.with_teacher:
            return {}
        params, counted = {"teacher": self.depends.teacher(self.cell).params()}, self.counted("teacher_code", self.cell)
        return {"teacher": self.run("teacher.py", counted, "teacher.safetensors", params)}

    def fit(self, **inputs):
        """The cell's fit."""
        params = {"teacher": self.depends.teacher(self.cell).params(), "fit": self.depends.fit(self.cell).params()}
        counted = self.counted("fit_code", self.cell)
        return self.run("distill.py", counted, "lambdas.json", params, **self.followed(), **inputs)

    def prepare(self):
        """What the cell's solver needs."""
        own = self.cell.preparation.follows == "ends"
        inputs = {"ends": self.ends(self.cell.entry["prepare"]["images"])} if own else {}
        return self.run("prepare.py", self.counted("preparation_code", self.cell), "own.safetensors", {}, **inputs)

    def search(self):
        """The cell's grid."""
        params, counted = {"search": self.cell.grid_options}, self.counted("search_code", self.cell)
        return self.run("search_grid.py", counted, "searched.json", params)


@pytest.fixture
def job(tmp_path, monkeypatch):
    """``job(**entry)``: of a cell of one of the embedded models."""
    dataset = {"reference": {"solver": "heun", "nfe": 9}}
    return lambda **entry: Job(tmp_path, monkeypatch, {**entry, "dataset": dataset | entry.get("dataset", {})})


@pytest.mark.parametrize("name", learned.fits.names())
def test_fits_of_others(job, name):
    solver, options, nfe = FITTED[name]
    images = IMAGES if learned.fits.get(name).follows != "nothing" else 1
    distill = {"fit": name, "images": images, "options": options}
    job(solver=solver, nfe=[nfe], grid={"name": "exponential"}, distill=distill).fit()


@pytest.mark.parametrize("name", learned.preparations.names())
def test_preparations(job, name):
    options, nfe = PREPARED[name]
    job(solver=name, nfe=[nfe], prepare={"images": IMAGES, "options": options}).prepare()


@pytest.mark.parametrize("teacher", ["ipndm", "dpm-solver++"])
def test_preparations_that_follow_another_solver(job, teacher):
    for solver, nfe, name in (("amed", 3, teacher), ("sfd", 2, {"name": teacher})):
        options = {**TRAINED, "substeps": 2, "teacher": name}
        job(solver=solver, nfe=[nfe], prepare={"images": IMAGES, "options": options}).prepare()


@pytest.mark.parametrize(
    "distill",
    [
        {"fit": "joint"},
        {"fit": "greedy"},
        {"fit": "greedy", "alignment": "local", "teacher": "heun"},
        {"fit": "refined", "iterations": 1},
        {"fit": "greedy", "alignment": "released"},
    ],
)
def test_the_fits_of_this_project(job, distill):
    job(solver="ddim", nfe=[3], distill={"images": IMAGES, **distill}).fit()


@pytest.mark.parametrize(("prediction", "solver"), [(*key,) for key in fit_checks.RECIPES])
def test_the_recipes_of_the_authors(job, prediction, solver):
    model = {"data": "digits-edm", "noise": "digits-ddpm"}[prediction]
    dataset = {"model": model, "grid": {"name": "uniform-index"}} if prediction == "noise" else {}
    entry = {"solver": solver, "grid": {"name": "released"}, "dataset": dataset}
    distill = {"fit": "greedy", "alignment": "released", "images": IMAGES}
    job(nfe=[4 if solver != "heun" else 5], distill=distill, **entry).fit()


def test_the_search_for_a_grid(job):
    options = {"images": 4, "candidates": 8}
    job(solver="ipndm", nfe=[3], grid={"name": "searched", "options": options}).search()


def test_the_numbers_of_a_table_count(job):
    own = job(solver="ddim", nfe=[5], distill={"fit": "neural-solver"})
    assert Path(learned.__file__).parent / "methods" / "neural_solver.yaml" in own.counted("fit_code", own.cell)
