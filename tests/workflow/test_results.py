"""What a finished run leaves behind."""

import re

import pandas as pd

from dode import integrity

CELLS = ["ddim/nfe2", "d-ddim/nfe2", "heun/nfe3", "reference/nfe5"]


def test_tables_are_there_with_a_row_for_each_cell_and_metric(finished):
    frame = pd.read_csv(finished.results / "table.csv")
    for solver in ("DDIM", "D-DDIM", "Heun"):
        assert solver in frame.to_csv()
        assert solver in (finished.results / "table.md").read_text()
        assert solver in (finished.results / "table.tex").read_text()
    assert len(frame) >= 4 * len(CELLS)


def test_every_figure_is_a_png_and_a_pdf(finished):
    names = ["fid", "self_fid", "trajectory_rmse", "lambdas", "residuals", "costs"]
    names += ["samples-digits-edm", "trajectories-digits-edm", "real-digits"]
    figures = finished.contents("results/tiny/figures/*")
    assert set(figures) == {f"results/tiny/figures/{name}.{kind}" for name in names for kind in ("png", "pdf")}
    for path, content in figures.items():
        assert content.startswith(b"\x89PNG" if path.endswith("png") else b"%PDF"), path


def test_each_cell_has_its_files_and_no_others(finished):
    own = {"samples.npy", "ends.npy", "states.npy", "score.json"}
    for cell in CELLS:
        expected = own | {"lambdas.json", "teacher.safetensors"} if cell.startswith("d-") else own
        names = {path.name for path in finished.cell(cell).iterdir() if path.is_file()}
        assert names == expected | {integrity.record_of(name).name for name in expected}


def test_shards_and_half_written_files_are_gone(finished):
    names = [path.rsplit("/", 1)[1] for path in finished.contents()]
    assert not [path for path in finished.contents() if "shards" in path and "/logs/" not in path]
    assert not [name for name in names if name.startswith(".")]


def test_page_names_every_category_and_loads_nothing_from_elsewhere(finished):
    page = (finished.results / "report.html").read_text()
    for category in ("Tables", "Curves", "Distillation", "Samples"):
        assert f'"{category}"' in page
    loads = r'<(?:script|link|img|iframe|source|video)\b[^>]*?\b(?:src|href)\s*=\s*\\?["\']?\s*(?:https?:)?//[^\s>]*'
    assert not re.findall(loads, page)
    assert not re.findall(r'(?:@import\s*["\']?|url\(\s*["\']?)(?:https?:)?//[^\s)]*', page)
