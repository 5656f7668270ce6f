"""Cells whose solver has a network of its own: what is trained, what is sampled with it, and what is refused."""

import copy
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file

import dode
from dode import grids, models, solvers
from dode.benchmark import evaluations, export, fit_jobs, jobs, learning_jobs, preparing
from dode.benchmark.cells import Benchmark
from dode.benchmark.dependencies import Dependencies
from dode.benchmark.files import Files
from dode.benchmark.planning import plan
from dode.benchmark.student_jobs import StudentJob
from dode.benchmark.workloads import Workloads
from dode.distillation import learned
from dode.models.guidance import ClassifierFree
from test_cells import ROOT

CHECKPOINT = str(ROOT / "config" / "models" / "digits-edm.safetensors")
EXECUTION = {"device": "cpu", "batch_size": 100}
SHORT = {"start": 8, "iterations": 2, "batch": 4}


def benchmark(**entry):
    dataset = {"id": "d", "model": "digits-edm", "data": "digits", "features": "digits-classifier"}
    dataset |= {"grid": {"name": "karras"}, "images": 20, "seeds": 1} | entry.pop("dataset", {})
    own = {"id": "s", "solver": "progressive-distillation", "nfe": [2]} | entry
    return Benchmark({"benchmark": "b", "datasets": [dataset], "solvers": [own]}, ROOT)


def cell_of(found, solver="s", nfe=2):
    return found.cells["d", solver, nfe]


def job_of(found, inputs=None):
    trajectory = Dependencies(found).trajectory(cell_of(found)).params()
    return jobs.of_cell(trajectory, CHECKPOINT, EXECUTION, inputs or {})


def test_before_its_weights_are_there_a_job_has_the_models_network_and_then_the_students(tmp_path):
    found = benchmark(prepare={"images": 6, "options": SHORT})
    plain = job_of(found)
    assert type(plain) is StudentJob
    model = models.load(found.cards["digits-edm"], CHECKPOINT)
    assert torch.equal(plain.denoise.network.stem.weight, model.network.stem.weight)
    path = str(tmp_path / "student.safetensors")
    ends = dode.sample(
        solvers.create("heun"), model, plain.latents(range(6), stream="fit").float(), grids.karras(steps=20)
    )
    with learning_jobs.checkpoint(path, {}) as checkpoint:
        states = tmp_path / "ends.safetensors"
        fit_jobs.write_states(states, [(0.0, ends)], {})
        tensors = preparing.prepare(plain, str(states), checkpoint)
        preparing.write_prepared(path, tensors, checkpoint.meter, {})
    student = job_of(found, {"prepared_solver": path})
    stored = load_file(path)
    assert stored.keys() == model.network.state_dict().keys()
    assert torch.equal(student.denoise.network.stem.weight, stored["stem.weight"])
    assert not torch.equal(student.denoise.network.stem.weight, model.network.stem.weight)
    assert not student.denoise.network.stem.weight.requires_grad
    latents = plain.latents(range(3))
    mine, base = (dode.sample(job.solver, job.denoise, latents, job.sigmas) for job in (student, plain))
    assert 1e-4 < float((mine - base).abs().max()) < 2
    cost = learned.preparations.get("progressive-distillation").expense(6, 2, **SHORT)
    assert (checkpoint.meter.evaluations, checkpoint.meter.gradients) == cost


def test_a_consistency_cell_is_behind_the_boundary_scalings(tmp_path):
    found = benchmark(solver="ect", prepare={"images": 6, "options": {"iterations": 1, "batch": 2}})
    model = models.load(found.cards["digits-edm"], CHECKPOINT)
    path = str(tmp_path / "student.safetensors")
    preparing.write_prepared(path, model.trainable().network.state_dict(), preparing.Meter(), {})
    student, plain = job_of(found, {"prepared_solver": path}), job_of(found)
    x, lowest = torch.ones(1, 1, 8, 8), torch.tensor(0.002, dtype=torch.float64)
    assert torch.equal(student.denoise(x, lowest), x)
    assert not torch.equal(plain.denoise(x, lowest), x)
    assert plain.denoise.boundary is None


def test_a_student_of_a_guided_model_is_not_guided(tmp_path):
    found = benchmark(prepare={"images": 6, "options": SHORT})
    trajectory = Dependencies(found).trajectory(cell_of(found)).params()
    trajectory["guidance"] = {"name": "classifier-free", "scale": 2.0}
    path = str(tmp_path / "student.safetensors")
    model = models.load(found.cards["digits-edm"], CHECKPOINT)
    preparing.write_prepared(path, model.network.state_dict(), preparing.Meter(), {})
    teacher = jobs.of_cell(trajectory, CHECKPOINT, EXECUTION, {})
    student = jobs.of_cell(trajectory, CHECKPOINT, EXECUTION, {"prepared_solver": path})
    assert isinstance(teacher.denoise, ClassifierFree)
    assert not isinstance(student.denoise, ClassifierFree)
    assert student.denoise.passes(1.0) == 1


def test_what_the_samples_are_made_from_and_what_they_cost_is_known_beforehand():
    found = benchmark(prepare={"images": 200, "options": SHORT})
    cell = cell_of(found)
    assert Files(found).prepared(cell) == {"prepared_solver": "results/b/d/s/nfe2/prepared/student.safetensors"}
    assert list(Files(found).prepared_on(cell)) == ["ends"]
    expense = learned.preparations.get("progressive-distillation").expense(200, 2, **SHORT)
    assert (evaluations.count(found, "prepare", cell), evaluations.gradients(found, "prepare", cell)) == expense
    plain, frame = plan(benchmark(solver="ddim")), plan(found)
    fine = evaluations.count(found, "fine_ends", cell)
    for column in ("evaluations", "passes"):
        assert frame.loc["all", column] - plain.loc["all", column] == expense.evaluations + fine
    assert (frame.loc["all", "gradients"], plain.loc["all", "gradients"]) == (expense.gradients, 0)
    samples = Dependencies(found).trajectory(cell).params()["prepare"]
    assert samples["options"] == {"start": 8, "iterations": 2, "batch": 4, "rate": 1e-3}


def test_gradients_take_time_in_a_plan():
    """Each as long as two evaluations besides."""
    found = benchmark(prepare={"images": 200, "options": SHORT})
    found.config["execution"]["evaluations_per_second"] = 10.0
    expense = learned.preparations.get("progressive-distillation").expense(200, 2, **SHORT)
    seconds = (expense.evaluations + 2 * expense.gradients) / 10
    assert Workloads(found).seconds("prepare", cell_of(found)) == pytest.approx(seconds)


def test_an_edit_of_the_training_changes_the_preparation_alone():
    """The digests: of the sample job that of the student's loading, of the preparation the method's."""
    found = benchmark(prepare={"images": 200, "options": SHORT})
    plain = benchmark(solver="ddim")
    depends = Dependencies(found)
    code = depends.cell_code("sample.py", cell_of(found))
    assert code != Dependencies(plain).cell_code("sample.py", cell_of(plain))
    assert depends.preparation_code(cell_of(found)) != code


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            {"distill": {"fit": "greedy"}},
            "solvers[0].distill: 'progressive-distillation' has a network of its own and is not fitted besides",
        ),
        ({"solver": "ect", "distill": {"fit": "greedy"}}, "solvers[0].distill: solver 'ect' adds noise on its way"),
        (
            {"solver": "ect", "grid": {"name": "karras", "options": {"afs": True}}},
            "solvers[0].grid.options.afs: 'ect' follows no trajectory",
        ),
        ({"solver": "consistency"}, "solvers[0].solver: 'consistency' needs a consistency model"),
        (
            {"prepare": {"options": {"start": 2}}},
            "solvers[0].prepare: start: 2 steps are none that could be halved to 2; allowed: more than 2",
        ),
        ({"prepare": {"options": {"strat": 2}}}, "unknown option 'strat' (did you mean 'start'?)"),
        (
            {"dataset": {"reference": {"solver": "sfd", "nfe": 10}}},
            "datasets[0].reference.solver: 'sfd' must be prepared, which a reference is not",
        ),
        ({"options": {"prepared": "x"}}, "'prepared' is filled in by the workflow"),
    ],
)
def test_what_a_student_network_does_not_go_with_is_refused(entry, said):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the sentence is compared below
        benchmark(**entry)
    assert said in str(error.value)


@pytest.fixture
def consistency_card(tmp_path):
    """A checkout with a consistency model beside the others."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "schemas").symlink_to(ROOT / "config" / "schemas")
    folder = tmp_path / "config" / "models"
    folder.mkdir()
    for path in (ROOT / "config" / "models").glob("digits-*"):
        (folder / path.name).symlink_to(path)
    card = yaml.safe_load((ROOT / "config" / "models" / "digits-edm.yaml").read_text())
    card["preconditioning"]["name"] = "consistency"
    (folder / "digits-cm.yaml").write_text(yaml.safe_dump(card))
    return tmp_path


def test_a_published_consistency_model_is_sampled_with_its_own_solver(consistency_card):
    dataset = {"id": "d", "model": "digits-cm", "data": "digits", "features": "digits-classifier", "images": 20}
    dataset |= {"grid": {"name": "karras"}, "seeds": 1, "reference": {"solver": "consistency", "nfe": 2}}
    entry = {
        "id": "s",
        "solver": "consistency",
        "nfe": [2],
        "grid": {"name": "explicit", "options": {"sigmas": [80, 1.4]}},
    }
    config = {"benchmark": "b", "datasets": [dataset], "solvers": [entry]}
    found = Benchmark(copy.deepcopy(config), consistency_card)
    job = job_of(found)
    assert job.denoise.boundary is not None
    assert job.solver.name == "consistency"
    assert Files(found).prepared(cell_of(found)) == {}
    for solver in ("ect", "progressive-distillation", "ddim"):
        config["solvers"][0] |= {"solver": solver}
        with pytest.raises(ValueError, match=f"'{solver}' is for diffusion models, and the dataset's is a consistency"):
            Benchmark(copy.deepcopy(config), consistency_card)
    del dataset["reference"]
    with pytest.raises(ValueError, match=r"datasets\[0\].reference.solver: 'heun' is for diffusion models"):
        Benchmark(copy.deepcopy(config), consistency_card)


def test_an_exported_result_holds_no_network(tmp_path):
    """A cell of a student network is refused."""
    shared = {"datasets": {"d": {"model": {}}}, "environments": []}
    made = {"environments": {"samples": []}, "run": {"solver": "sfd"}}
    finished = SimpleNamespace(
        cell=lambda *name: "d/s/nfe2", provenance=shared, made=lambda name: made, cells={"d/s/nfe2": tmp_path}
    )
    with pytest.raises(
        ValueError, match="the solver 'sfd' needs a prepared file, which an exported result cannot hold"
    ):
        export.record(finished, "d", "s", 2)
