"""Exported results: what loads, what is refused."""

import codecs
import copy
import json
import os
import random
import time
import tracemalloc

import pytest
import torch

import dode
from dode import grids, models, portable, solvers
from dode.benchmark import export, fit_jobs
from dode.benchmark.provenance import PACKAGES
from dode.benchmark.software import versions
from dode.directions import OUTPUTS
from dode.distillation import citations
from dode.models import mixture
from dode.report.finished import Finished
from inside_out import driven

SCHEDULE = {"name": "linear"}
NOISE = {
    "prediction": "noise",
    "image_shape": [1, 4, 4],
    "schedule": SCHEDULE,
    "network": {"name": "none", "options": {}},
}
EDM = {
    "prediction": "data",
    "image_shape": [1, 4, 4],
    "preconditioning": {"name": "edm", "sigma_data": 0.5},
    "sigma_min": 0.002,
    "sigma_max": 80.0,
}
FEWER = {"name": "linear", "steps": 900, "beta_min": 1e-4, "beta_max": 0.02}
IMPROVED = NOISE | {
    "schedule": {"name": "cosine", "steps": 4000},
    "network": {"name": "adm-unet", "options": {"index_scale": 0.25}},
}
IDDPM = {**EDM, "prediction": "noise", "preconditioning": {"name": "iddpm"}, "sigma_min": 0.02}


class Network(torch.nn.Module):
    """Some network of both kinds."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, x, index=None, condition=None):
        return torch.tanh(self.weight * x + 1e-3 * (index if condition is None else condition))


class Foreign:
    """A denoiser of another program, which does not say that its network rescales the index."""

    prediction = "noise"

    def __init__(self, own):
        self.own = own

    def __call__(self, x, sigma):
        return self.own(x, sigma)

    def at(self, schedule, shift, time=None):
        return Foreign(self.own.at(schedule, shift, time))


@pytest.fixture
def finished(tmp_path):
    """Writes a finished benchmark of one cell: ``finished(card, solver, options, grid, nfe, fit)``."""

    def write(card, solver, options, grid, nfe, fit=None, prepared=None):
        folder = tmp_path / "results"
        cell = folder / "d" / "s" / f"nfe{nfe}"
        cell.mkdir(parents=True)
        run = {"solver": solver, "options": options, "grid": grid, "nfe": nfe, "seed": 0}
        record = {"run": run, "samples": {"images": 30, "seeds": 2}, "environments": {"samples": [0, 1]}}
        (cell / "score.json").write_text(
            json.dumps({"metrics": {"fid": {"value": 1.5, "error": 0.5 * 2**0.5, "blocks": [1.0, 2.0]}}})
        )
        if fit is not None:
            record["fit"] = {"fit": "greedy", "alignment": "aligned", "directions": 2}
            made = {"cell": {**run, "model": card}, "distill": record["fit"]}
            fit_jobs.write_fit(cell / "lambdas.json", fit, made)
        if prepared is not None:
            (cell / "prepared").mkdir()
            (cell / "prepared" / "searched.json").write_text(json.dumps({"sigmas": prepared}))
        provenance = {
            "benchmark": "b",
            "datasets": {"d": {"card": "mine", "model": card}},
            "cells": {f"d/s/nfe{nfe}": record},
            "checkpoints": {"mine": {"sha256": "a" * 64}},
            "software": versions(PACKAGES),
            "environments": [{"software": {"dode": "0.1.0", "torch": version}} for version in ("2.12", "2.13")],
        }
        (folder / "provenance.json").write_text(json.dumps(provenance))
        return Finished(folder)

    return write


CASES = {
    "singlestep with inner stages": (NOISE, "dpm-solver", {"order": 3}, {"name": "uniform-index", "options": {}}, 6),
    "two evaluations a step": (EDM, "heun", {}, {"name": "karras", "options": {"rho": 5}}, 7),
    "levels of a discrete model": (IDDPM, "ddim", {}, {"name": "log-snr", "options": {}}, 4),
    "a searched grid": (EDM, "ddim", {}, {"name": "searched", "options": {}}, 3),
}


@pytest.mark.parametrize("family", ["directions", "levels", "told", "general", "plain"])
@pytest.mark.parametrize(("card", "solver"), [(EDM, "ipndm"), (NOISE, "heun"), (IDDPM, "ddim")])
def test_a_joint_fit_is_exported_whole(finished, tmp_path, card, solver, family):
    """Whatever family was kept: levels, told levels and coefficients come back to the bit, inside out as well."""
    made, denoise = solvers.create(solver), models.of_card(card, Network())
    grid = {"name": "karras", "options": {}}
    sigmas = grids.for_model(denoise, "karras", made.steps(5))
    latents = torch.randn(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    ends = dode.sample(made, denoise, latents, sigmas) if family == "plain" else None
    budget = {"directions": 20_000, "told": 12_000, "general": 12_000}.get(family, 5_000)  # enough to be kept
    fit = dode.distill(
        made, denoise, latents, sigmas, ends=ends, family="auto" if family == "plain" else family, budget=budget
    )
    assert family != "plain" or fit.family == "plain"
    expected = dode.sample(made, denoise, latents[:8], sigmas, lambdas=fit)
    record = export.record(finished(card, solver, {}, grid, 5, fit), "d", "s", 5)
    portable.write(tmp_path / "mine.json", record)
    loaded = portable.load(tmp_path / "mine.json")
    assert torch.equal(loaded.sample(denoise, latents[:8]), expected)
    run = loaded.evaluations(latents[:8], prediction=card["prediction"], prior_std=denoise.facts.prior_std)
    end, points = driven(run, denoise)
    assert len(points) == 5
    assert [float(point.sigma) for point in points] == loaded.evaluated
    assert torch.equal(end, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coefficients": [[1.0]]}, "coefficients: 3 rows of 3 numbers are needed for 2 evaluations"),
        ({"coefficients": [[0.0, 0, 0], [1, 1, 0], [1, 1, 1]]}, "not finite, or the first one not positive"),
        ({"coefficients": [[1.0, 1, 0], [1, 1, 0], [1, 1, 1]]}, "a state may depend on outputs before it alone"),
        ({"told": [1.0]}, "told must be 2 positive noise levels, one per evaluation"),
        ({"solver": {"name": "ddim", "options": {}}}, "the solver 'non-stationary' has them, and no other"),
    ],
)
def test_damaged_coefficients_are_one_sentence(change, message):
    record = {
        "format": "dode sampler",
        "version": 2,
        "solver": {"name": "non-stationary", "options": {}},
        "grid": {"name": "karras", "options": {}},
        "sigmas": [80.0, 1.0, 0.0],
        "told": [70.0, 1.0],
        "coefficients": [[80.0, 0, 0], [1.0, 1.0, 0], [0, 0.1, 0.9]],
        "nfe": 2,
        "lambdas": None,
        "directions": None,
        "model": {"card": "c", "sha256": None, "prediction": "data", "image_shape": [1, 4, 4]},
        "software": {},
        "citation": [],
    }
    assert portable.load(record).evaluated == [70.0, 1.0]
    with pytest.raises(ValueError, match=message):
        portable.load({**record, **change})


@pytest.mark.parametrize("case", CASES)
def test_a_file_gives_the_cells_own_samples_to_the_bit(finished, tmp_path, case):
    card, solver, options, grid, nfe = CASES[case]
    prepared = [80.0, 3.0, 0.1234567890123456, 0.0] if grid["name"] == "searched" else None
    (tmp_path / "searched.json").write_text(json.dumps({"sigmas": prepared}))
    own = {"prepared": tmp_path / "searched.json"} if prepared else {}
    made, denoise = solvers.create(solver, **options), models.of_card(card, Network())
    sigmas = grids.for_model(denoise, grid["name"], made.steps(nfe), **grid["options"], **own)
    latents = torch.randn(32, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    fit = dode.distill(made, denoise, latents, sigmas, directions=2, substeps=2, fit="greedy")
    expected = dode.sample(made, denoise, latents[:8], sigmas, lambdas=fit)
    record = export.record(finished(card, solver, options, grid, nfe, fit, prepared), "d", "s", nfe)
    portable.write(tmp_path / "mine.json", record)
    sampler = dode.load(tmp_path / "mine.json")
    assert torch.equal(sampler.sample(denoise, latents[:8]), expected)
    assert sampler.nfe == nfe == len(sampler.evaluated)
    assert torch.equal(sampler.sigmas, sigmas.as_subclass(torch.Tensor))
    assert sampler.record["software"] == {"dode": "0.1.0", "torch": "2.12, 2.13"}
    assert sampler.record["scores"]["fid"] == {"value": 1.5, "error": pytest.approx(0.5)}
    assert sampler.record["model"]["sha256"] == "a" * 64
    assert "2309.16421" in sampler.citation
    assert dode.load(sampler.record).record == sampler.record


def test_consistency_sampling_is_exported_with_its_noise(finished, tmp_path):
    """The noise follows from the latents, so that a file samples to the bit what the cell does, inside out as well."""
    card = EDM | {"preconditioning": {"name": "consistency", "sigma_data": 0.5}}
    grid = {"name": "explicit", "options": {"sigmas": [80.0, 2.0, 0.5]}}
    denoise, latents = models.of_card(card, Network()), mixture.latents(8, 0).float()
    sigmas = grids.for_model(denoise, "explicit", 3, **grid["options"])
    expected = dode.sample(solvers.create("consistency"), denoise, latents, sigmas)
    portable.write(tmp_path / "mine.json", export.record(finished(card, "consistency", {}, grid, 3), "d", "s", 3))
    sampler = dode.load(tmp_path / "mine.json")
    assert torch.equal(sampler.sample(denoise, latents), expected)
    assert torch.equal(driven(sampler.evaluations(latents), denoise)[0], expected)


def test_what_is_cited_is_the_declared_source_of_the_method(finished):
    record = export.record(finished(EDM, "ipndm_v", {}, {"name": "karras", "options": {}}, 3), "d", "s", 3)
    (cited,) = [line for line in record["citation"] if line.startswith("solver ipndm_v: ")]
    assert "2204.13902" in cited  # the paper of the method, not the one that its name comes from
    assert "2312.00094" not in cited
    assert "grid karras: Karras et al. 2022, arXiv:2206.00364, Eq. 5" in record["citation"]


@pytest.mark.parametrize("card", [NOISE, IMPROVED])
@pytest.mark.parametrize(("solver", "options"), [("ipndm", {}), ("deis", {"order": 2}), ("dpm-solver", {"order": 2})])
def test_a_recipe_of_the_authors_is_made_again(finished, card, solver, options):
    grid = {"name": "released", "options": {}}
    record = export.record(finished(card, solver, options, grid, 5), "d", "s", 5)
    sampler, denoise = dode.load(record), models.of_card(card, Network())
    latents = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    recipe = dode.released.recipe(solver, options.get("order"), denoise, 5, 1)
    expected = dode.sample(recipe.student, recipe.bound(denoise), latents, recipe.sigmas) * recipe.to_images
    assert torch.equal(sampler.sample(denoise, latents), expected)
    assert torch.equal(sampler.sample(Foreign(denoise), latents), expected)
    facts = sampler.facts
    assert (facts.shift, facts.index_factor) == (recipe.facts.shift, recipe.facts.index_factor)
    assert (facts.index_factor != 1) == (card is IMPROVED)
    own = {"prediction": "noise", "prior_std": facts.prior_std, "shift": facts.shift}
    if card is IMPROVED:
        with pytest.raises(ValueError, match=r"index_factor: 1\.0 is not allowed; allowed: "):
            sampler.evaluations(latents, **own)
    sampler.evaluations(latents, **own, index_factor=facts.index_factor)
    with pytest.raises(ValueError, match="is for noise prediction, but the model is for data"):
        sampler.sample(mixture.denoise, latents)


@pytest.mark.parametrize("part", ["cell", "distill"])
def test_a_fit_of_another_configuration_than_the_record_is_not_exported(finished, part):
    fit = dode.distill(solvers.create("ddim"), mixture.denoise, mixture.latents(32, 1), [80.0, 1.0, 0.0], fit="greedy")
    made = finished(EDM, "ddim", {}, {"name": "karras", "options": {}}, 2, fit)
    path = made.cells["d/s/nfe2"] / "lambdas.json"
    changed = json.loads(path.read_text())
    changed[part]["seed"] = 1
    path.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=r"lambdas\.json was made with another configuration"):
        export.record(made, "d", "s", 2)


def test_a_result_on_a_grid_that_ends_above_0_has_the_evaluations_that_are_made(good):
    sigmas = grids.karras(steps=4)[:-1].tolist()
    made = good | {"solver": {"name": "heun", "options": {}}, "sigmas": sigmas, "lambdas": None, "directions": None}
    sampler = dode.load(made | {"nfe": 6})
    assert len(sampler.evaluated) == sampler.nfe == 6
    expected = dode.sample(solvers.create("heun"), mixture.denoise, mixture.latents(2, 1), sigmas)
    assert torch.equal(sampler.sample(mixture.denoise, mixture.latents(2, 1)), expected)
    with pytest.raises(ValueError, match="4 sigmas do not match 5 evaluations"):
        dode.load(made | {"nfe": 5})


MODEL = {"card": "m", "sha256": None, "prediction": "data", "image_shape": [1, 2, 2]}


@pytest.fixture(scope="module")
def good():
    sigmas = grids.karras(steps=3).tolist()
    return {
        "format": "dode sampler",
        "version": 1,
        "solver": {"name": "ddim", "options": {}},
        "grid": {"name": "karras", "options": {}},
        "sigmas": sigmas,
        "nfe": 3,
        "lambdas": [[0.0], [0.1], [0.2]],
        "directions": {"differences": 1, "drift": False, "outputs": "data", "from_noise": False},
        "model": MODEL,
        "software": {},
        "citation": [],
    }


FAULTS = {
    "not ours": ({"format": "other"}, "not an exported result"),
    "of the future": ({"version": 5}, "version 5 of the format is not supported; this release reads 1 to 4"),
    "of a version without its keys": ({"version": 3}, "version: 3 is of results with an index_scale"),
    "unknown key": ({"lambda": []}, r"unknown key 'lambda' \(did you mean 'lambdas'\?\)"),
    "missing key": ({"nfe": None, "-": "nfe"}, "the key 'nfe' is missing"),
    "unknown solver": ({"solver": {"name": "ddmi", "options": {}}}, "unknown solver 'ddmi'"),
    "unknown option": ({"solver": {"name": "ddim", "options": {"eta": 1}}}, "unknown option 'eta'"),
    "unknown grid": ({"grid": {"name": "karas", "options": {}}}, "unknown grid 'karas'"),
    "sigmas of another number": ({"nfe": 4}, "4 sigmas do not match 4 evaluations"),
    "sigmas that ascend": ({"sigmas": [1.0, 2.0, 0.5, 0.0]}, "strictly descending"),
    "a row missing": ({"lambdas": [[0.0], [0.1]]}, "do not match 3 evaluations"),
    "a column too many": ({"lambdas": [[0.0, 1.0]] * 3}, "2 columns, but the number of directions is 1"),
    "ragged": ({"lambdas": [[0.0], [0.1, 1], [0.2]]}, "not a matrix"),
    "NaN": ({"lambdas": [[0.0], [float("nan")], [0.2]]}, "finite"),
    "no directions": (
        {"directions": {"differences": 0, "drift": False, "outputs": "data", "from_noise": False}},
        "least one",
    ),
    "coefficients of nothing": ({"directions": None}, "either both or neither must be null"),
    "directions of nothing": ({"lambdas": None}, "either both or neither must be null"),
    "unknown key of a schedule": (
        {"model": {**MODEL, "schedule": {"name": "linear", "beta_mx": 0.02}}},
        "schedule 'linear': unknown option 'beta_mx'",
    ),
    "a schedule without end": (
        {"model": {**MODEL, "schedule": {"name": "linear", "steps": 10.0}}},
        "steps of a schedule",
    ),
    "betas above one": ({"model": {**MODEL, "schedule": {"name": "linear", "beta_max": 7}}}, "below 1"),
    "unknown key of a preconditioning": (
        {"model": {**MODEL, "preconditioning": {"name": "edm", "sigma_dta": 0.5}}},
        "preconditioning 'edm': unknown option 'sigma_dta'",
    ),
    "a recipe without its schedule": (
        {"grid": {"name": "released", "options": {}}, "model": {**MODEL, "prediction": "noise"}},
        "need the schedule of the model",
    ),
    "text": ({"nfe": "3"}, "nfe: '3' is not allowed; allowed: a value of type integer"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_file_is_one_sentence_that_names_it(good, tmp_path, fault):
    changes, says = FAULTS[fault]
    record = {**copy.deepcopy(good), **changes}
    record.pop(record.pop("-", None), None)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=says) as caught:
        dode.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_cut_off_anywhere_is_refused(good, tmp_path):
    text, path = json.dumps(good), tmp_path / "mine.json"
    for length in range(0, len(text), 7):
        path.write_text(text[:length])
        with pytest.raises(ValueError, match="not JSON, or cut off"):
            dode.load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not JSON"):
        dode.load(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="not an exported result"):
        dode.load(path)
    with pytest.raises(OSError, match=r"none\.json"):
        dode.load(tmp_path / "none.json")


RECORDS = {
    "singlestep": (NOISE, "dpm-solver", {"order": 3}, {"name": "uniform-index", "options": {"spacing": "leading"}}, 6),
    "heun": (EDM, "heun", {}, {"name": "karras", "options": {"rho": 5}}, 7),
    "unipc": (IDDPM, "unipc", {"order": 2, "variant": "bh1"}, {"name": "log-snr", "options": {}}, 4),
    "recipe, plain": (NOISE, "ddim", {}, {"name": "released", "options": {}}, 4),
    "recipe with a shift": (NOISE | {"schedule": FEWER}, "ipndm", {}, "released", 5),
    "recipe of rescaled times": (IMPROVED, "ipndm", {}, "released", 5),
    "recipe of a part of the schedule": (IMPROVED, "dpm-solver", {"order": 2}, "released", 5),
    "v": (NOISE | {"prediction": "v"}, "ddim", {}, {"name": "karras", "options": {}}, 3),
    "recipe on its own nodes": (NOISE, "dpm-solver", {"order": 2}, "released", 5),
    "recipe of data prediction": (EDM, "heun", {}, "released", 5),
}
WRONG = (None, True, "x", -1, 0.5, 1e300, 10**400, float("nan"), float("-inf"), [], {}, [[]], {"name": "x"})


def places(value, path=()):
    """Paths of all keys and entries within."""
    own = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in own:
        yield (*path, key)
        yield from places(inner, (*path, key))


def kind(value):
    """What JSON calls it, of the kinds that have any value to take."""
    return {int: "number", float: "number", bool: "boolean", type(None): "null"}.get(type(value), "other")


def damaged(record):
    """The record with each entry taken away, renamed or replaced, one at a time, and what was done."""
    for *path, key in places(record):
        for fault in ("gone", "renamed", *WRONG):
            changed = copy.deepcopy(record)
            inside = changed
            for part in path:
                inside = inside[part]
            if fault == "renamed":
                if not isinstance(key, str):
                    continue
                inside[key + "x"] = inside.pop(key)
            elif fault == "gone":
                del inside[key]
            elif kind(inside[key]) == kind(fault) != "other":
                continue  # another number may be one that was meant
            else:
                inside[key] = fault
            yield [*path, key, fault], changed


def effect(sampler):
    """All that samples follow from."""
    facts = sampler.facts
    schedule = facts.schedule.alphas_cumprod.tolist() if sampler.recipe and facts.schedule else None
    lambdas = None if sampler.lambdas is None else sampler.lambdas.tolist()
    numbers = (sampler.sigmas.tolist(), lambdas, sampler.to_images, sampler.nfe)
    return (
        repr(sampler.solver),
        *numbers,
        sampler.directions,
        facts.prediction,
        facts.shift,
        facts.index_factor,
        schedule,
    )


def loaded(record):
    """The sampler, or why it is refused."""
    try:
        return dode.load(record)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("case", RECORDS)
def test_every_single_damage_is_refused_or_without_effect(finished, case):
    """Each key and entry of real records deleted, renamed, or of another type."""
    card, solver, options, grid, nfe = RECORDS[case]
    grid = {"name": grid, "options": {}} if isinstance(grid, str) else grid
    record = json.loads(json.dumps(export.record(finished(card, solver, options, grid, nfe), "d", "s", nfe)))
    if "recipe, plain" not in case:
        record["lambdas"] = [[0.0, 0.1]] + [[0.25, 0.5]] * (nfe - 1)
        record["directions"] = {
            "differences": 1,
            "drift": True,
            "outputs": OUTPUTS[card["prediction"]],
            "from_noise": False,
        }
    expected, harmless = effect(dode.load(record)), set()
    for done, changed in damaged(record):
        found = loaded(changed)
        if isinstance(found, str):
            assert "\n" not in found, done
            assert len(found) < 1500, done
            continue
        place = ".".join(map(str, done[:-1]))
        if place.startswith("solver.options"):
            continue  # what is left out has its default
        harmless.add(place)
        assert effect(found) == expected, done
    record = (
        "grid.options",
        "scores",
        "cell",
        "software",
        "citation",
        "model.card",
        "model.sha256",
        "model.image_shape",
    )
    unread = ("model.schedule", "model.preconditioning", "model.sigma_min", "model.sigma_max")
    assert not [place for place in harmless if not place.startswith((*record, *unread))]


def changed(record, path, value):
    """A copy of a record with another value at a path of keys and indices, which may be new."""
    record = copy.deepcopy(record)
    inside = record
    for part in path[:-1]:
        inside = inside[part]
    inside[path[-1]] = value
    return record


SCHEDULED = {**MODEL, "prediction": "noise"}
HUGE = {
    "steps of a schedule": (
        ("model",),
        {**SCHEDULED, "schedule": {"name": "linear", "steps": 10**9}},
        "at most 100000",
    ),
    "of a cosine schedule": (
        ("model",),
        {**SCHEDULED, "schedule": {"name": "cosine", "steps": 2**40}},
        "at most 100000",
    ),
    "a few steps too many": (
        ("model",),
        {**SCHEDULED, "schedule": {"name": "cosine", "steps": 10**5 + 1}},
        "at most 100000",
    ),
    "of a preconditioning": (
        ("model",),
        {**SCHEDULED, "preconditioning": {"name": "iddpm", "steps": 10**9}, "sigma_min": 0.1, "sigma_max": 10},
        "at most 100000",
    ),
    "evaluations": (("nfe",), 10**9, "nfe: 1000000000 is not allowed; allowed: at most 10000"),
    "differences": (("directions", "differences"), 10**9, "at most 1000"),
    "a side of the image": (("model", "image_shape"), [3, 10**9, 32], "at most 65536"),
    "classes": (("model", "classes"), 10**12, "at most 10000000"),
    "a level": (("sigmas", 0), 1e300, "sigmas.0.: 1e.300 is not allowed; allowed: at most 1000000000"),
    "a coefficient": (("lambdas", 1, 0), -1e300, "at least -1000000000"),
    "a bound of the levels": (("model",), {**MODEL, "sigma_min": 0.1, "sigma_max": 1e300}, "at most 1000000000"),
    "what the index is multiplied by": (("model",), {**MODEL, "index_scale": 1e300}, "at most 1000000"),
    "an integer": (("sigmas", 0), 10**400, "an integer of 401 digits"),
    "an integer of the record": (("scores",), {"a": 10**4000}, "an integer of 4001 digits"),
    "many levels": (("sigmas",), [float(n) for n in range(20_000, 0, -1)], "at most 10001 entries, not 20000"),
    "many values": (("citation",), [""] * 300_000, "more than the 200000"),
    "much text": (("citation",), ["x" * 5_000_000], "has more than 4194304 bytes"),
    "an order": (("solver",), {"name": "ipndm", "options": {"order": 10**9}}, "order"),
}


@pytest.mark.parametrize("case", HUGE)
def test_every_number_has_a_bound_that_is_checked_before_anything_is_allocated(good, tmp_path, case):
    place, value, says = HUGE[case]
    record = changed(good, place, value)
    (tmp_path / "mine.json").write_text(json.dumps(record))
    for source in (record, tmp_path / "mine.json"):
        tracemalloc.start()
        with pytest.raises(ValueError, match=says) as caught:
            dode.load(source)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 60e6
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, '{"a": 1, "a": 2}', "1e999", "-Infinity"]
)
def test_a_text_that_is_no_plain_json_is_refused_in_one_sentence(tmp_path, text):
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(ValueError, match=r"mine\.json: it ") as caught:
        dode.load(tmp_path / "mine.json")
    assert "\n" not in str(caught.value)


def test_what_is_no_regular_file_is_not_opened(tmp_path, good):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(ValueError, match="not a regular file"):
            dode.load(path)
    endless = dict(good)
    endless["fit"] = endless
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        dode.load(endless)


def test_a_byte_order_mark_is_passed_over_and_what_is_shown_is_escaped(tmp_path, good):
    """As editors write the first; the names in a file are somebody else's."""
    record = {**good, "model": {**good["model"], "card": "\x1b[31mred"}, "citation": ["\x1b]0;title\x07"]}
    (tmp_path / "mine.json").write_bytes(codecs.BOM_UTF8 + json.dumps(record).encode())
    sampler = dode.load(tmp_path / "mine.json")
    assert repr(sampler).endswith(r"of \x1b[31mred>")
    assert sampler.citation == r"\x1b]0;title\x07"


@pytest.mark.parametrize("source", [None, [], b"{}", 3])
def test_what_is_neither_a_file_nor_its_contents_is_one_sentence(source):
    with pytest.raises(ValueError, match="is not allowed; allowed: a file, or its contents as a dictionary"):
        dode.load(source)


def test_numbers_of_the_record_may_be_none_at_all(good):
    """Of one seed a score's error is NaN, which a file has as null."""
    assert dode.load({**good, "scores": {"fid": {"value": 1.0, "error": float("nan")}}}).record["scores"] == {
        "fid": {"value": 1.0, "error": None}
    }


def test_any_mutation_is_loaded_or_refused_with_one_kind_of_error(tmp_path, good):
    original, chance, path = json.dumps(good).encode(), random.Random(5), tmp_path / "mutated.json"
    begun = time.process_time()
    for _ in range(400):
        content = bytearray(original)
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(content))
            part = chance.choice(
                [b"9" * 5000, b"[" * 3000, b"-", b"e9", b"999999999", b"null", b'"', b"\xff", b"", b"NaN"]
            )
            content[place : place + chance.randint(0, 3)] = part
        path.write_bytes(content)
        refusal = ""
        try:
            dode.load(path)
        except ValueError as error:
            refusal = str(error)
        assert len(refusal) < 1500
        assert "\n" not in refusal
    assert time.process_time() - begun < 60


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"fit": None}, ["solver ddim", "grid karras"]),
        ({"fit": "greedy"}, ["Kim, Tang & Yu, Distilling", "solver ddim", "grid karras"]),
        ({"fit": "joint", "general": True}, ["Kim, Tang & Yu, Distilling", "solver non-stationary"]),
        ({"fit": "gs", "general": True}, ["fit gs: Oganov et al. 2025, arXiv:2510.17699", "solver non-stationary"]),
        ({"fit": "pas", "afs": True}, ["fit pas", "solver ddim", "grid karras", "analytic first step: Dockhorn"]),
    ],
    ids=str,
)
def test_the_method_that_fitted_is_cited_and_no_other(how, expected):
    cited = citations.sources("ddim", "karras", **{"general": False, "afs": False, **how})
    assert all(line.startswith(begin) for line, begin in zip(cited, expected, strict=True))
