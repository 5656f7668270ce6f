"""Cells of pipelines are the same as an archive's only with the same prompts, encoded and decoded in the same way."""

import copy

import pytest
import yaml

from dode.benchmark import elsewhere
from dode.benchmark.cells import Benchmark
from dode.report.archives import elsewhere as comparison
from dode.report.differences import differences
from forged_archives import ROOT
from workspace import change

CONFIG = yaml.safe_load((ROOT / "config" / "text-to-digit.yaml").read_text())
ROWS = (ROOT / "config" / "prompts" / "digits.txt").read_text().splitlines()
SCORED, FITTED = 20, 24
SEARCHED = {"name": "searched", "options": {"images": 5}}
CONFIG["datasets"][0] |= {"images": SCORED, "trajectory_images": 10}
CONFIG["solvers"] = [
    {"id": "ddim", "label": "DDIM", "solver": "ddim", "nfe": [4]},
    {"id": "searched", "label": "Searched", "solver": "ddim", "nfe": [4], "grid": SEARCHED},
    *(
        {"id": fit, "label": fit, "solver": "ddim", "nfe": [4], "distill": {"fit": fit, "images": FITTED}}
        for fit in ("greedy", "joint")
    ),
    {
        **{"id": "prepared", "label": "Prepared", "solver": "dpm-solver-v3", "nfe": [4]},
        "prepare": {"images": FITTED},
    },
]
NAME, CELL = "text-to-digit", "text-to-digit/{}/nfe4"
NEVER = "a prompt that nobody has"


@pytest.fixture
def record(tmp_path):
    """``record(rows, **changes)``: that of a benchmark whose images are of these prompts; ``precision`` of its card."""

    def make(rows=ROWS, precision=None, **changes):
        config = copy.deepcopy(CONFIG)
        config["datasets"][0]["prompts"] = {"file": str(tmp_path / "prompts.txt")}
        (tmp_path / "prompts.txt").write_text("\n".join(rows) + "\n")
        for key, value in changes.items():
            change(config, key, value)
        benchmark = Benchmark(config, ROOT)
        benchmark.cards[NAME]["precision"] |= precision or {}
        return elsewhere.record(benchmark)

    return make


def with_row(place):
    return [*ROWS[:place], NEVER, *ROWS[place + 1 :]]


def keys(first, second, cell=None):
    """What differs of the grounds, or of what a cell is made from besides."""
    parts = [comparison.making(each, cell) if cell else comparison.ground(each, NAME) for each in (first, second)]
    return [key for key, *_ in differences(*parts)]


@pytest.mark.parametrize(
    ("rows", "changes", "key"),
    [
        (with_row(0), {}, "samples.encoded.prompts"),
        (with_row(SCORED - 1), {}, "samples.encoded.prompts"),
        (ROWS, {"datasets[0].negative_prompt": "a cat"}, "samples.encoded.negative_prompt"),
    ],
)
def test_scores_of_other_prompts_are_on_another_ground(record, rows, changes, key):
    own = record()
    assert keys(own, record()) == []
    assert keys(own, record(rows, **changes)) == [key]


def test_what_is_fitted_searched_or_prepared_on_other_prompts_is_another_cell(record):
    own, other = record(), record(with_row(SCORED))
    assert keys(own, other) == []
    assert keys(own, other, CELL.format("ddim")) == keys(own, other, CELL.format("reference").replace("4", "39")) == []
    for fit in ("greedy", "joint"):
        assert keys(own, other, CELL.format(fit)) == ["fit.prompts"]
    assert keys(own, other, CELL.format("searched")) == ["run.searched_on"]
    assert keys(own, other, CELL.format("prepared")) == ["run.prepare.prompts"]
    last = record(with_row(SCORED + FITTED - 1))  # of which the search sees nothing
    assert keys(own, last, CELL.format("searched")) == []
    assert keys(own, last, CELL.format("joint")) == ["fit.prompts"]
    assert own["cells"] == record(with_row(SCORED + FITTED))["cells"]


def test_how_prompts_are_encoded_and_latents_decoded_is_part_of_the_ground(record):
    half = record(precision={"encoders": "float16", "decoder": "float16"})
    assert keys(record(), half) == ["scoring.decoding.dtype", "samples.encoded.dtype"]


def test_no_prompt_is_in_a_record(record):
    assert NEVER not in str(record(with_row(0), **{"datasets[0].negative_prompt": NEVER}))
