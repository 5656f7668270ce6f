"""What a plan says, against the jobs of a dry run and against counting by hand."""

import copy
import math
import re
import subprocess
from pathlib import Path

import pytest
import yaml

import forked_python
from dode.__main__ import main
from dode.benchmark.cells import Benchmark
from dode.benchmark.planning import plan

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((Path(__file__).parent / "cells.yaml").read_text())
RULES = ("precision", "search_grid", "fine_ends", "teacher", "distill", "sample", "gather", "score")
#: Whose end states of the fine solution are made once for each dataset and number of images.
JOINT = [
    {"id": f"joint{images}", "solver": "ddim", "nfe": [3, 5], "distill": {"images": images}} for images in (26, 200)
]


def planned(config=CONFIG, **execution):
    config = copy.deepcopy(config)
    config["execution"] = {**config.get("execution", {}), **execution}
    return plan(Benchmark(config, ROOT))


def test_jobs_are_those_of_a_dry_run(tmp_path):
    execution = {"shards": "auto", "evaluations_per_second": 100.0, "job_minutes": 1, "precision": "auto"}
    path = tmp_path / "config.yaml"
    config = {**CONFIG, "solvers": [*CONFIG["solvers"], *JOINT]}
    path.write_text(yaml.safe_dump({**config, "execution": execution}))
    command = [
        forked_python.executable(),
        "-m",
        "snakemake",
        "--dry-run",
        "--forceall",
        "--quiet",
        "rules",
        "--configfile",
        str(path),
    ]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    counts = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", found, flags=re.M)}
    assert counts["sample"] > counts["gather"]
    assert counts["precision"] == 2 * (1 + 4) + 1  # of NFE 3, 5, 10 and 15 and the fine solution; of edm 9 too
    assert counts["fine_ends"] == 2 * len(CONFIG["datasets"])
    assert planned(config, **execution).loc["all", "jobs"] == sum(counts.get(rule, 0) for rule in RULES)


def test_evaluations_and_disk_by_hand():
    frame = planned(shards=2)
    benchmark = Benchmark(CONFIG, ROOT)
    for name, dataset in benchmark.datasets.items():
        cells = [cell for cell in benchmark.cells.values() if cell.dataset["id"] == name]
        images = dataset["images"] * dataset["seeds"]
        assert frame.loc[name, "cells"] == len(cells)
        assert frame.loc[name, "evaluations"] >= sum(images * cell.nfe for cell in cells)
        assert frame.loc[name, "samples"] == pytest.approx(len(cells) * images * 64 / 1e9)
        assert math.isnan(frame.loc[name, "sampling"])
        assert frame.loc[name, "submissions"] == frame.loc[name, "jobs"]
    assert frame.loc["all", "cells"] == len(benchmark.cells)


def test_hours_are_evaluations_by_speed_and_starts():
    """Sampling of one shard a cell: its evaluations at 50 a second, and 20 seconds for each start."""
    frame = planned(evaluations_per_second=50)
    benchmark = Benchmark(CONFIG, ROOT)
    seconds = sum(
        cell.dataset["images"] * cell.dataset["seeds"] * cell.nfe / 50 + 20 for cell in benchmark.cells.values()
    )
    assert frame.loc["all", "sampling"] == pytest.approx(seconds / 3600)


def test_short_cells_are_fewer_submissions_than_jobs():
    """One a cell; a reference's samples, gathering and score are three."""
    frame = planned(evaluations_per_second=1e9, features_per_second=1e9, job_minutes=60)
    references = len(Benchmark(CONFIG, ROOT).datasets)
    assert frame.loc["all", "submissions"] == frame.loc["all", "cells"] + 2 * references < frame.loc["all", "jobs"] / 3


def test_a_fit_from_a_table_is_a_job_without_evaluations():
    table = {"id": "table", "solver": "ddim", "nfe": [5], "distill": {"fit": "neural-solver"}}
    with_it, without = (
        planned({**CONFIG, "solvers": [own]})
        for own in (table, {key: value for key, value in table.items() if key != "distill"})
    )
    datasets = len(CONFIG["datasets"])
    assert with_it.loc["all", "jobs"] - without.loc["all", "jobs"] == datasets
    assert with_it.loc["all", "evaluations"] == without.loc["all", "evaluations"]


def test_prompts_of_preparations_are_encoded_too():
    config = yaml.safe_load((ROOT / "config" / "text-to-digit.yaml").read_text())
    prepared = {"id": "v3", "solver": "dpm-solver-v3", "nfe": [4], "prepare": {"images": 7}}
    searched = {"id": "searched", "solver": "ddim", "nfe": [4], "grid": {"name": "searched", "options": {"images": 5}}}
    config["solvers"] = [{"id": "ddim", "solver": "ddim", "nfe": [4]}]
    plain = planned(config).loc["all", "encoded"]
    config["solvers"] += [prepared, searched]
    assert planned(config).loc["all", "encoded"] == plain + 7 + 5
    config["solvers"][1]["prepare"]["images"] = 5  # those of the search
    assert planned(config).loc["all", "encoded"] == plain + 5


def test_the_command_prints_a_table_hours_and_disk(capsys):
    assert main(["plan", str(ROOT / "config" / "paper.yaml"), "--gpus", "4"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"\| all +\| +675 \| +3,7\d\d \|", said)
    assert re.search(r"\d+ GPU hours; [\d.]+ days on 4 GPUs", said)
    assert "and the samples of the cells at work, of 1,454 GB (keep_samples)" in said


def test_what_is_not_known_is_a_dash_and_sizes_have_digits(capsys):
    assert main(["plan", str(ROOT / "config" / "config.yaml")]) == 0
    said = capsys.readouterr().out
    assert "nan" not in said
    assert " 0 GB" not in said
    assert re.search(r"\| all +\|.* – \| +– \| +– \| +[\d.]+ MB \| +[\d.]+ MB \|", said)
    assert "No GPU hours for digits-ddpm, digits-edm: evaluations_per_second is missing" in said
    assert re.search(r"Disk: [\d.]+ MB at the end\.", said)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["absent.yaml"], "absent.yaml"), (["--gpus", "0"], "--gpus: 0 is not allowed; allowed: at least 1")],
)
def test_the_command_refuses_what_makes_no_sense(arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["plan", *arguments]) == 1
    assert message in capsys.readouterr().err
