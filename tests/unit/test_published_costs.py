"""Published costs: the file, what is refused in it, and the table of the documentation."""

import csv
import re
import shutil
from pathlib import Path

import pytest
import yaml

from dode.benchmark import published_costs
from dode.benchmark.cells import Benchmark
from dode.benchmark.facts import Facts
from dode.validation import ConfigError

ROOT = Path(__file__).parents[2]
ROWS = published_costs.read(ROOT / published_costs.FILE)
HOURS = {"hours": "0.5", "device": "A100"}


@pytest.fixture
def read(tmp_path):
    """The one row that a file with these values has."""

    def read_row(**values):
        row = dict.fromkeys(published_costs.COLUMNS, "")
        row |= {"method": "GS", "dataset": "CIFAR-10", "image_shape": "3x32x32", "source": "A paper"} | values
        path = tmp_path / "published_costs.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerow(row)
        (found,) = published_costs.read(path)
        return found

    return read_row


def of(method, dataset, nfe):
    (row,) = [row for row in ROWS if (row["method"], row["dataset"], row["nfe"]) == (method, dataset, nfe)]
    return row


@pytest.mark.parametrize(
    ("place", "values"),
    [
        # arXiv 2406.14548, abstract
        (("ECT", "CIFAR-10, short", 2), {"fid": "2.73", "hours": 1.0, "device": "A100"}),
        # arXiv 2409.19681, table 2; 200,000 images in batches of 128
        (("SFD", "CIFAR-10", 2), {"fid": "4.53", "hours": 0.64, "device": "A100", "images": 1563 * 128}),
        # arXiv 2510.17699, tables 2 and 14 (30 minutes); appendix D.4.1
        (
            ("GS", "CIFAR-10", 4),
            {"fid": "4.41", "hours": 0.5, "images": 240_000, "trajectories": 2400},
        ),
        # arXiv 2411.06503, abstract (under a minute)
        (("PAS on DDIM", "CIFAR-10", 10), {"fid": "4.37", "hours": pytest.approx(1 / 60, rel=0.03)}),
        # arXiv 2310.13268, appendix D.2: 3.5 hours on 8 GPUs
        (("DPM-Solver-v3", "CIFAR-10", 10), {"fid": "2.51", "hours": 3.5 * 8, "device": "A40"}),
        # released code: google-research/diffusion_distillation, ten halvings of 50,000 updates of 128 images
        (("Progressive Distillation", "CIFAR-10, 8192 to 8 steps", 8), {"images": 64_000_000, "hours": None}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_the_file_has_what_its_sources_say(place, values):
    row = of(*place)
    assert {key: row[key] for key in values} == values


def test_every_row_names_a_paper_and_of_released_code_the_commit():
    for row in ROWS:
        assert re.search(r"arXiv \d{4}\.\d{5}", row["source"]), row
        assert re.search(r" at [0-9a-f]{7}\b|table|abstract", row["source"]), row
        assert row["updates"] is None or re.search(r" at [0-9a-f]{7}\b|appendix", row["source"]), row


def test_what_a_source_does_not_say_is_unknown(read):
    row = read(trajectories="10")
    unknown = ("nfe", "fid", "hours", "device", "updates", "batch_size", "images", "teacher_nfe")
    assert {key: row[key] for key in unknown} == dict.fromkeys(unknown)
    assert (row["image_shape"], row["trajectories"]) == ((3, 32, 32), 10)
    assert read(updates="3", batch_size="20")["images"] == 60
    assert read(**HOURS, fid="2.10", nfe="5")["fid"] == "2.10"


def test_no_file_has_no_rows(tmp_path):
    assert published_costs.read(tmp_path / "published_costs.csv") == []


@pytest.mark.parametrize(
    ("values", "column", "words"),
    [
        ({}, "hours", "one of hours, updates and trajectories is needed"),
        ({"hours": "1"}, "device", "hours need the device"),
        ({"device": "A100", "trajectories": "5"}, "device", "it needs hours"),
        ({**HOURS, "hours": "0"}, "hours", "'0' is not a number above 0"),
        ({**HOURS, "hours": "<1"}, "hours", "'<1' is not a number above 0"),
        ({**HOURS, "hours": "nan"}, "hours", "'nan' is not"),
        ({**HOURS, "hours": "inf"}, "hours", "'inf' is not"),
        ({"updates": "10"}, "batch_size", "it is empty, but 'updates' is not"),
        ({"batch_size": "10", "trajectories": "5"}, "updates", "it is empty, but 'batch_size' is not"),
        ({"updates": "1e5", "batch_size": "8"}, "updates", "'1e5' is not a whole number of at least 1"),
        ({"updates": "0", "batch_size": "8"}, "updates", "'0' is not a whole number of at least 1"),
        ({"trajectories": "1.5"}, "trajectories", "'1.5' is not a whole number"),
        ({**HOURS, "fid": "2.1"}, "nfe", "it is empty, but 'fid' is not"),
        ({**HOURS, "fid": "-2.1", "nfe": "5"}, "fid", "'-2.1' is not a number of at least 0"),
        ({**HOURS, "image_shape": "32x32"}, "image_shape", "'32x32' is not a shape of images"),
        ({**HOURS, "image_shape": "3x0x32"}, "image_shape", "'3x0x32' is not a shape of images"),
        ({**HOURS, "source": ""}, "source", "it is empty"),
        ({**HOURS, "method": ""}, "method", "it is empty"),
        ({**HOURS, "dataset": "a\x1bb"}, "dataset", "cannot be seen"),
    ],
)
def test_a_row_that_means_nothing_is_refused(read, values, column, words):
    with pytest.raises(ConfigError, match=rf"published_costs.csv, line 2, column '{column}': .*{re.escape(words)}"):
        read(**values)


@pytest.mark.parametrize(
    ("text", "words"),
    [("method,dataset\n", "the columns must be method, dataset, image"), ("{header}\na,b\n", "12 values are needed")],
)
def test_a_file_with_other_columns_is_refused(tmp_path, text, words):
    path = tmp_path / "published_costs.csv"
    path.write_text(text.format(header=",".join(published_costs.COLUMNS)))
    with pytest.raises(ConfigError, match=words):
        published_costs.read(path)


def test_a_bad_file_ends_in_one_sentence_before_any_job(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    benchmark = Benchmark(yaml.safe_load((ROOT / "config/config.yaml").read_text()), tmp_path)
    assert Facts(benchmark).published_costs == ROWS
    path = tmp_path / published_costs.FILE
    path.write_text(path.read_text().replace(",A100,", ",,"))
    with pytest.raises(ConfigError, match=r"^config/published_costs.csv, line \d+, column 'device': hours need the"):
        Facts(benchmark)


def test_the_documented_table_is_the_file():
    """Rows of one method, data and device are one line, their values in the order of the file."""
    groups = {}
    for row in ROWS:
        groups.setdefault((row["method"], row["dataset"], row["device"]), []).append(row)
    text = (ROOT / "docs/learned-methods.md").read_text().split("## What others report\n")[1].split("\n## ")[0]
    lines = [line.strip("| ") for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.split("|")] for line in lines][1:]
    assert [line[:-1] for line in cells] == [_line(rows) for rows in groups.values()]
    for line, rows in zip(cells, groups.values(), strict=True):
        assert re.findall(r"abs/(\d{4}\.\d{5})", line[-1]) == re.findall(r"arXiv (\d{4}\.\d{5})", rows[0]["source"])


def _line(rows):
    first = rows[0]
    values = [_written(row[key] for row in rows) for key in ("nfe", "fid", "hours")]
    solved = _written([first["trajectories"]]) + (f" ({first['teacher_nfe']})" if first["teacher_nfe"] else "")
    images = _written(dict.fromkeys(row["images"] for row in rows))
    return [first["method"], first["dataset"], *values, first["device"] or "", images, solved]


def _written(values):
    return ", ".join(_number(value) for value in values if value is not None)


def _number(value):
    if isinstance(value, str):  # an FID has the digits that were published
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}"
