"""Shards, walltime, memory and groups from what the configuration says of speed."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from dode.benchmark.cells import Benchmark
from dode.benchmark.config import ConfigError
from dode.benchmark.workloads import FIT, SCORE, Workloads

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((Path(__file__).parent / "cells.yaml").read_text())
RULES = tuple(rule for rule in (*FIT, "sample", *SCORE) if rule != "fine_ends")


def workloads(**execution):
    config = copy.deepcopy(CONFIG)
    config["execution"] = {**config.get("execution", {}), **execution}
    return Workloads(Benchmark(config, ROOT))


def cell_of(work, *key):
    return work.benchmark.cells[key]


def test_samples_take_an_evaluation_for_each_image_and_nfe():
    work = workloads()
    for cell in work.benchmark.cells.values():
        assert work.evaluations("sample", cell) == cell.dataset["images"] * cell.dataset["seeds"] * cell.nfe
        assert (work.evaluations("teacher", cell) > 0) == cell.fitted
        assert (work.evaluations("distill", cell) > 0) == cell.fitted
        assert work.evaluations("gather", cell) == 0


def test_shards_are_as_many_as_last_the_wanted_time():
    """By hand: images x NFE evaluations at 10 a second, in jobs of 2 minutes, 1,200 evaluations each."""
    work = workloads(shards="auto", evaluations_per_second=10, job_minutes=2)
    for cell in work.benchmark.cells.values():
        evaluations = cell.dataset["images"] * cell.dataset["seeds"] * cell.nfe
        assert work.shards(cell) == min(-(-evaluations // 1200), cell.dataset["images"] * cell.dataset["seeds"])
        assert len(work.shard_files(cell, ".npy")) == work.shards(cell)
        assert work.seconds("sample", cell) <= 120


def test_a_dataset_has_settings_of_its_own():
    own = {"digits-edm": {"mem_mb": 20000, "gpus": 1, "runtime": 7, "shards": 3}}
    work = workloads(mem_mb=1000, gpus=0, runtime=5, shards=2, datasets=own)
    edm, ddpm = SimpleNamespace(get={"dataset": "digits-edm"}.get), SimpleNamespace(get={"dataset": "digits-ddpm"}.get)
    assert (work.memory(edm, 1), work.memory(edm, 2), work.memory(edm, 3)) == (20000, 30000, 40000)
    assert (work.memory(ddpm, 1), work.memory(ddpm, 2)) == (1000, 1500)
    assert (work.gpus(edm), work.gpus(ddpm)) == (1, 0)
    assert (work.walltime(edm, 1), work.walltime(edm, 2), work.walltime(ddpm, 3)) == (7, 14, 15)
    assert work.memory(SimpleNamespace(get={}.get), 1) == 1000
    assert work.shards(cell_of(work, "digits-edm", "ddim", 5)) == 3
    assert work.shards(cell_of(work, "digits-ddpm", "ddim", 5)) == 2


def test_walltime_is_twice_what_is_expected_and_more_and_grows_with_attempts():
    work = workloads(shards=1, evaluations_per_second=1, runtime=10, job_minutes=1)
    cell = cell_of(work, "digits-edm", "ddim", 5)
    minutes = cell.dataset["images"] * cell.dataset["seeds"] * 5 / 60
    assert work.runtime("sample", cell, 1) == pytest.approx(10 + 2 * minutes, abs=1)
    assert work.runtime("sample", cell, 3) == pytest.approx(3 * (10 + 2 * minutes), abs=1)


def test_without_a_speed_nothing_is_grouped():
    work = workloads()
    assert {work.group(rule, cell) for rule in RULES for cell in work.benchmark.cells.values()} == {None}


@pytest.mark.parametrize("minutes", [2, 5, 30])
def test_a_short_cell_is_one_group_and_a_long_one_has_one_before_and_one_after_its_samples(minutes):
    work = workloads(shards="auto", evaluations_per_second=500, features_per_second=1000, job_minutes=minutes)
    kinds = set()
    for cell in work.benchmark.cells.values():
        if cell.entry["id"] == "reference":
            continue
        groups = {rule: work.group(rule, cell) for rule in RULES}
        name = "-".join(map(str, cell.key))
        if work.minutes(cell) <= minutes and work.shards(cell) == 1:
            assert set(groups.values()) == {f"{name}-cell"}
            kinds.add("short")
        else:
            assert groups["sample"] is None
            assert groups["teacher"] == groups["distill"] == f"{name}-fit"
            assert groups["gather"] == groups["score"] == f"{name}-score"
            kinds.add("long")
    assert kinds >= {2: {"long"}, 5: {"short"}, 30: {"short"}}[minutes]


def test_end_states_that_joint_fits_share_are_in_no_group(monkeypatch):
    monkeypatch.setitem(CONFIG["solvers"][1], "distill", {})
    work = workloads(evaluations_per_second=1e9)
    joint = [cell for cell in work.benchmark.cells.values() if cell.is_joint]
    assert {work.group("fine_ends", cell) for cell in joint} == {None}
    assert all(work.group("distill", cell) is not None for cell in joint)
    assert sum("fine_ends" in work.jobs(cell) for cell in joint) == len(work.benchmark.datasets)


def test_a_reference_has_no_group():
    """Scores of grouped cells need statistics that are made of it outside of any group."""
    work = workloads(evaluations_per_second=1e9)
    for name in work.benchmark.datasets:
        assert {work.group(rule, work.benchmark.reference(name)) for rule in RULES} == {None}


@pytest.mark.parametrize(
    ("execution", "message"),
    [
        ({"shards": "auto"}, "execution.shards: 'auto' needs evaluations_per_second"),
        ({"datasets": {"digits-edm": {"shards": "auto"}}}, "execution.datasets.digits-edm.shards: 'auto' needs"),
        ({"shards": "all"}, "execution.shards: 'all' is not allowed; allowed: text that matches"),
        ({"mem_mb": 599}, "execution.mem_mb: 599 is not allowed; allowed: at least 600"),
        ({"gpus": 2}, "execution.gpus: 2 is not allowed; allowed: at most 1"),
        ({"evaluations_per_second": 0}, "execution.evaluations_per_second: 0 is not allowed; allowed: more than 0"),
        ({"downloads": "there"}, "execution.downloads: 'there' is not one of here, job"),
        ({"datasets": {"digits-edm": {"keep_samples": True}}}, "unknown key 'keep_samples'"),
    ],
)
def test_bad_settings_are_refused_by_name(execution, message):
    with pytest.raises(ConfigError) as caught:
        workloads(**execution)
    assert message in str(caught.value)
