"""The page's data: comparisons, provenance, thumbnails, and what is written."""

import base64
import copy
import html
import io
import itertools
import json
import re
from pathlib import Path

import matplotlib.colors
import numpy as np
import pytest
import yaml
from PIL import Image
from scipy import stats

import synthetic_pages
from dode.benchmark import facts, figure_cells
from dode.benchmark.cells import Benchmark
from dode.benchmark.dependencies import Dependencies
from dode.benchmark.digests import folder_digest
from dode.report import verdicts
from dode.report.figures import style
from dode.report.fine_solution import Fine
from dode.report.page import markers, page, texts, thumbnails

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())


@pytest.fixture(scope="module")
def bench():
    return Benchmark(CONFIG, ROOT)


@pytest.fixture(scope="module")
def made(bench, tmp_path_factory):
    return synthetic_pages.write(bench, tmp_path_factory.mktemp("page"))


def entry(*blocks, error=None):
    """One metric of a cell; of a single block with the error of its images."""
    several = len(blocks) > 1
    error = float(np.std(blocks, ddof=1)) if several else error
    kind = "seeds" if several else "images"
    return {"value": float(np.mean(blocks)), "error": error, "error_kind": kind, "blocks": list(blocks)}


def cell(solver, nfe, fid, *, distilled=False, plain=None):
    name = f"{solver}/{nfe}"
    facts = {"distilled": distilled, "plain": plain, "scores": {"fid": fid}}
    return {"name": name, "solver": solver, "nfe": nfe, **facts}


@pytest.mark.parametrize("shift", [0.02, 0.2])
def test_ties_are_students_paired_test_over_seeds(shift):
    """Seeds that differ a hundred times more than the solvers do hide nothing."""
    rng = np.random.default_rng(3)
    one = 10 + 5 * rng.standard_normal(4)
    other = one + shift + 0.05 * rng.standard_normal(4)
    expected = stats.ttest_rel(one, other).pvalue >= 0.05
    assert verdicts.tied(entry(*one), entry(*other)) == expected
    assert expected == (shift == 0.02)


def test_single_seeds_are_compared_by_their_errors():
    assert verdicts.tied(entry(2.0, error=0.3), entry(3.0, error=0.45))  # 1 < 1.96 * 0.541
    assert not verdicts.tied(entry(2.0, error=0.3), entry(3.0, error=0.4))  # 1 > 1.96 * 0.5
    assert verdicts.tied(entry(2.0), entry(2.1))  # nothing is known of errors


@pytest.mark.parametrize("size", [1e-300, 1e-150, 1.0, 1e150, 1e300])
@pytest.mark.parametrize(("seeds", "others"), [(3, 3), (3, 2), (3, 1), (1, 1)])
def test_the_size_of_scores_decides_nothing(size, seeds, others):
    def scored(value, count):
        blocks = [value * (1 + 0.01 * i) for i in range(count)]
        return {"value": blocks[0], "error": 0.01 * blocks[0], "blocks": blocks}

    own = verdicts.margin(scored(2.0 * size, seeds), scored(size, others))
    assert own == pytest.approx(size * verdicts.margin(scored(2.0, seeds), scored(1.0, others)), rel=1e-9)
    gain = verdicts.gain(scored(2.0 * size, seeds), scored(size, others))
    assert gain["factor"] == pytest.approx(2.0)
    assert gain["better"] == "distilled"


def test_a_gain_that_is_no_finite_number_is_none():
    small, large = ({"value": size, "error": size / 10, "blocks": [size] * 3} for size in (1e-300, 1e300))
    assert verdicts.gain(large, small) == {"factor": None, "error": None, "better": "distilled"}
    assert verdicts.gain(small, large)["factor"] == 0.0


def test_an_unequal_number_of_seeds_is_welchs_test():
    one, other = [10.0, 11.5, 12.0], [12.0, 12.5, 14.0, 13.0, 13.1]
    for confidence in (0.5, 0.95, 0.99):
        found = stats.ttest_ind(one, other, equal_var=False).confidence_interval(confidence)
        assert verdicts.margin(entry(*one), entry(*other), confidence) == pytest.approx((found.high - found.low) / 2)
    single = verdicts.margin(entry(10.0, error=0.3), entry(*other))
    spread = float(np.std(other, ddof=1)) / 5**0.5
    assert stats.norm.ppf(0.975) * np.hypot(0.3, spread) < single < stats.t.ppf(0.975, 4) * np.hypot(0.3, spread)


def test_a_solver_that_must_be_prepared_is_not_taken_for_one_that_needs_nothing():
    student = {**cell("student", 5, entry(1.0, error=0.1), distilled=True), "fitted": False}
    plain, fitted = cell("a", 5, entry(4.0, error=0.1)), cell("b", 5, entry(2.0, error=0.1), distilled=True)
    (row,) = verdicts.choices([plain, student, fitted], "fid")
    assert (row["plain"]["best"], row["distilled"]["best"], row["take"]) == ("a/5", "student/5", "distilled")


def test_the_choice_is_the_best_that_can_be_afforded_and_each_solver_counts_once():
    cells = [
        cell("a", 5, entry(9.0, error=0.1)),
        cell("a", 10, entry(4.0, error=0.1)),
        cell("b", 9, entry(3.9, error=0.1)),
        cell("b", 5, entry(4.05, error=0.1)),
        cell("c", 5, entry(3.0, error=None)),
        cell("worse", 10, entry(5.0, error=0.1)),
        cell("failed", 10, {**entry(1.0, error=None), "value": None}),
        {**cell("unscored", 10, None), "scores": {}},
    ]
    assert verdicts.choice(cells[:4] + cells[5:], "fid", 10) == {"best": "b/9", "ties": ["a/10"], "worse": 1}
    assert verdicts.choice(cells, "fid", 5) == {"best": "c/5", "ties": ["b/5", "a/5"], "worse": 0}
    assert verdicts.choice(cells, "fid", 4) is None
    assert verdicts.choice(cells[:2], "fid", 10, lower=False) == {"best": "a/5", "ties": [], "worse": 0}


@pytest.mark.parametrize(
    ("plain", "distilled", "better"), [(4.0, 2.0, "distilled"), (2.0, 4.0, "plain"), (2.0, 2.1, "tied")]
)
def test_plain_and_distilled_are_held_against_each_other_at_every_nfe(plain, distilled, better):
    cells = [
        cell("p", 5, entry(plain, error=0.1)),
        cell("d", 5, entry(distilled, error=0.1), distilled=True, plain="p/5"),
        cell("p", 3, entry(8.0, error=0.1)),
    ]
    cells.append(cell("failed", 2, {**entry(1.0), "value": None}))
    few, more = verdicts.choices(cells, "fid")
    assert (few["nfe"], few["distilled"], few["better"]) == (3, None, None)
    assert (more["nfe"], more["better"]) == (5, better)
    (gain,) = verdicts.gains(cells, "fid")
    assert gain["factor"] == pytest.approx(plain / distilled)
    assert gain["better"] == better
    assert gain["error"] == pytest.approx(plain / distilled * np.hypot(0.1 / plain, 0.1 / distilled))


def test_a_gain_over_seeds_has_the_spread_of_the_ratio_and_none_where_a_value_is_not_positive():
    gain = verdicts.gain(entry(2.0, 4.0), entry(1.0, 2.0))
    assert (gain["factor"], gain["error"]) == (2.0, 0.0)
    assert verdicts.gain(entry(0.5, 0.7), entry(0.6, 0.8), lower=False)["factor"] == pytest.approx(0.7 / 0.6)
    assert verdicts.gain(entry(0.001, 0.003), entry(-0.001, 0.002))["factor"] is None


@pytest.mark.parametrize(("lower", "names"), [(True, ["below"]), (False, ["above"])])
def test_better_than_the_fine_steps_is_what_is_not_tied_with_them(lower, names):
    level = entry(3.0, error=0.1)
    values = {"below": 2.0, "equal": 3.0, "within": 3.1, "above": 4.0}
    cells = [cell(name, 5, entry(value, error=0.1)) for name, value in values.items()]
    cells += [cell("failed", 5, {**entry(1.0), "value": None}), {**cell("unscored", 5, None), "scores": {}}]
    assert verdicts.better(cells, "fid", level, lower=lower) == [f"{name}/5" for name in names]
    assert verdicts.better(cells, "fid", None, lower=lower) == []


@pytest.mark.parametrize("lower", [True, False])
def test_scores_like_those_of_the_fine_steps_are_not_better_on_the_page(bench, tmp_path, lower):
    """Of all cells of a data set one is better, the others are equal."""

    def scored(cell, seeds):
        found, value = synthetic_pages.score(cell, seeds), 0.6
        if cell.key[1:] == ("d-ddim", 10):
            value = 0.5 if lower else 0.7
        for key in ("precision", "fid"):
            found["metrics"][key] |= {"value": value, "blocks": [value] * seeds, "error": 0.0}
        return found

    path, found, _ = synthetic_pages.write(bench, tmp_path, scored=scored)
    key = "fid" if lower else "precision"
    assert found["datasets"][0]["better"][key] == ["digits-ddpm/d-ddim/nfe10"]
    block = re.search(rf'id="trust/digits-ddpm/{key}">(.*?)</script>', path.read_text(encoding="utf-8"), flags=re.S)[1]
    assert "1 cell scores better than it" in block


def test_scores_from_before_paired_fid_are_shown_without_it(bench, tmp_path):
    """One data set has none, and of the other a cell has none."""

    def scored(cell, seeds):
        found = synthetic_pages.score(cell, seeds)
        if cell.key[0] == "digits-edm" or cell.key[1:] == ("ddim", 5):
            found["metrics"].pop("paired_fid", None)
        return found

    path, found, _ = synthetic_pages.write(bench, tmp_path, scored=scored)
    first, second = ([*own["choices"]] for own in found["datasets"])
    assert (first[0], second[0]) == ("paired_fid", "fid")
    blocks = dict(re.findall(r'<script type="text/html" id="(.*?)">(.*?)</script>', path.read_text(), flags=re.S))
    button = re.search(
        r'<button[^>]*data-cell="digits-ddpm/ddim/nfe5".*?</button>', blocks["table/digits-ddpm/paired_fid"]
    )
    assert ">–</button>" in button[0]
    assert "data-value" not in button[0]
    assert "paired FID</p>" not in blocks["choice/digits-edm/fid/10"]


@pytest.mark.parametrize(
    ("plain", "fitted", "open_tie"),
    [
        ((0.558, 0.742), (0.036, 0.064), True),
        ((0.558, 0.742, 0.65), (0.036, 0.064, 0.05), False),  # the third seed, and no tie
        ((0.558, 0.742), (0.5, 0.9), False),  # a tie that a third seed would not end
        ((0.648, 0.652), (0.048, 0.053), False),  # no tie
    ],
    ids=["open", "three", "tied", "apart"],
)
def test_a_tie_that_a_third_seed_would_end_says_so_beside_the_advice(tmp_path, plain, fitted, open_tie):
    def scored(cell, seeds):
        found, blocks = synthetic_pages.score(cell, seeds), list(fitted if cell.distilled else plain)
        if "paired_fid" in found["metrics"]:
            error = float(np.std(blocks, ddof=1))
            found["metrics"]["paired_fid"] |= {"value": float(np.mean(blocks)), "error": error, "blocks": blocks}
        return found

    config = copy.deepcopy(CONFIG)
    for dataset in config["datasets"]:
        dataset["seeds"] = len(plain)
    path, *_ = synthetic_pages.write(Benchmark(config, ROOT), tmp_path, scored=scored, costed=True)
    blocks = dict(re.findall(r'<script type="text/html" id="(.*?)">(.*?)</script>', path.read_text(), flags=re.S))
    for name in ("choice/digits-ddpm/paired_fid/10", "costs/digits-ddpm/paired_fid/10"):
        said = re.search(r'<p class="lead".*?</p>', blocks[name], flags=re.S)[0]
        assert ("Two seeds cannot separate these; a third would" in said) is open_tie


@pytest.mark.parametrize("few", ["generated", "real"])
def test_the_bias_that_is_told_is_that_of_the_score(bench, tmp_path, few):
    """Paired FID has no real images; a score that says nothing of bias is shown with what FID says."""

    def scored(cell, seeds):
        return {**synthetic_pages.score(cell, seeds), "biased": [few]}

    path, *_ = synthetic_pages.write(bench, tmp_path, scored=scored)
    blocks = dict(re.findall(r'<script type="text/html" id="(.*?)">(.*?)</script>', path.read_text(), flags=re.S))
    paired, fid, rmse = (blocks[f"trust/digits-edm/{key}"] for key in ("paired_fid", "fid", "trajectory_rmse"))
    assert ("Here paired FID is biased" in paired) == (few == "generated")
    assert "Here FID is biased" not in paired
    assert "Here FID is biased" in fid
    assert "Here FID is biased" in rmse


@pytest.mark.parametrize("seeds", [1, 3])
def test_scores_of_any_size_make_a_page(bench, tmp_path, seeds):
    sizes = itertools.cycle([1e-300, 1e300, 1.0, 1.7e308, 5e-324])

    def scored(cell, _):
        found, value = synthetic_pages.score(cell, seeds), next(sizes)
        for entry in found["metrics"].values():
            entry |= {"value": value, "error": value / 10, "blocks": [value] * seeds}
        return found

    path, *_ = synthetic_pages.write(bench, tmp_path, scored=scored)
    text = path.read_text()
    assert "1.00e300 ± 1.0e299" in text
    assert "1.00e−300 ± 1.0e−301" in text
    assert not re.search(r"\d{30}", re.sub(r"base64,[^\"]*|[0-9a-f]{40,}", "", text))


def test_digits_are_those_of_each_error(bench, tmp_path):
    def scored(cell, seeds):
        found, value = synthetic_pages.score(cell, seeds), {5: 1e30, 9: 0.02, 10: 2e-5}.get(cell.nfe, 1.0)
        if "paired_fid" in found["metrics"]:
            found["metrics"]["paired_fid"] |= {"value": value, "error": value / 10}
        return found

    path, *_ = synthetic_pages.write(bench, tmp_path, scored=scored)
    table = re.search(r'id="table/digits-ddpm/paired_fid">(.*?)</script>', path.read_text(), flags=re.S)[1]
    shown = {("1.00e30", " 1.0e29"), ("2.00e−5", " 2.0e−6")}
    assert set(re.findall(r">([^<]*) ±([^<]*)</button>", table)) == shown


def test_markers_are_those_of_the_figures():
    square, up = (np.array(re.findall(r"-?[\d.]+", markers.marker(name)), float).reshape(-1, 2) for name in "s^")
    assert sorted(map(tuple, square[:4])) == [(-4.3, -4.3), (-4.3, 4.3), (4.3, -4.3), (4.3, 4.3)]
    assert up[up[:, 1].argmin()].tolist() == [0, -4.3]  # the y axis of an SVG points down
    assert markers.marker("o").count("C") == 8


def test_a_distilled_cell_has_the_plain_cell_of_the_same_numerics(bench):
    found = {each["name"]: each for each in facts.Facts(bench).cells()}
    assert found["digits-edm/d-ddim-refined/nfe10"]["plain"] == "digits-edm/ddim/nfe10"
    assert found["digits-ddpm/d-ipndm/nfe5"]["plain"] == "digits-ddpm/ipndm/nfe5"
    assert found["digits-edm/ddim/nfe5"]["plain"] is None
    assert found["digits-edm/reference/nfe79"]["plain"] is None


def test_released_cells_have_the_plain_ones_on_the_released_grid():
    bench = Benchmark(yaml.safe_load((ROOT / "config" / "paper.yaml").read_text()), ROOT)
    found = {each["name"]: each for each in facts.Facts(bench).cells()}
    assert found["cifar10/d-dpm3-released/nfe10"]["plain"] == "cifar10/dpm3-released/nfe10"
    assert found["cifar10/d-dpm3/nfe10"]["plain"] == "cifar10/dpm3/nfe10"
    assert all(each["plain"] for each in found.values() if each["distilled"])


@pytest.mark.parametrize(("cells", "bytes_of_each"), [(1, 150_000), (266, 150_000), (267, 100_000), (655, 50_000)])
def test_the_samples_of_all_cells_stay_within_the_whole(cells, bytes_of_each):
    assert facts.share(cells) == bytes_of_each
    assert bytes_of_each * cells <= facts.WHOLE


@pytest.mark.parametrize(("shape", "size"), [((1, 8, 8), (8, 8)), ((3, 32, 48), (48, 32)), ((3, 256, 256), (64, 64))])
def test_a_sprite_holds_the_first_images_and_enlarges_none(shape, size):
    ends = np.clip(np.random.default_rng(0).normal(size=(20, 1, 1, 1)), -1, 1) * np.ones(shape)
    found = thumbnails.sprite(ends, 10**6)
    image = Image.open(io.BytesIO(base64.b64decode(found["png"])))
    assert (found["width"], found["height"], found["count"]) == (*size, 16)
    assert image.size == (16 * size[0], size[1])
    grey = np.asarray(image.convert("L"))[:, size[0] // 2 :: size[0]]
    expected = np.rint((ends[:16, 0, 0, 0] + 1) * 127.5)
    assert np.abs(grey[0].astype(int) - expected).max() <= 1


def test_noise_that_no_png_makes_small_has_fewer_and_smaller_images():
    ends = np.random.default_rng(0).uniform(-1, 1, (16, 3, 64, 64))
    found = thumbnails.sprite(ends, 20_000)
    assert len(found["png"]) <= 20_000
    assert (found["count"], found["width"]) == (4, 32)


def test_the_way_is_beside_the_fine_solution_where_its_image_is_brightest_and_darkest():
    start, sigmas = np.random.default_rng(0).normal(size=(3, 2, 4, 4)), np.array([100.0, 80.0, 1.0, 0.0])

    def straight(sigmas):
        return start[:, None] * np.sqrt(1 + np.asarray(sigmas) ** 2)[:, None, None, None]

    fine_sigmas = np.append(np.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), 40) ** 7, 0.0)
    offset = np.array([0.0, 0.0, 0.2, 0.1])[:, None, None, None]
    found = thumbnails.trajectory(sigmas, straight(sigmas) + offset, Fine(fine_sigmas, straight(fine_sigmas)))
    assert found["error"] == [None, None, pytest.approx(0.2), pytest.approx(0.1)]
    for way, end in zip(found["pixels"], (start[0].max(), start[0].min()), strict=True):
        assert way == pytest.approx([end, end, end + 0.2 / 2**0.5, end + 0.1], abs=1e-4)


def test_the_data_have_every_cell_with_its_scores_and_what_is_said_of_them(made, bench):
    _, found, _ = made
    assert [each["name"] for each in found["cells"]] == [str(each) for each in bench.cells.values()]
    own = next(each for each in found["datasets"] if each["id"] == "digits-edm")
    assert [row["nfe"] for row in own["choices"]["fid"]] == [5, 9, 10]
    assert {gain["distilled"] for gain in own["gains"]["fid"]} == {
        str(each) for each in bench.cells_of("digits-edm") if each.fitted
    }
    assert own["halves"] == {"images": 5, "scores": {"fid": [0.5, 0.1, 3]}}
    assert found["metrics"]["precision"]["lower"] is False
    assert found["solvers"]["reference"]["reference"] is True
    best = own["choices"]["precision"][-1]["plain"]["best"]
    plain = [each for each in found["cells"] if each["dataset"] == own["id"] and not each["fit"]]
    scores = {each["name"]: each["scores"]["precision"][0] for each in plain if each["solver"] != "reference"}
    assert scores[best] == max(scores.values())


def test_cells_of_the_authors_code_say_so(tmp_path):
    """With the times that it gave to a network which was trained on others, of a card with an index_scale."""
    paper = Benchmark(yaml.safe_load((ROOT / "config" / "paper.yaml").read_text()), ROOT)
    found = {each["name"]: each["recipe"] for each in facts.Facts(paper).cells()}
    assert found["cifar10/ddim/nfe5"] is None
    assert found["cifar10/d-ddim-released/nfe5"] == "As the authors' code ran it."
    said = found["imagenet64/dpm2-released/nfe5"]
    assert "trained on 0.25 times the index, but that code calls it at the index itself" in said

    def released(data):
        data["cells"][0]["recipe"] = said

    path, data, _ = synthetic_pages.write(Benchmark(CONFIG, ROOT), tmp_path, released)
    text = path.read_text(encoding="utf-8")
    blocks = dict(re.findall(r'<script type="text/html" id="(.*?)">(.*?)</script>', text, flags=re.S))
    shown = [each["name"] for each in data["cells"] if "code ran it" in blocks[f"cell/{each['name']}"]]
    assert shown == [data["cells"][0]["name"]]


def oklab(color):
    """Björn Ottosson's Oklab (2020), in which the Euclidean distance is about what is seen."""
    channels = np.array(matplotlib.colors.to_rgb(color))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    cones = [
        [0.41222147, 0.53633254, 0.05144599],
        [0.2119035, 0.68069955, 0.10739696],
        [0.08830246, 0.28171884, 0.6299787],
    ]
    opponents = [
        [0.21045426, 0.79361779, -0.00407205],
        [1.9779985, -2.42859221, 0.45059371],
        [0.02590404, 0.78277177, -0.80867577],
    ]
    return np.array(opponents) @ np.cbrt(np.array(cones) @ linear)


@pytest.mark.parametrize(("name", "apart"), [("config", 0.075), ("solvers", 0.025), ("paper", 0.05)])
def test_lines_in_the_dark_have_contrast_and_stay_apart(name, apart):
    assert style.contrast("#000000", "#ffffff") == pytest.approx(21)
    solvers = figure_cells.solvers(Benchmark(yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text()), ROOT))
    colors = {tuple(line["color"]) for line in style.styles(solvers, dark=True).values()}
    assert min(style.contrast(color, style.DARK_SURFACE) for color in colors) >= 4.5
    assert len(colors) == len({tuple(line["color"]) for line in style.styles(solvers).values()})
    assert min(np.linalg.norm(oklab(a) - oklab(b)) for a, b in itertools.combinations(colors, 2)) > apart


def test_the_page_holds_everything_and_nothing_in_it_can_end_its_script(bench, tmp_path):
    def hostile(found):
        found["solvers"]["ddim"]["label"] = "</script><script>alert(1)</script><!--"

    path, found, small = synthetic_pages.write(bench, tmp_path, hostile)
    text = path.read_text(encoding="utf-8")
    blocks = dict(re.findall(r'<script type="text/html" id="(.*?)">(.*?)</script>', text, flags=re.S))
    views = [(f"{own['id']}/{key}", rows) for own in found["datasets"] for key, rows in own["choices"].items()]
    expected = [f"{part}/{view}" for view, _ in views for part in ("budget", "curve", "table", "gains", "trust")]
    expected += [f"choice/{view}/{row['nfe']}" for view, rows in views for row in rows]
    assert sorted(blocks) == sorted([*expected, *(f"cell/{cell['name']}" for cell in found["cells"])])
    assert text.count("<script") == text.count("</script>") == 2 + len(blocks) + len(small)
    assert "&lt;/script&gt;" in blocks["cell/digits-edm/ddim/nfe5"]
    assert r"\u003c/script\u003e" in blocks["curve/digits-edm/fid"]
    for cell in found["cells"]:
        score = texts.score(cell["scores"]["fid"], found["metrics"]["fid"])
        assert f"<td>{score}</td>" in blocks[f"cell/{cell['name']}"]
        assert ("arXiv:2309.16421" in blocks[f"cell/{cell['name']}"]) == bool(cell["fit"])
        assert cell["solver"] == "reference" or f'data-cell="{cell["name"]}"' in blocks[f"table/{cell['dataset']}/fid"]
    assert not re.findall(r'(?:src|href)\s*=\s*["\']?(?:https?:)?//|@import|url\(\s*["\']?http', text)


def test_every_chart_of_a_template_counts_for_the_page(made):
    """And every source that it cites is in its parameters."""
    named = {name for path in page.ASSETS.glob("*.j2") for name in re.findall(r"charts\.(\w+)", path.read_text())}
    assert named == {*page.CHARTS}
    cited = set(re.findall(r"<li>(.*?)</li>", made[0].read_text(encoding="utf-8")))
    sources = {html.escape(source, quote=False) for source in facts.Facts(Benchmark(CONFIG, ROOT)).sources()}
    assert cited & sources
    assert {each for each in cited if "arXiv" in each} <= sources


def test_the_configuration_of_the_page_is_the_whole_benchmark(made, bench):
    text = made[0].read_text(encoding="utf-8")
    config = json.loads(re.search(r'id="config">(.*?)</script>', text)[1])
    again = Benchmark(config, ROOT)
    assert [each.key for each in again.cells.values()] == [each.key for each in bench.cells.values()]
    for one, other in zip(again.cells.values(), bench.cells.values(), strict=True):
        for part in ("trajectory", "samples", *(["teacher", "fit"] * one.fitted)):
            assert getattr(Dependencies(again), part)(one) == getattr(Dependencies(bench), part)(other)


def test_the_digest_of_the_assets_follows_their_contents_and_names(tmp_path):
    (tmp_path / "a.js").write_text("1")
    first = folder_digest(tmp_path)
    (tmp_path / "a.js").touch()
    assert folder_digest(tmp_path) == first
    (tmp_path / "a.js").write_text("2")
    second = folder_digest(tmp_path)
    (tmp_path / "a.js").rename(tmp_path / "b.js")
    assert len({first, second, folder_digest(tmp_path)}) == 3
