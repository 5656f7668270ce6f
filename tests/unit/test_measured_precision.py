"""A precision that is chosen by measurement: what it depends on, what it is chosen by, and what a plan makes of it."""

import copy
import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import synthetic_pages
from dode import solvers
from dode.__main__ import main
from dode.benchmark import jobs, measuring, precision_rule, precisions
from dode.benchmark.cells import Benchmark
from dode.benchmark.config import ConfigError
from dode.benchmark.dependencies import Dependencies
from dode.benchmark.execution import settings
from dode.benchmark.files import Files
from dode.benchmark.planning import plan
from dode.benchmark.workloads import Workloads
from dode.metrics import deviation
from dode.models import precision
from dode.models.precision import Way
from dode.report import precisions as said
from workspace import change

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((Path(__file__).parent / "cells.yaml").read_text())
MODELS = ROOT / "config" / "models"
HEUN, DDIM, D_DDIM = ("digits-edm", "heun", 9), ("digits-edm", "ddim", 10), ("digits-edm", "d-ddim", 10)
REFINED = ("digits-edm", "d-ddim-m3", 10)
SPEEDS = {
    "card": 100,
    "card-compiled": 110,
    "tf32": 400,
    "tf32-compiled": 500,
    "bfloat16": 410,
    "bfloat16-compiled": 1e6,
}


def benchmark(changes=None, **execution):
    config = copy.deepcopy(CONFIG)
    config["execution"] = {**config["execution"], "precision": "auto", **execution}
    for key, value in (changes or {}).items():
        change(config, key, value)
    return Benchmark(config, ROOT)


def test_a_cell_names_its_choice_in_its_parameters_and_reads_it_from_one_file_in_all_jobs():
    own = benchmark({"solvers[2].distill": {"fit": "refined"}})
    depends, files = Dependencies(own), Files(own)
    kinds = {DDIM: "plain", D_DDIM: "plain", REFINED: "fitted", ("digits-edm", "reference", 79): "fine"}
    folder = "results/digits/digits-edm/precision"
    for key, kind in kinds.items():
        cell, part = own.cells[key], "fine" if kind == "fine" else "nfe10"
        assert depends.trajectory(cell).params()["precision"] == kind
        assert files.prepared(cell)["precision"] == files.running(cell)["precision"] == f"{folder}/{part}/choice.json"
    assert len(files.precisions.tables()) == 2 * 4 + 1  # 5, 10 and 15 evaluations and the fine solution; of edm 9 too


def test_a_network_that_is_trained_keeps_the_precision_of_its_card():
    """What is measured is the model's own network."""
    own = benchmark()
    kind = precisions.Precisions(own).kind
    cell = own.cells[DDIM]
    trained = [name for name in solvers.names() if solvers.create(name).method.network is not None]
    assert trained
    for name in trained:
        assert kind(dataclasses.replace(cell, entry={**cell.entry, "solver": name})) is None
    assert kind(cell) == "plain"


def test_without_it_no_parameter_and_no_input_is_another():
    depends, files = Dependencies(own := Benchmark(CONFIG, ROOT)), Files(own)
    for cell in own.cells.values():
        assert "precision" not in depends.trajectory(cell).params()
        assert "precision" not in files.prepared(cell)
    assert files.precisions.tables() == []
    assert files.precisions.configuration() == {}


def test_other_cells_change_nothing_of_a_measurement():
    """A solver, or another number of evaluations, must not make finished cells again."""
    before, after = (
        Dependencies(benchmark(changes))
        for changes in ({}, {"solvers[0].nfe": [2, 5, 10, 15, 60], "solvers[5].solver": "flow-heun"})
    )
    for part in ("nfe5", "nfe10", "fine"):
        assert before.precision("digits-edm", part) == after.precision("digits-edm", part)
        assert before.precision_code("digits-edm", part) == after.precision_code("digits-edm", part)


@pytest.mark.parametrize(
    "grid", [{"name": "released"}, {"name": "searched"}, {"name": "explicit", "options": {"sigmas": [80.0, 3.0, 0.0]}}]
)
def test_a_grid_that_the_measured_solver_cannot_have_is_replaced(grid):
    own = benchmark({"solvers": [{"id": "ddim", "solver": "ddim", "nfe": [2]}], "datasets[1].grid": grid})
    found = precisions.Precisions(own).measurement("digits-edm", "fine").other.entry["grid"]
    assert found == precisions.ANY_GRID


@pytest.mark.parametrize(
    ("execution", "message"),
    [
        ({"precision": "tf32"}, "execution.precision: 'tf32' is not one of card, auto"),
        ({"compile": True}, "execution.compile: true is not allowed with precision: auto (dataset 'digits-ddpm')"),
        (
            {"datasets": {"digits-edm": {"channels_last": True}}},
            "execution.channels_last: true is not allowed with precision: auto (dataset 'digits-edm')",
        ),
        ({"evaluations_per_second": {"tf32": 3}}, "execution.evaluations_per_second: the key 'card' is missing"),
        ({"evaluations_per_second": {"card": 3, "tf23": 3}}, "unknown key 'tf23' (did you mean 'tf32'?)"),
        ({"evaluations_per_second": {"card": 0}}, "evaluations_per_second.card: 0 is not allowed"),
        ({"evaluations_per_second": 0}, "evaluations_per_second: 0 is not allowed; allowed: more than 0"),
    ],
)
def test_bad_settings_are_refused_by_name(execution, message):
    with pytest.raises(ConfigError) as caught:
        benchmark(**execution)
    assert message in str(caught.value)


def test_a_pipeline_keeps_the_precision_of_its_card():
    config = yaml.safe_load((ROOT / "config" / "text-to-digit.yaml").read_text())
    config.setdefault("execution", {})["precision"] = "auto"
    (name,) = (dataset["id"] for dataset in config["datasets"])
    with pytest.raises(ConfigError, match=f"'{name}', whose model is a pipeline; set execution.datasets.{name}.prec"):
        Benchmark(config, ROOT)
    config["execution"].setdefault("datasets", {}).setdefault(name, {})["precision"] = "card"
    assert precisions.Precisions(Benchmark(config, ROOT)).tables() == []


def sample(ends):
    return deviation.Sample(ends, ends.reshape(len(ends), -1))


def test_a_score_moves_by_what_it_is_in_one_precision_less_in_the_other():
    """By hand: 16 images of one pixel that are .2 or .4 away from the truth, all moved by a tenth of their distance."""
    truth = np.zeros((16, 1, 1, 1))
    before = np.resize([0.2, 0.4], (16, 1, 1, 1))
    found = deviation.deviations(
        sample(before), sample(1.1 * before), sample(truth), {"paired_fid": 9, "trajectory_rmse": 9}
    )
    rmse, squared = found["trajectory_rmse"], before.ravel() ** 2
    assert rmse.value == pytest.approx(math.sqrt(0.1))
    assert rmse.change == pytest.approx(0.1 * math.sqrt(0.1))
    assert rmse.seed == pytest.approx(squared.std(ddof=1) / (2 * math.sqrt(0.1)) / 3)
    assert rmse.error == pytest.approx(0.1 * squared.std(ddof=1) / (2 * math.sqrt(0.1)) / 4)
    assert rmse.share == pytest.approx((abs(rmse.change) + 2 * rmse.error) / rmse.seed)
    assert found["paired_fid"].change > 0


def test_the_error_over_seeds_is_what_seeds_show():
    """Of 100 images each: the standard deviation over 200 seeds against what one set of 2,000 images says."""
    draw = np.random.default_rng(0)

    def pair(images):
        truth = draw.standard_normal((images, 1, 2, 2))
        return sample(truth + 0.3 * draw.standard_normal(truth.shape) * (1 + truth**2)), sample(truth)

    both = pair(2000)
    for score in deviation.SCORES.values():
        seeds = [score(*pair(100)).value for _ in range(200)]
        assert score(*both).error(100) == pytest.approx(np.std(seeds), rel=0.25)


def test_nothing_that_moves_is_a_share_of_nothing_and_what_moves_has_nothing_to_hide_in():
    assert deviation.Deviation(1.0, 0.0, 0.0, 0.0).share == 0
    assert deviation.Deviation(1.0, 0.1, 0.0, 0.0).share == math.inf


def rounded(x, digits):
    """Of float32 numbers so many binary digits of the mantissa, to the nearest."""
    dropped = 23 - digits
    return ((x.view(torch.int32) + (1 << dropped - 1)) >> dropped << dropped).view(torch.float32)


@pytest.fixture
def measure(monkeypatch):
    """``measure(part, speeds, evaluations=None)``: the choices and the table for digits-edm, with TF32 by software.

    ``speeds`` of the ways by name; others are slow, and compiled ones take a second to compile.
    """
    allowed, linear = [False], torch.nn.functional.linear
    monkeypatch.setattr(precision, "allow_tf32", lambda wanted: allowed.__setitem__(0, wanted))
    monkeypatch.setattr(
        torch.nn.functional,
        "linear",
        lambda x, weight, bias=None: linear(
            *((rounded(x, 10), rounded(weight, 10)) if allowed[0] else (x, weight)), bias
        ),
    )
    kinds = [Way(tf32=True), Way(dtype="bfloat16"), Way(channels_last=True)]
    monkeypatch.setattr(precision, "cheaper", lambda way, device: kinds)
    monkeypatch.setattr(torch, "compile", lambda network: network)

    def measured(part, speeds, **changes):
        own = benchmark(device="cpu")
        inputs = {
            kind: str(MODELS / f"{card}.safetensors")
            for kind, card in (("model", "digits-edm"), ("features", "digits-classifier"))
        }
        params = {**Dependencies(own).precision("digits-edm", part), **changes}
        job = measuring.Measuring(params, inputs, settings(own.config["execution"], "digits-edm"))

        def speed(tried):
            tried.speed, tried.first = speeds.get(tried.way.name, 1.0), 1.0
            if isinstance(tried.speed, Exception):
                tried.speed = None
                raise speeds[tried.way.name]

        monkeypatch.setattr(job, "speed", speed)
        chosen, every = job.chosen()
        return {kind: way.name for kind, way in chosen.items()}, {row["way"]: row for row in job.table(chosen, every)}

    return measured


LIKE_A_GPU = {"float32": 1894, "tf32": 8327, "bfloat16": 9900}


def test_tf32_is_taken_on_the_digits_and_bfloat16_moves_scores_too_much(measure):
    """As found there before: iPNDM with 10 evaluations has an RMSE of .089. What is fitted needs all digits."""
    chosen, rows = measure("nfe10", LIKE_A_GPU)
    assert chosen == {"plain": "tf32", "fitted": "float32"}
    moved = rows["bfloat16"]["moved"]["plain"]
    assert moved["trajectory_rmse"]["value"] == pytest.approx(0.089, rel=0.15)
    assert max(entry["share"] for entry in moved.values()) > precision_rule.SHARE
    assert all(entry["share"] < 0.1 for entry in rows["tf32"]["moved"]["plain"].values())
    assert max(entry["share"] for entry in rows["tf32"]["moved"]["fitted"].values()) > 0.1
    assert "of what a seed does; at most 0.1 is allowed" in rows["bfloat16"]["why"]["plain"]
    assert (rows["tf32"]["chosen"], rows["float32"]["chosen"]) == (["plain"], ["fitted"])


def test_the_fine_solution_has_a_choice_of_its_own(measure):
    chosen, rows = measure("fine", LIKE_A_GPU)
    assert chosen == {"fine": "float32"}
    assert rows["bfloat16"]["moved"]["fine"]["trajectory_rmse"]["share"] > 1


def test_of_equally_fast_ways_the_one_with_most_digits_is_taken(measure):
    chosen, rows = measure("nfe5", {"float32": 8100, "tf32": 8327, "bfloat16": 8424})
    assert set(chosen.values()) == {"float32"}
    assert rows["bfloat16"]["moved"] == {}  # nothing was compared, as nothing is gained


def test_a_compilation_is_taken_where_it_saves_more_than_it_costs_each_job(measure):
    """At 8,327 evaluations a second against 10,000 compiled in a second: for a million, and not for a few."""
    speeds = {**LIKE_A_GPU, "tf32, compiled": 10_000}
    assert measure("nfe10", speeds, evaluations=10**6)[0]["plain"] == "tf32, compiled"
    chosen, rows = measure("nfe10", speeds, evaluations=10**4)
    assert chosen["plain"] == "tf32"
    assert "tf32, compiled" not in rows


def test_a_way_that_fails_is_passed_over_with_its_reason(measure):
    """Of the card's own an error ends the job."""
    speeds = {**LIKE_A_GPU, "tf32": RuntimeError("no such\nkernel")}
    chosen, rows = measure("nfe5", speeds)
    assert set(chosen.values()) == {"float32"}
    assert rows["tf32"]["why"]["plain"] == "RuntimeError: no such kernel"
    with pytest.raises(RuntimeError, match="no such"):
        measure("nfe5", {"float32": RuntimeError("no such")})


def test_a_cpu_tries_what_it_has_and_a_half_precision_has_nothing_below(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    names = lambda way, device: [each.name for each in precision.cheaper(way, device)]  # noqa: E731
    assert names(Way(), cpu) == ["bfloat16", "bfloat16, channels last", "float32, channels last"]
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert {each.kind for each in precision.cheaper(Way(), cuda)} == {"float32", "tf32", "float16", "bfloat16"}
    assert names(Way("float16"), cuda) == ["float16, channels last"]
    assert "tf32" not in names(Way(tf32=True), cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert {each.kind for each in precision.cheaper(Way(), cuda)} == {"float32", "float16"}


def job(tmp_path, own, key, way):
    path = tmp_path / "choice.json"
    path.write_text(json.dumps({kind: dataclasses.asdict(way) for kind in ("plain", "fitted", "fine")}))
    params = Dependencies(own).trajectory(own.cells[key]).params()
    execution = settings(own.config["execution"], "digits-edm")
    return jobs.of_cell(params, str(MODELS / "digits-edm.safetensors"), execution, {"precision": str(path)})


def test_a_job_runs_in_its_choice_and_writes_it_down(tmp_path):
    own = benchmark(device="cpu")
    x, sigma = torch.randn(4, 1, 8, 8, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    exact, lower = (job(tmp_path, own, DDIM, way) for way in (Way(), Way("bfloat16")))
    assert lower.made["precision"] == {"dtype": "bfloat16", "tf32": False, "channels_last": False, "compile": False}
    assert lower.made["model"] == exact.made["model"]  # as the card has it
    assert 0 < (exact.denoise(x, sigma) - lower.denoise(x, sigma)).abs().max() < 0.1
    again = jobs.of_cell(lower.made, str(MODELS / "digits-edm.safetensors"), {"device": "cpu", "batch_size": 4})
    assert again.denoise(x, sigma).equal(lower.denoise(x, sigma))  # from what was written, without the file


def test_a_machine_that_cannot_do_what_was_chosen_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(precision.shutil, "which", lambda name: None)
    with pytest.raises(
        ValueError, match=r"measured to run compiled, but there is no compiler \(g\+\+\) on this machine"
    ):
        job(tmp_path, benchmark(device="cpu"), DDIM, Way(compile=True))


def work(measured=None, **execution):
    execution = {"evaluations_per_second": SPEEDS, "shards": "auto", "job_minutes": 1, **execution}
    return Workloads(benchmark(**execution), measured=measured)


def test_before_it_is_measured_the_fastest_way_with_the_digits_of_tf32_is_assumed():
    """DDIM at 10 evaluations, 75,000 in all: 150 s and a compilation of 60 s, against 187.5 s."""
    own = work()
    ddim = own.benchmark.cells[DDIM]
    assert own.assumed(ddim) == ("tf32", 400, 0)
    assert own.seconds("sample", ddim) == pytest.approx(75_000 / 400 / own.shards(ddim))
    fine = own.benchmark.reference("digits-edm")
    assert own.assumed(fine) == ("card-compiled", 110, 60)  # 1.9 million, of which nobody knows whether it may be TF32
    assert work(precision="card").assumed(fine) == ("card", 100, 0)
    assert work(precision="card", evaluations_per_second=70).assumed(fine) == ("card", 70, 0)


def test_a_measurement_changes_neither_shards_nor_walltimes_of_a_run():
    """They are asked for before the measurement and after it; the walltime is enough for the card's own speed."""
    known = {("digits-edm", "nfe10", "plain"): (1000.0, 0.0)}
    before, after = work(), work(known)
    ddim = before.benchmark.cells[DDIM]
    assert before.shards(ddim) == after.shards(ddim)
    assert before.runtime("sample", ddim, 1) == after.runtime("sample", ddim, 1)
    assert before.runtime("sample", ddim, 1) * 60 > 75_000 / 100 / before.shards(ddim)
    assert after.seconds("sample", ddim) == pytest.approx(75_000 / 1000 / before.shards(ddim))


def test_a_plan_goes_by_what_was_measured():
    ways = [{"way": "tf32, compiled", "speed": 5000.0, "first": 30.0, "moved": {}, "chosen": ["plain"], "why": {}}]
    own = benchmark(evaluations_per_second=SPEEDS)
    assumed, known = plan(own), plan(own, [{"dataset": "digits-edm", "part": "nfe15", "ways": ways}])
    # Two solvers with 15 evaluations, plain and with a greedy fit, 112,500 of each: at 400 a second before.
    gained = 4 * (112_500 / 400 - 112_500 / 5000 - 30) / 3600
    assert assumed.loc["digits-edm", "sampling"] - known.loc["digits-edm", "sampling"] == pytest.approx(gained)
    assert assumed.loc["digits-ddpm"].equals(known.loc["digits-ddpm"])


def test_the_papers_plan_says_what_it_assumes_and_takes_the_hours_that_it_states(capsys):
    assert main(["plan", str(ROOT / "config" / "paper.yaml")]) == 0
    text = capsys.readouterr().out
    assert "Assumed for cifar10 until it is measured: the card's precision, tf32." in text
    (hours,) = re.findall(r"^([\d,]+) GPU hours", text, flags=re.M)
    (stated,) = re.findall(r"(\d+) hours of an H200", (ROOT / "README.md").read_text())
    assert hours == stated


def test_rows_say_speed_share_choice_and_reason(tmp_path):
    path = tmp_path / "digits-edm" / "precision" / "nfe5" / "table.json"
    path.parent.mkdir(parents=True)
    moved = {"plain": {"paired_fid": {"share": 0.147}, "trajectory_rmse": {"share": 0.109}}}
    rows = [
        {"way": "float32", "evaluations_per_second": 1894.0, "first_seconds": 1, "moved": {}, "chosen": ["plain"],
         "why": {"plain": "the card's"}},
        {"way": "bfloat16", "evaluations_per_second": 8424.0, "first_seconds": 1, "moved": moved, "chosen": [],
         "why": {"plain": "moves"}},
        {"way": "float16", "evaluations_per_second": None, "first_seconds": 0, "moved": {}, "chosen": [],
         "why": {"plain": "fails"}},
    ]  # fmt: skip
    path.write_text(json.dumps({"ways": rows}))
    (measured,) = said.read([path])
    assert said.rows(measured) == [
        ("digits-edm", "NFE 5", "bfloat16", "8,424", "plain: paired FID 0.15, trajectory RMSE 0.11", "–", "moves"),
        ("digits-edm", "NFE 5", "float32", "1,894", "–", "plain solvers", "the card's"),
        ("digits-edm", "NFE 5", "float16", "–", "–", "–", "fails"),
    ]


def test_the_page_shows_what_was_measured_and_why_and_nothing_where_nothing_was(tmp_path):
    ways = [
        {
            "way": "float32",
            "speed": 1894.0,
            "first": 1.0,
            "moved": {},
            "chosen": ["plain"],
            "why": {"plain": "the card's"},
        },
        {
            "way": "bfloat16",
            "speed": None,
            "first": 0.0,
            "moved": {},
            "chosen": [],
            "why": {"plain": "a <b> & no kernel"},
        },
    ]
    own = Benchmark({**CONFIG, "solvers": CONFIG["solvers"][:1]}, ROOT)
    texts = []
    for number, measured in enumerate(([], [{"dataset": "digits-edm", "part": "nfe5", "ways": ways}])):
        (folder := tmp_path / str(number)).mkdir()
        path, *_ = synthetic_pages.write(
            own, folder, lambda found, measured=measured: found.update(precisions=measured)
        )
        texts.append(path.read_text())
    assert "Precisions measured" not in texts[0]
    assert texts[1].count("<summary>Precisions measured for digits-edm</summary>") == 1
    assert "<td>1,894</td>" in texts[1]
    assert "a &lt;b&gt; &amp; no kernel" in texts[1]
