"""What an edit makes again: a table, each row by a real ``snakemake -n``; edits that make nothing share one.

The tiny benchmark has one model, whose network is ``residual_mlp.py``, and features of ``digit_classifier.py``; its
solvers are DDIM, plain and distilled, and Heun, which is the teacher and the reference too.
"""

import re

import pytest

RUNS = {"sample", "gather"}
FIT = {"teacher", "distill"}
STATISTICS = {"real_statistics", "reference_statistics"}
TABLES = {"tables", "curves", "page", "workflow_report"}
SCORED = {"score", "collect", "coefficients", "costs"} | TABLES
SHOWN = {"sample_grid", "trajectories", "thumbnails"}
EVERYTHING = RUNS | FIT | STATISTICS - {"real_statistics"} | SCORED | SHOWN

NETWORK = "dode/models/embedded/residual_mlp.py"
TABLE = [
    ("the network's own file", NETWORK, "self.stem(x.flatten(1))", "self.stem(x.flatten(1) * 1)", EVERYTHING),
    (
        "the extractor",
        "dode/metrics/extractors/digit_classifier.py",
        "pixels.from_bytes(images)",
        "pixels.from_bytes(images + 0)",
        STATISTICS | SCORED,
    ),
    ("a solver", "dode/solvers/ddim.py", "euler(x, denoised", "euler(x, 1 * denoised", FIT | RUNS | SCORED | SHOWN),
    (
        "a grid",
        "dode/grids/spacings/karras.py",
        "rho_space(rho, sigma_min)",
        "rho_space(rho, 1 * sigma_min)",
        EVERYTHING,
    ),
    ("the page", "dode/report/page/assets/page.css", "body {", "body  {", {"page"}),
    ("a metric", "dode/metrics/distances.py", "def fid(", "[].clear()\n\n\ndef fid(", STATISTICS | SCORED),
    ("the fit", "dode/distillation/greedy.py", "RIDGE = 1e-6", "RIDGE = 1e-7", {"distill"} | RUNS | SCORED | SHOWN),
    (
        "words on a metric",
        "dode/metrics/catalogue.py",
        "Distance between the features",
        "The distance between the features",
        TABLES | {"coefficients", "costs"},
    ),
]
#: Edits that make nothing again; one run tries them all.
NOTHING = [
    ("another network's file", "dode/models/adm/layers.py", "nn.Dropout(dropout)", "nn.Dropout(2 * dropout)"),
    ("another extractor", "dode/metrics/extractors/inception.py", "CPU_BATCH = 8", "CPU_BATCH = 9"),
    ("a check's message", "dode/driver.py", "end states contain NaN or infinity", "end states are not finite"),
    ("words of the registry", "dode/registry.py", "did you mean", "is it"),
    (
        "a check",
        "dode/sampling.py",
        "self.lambdas.ndim != 2 or",
        "self.lambdas.ndim != 2 or evaluations > 1e9 or",
    ),
    (
        "another grid",
        "dode/grids/spacings/quadratic.py",
        "root_index_space(schedule",
        "root_index_space (schedule",
    ),
    ("a docstring", "dode/driver.py", '"""The one loop', '"""One loop'),
    ("an annotation", "dode/registry.py", "def names(self) -> list[str]:", "def names(self):"),
    (
        "the frame of jobs",
        "dode/benchmark/scripting.py",
        "DISK_WAIT, DISK_FREE = 600",
        "DISK_WAIT, DISK_FREE = 60",
    ),
]


def planned(workspace):
    """The rules of which ``snakemake -n`` would run a job."""
    done = workspace.snakemake("-n")
    stats = re.search(r"^job +count\n(?:-+ +-+\n)(.*?)^total", done, flags=re.M | re.S)
    return set() if stats is None else {line.split()[0] for line in stats[1].splitlines() if line.strip()} - {"all"}


def edit(workspace, what, file, old, new):
    path = workspace.folder / file
    text = path.read_text()
    assert old in text, what
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(("what", "file", "old", "new", "expected"), TABLE, ids=[f"{row[0]}" for row in TABLE])
def test_an_edit_makes_again_what_depends_on_it(workspace, what, file, old, new, expected):
    edit(workspace, what, file, old, new)
    assert planned(workspace) == expected


def test_edits_on_which_nothing_depends_make_nothing_again(workspace):
    for row in NOTHING:
        edit(workspace, *row)
    assert planned(workspace) == set()
