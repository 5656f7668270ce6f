"""What a finished run leaves behind."""

import base64
import html
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from dode.benchmark import software
from dode.images import pixels
from dode.metrics import distances, features
from dode.metrics.catalogue import METRICS
from dode.report.page import texts

CELLS = ["ddim/nfe2", "d-ddim/nfe2", "heun/nfe3", "reference/nfe5"]


def test_tables_are_there_with_a_row_for_each_cell_and_metric(finished):
    frame = pd.read_csv(finished.results / "table.csv")
    for solver in ("DDIM", "D-DDIM", "Heun"):
        assert solver in frame.to_csv()
        assert solver in (finished.results / "table.md").read_text()
        assert solver in (finished.results / "table.tex").read_text()
    assert len(frame) >= 4 * len(CELLS)


def test_every_figure_is_a_png_and_a_pdf(finished):
    names = ["paired_fid", "fid", "self_fid", "trajectory_rmse", "lambdas", "residuals", "costs", "gains"]
    names += ["samples-digits-edm", "trajectories-digits-edm", "real-digits"]
    figures = finished.contents("results/tiny/figures/*")
    assert set(figures) == {f"results/tiny/figures/{name}.{kind}" for name in names for kind in ("png", "pdf")}
    for path, content in figures.items():
        assert content.startswith(b"\x89PNG" if path.endswith("png") else b"%PDF"), path


def test_each_cell_has_its_files_and_no_others(finished):
    own = {"samples.npy", "ends.npy", "states.npy", "environments.json", "score.json"}
    for cell in CELLS:
        expected = own | {"lambdas.json", "teacher.safetensors"} if cell.startswith("d-") else own
        names = {path.name for path in finished.cell(cell).iterdir() if path.is_file()}
        assert names == expected
        assert {path.stem for path in finished.cell(cell).glob("made/*.json")} == expected


def test_what_each_job_of_a_cell_ran_on_is_recorded(finished):
    fit = json.loads((finished.cell("d-ddim/nfe2") / "lambdas.json").read_text())
    score = json.loads((finished.cell("d-ddim/nfe2") / "score.json").read_text())
    halves = json.loads((finished.results / "real/digits/digits-classifier.json").read_text())
    here = software.environment()
    expected = here | {"machine": here["machine"] | {"threads": 1}}
    for made in (fit, fit["teacher"], score, *score["samples"], halves):
        assert {key: made[key] for key in expected} == expected
    record = json.loads((finished.results / "provenance.json").read_text())
    assert record["environments"] == [expected]
    kinds = {name: set(cell["environments"]) for name, cell in record["cells"].items()}
    fitted = {"digits-edm/d-ddim/nfe2": {"samples", "score", "fit", "teacher"}}
    assert kinds == {f"digits-edm/{cell}": {"samples", "score"} for cell in CELLS} | fitted


def test_paired_fid_is_each_seed_against_the_fine_steps_of_the_same_seed(finished):
    cards = finished.folder / "config" / "models"
    card = yaml.safe_load((cards / "digits-classifier.yaml").read_text())
    extract = features.create(card, str(cards / "digits-classifier.safetensors"))

    def blocks(cell):
        images = np.load(finished.cell(cell) / "samples.npy")
        return [np.concatenate([*features.stream(extract, block, 10)]) for block in np.split(images, 2)]

    fine = blocks(CELLS[-1])
    for cell in CELLS[:-1]:
        pairs = zip(blocks(cell), fine, strict=True)
        gaussians = [[distances.Gaussian.of_features(each) for each in pair] for pair in pairs]
        score = json.loads((finished.cell(cell) / "score.json").read_text())
        assert score["metrics"]["paired_fid"]["blocks"] == pytest.approx([distances.fid(*pair) for pair in gaussians])
        assert score["biased"] == ["generated"]
    assert "paired_fid" not in json.loads((finished.cell(CELLS[-1]) / "score.json").read_text())["metrics"]


def test_shards_and_half_written_files_are_gone(finished):
    names = [path.rsplit("/", 1)[1] for path in finished.contents()]
    assert not [path for path in finished.contents() if "shards" in path and "/logs/" not in path]
    assert not [name for name in names if name.startswith(".")]


LOADS = r'<(?:script|link|img|iframe|source|video)\b[^>]*?\b(?:src|href)\s*=\s*\\?["\']?\s*(?:https?:)?//[^\s>]*'


@pytest.mark.parametrize("name", ["report.html", "index.html"])
def test_pages_load_nothing_from_elsewhere(finished, name):
    text = (finished.results / name).read_text()
    assert not re.findall(LOADS, text)
    assert not re.findall(r'(?:@import\s*["\']?|url\(\s*["\']?)(?:https?:)?//[^\s)]*', text)


def test_the_command_of_the_page_that_makes_a_cell_again_finds_it_there(finished, tmp_path):
    text = (finished.results / "index.html").read_text()
    (tmp_path / "tiny.json").write_text(re.search(r'id="config">(.*?)</script>', text)[1])
    target = f"results/tiny/digits-edm/{CELLS[0]}/score.json"
    said = finished.snakemake("--dry-run", target, "--configfile", str(tmp_path / "tiny.json"))
    assert "Nothing to be done" in said


def test_snakemakes_report_names_every_category(finished):
    text = (finished.results / "report.html").read_text()
    for category in ("Tables", "Curves", "Distillation", "Samples"):
        assert f'"{category}"' in text


def test_captions_and_tables_say_what_the_scores_mean(finished):
    report, table = ((finished.results / name).read_text() for name in ("report.html", "table.md"))
    for name in ("paired_fid", "fid", "self_fid", "trajectory_rmse"):
        assert METRICS[name].meaning in report
        assert METRICS[name].meaning in table


def test_the_page_has_the_scores_fits_and_samples_of_every_cell(finished):
    text = (finished.results / "index.html").read_text()
    blocks = dict(re.findall(r'<script type="text/html" id="(.*?)">(.*?)</script>', text, flags=re.S))
    values = dict(re.findall(r'data-cell="(.*?)" data-value="(.*?)"', blocks["table/digits-edm/fid"]))
    assert set(values) == {f"digits-edm/{name}" for name in CELLS[:-1]}
    for name in CELLS:
        score = json.loads((finished.cell(name) / "score.json").read_text())
        own, fid = blocks[f"cell/digits-edm/{name}"], score["metrics"]["fid"]
        assert f"<td>{texts.score([fid['value'], fid['error']], {'scale': 1})}</td>" in own
        assert name == CELLS[-1] or float(values[f"digits-edm/{name}"]) == pytest.approx(fid["value"], rel=1e-7)
        assert html.escape(texts.environment(score)) in own
        small = json.loads(re.search(rf'data-pictures="digits-edm/{name}">(.*?)</script>', text)[1])
        image = Image.open(io.BytesIO(base64.b64decode(small["samples"]["png"])))
        ends = np.load(finished.cell(name) / "ends.npy")[:10]
        expected = pixels.to_bytes(ends).squeeze(1).transpose(1, 0, 2).reshape(8, -1)
        assert (np.asarray(image)[:, : expected.shape[1]] == expected).all()
    lambdas = json.loads((finished.cell("d-ddim/nfe2") / "lambdas.json").read_text())["lambdas"]
    fitted = re.search(r'"values":(.*?])', blocks["cell/digits-edm/d-ddim/nfe2"])[1]
    assert np.allclose(json.loads(fitted), np.ravel(lambdas), rtol=1e-7)
