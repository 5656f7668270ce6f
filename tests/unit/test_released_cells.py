"""The authors' recipes as cells of the workflow: the same samples as :func:`dode.released.run` gives."""

from pathlib import Path

import pytest
import torch

from dode import sampling
from dode.benchmark import config as configs
from dode.benchmark import jobs
from dode.benchmark.cells import Benchmark
from dode.distillation import fitting, released
from dode.distillation import teacher as teachers

ROOT = Path(__file__).parents[2]
EXECUTION = {"device": "cpu", "batch_size": 5}


def benchmark(model, **entry):
    reference = {"solver": "heun", "nfe": 5, "grid": {"name": "karras"}}
    dataset = {"id": "d", "model": model, "data": "digits", "features": "digits-classifier", "images": 6}
    entry = {"id": "s", "grid": {"name": "released"}, "nfe": [5], **entry}
    grid = {"grid": {"name": "karras"}, "reference": reference}
    return Benchmark({"benchmark": "released", "datasets": [{**dataset, **grid}], "solvers": [entry]}, ROOT)


def cell_and_run(model, **entry):
    bench = benchmark(model, **entry)
    cell = bench.cells["d", "s", 5]
    parameters = bench.fit(cell) if cell.distilled else bench.samples(cell)
    return jobs.run_of(parameters, ROOT / f"config/models/{model}.safetensors", EXECUTION)


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
    distill = {"alignment": "released", "images": 8, "substeps": 3}
    run = cell_and_run(model, solver=solver, options=options, distill=distill)
    network = run.denoise.network

    def published(x, where):
        if model == "digits-edm":
            return jobs.Run(run.run, ROOT / f"config/models/{model}.safetensors", EXECUTION).denoise(x.float(), where)
        return network(x.float(), where.float()).double()

    fit_latents, latents = run.fit_latents(), run.latents(range(6))
    expected = released.run(run.denoise.prediction, solver, order, steps, 3, published, fit_latents, latents)
    # The workflow computes the network in its own precision, the recipe's run in double.
    states = teachers.trajectory(run.pairing(), run.denoise, fit_latents)
    fit = fitting.fit(run.solver, run.denoise, fit_latents, run.sigmas, run.pairing(), states)
    images = run.images(sampling.sample(run.solver, run.denoise, latents, run.sigmas, lambdas=fit))
    torch.testing.assert_close(images, expected.distilled_new.to(images.dtype), rtol=0, atol=2e-3)
    plain = cell_and_run(model, solver=solver, options=options)
    images = plain.images(sampling.sample(plain.solver, plain.denoise, latents, plain.sigmas))
    torch.testing.assert_close(images, expected.baseline_new.to(images.dtype), rtol=0, atol=2e-3)


def test_the_network_of_a_recipe_is_called_at_its_own_index():
    """iPNDM's network is called one index lower than the state is at."""
    run = cell_and_run("digits-ddpm", solver="ipndm")
    levels = run.sigmas[:-1].tolist()
    assert [round(run.denoise.facts.index(sigma), 3) for sigma in levels] == [998.0, 798.2, 598.4, 398.6, 198.8]
    assert float(run.sigmas[-1]) > 0


@pytest.mark.parametrize(
    ("model", "entry", "said"),
    [
        ("digits-edm", {"solver": "ipndm"}, "no recipe for solver 'ipndm' with data prediction"),
        ("digits-ddpm", {"solver": "heun"}, "no recipe for solver 'heun' with noise prediction"),
        ("digits-ddpm", {"solver": "deis", "options": {"variable": "log-sigma"}}, "no option variable 'log-sigma'"),
        ("digits-ddpm", {"solver": "ipndm", "options": {"order": 3}}, "no option order 3"),
        ("iddpm-imagenet64", {"solver": "dpm-solver"}, r"cuts a schedule off at half log-SNR -5\.1"),
    ],
)
def test_what_the_authors_code_has_not_is_refused_before_any_job(model, entry, said):
    with pytest.raises(configs.ConfigError, match=said):
        benchmark(model, **entry)
