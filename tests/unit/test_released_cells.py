"""The authors' recipes as cells of the workflow: the same samples as :func:`dode.released.run` gives."""

from pathlib import Path

import pytest
import torch

from dode import sampling
from dode.benchmark import config as configs
from dode.benchmark import fit_jobs, jobs, pairing
from dode.benchmark.cells import Benchmark
from dode.benchmark.dependencies import Dependencies
from dode.distillation import greedy, released
from dode.distillation import teacher as teachers
from dode.models import loading

ROOT = Path(__file__).parents[2]
EXECUTION = {"device": "cpu", "batch_size": 5}


def benchmark(model, **entry):
    reference = {"solver": "heun", "nfe": 5, "grid": {"name": "karras"}}
    dataset = {"id": "d", "model": model, "data": "digits", "features": "digits-classifier", "images": 6}
    entry = {"id": "s", "grid": {"name": "released"}, "nfe": [5], **entry}
    grid = {"grid": {"name": "karras"}, "reference": reference}
    return Benchmark({"benchmark": "released", "datasets": [{**dataset, **grid}], "solvers": [entry]}, ROOT)


def cell_job(model, **entry):
    """The job of a cell, and the parameters of its teacher (None for a plain one)."""
    bench = benchmark(model, **entry)
    depends, cell = Dependencies(bench), bench.cells["d", "s", 5]
    job = jobs.of_cell(depends.trajectory(cell).params(), checkpoint(model), EXECUTION)
    return job, depends.teacher(cell).params() if cell.fitted else None


def checkpoint(model):
    return ROOT / f"config/models/{model}.safetensors"


RECIPES = [
    ("digits-ddpm", "ddim", {}, None, 5),
    ("digits-ddpm", "ipndm", {"order": 4}, None, 5),
    ("digits-ddpm", "deis", {"order": 3}, 3, 5),
    ("digits-ddpm", "dpm-solver", {"order": 2}, 2, 5),
    ("digits-ddpm", "dpm-solver", {}, 3, 5),
    ("digits-edm", "ddim", {}, None, 5),
    ("digits-edm", "heun", {}, None, 3),
]


@pytest.mark.parametrize(("model", "solver", "options", "order", "steps"), RECIPES)
def test_a_cell_has_the_samples_of_the_recipe(model, solver, options, order, steps):
    distill = {"fit": "greedy", "alignment": "released", "images": 8, "substeps": 3}
    job, teacher = cell_job(model, solver=solver, options=options, distill=distill)
    fitting_set, network = fit_jobs.FittingSet(job, teacher), job.denoise.network

    def published(x, where):
        if model == "digits-edm":
            return jobs.CellJob(job.trajectory, checkpoint(model), EXECUTION).denoise(x.float(), where)
        return network(x.float(), where.float()).double()

    fit_latents, latents = fitting_set.latents, job.latents(range(6))
    expected = released.run(job.denoise.prediction, solver, order, steps, 3, published, fit_latents, latents)
    # The workflow computes the network in its own precision, the recipe's run in double.
    states = teachers.trajectory(pairing.of(fitting_set), fitting_set.denoise, fit_latents)
    fit = greedy.fit_to(job.solver, fitting_set.denoise, fit_latents, job.sigmas, pairing.of(fitting_set), states)
    images = job.images(sampling.sample(job.solver, job.denoise, latents, job.sigmas, lambdas=fit))
    torch.testing.assert_close(images, expected.distilled_new.to(images.dtype), rtol=0, atol=2e-3)
    plain, _ = cell_job(model, solver=solver, options=options)
    images = plain.images(sampling.sample(plain.solver, plain.denoise, latents, plain.sigmas))
    torch.testing.assert_close(images, expected.baseline_new.to(images.dtype), rtol=0, atol=2e-3)


def test_the_network_of_a_recipe_is_called_at_its_own_index():
    """iPNDM's network is called one index lower than the state is at."""
    job, _ = cell_job("digits-ddpm", solver="ipndm")
    levels = job.sigmas[:-1].tolist()
    assert [round(job.denoise.facts.index(sigma), 3) for sigma in levels] == [998.0, 798.2, 598.4, 398.6, 198.8]
    assert float(job.sigmas[-1]) > 0


@pytest.mark.parametrize(
    ("solver", "student", "teacher"),
    [
        ("ddim", [3200, 2400], [3733, 3466]),
        ("ipndm", [3998, 3198.2], [3998, 3731.4]),
        ("dpm-solver", [999.749, 799.799], [3733, 3466]),
    ],
)
def test_improved_ddpm_is_called_at_the_times_that_the_authors_gave_it(monkeypatch, solver, student, teacher):
    """By the jobs of student and teacher; the network makes a quarter of an index, as its card says."""
    embedded = []

    class Network(torch.nn.Linear):
        def forward(self, x, index):
            embedded.append(round(0.25 * float(index), 3))
            return torch.tanh(x)

    monkeypatch.setattr(loading, "load_network", lambda *given, **how: Network(1, 1))
    distill = {"fit": "greedy", "alignment": "released", "images": 8, "substeps": 3}
    job, followed = cell_job("iddpm-imagenet64", solver=solver, distill=distill)
    fitting_set = fit_jobs.FittingSet(job, followed)
    list(teachers.trajectory(pairing.of(fitting_set), fitting_set.followed, torch.zeros(1, 3, 2, 2)))
    assert embedded[:2] == teacher
    embedded.clear()
    sampling.sample(job.solver, job.denoise, torch.zeros(1, 3, 2, 2), job.sigmas)
    assert embedded[:2] == student


@pytest.mark.parametrize(
    ("model", "entry", "said"),
    [
        ("digits-edm", {"solver": "ipndm"}, "no recipe for solver 'ipndm' with data prediction"),
        ("digits-ddpm", {"solver": "heun"}, "no recipe for solver 'heun' with noise prediction"),
        ("digits-ddpm", {"solver": "deis", "options": {"variable": "log-sigma"}}, "no option variable 'log-sigma'"),
        ("digits-ddpm", {"solver": "ipndm", "options": {"order": 3}}, "no option order 3"),
    ],
)
def test_what_the_authors_code_has_not_is_refused_before_any_job(model, entry, said):
    with pytest.raises(configs.ConfigError, match=said):
        benchmark(model, **entry)
