"""Published FIDs: the file, and which row stands for which cell."""

import copy
import csv
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dode import grids, solvers
from dode.benchmark import published
from dode.benchmark.cells import Benchmark
from dode.benchmark.config import ConfigError
from dode.benchmark.facts import Facts
from dode.grids.facts import ModelFacts

ROOT = Path(__file__).parents[2]
FILE = ROOT / "config/published_fids.csv"
STATISTICS = {path.stem for path in ROOT.glob("config/models/*-statistics.yaml")}
CHECKPOINT = "edm-cifar10-32x32-uncond-vp.pkl"
KARRAS = {"name": "karras", "options": {**grids.SHARED, "rho": 7, "sigma_min": 0.002, "sigma_max": 80}}
CELL = {
    "file": CHECKPOINT,
    "statistics": "cifar10-edm-statistics",
    "images": 50_000,
    "classes": {},
    "solver": "heun",
    "options": {},
    "grid": KARRAS,
    "nfe": 35,
    "distill": None,
}


def text_row(**values):
    """A row that is published for CELL, as the file has it."""
    row = dict.fromkeys([*published.SOURCE, *published.CONVENTION], "")
    row |= {"nfe": "35", "fid": "1.97", "n_samples": "50000", "source": "A paper", "file": CHECKPOINT, "method": "heun"}
    row |= {"options": "{}", "grid": '{"name": "karras"}', "ends_at": "0", "statistics": "cifar10-edm-statistics"}
    return row | {"classes": "{}", "distilled": "none"} | values


def write(path, *rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def rows_of(tmp_path):
    """Rows as they are read, from texts."""
    return lambda *rows: published.read(write(tmp_path / "published_fids.csv", *rows))


@pytest.fixture(scope="module")
def rows():
    return published.read(FILE)


def test_the_columns_of_the_sources_are_as_they_were_collected():
    with FILE.open(newline="") as file:
        texts = [[row[column] for column in published.SOURCE] for row in csv.DictReader(file)]
    assert len(texts) == 798
    digest = hashlib.sha256("\n".join("\x1f".join(text) for text in texts).encode()).hexdigest()
    assert digest == "99c08522f1b7b0e5db2e27b0d0e884ae80ebc61933a26628936143c903fbeb74"


def test_what_the_file_says_of_conventions_is_known_here(rows):
    """Solvers, options and grids are checked as they are read; here: what a reader cannot know."""
    assert {row["statistics"] for row in rows} - {None} <= STATISTICS
    assert {row["ends_at"] for row in rows} == {None, 0.0, 0.002}
    assert {str(row["distilled"]) for row in rows} == {"None", "none"}
    for row in rows:
        assert row["method"] in (None, *solvers.names())
        assert row["grid"] is None or row["grid"]["name"] in grids.families()
        assert row["file"] is None or row["file"] in row["checkpoint"] or row["dataset"] == "lsun_bedroom256_adm"
        assert row["distilled"] is None or row["method_class"] == "training-free"


def test_the_rows_that_can_be_shown_are_edms_own_of_the_deterministic_sampler(rows):
    """By hand, from README.md and example.py of NVlabs/edm; the stochastic one of ImageNet (511) is not among them."""
    found = set()
    for file in {row["file"] for row in rows} - {None}:
        for statistics in STATISTICS:
            for classes in ({}, {"labels": "uniform"}):
                convention = {"file": file, "statistics": statistics, "images": 50_000, "classes": classes}
                some = published.comparable(rows, **convention)
                found |= {(file, statistics, len(classes), row["method"], row["nfe"], row["fid"]) for row in some}
    assert found == {
        (CHECKPOINT, "cifar10-edm-statistics", 0, "heun", 35, "1.97"),
        ("edm-cifar10-32x32-cond-vp.pkl", "cifar10-edm-statistics", 1, "heun", 35, "1.79"),
        ("edm-ffhq-64x64-uncond-vp.pkl", "ffhq64-edm-statistics", 0, "heun", 79, "2.39"),
        ("edm-afhqv2-64x64-uncond-vp.pkl", "afhqv2-edm-statistics", 0, "heun", 79, "1.96"),
    }


def test_edms_number_is_found(rows):
    (row,) = published.matching(rows, **CELL)
    (quoted,) = published.quoted([row])
    assert quoted["fid"] == "1.97"
    assert quoted["source"].startswith("NVlabs/edm@008a4e5 README.md abstract (min of 3 seed blocks")


@pytest.mark.parametrize(
    "change",
    [
        {"file": "edm-cifar10-32x32-uncond-ve.pkl"},
        {"solver": "ddim"},
        {"solver": "ipndm", "options": {"order": 4}},
        {"nfe": 33},
        {"grid": {"name": "log-snr", "options": {**grids.SHARED, "sigma_min": 0.002, "sigma_max": 80}}},
        {"grid": {"name": "karras", "options": {**KARRAS["options"], "rho": 5}}},
        {"grid": {"name": "karras", "options": {**KARRAS["options"], "sigma_min": 0.01}}},
        {"grid": {"name": "karras", "options": {**KARRAS["options"], "afs": True}}},
        {"grid": {"name": "karras", "options": {**KARRAS["options"], "end": "sigma_min"}}},
        {"statistics": "cifar10-pytorch-statistics"},
        {"statistics": None},
        {"images": 49_999},
        {"images": 2_500},
        {"classes": {"labels": "uniform"}},
        {"classes": {"guidance": {"name": "classifier-free", "scale": 2}}},
        {"distill": {"alignment": "aligned"}},
    ],
    ids=str,
)
def test_a_number_of_another_convention_is_not_found(change, rows_of):
    rows = rows_of(text_row())
    assert [row["fid"] for row in published.matching(rows, **CELL)] == ["1.97"]
    assert published.matching(rows, **{**CELL, **change}) == []


@pytest.mark.parametrize("column", published.CONVENTION)
def test_what_the_source_does_not_say_agrees_with_nothing(column, rows_of):
    change = {column: "", **({"options": ""} if column == "method" else {})}
    assert published.matching(rows_of(text_row(**change)), **CELL) == []


@pytest.mark.parametrize(
    "change",
    [{"ends_at": "0.002"}, {"nfe": "~35"}, {"n_samples": "10000"}, {"distilled": '{"alignment": "aligned"}'}],
    ids=str,
)
def test_a_row_that_is_something_else_is_not_found(change, rows_of):
    assert published.matching(rows_of(text_row(**change)), **CELL) == []


def test_more_images_than_the_convention_are_the_same_fewer_must_be_equal(rows_of):
    for given, images, count in ((50_000, 60_000, 1), (10_000, 10_000, 1), (10_000, 50_000, 0), (10_000, 20_000, 0)):
        found = published.matching(rows_of(text_row(n_samples=str(given))), **{**CELL, "images": images})
        assert len(found) == count, (given, images)


def test_defaults_are_filled_in_on_both_sides(rows_of):
    """iPNDM's order is 4 and karras's rho 7 by default: said or not is the same; DDIM's cell is not."""
    grid = {"name": "karras", "options": grids.complete("karras", ModelFacts(sigma_min=0.002, sigma_max=80.0))}
    cell = {**CELL, "solver": "ipndm", "nfe": 10}
    for said in ("{}", '{"order": 4}'):
        for written in ('{"name": "karras", "options": {}}', json.dumps(KARRAS)):
            rows = rows_of(text_row(method="ipndm", nfe="10", options=said, grid=written))
            for options in ({}, {"order": 4}):
                assert len(published.matching(rows, **{**cell, "options": options, "grid": grid})) == 1
            assert published.matching(rows, **{**cell, "options": {"order": 3}}) == []


def test_a_distilled_number_is_found_by_its_whole_fit(rows_of):
    fit = {"fit": "greedy", "alignment": "released", "substeps": 10, "directions": 1, "images": 100, "stages": True}
    rows = rows_of(text_row(distilled=json.dumps(fit)))
    assert len(published.matching(rows, **{**CELL, "distill": fit})) == 1
    assert published.matching(rows, **{**CELL, "distill": {**fit, "substeps": 5}}) == []


def test_several_sources_are_all_found_in_their_order(rows_of):
    rows = rows_of(text_row(), text_row(fid="50.0", nfe="5"), text_row(fid="1.98", source="Another", notes="3 seeds"))
    assert published.quoted(published.matching(rows, **CELL)) == [
        {"fid": "1.97", "source": "A paper"},
        {"fid": "1.98", "source": "Another (3 seeds)"},
    ]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"method": "huen"}, r"line 2, column 'method': unknown solver 'huen' \(did you mean 'heun'"),
        ({"options": '{"ordr": 3}'}, "column 'options': solver 'heun': unknown option 'ordr'"),
        ({"options": "order 3"}, "column 'options': 'order 3' is not a JSON object"),
        ({"options": '{"order": 2, "order": 3}'}, 'is not a JSON object: it has the key "order" twice'),
        ({"method": ""}, "column 'options': options need a method"),
        ({"grid": '{"name": "edm"}'}, "column 'grid': unknown grid 'edm'"),
        ({"grid": '{"name": "karras", "rho": 7}'}, "column 'grid': .* is not a grid, which has a name and options"),
        ({"grid": '{"name": "karras", "options": {"steps": 7}}'}, "column 'grid': 'steps' follows from the nfe"),
        ({"fid": "n/a"}, "column 'fid': 'n/a' is not a number of at least 0"),
        ({"fid": "nan"}, "column 'fid': 'nan' is not a number"),
        ({"n_samples": "50k"}, "column 'n_samples': '50k' is not a number of images"),
        ({"ends_at": "clean"}, "column 'ends_at': 'clean' is not a noise level"),
        ({"distilled": "yes"}, "column 'distilled': 'yes' is not a JSON object"),
        ({"source": ""}, "column 'source': it is empty"),
        ({"notes": "a|b"}, "column 'source': '|' in source or notes"),
    ],
    ids=str,
)
def test_a_bad_value_is_refused_by_line_and_column(change, sentence, rows_of):
    with pytest.raises(ConfigError, match=sentence):
        rows_of(text_row(**change))


def test_other_columns_or_too_few_values_are_refused(tmp_path, rows_of):
    with pytest.raises(ConfigError, match="the columns must be dataset, checkpoint, solver"):
        rows_of({"dataset": "cifar10", "fid": "1.97"})
    path = write(tmp_path / "published_fids.csv", text_row())
    path.write_text(path.read_text() + "cifar10,file\n")
    with pytest.raises(ConfigError, match="line 3: 18 values are needed"):
        published.read(path)
    assert published.read(tmp_path / "none.csv") == []


@pytest.fixture
def benchmark_of(tmp_path):
    """A benchmark of a made-up EDM model at the convention of published FIDs, on a copy of the configuration."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    card = tmp_path / "config/models/digits-edm.yaml"
    card.write_text(card.read_text() + f"file: {CHECKPOINT}\n")
    solver = {"id": "heun", "solver": "heun", "nfe": [9, 35]}
    dataset = {"id": "cifar10", "model": "digits-edm", "data": "digits", "features": "digits-classifier"}
    dataset |= {"grid": {"name": "karras"}, "reference": {"solver": "heun", "nfe": 35}}

    def make(statistics="cifar10-edm-statistics", **changes):
        entries = [solver, {**solver, "id": "d", "distill": {}}, {**solver, "id": "other", "grid": {"name": "log-snr"}}]
        config = {"benchmark": "b", "datasets": [{**dataset, **changes}], "solvers": entries}
        benchmark = Benchmark(copy.deepcopy(config), tmp_path)
        benchmark.datasets["cifar10"]["statistics"] = statistics
        return benchmark

    return make


def test_a_benchmarks_cells_have_their_published_numbers_the_reference_too(benchmark_of):
    benchmark = benchmark_of()
    found = {cell.key[1:]: Facts(benchmark).published_fids(cell) for cell in benchmark.cells.values()}
    assert {key for key, values in found.items() if values} == {("heun", 35), ("reference", 35)}
    assert [value["fid"] for value in found["heun", 35]] == ["1.97"]


def test_numbers_of_the_checkpoint_at_other_conventions_are_counted(benchmark_of, rows):
    """Of the 232 rows of this file one is comparable, and none with fewer images."""
    total = sum(row["file"] == CHECKPOINT for row in rows)
    assert total == 232
    assert Facts(benchmark_of()).incomparable() == {"cifar10": total - 1}
    assert Facts(benchmark_of(images=2_500)).incomparable() == {"cifar10": total}
    assert Facts(benchmark_of(statistics=None)).incomparable() == {"cifar10": total}


def test_the_range_of_the_models_card_counts(benchmark_of):
    benchmark = benchmark_of()
    cell = benchmark.cells["cifar10", "heun", 35]
    benchmark.cards["digits-edm"]["sigma_min"] = 0.01
    assert Facts(benchmark).published_fids(cell) == []


def test_the_embedded_benchmarks_have_nothing_published():
    for name in ("config", "solvers", "mnist"):
        benchmark = Benchmark(yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()), ROOT)
        assert not any(Facts(benchmark).published_fids(cell) for cell in benchmark.cells.values())
        assert Facts(benchmark).incomparable() == {}


def test_a_bad_file_ends_in_one_sentence_before_any_job(benchmark_of, tmp_path):
    write(tmp_path / "config/published_fids.csv", text_row(method="huen"))
    with pytest.raises(ConfigError, match=r"^config/published_fids.csv, line 2, column 'method': unknown solver"):
        Facts(benchmark_of())


def test_reading_imports_no_torch():
    code = "import sys, dode.benchmark.published; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_papers_grid_has_the_numbers_that_are_published_for_its_cells():
    bench = Benchmark(yaml.safe_load((ROOT / "config/paper.yaml").read_text()), ROOT)
    facts = Facts(bench)
    found = {cell.key: facts.published_fids(cell) for cell in bench.cells.values()}
    shown = {key: [each["fid"] for each in fids] for key, fids in found.items() if fids}
    assert shown == {
        ("cifar10-edm-cond", "edm-heun", 35): ["1.79"],
        ("cifar10-edm-cond", "reference", 35): ["1.79"],
        ("cifar10-edm", "edm-heun", 35): ["1.97"],
        ("cifar10-edm", "reference", 35): ["1.97"],
        ("ffhq64-edm", "reference", 79): ["2.39"],
        ("afhqv2-edm", "reference", 79): ["1.96"],
    }
    assert set(facts.incomparable()) >= {"cifar10", "cifar10-edm", "ffhq64-edm", "afhqv2-edm", "imagenet64-edm"}


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = write(tmp_path / "published_fids.csv", text_row())
    before = published.read(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert published.read(path) == before != []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"cifar10,", b"caf\xe9,", "line 2: the byte 0xe9 is not UTF-8"),
        (b"cifar10,", b"a\x1b[31m,", r"line 2, column 'dataset': 'a\\x1b\[31m' contains U\+001B"),
        (b"cifar10,", b"</script>,", r"line 2, column 'dataset': '</script>' contains '<'"),
    ],
)
def test_bytes_and_characters_that_nobody_means_are_refused_by_line(tmp_path, old, new, says):
    path = write(tmp_path / "published_fids.csv", text_row(dataset="cifar10"))
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(ConfigError, match=says):
        published.read(path)
