"""Every method that learns, on the shortest and the oddest grids: it runs, or is refused in one sentence beforehand."""

import copy
import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

import dode
from dode import driver, grids, solvers
from dode.benchmark.cells import Benchmark
from dode.distillation import by_method, learned
from dode.distillation import teacher as teachers
from dode.distillation.task import Task
from dode.grids.facts import ModelFacts
from dode.models import mixture
from dode.models.embedded.residual_mlp import ResidualMLP
from dode.models.predictions import DataPrediction
from dode.validation import ConfigError

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / "tests/unit/cells.yaml").read_text())
BRIEF = {"iterations": 2, "batch": 4, "epochs": 2, "tries": 4, "rounds": 1, "told_rounds": 1, "levels": 40, "start": 8}
SENTENCE = re.compile(r"[^\n]{20,400}")
GRIDS = [(1, {}), (1, {"end": "sigma_min"}), (2, {"afs": True}), (2, {"afs": True, "end": "sigma_min"}), (2, {})]
every_grid = pytest.mark.parametrize(("steps", "options"), GRIDS)


def brief(method):
    """Options of a method with which it takes little time."""
    return {name: value for name, value in BRIEF.items() if name in method.options}


def on(solver, steps, options):
    """The levels, and the number of evaluations on them."""
    sigmas = grids.karras(steps=steps, sigma_min=0.002, sigma_max=80.0, **options)
    return sigmas, grids.placed(solver, options).nfe(steps, end=grids.ends_at(options))


def refusal(entry, options, nfe):
    """What the configuration says of a solver's entry on a dataset whose model's range is known; None if nothing."""
    config = copy.deepcopy(CONFIG)
    own = {"id": "s", "label": "s", "nfe": [nfe], "grid": {"name": "karras", "options": options}, **entry}
    config["datasets"], config["solvers"], config["figures"] = config["datasets"][1:2], [own], {}
    config["solvers"][0]["datasets"] = [config["datasets"][0]["id"]]
    try:
        Benchmark(config, ROOT)
    except ConfigError as error:
        return str(error)
    return None


@every_grid
@pytest.mark.parametrize("base", ["ddim", "heun", "unipc"])
@pytest.mark.parametrize("name", learned.fits.names())
def test_a_fit_runs_where_the_configuration_takes_it(name, base, steps, options):
    method, solver = learned.fits.get(name), solvers.create(base)
    sigmas, nfe = on(solver, steps, options)
    said = refusal({"solver": base, "distill": {"fit": name, "images": 24, "options": brief(method)}}, options, nfe)
    if said is not None:
        assert SENTENCE.fullmatch(said), said
        return
    student = fitted(method, solver, ranged(), sigmas)
    assert student.nfe == nfe


@every_grid
@pytest.mark.parametrize("name", learned.fits.names())
def test_a_fit_of_a_model_of_unknown_range_runs_or_is_refused_in_one_sentence(name, steps, options):
    method, solver = learned.fits.get(name), solvers.create("unipc" if name == "dc-solver" else "ddim")
    sigmas, nfe = on(solver, steps, options)
    span, said = learned.Span(steps, float(sigmas[-1])), None
    try:
        method.check_solver(grids.placed(solver, options), span, **brief(method))
        method.check(24, nfe, **brief(method))
    except ValueError as error:
        said = str(error)
    if said is not None:
        assert SENTENCE.fullmatch(said), said
        return
    student = fitted(method, solver, mixture.denoise, sigmas)
    assert student.nfe == nfe
    assert float(torch.as_tensor(student.sigmas)[-1]) < float(sigmas[0])


def ranged():
    """The exact toy, which says its range of noise levels."""

    def denoise(x, sigma):
        return mixture.denoise(x, sigma)

    denoise.facts = ModelFacts(sigma_min=0.002, sigma_max=80.0)
    return denoise


def fitted(method, solver, denoise, sigmas):
    noise, followed = mixture.latents(24, 5), {}
    if method.follows == "ends":
        followed = {"ends": mixture.exact(24, 5)}
    elif method.follows == "states":
        followed = {"states": list(teachers.trajectory(teachers.aligned(solver, sigmas, 2), denoise, noise))}
    student = by_method.fit_by_method(
        method.name, driver.on_grid(solver, sigmas), denoise, noise, sigmas, options=brief(method), **followed
    ).student
    assert student.sample(denoise, mixture.latents(3, 1)).isfinite().all()
    return student


@every_grid
@pytest.mark.parametrize("name", learned.preparations.names())
def test_a_preparation_runs_where_the_configuration_takes_it(name, steps, options, tmp_path):
    method, solver = learned.preparations.get(name), solvers.create(name)
    sigmas, nfe = on(solver, steps, options)
    said = refusal({"solver": name, "prepare": {"images": 24, "options": brief(method)}}, options, nfe)
    if said is not None:
        assert SENTENCE.fullmatch(said), said
        return
    network = ResidualMLP(image_shape=(1, 4, 4), width=16, blocks=1)
    denoise = DataPrediction(network, sigma_data=0.5) if solver.method.network else ranged()
    own = Task(solver, denoise, mixture.latents(24, 5).float(), sigmas, ends=mixture.exact(24, 5))
    save_file({key: each.contiguous() for key, each in method(own, **brief(method)).items()}, tmp_path / "prepared")
    if not solver.method.network:
        prepared = solvers.create(name, prepared=str(tmp_path / "prepared"))
        assert dode.sample(prepared, denoise, mixture.latents(3, 1), sigmas).isfinite().all()
    assert own.nfe == nfe
    assert 0 < own.meter.evaluations <= method.expense(24, nfe, **brief(method)).evaluations


def test_what_is_refused_is_known():
    """The grids that no method is for, on which something else is to be learnt, do not grow unseen."""
    amed = refusal({"solver": "amed", "prepare": {"options": {}}}, {}, 1)
    assert amed.startswith("solvers[0].prepare: preparation 'amed': 1 evaluation is the step to 0")
    for name in ("ld3", "dyweight", "gs"):
        with pytest.raises(ValueError, match=f"fit '{name}' goes from the grid's first noise level to the model's"):
            learned.fits.get(name).check_solver(solvers.create("ddim"), learned.Span(1))
        learned.fits.get(name).check_solver(solvers.create("ddim"), learned.Span(1, lowest=0.002))
