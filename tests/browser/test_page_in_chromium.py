"""The page in a real headless Chromium without a network, on made-up scores of the embedded benchmark's cells."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import chromium
import synthetic_pages
from dode.benchmark.cells import Benchmark

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium.executable() is None, reason=f"none of {', '.join(chromium.NAMES)} is installed"),
]
ROOT = Path(__file__).parents[2]
HOSTILE = "<img src=x onerror=alert(1)> & <b>DDIM</b>"
CELL = "digits-edm/d-ddim-refined/nfe5"
OPEN = "document.getElementById('cell').open"
TITLE = "document.getElementById('cell-title').textContent.trim()"


def hostile(found):
    found["solvers"]["dpmpp-2m"]["label"] = HOSTILE


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    bench = Benchmark(yaml.safe_load((ROOT / "config" / "config.yaml").read_text()), ROOT)
    return synthetic_pages.write(bench, tmp_path_factory.mktemp("page"), hostile)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    with chromium.opened(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(started, made):
    """The page, just opened; after the test nothing was complained of and nothing but the file was asked for."""
    started.errors.clear()
    started.requests.clear()
    started.size(1280, 900)
    started.prefer(color_scheme="light")
    started.open(made[0])
    yield started
    assert started.errors == []
    assert {url for url in started.requests if not url.startswith("data:")} <= {"about:blank", made[0].as_uri()}


def texts(browser, selector):
    """The texts of all elements that a selector finds."""
    return browser.value(f"[...document.querySelectorAll({selector!r})].map((each) => each.textContent.trim())")


def column(browser, index):
    """The texts of a column of the table of scores, from above."""
    return texts(browser, f"#scores tbody tr > :nth-child({index + 1})")


def numbers(texts):
    return [float(text.split(" ")[0]) for text in texts if text != "–"]


def press_button(browser, selector):
    browser.value(f"document.querySelector({selector!r}).click()")


def pick(browser, field, value):
    browser.value(
        f"(() => {{ const field = document.getElementById('{field}'); field.value = '{value}';"
        "field.dispatchEvent(new Event('change')); })()"
    )


def find(browser, text):
    browser.value(
        f"(() => {{ const field = document.getElementById('find'); field.value = {text!r};"
        "field.dispatchEvent(new Event('input')); })()"
    )


def test_the_answer_is_that_of_the_data(browser, made):
    own = made[1]["datasets"][0]
    row = next(row for row in own["choices"]["fid"] if row["nfe"] == 10)
    label = made[1]["solvers"][row[row["better"]]["best"].split("/")[1]]["label"]
    assert label in browser.value("document.querySelector('#choice .lead b').textContent")
    assert browser.value("document.querySelectorAll('.choice.wins').length") == 1
    assert browser.value("document.querySelectorAll('#choice .tiles i').length") == 16
    press_button(browser, "#budget [value='5']")
    assert browser.value("document.querySelector('#choice .lead').textContent").startswith("At most 5 evaluations")
    assert "nfe=5" in browser.value("location.hash")


def test_what_is_marked_in_the_table_are_the_marks_of_the_data(browser, made):
    own = made[1]["datasets"][0]
    for mark in ("best", "second"):
        found = browser.value(f"[...document.querySelectorAll('#scores .{mark}')].map((each) => each.dataset.cell)")
        assert sorted(found) == sorted(own["marks"]["fid"][mark])
    assert found


def test_a_page_with_scores_that_are_not_finite_at_the_fewest_evaluations_is_drawn(started, tmp_path):
    def failing(cell, seeds):
        found = synthetic_pages.score(cell, seeds)
        if cell.nfe == 5:
            found["metrics"]["fid"] |= {"value": None, "error": None, "blocks": [None] * seeds}
        return found

    bench = Benchmark(yaml.safe_load((ROOT / "config" / "config.yaml").read_text()), ROOT)
    path, *_ = synthetic_pages.write(bench, tmp_path, scored=failing)
    started.errors.clear()
    started.open(path, "#metric=fid&nfe=5")
    assert started.errors == []
    assert texts(started, "#budget label") == ["10"]
    assert "Not finite" in started.value("document.getElementById('trust-body').textContent")


def test_columns_sort_both_ways_and_say_so(browser):
    assert browser.value("document.querySelectorAll('#scores [aria-sort]').length") == 0
    for direction, reverse in (("ascending", False), ("descending", True)):
        press_button(browser, "[data-sort='5']")
        assert browser.value("document.querySelector('#scores [aria-sort]').getAttribute('aria-sort')") == direction
        found = numbers(column(browser, 1))
        assert found == sorted(found, reverse=reverse)
        assert len(found) == 6
        assert browser.value("document.activeElement.dataset.sort") == "5"
    press_button(browser, "[data-sort='solver']")
    assert column(browser, 0) == sorted(column(browser, 0), key=str.lower)


def test_the_better_end_of_a_score_comes_first(browser):
    pick(browser, "metric", "precision")
    press_button(browser, "[data-sort='5']")
    assert numbers(column(browser, 1)) == sorted(numbers(column(browser, 1)), reverse=True)


def test_the_table_is_filtered_by_words_and_by_kind(browser):
    find(browser, "ipndm")
    assert column(browser, 0) == ["iPNDM", "D-iPNDM"]
    assert browser.value("document.getElementById('count').textContent") == "2 of 6 solvers"
    press_button(browser, "[name=kind][value=distilled]")
    assert column(browser, 0) == ["D-iPNDM"]
    find(browser, "nothing is called so")
    assert column(browser, 0) == ["No solver is called so."]


def test_a_cell_opens_by_keyboard_and_gives_the_focus_back(browser):
    browser.value("document.querySelector('#scores [data-cell]').focus()")
    browser.press("ArrowDown", "ArrowRight")
    name = browser.value("document.activeElement.dataset.cell")
    assert name == "digits-ddpm/dpmpp-2m/nfe10"
    browser.press("Enter")
    assert browser.value(OPEN)
    assert browser.value(TITLE) == HOSTILE
    assert f"cell={name}" in browser.value("location.hash")
    browser.press("Escape")
    assert not browser.value(OPEN)
    assert browser.value("document.activeElement.dataset.cell") == name
    browser.wait("!location.hash.includes('cell=')")


def test_one_cell_of_the_table_is_in_the_order_of_the_tab_key(browser):
    assert browser.value("document.querySelectorAll('#scores [data-cell][tabindex=\"0\"]').length") == 1
    assert browser.value("document.querySelectorAll('#scores [data-cell]').length") == 12


def test_a_link_opens_its_cell_with_all_its_parts(browser, made):
    browser.open(made[0], f"#cell={CELL}")
    assert browser.value(OPEN)
    assert browser.value(TITLE) == "D-DDIM (m=3, refined)"
    assert browser.value("document.getElementById('dataset').value") == "digits-edm"
    headings = texts(browser, "#cell .body > h3")
    parts = ["Samples", "What was fitted", "The way from noise to image", "Take it home", "Make it again"]
    assert headings == parts
    tiles = "[...document.querySelectorAll('#cell .samples .row')].map((row) => row.querySelectorAll('i').length)"
    assert browser.value(tiles) == [16] * 4
    # Three directions, the residuals, the error and two pixels of it.
    assert browser.value("document.querySelectorAll('#cell .drawing svg').length") == 6
    lambdas = next(each for each in made[1]["cells"] if each["name"] == CELL)["fit"]["lambdas"]
    shown = browser.value(
        "[...document.querySelectorAll('#cell details td')].slice(0, 3).map((each) => each.textContent)"
    )
    assert [float(text.replace("−", "-")) for text in shown] == pytest.approx(lambdas[0], abs=1e-6)
    export, again = texts(browser, "#cell .command code")
    assert "export results/digits digits-edm d-ddim-refined 5 " in export
    assert again == f"snakemake results/digits/{CELL}/score.json --configfile digits.json"
    press_button(browser, "#cell .buttons button:nth-child(2)")
    assert "10 evaluations" in browser.value("document.querySelector('#cell header p').textContent")


def test_samples_are_drawn(browser, made):
    """Their strip is an image that the browser can read, of the size of 16 samples."""
    browser.open(made[0], f"#cell={CELL}")
    size = browser.value(
        "(async () => { const tiles = getComputedStyle(document.querySelector('#cell .tiles'));"
        "const image = new Image(); image.src = tiles.getPropertyValue('--strip').slice(4, -1); await image.decode();"
        "return [image.naturalWidth, image.naturalHeight]; })()"
    )
    assert size == [16 * 8, 8]


def test_text_of_the_data_is_never_markup(browser):
    assert browser.value("document.querySelectorAll('img').length") == 0
    assert HOSTILE in column(browser, 0)


def test_curves_have_points_with_words_and_open_their_cell(browser):
    svg = "document.querySelector('#curve svg')"
    browser.value(f"{svg}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    x, y = browser.value(
        f"(() => {{ const place = {svg}.querySelector('.mark').getBoundingClientRect();"
        "return [place.x + place.width / 2, place.y + place.height / 2]; })()"
    )
    browser.move(x, y)
    tip = browser.value("document.querySelector('#curve .tip:not([hidden])')?.textContent")
    assert tip.startswith("DDIM")
    assert "NFE 5" in tip
    browser.click(x, y)
    assert browser.value(OPEN)
    assert browser.value(TITLE) == "DDIM"
    browser.press("Escape")
    browser.value(f"{svg}.focus()")
    browser.press("ArrowRight", "ArrowRight", "Enter")
    assert browser.value(OPEN)


def test_a_line_is_hidden_by_its_legend(browser):
    count = "document.querySelectorAll('#curve .drawing g').length"
    before = browser.value(count)
    press_button(browser, "#curve .legend button")
    assert browser.value("document.querySelector('#curve .legend button').getAttribute('aria-pressed')") == "false"
    assert browser.value(count) == before - 1


def test_the_legend_names_the_levels_and_nothing_is_written_on_the_curves(browser):
    browser.size(390, 844)
    names = texts(browser, "#curve .legend span")
    assert [name.split(" (")[0] for name in names] == ["reference: fine heun steps", "real halves"]
    assert browser.value("document.querySelectorAll('#curve .drawing line.level').length") == len(names)
    dashes = "[...document.querySelectorAll('#curve .level')].map((each) => each.getAttribute('stroke-dasharray'))"
    drawn = browser.value(dashes)
    assert drawn[:2] == drawn[2:]
    assert len(set(drawn)) == 2
    inside = (
        "(() => { const grid = [...document.querySelectorAll('#curve .grid')];"
        "const mark = grid.map((each) => each.getBoundingClientRect());"
        "const left = Math.min(...mark.map((each) => each.left)), low = Math.max(...mark.map((each) => each.bottom));"
        "return [...document.querySelectorAll('#curve .drawing text')].filter((each) => {"
        "const box = each.getBoundingClientRect(); return box.right > left + 1 && box.top < low; }).length; })()"
    )
    assert browser.value(inside) == 0


def test_trajectory_error_comes_with_a_warning(browser):
    assert not browser.value("document.getElementById('meaning').classList.contains('warning')")
    pick(browser, "metric", "trajectory_rmse")
    assert "On its own it misleads" in browser.value("document.getElementById('meaning').textContent")
    assert "look at FID" in browser.value("document.querySelector('#choice .lead').textContent")


def luminance(browser, what):
    color = browser.value(f"getComputedStyle(document.body).{what}")
    return sum(float(part) for part in color[4:-1].split(",")[:3]) / 3


def test_the_theme_is_the_readers_until_one_is_chosen(browser, made):
    assert luminance(browser, "backgroundColor") > 200 > luminance(browser, "color")
    browser.prefer(color_scheme="dark")
    assert luminance(browser, "backgroundColor") < 60 < luminance(browser, "color")
    press_button(browser, "#theme")
    assert luminance(browser, "backgroundColor") > 200
    browser.open(made[0])
    assert luminance(browser, "backgroundColor") > 200
    browser.value("localStorage.clear()")


# Of all text that is seen: its colour against the first opaque background behind it, mixed as it is painted.
CONTRASTS = """(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const over = (colors) => { canvas.clearRect(0, 0, 1, 1); for (const color of colors) { canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1); } return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3); };
  const light = (rgb) => rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  for (const element of document.querySelectorAll("main *, header *, form *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || element.closest("svg, .hidden, noscript, option") || !element.getClientRects().length) continue;
    const behind = [];
    for (let each = element; each; each = each.parentElement) behind.unshift(getComputedStyle(each).backgroundColor);
    const back = over(behind), front = over([...behind, getComputedStyle(element).color]);
    const [a, b] = [light(back), light(front)].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), element.tagName + ": " + element.textContent.trim().slice(0, 40)]);
  }
  return found.sort((x, y) => x[0] - y[0])[0];
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_the_contrast_of_wcag_aa(browser, scheme):
    browser.prefer(color_scheme=scheme)
    worst, text = browser.value(CONTRASTS)
    assert worst >= 4.5, text


@pytest.mark.parametrize("fragment", ["", f"#cell={CELL}"], ids=["page", "cell"])
def test_a_phone_scrolls_down_alone(browser, made, fragment):
    browser.size(390, 844)
    browser.open(made[0], fragment)
    assert browser.value("document.documentElement.scrollWidth") == 390
    assert browser.value("(document.querySelector('dialog[open]') ?? document.body).scrollWidth") <= 390


NAMELESS = """(() => {
  const named = (each) => each.getAttribute("aria-label") || each.getAttribute("aria-labelledby") ||
    each.textContent.trim() || each.labels?.length;
  const all = document.querySelectorAll("button, input, select, a, svg[role], [role=region], [role=img], dialog");
  return [...all].filter((each) => !named(each)).map((each) => each.outerHTML.slice(0, 80));
})()"""


def test_every_control_and_region_has_a_name(browser, made):
    browser.open(made[0], f"#cell={CELL}")
    assert browser.value(NAMELESS) == []


def test_the_benchmark_of_the_page_runs():
    command = [sys.executable, "benchmarks/page.py", "--config", "config/config.yaml", "--runs", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    rows = dict(line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:])
    assert rows["images of a cell"] == "16 to 16"
    assert float(rows["first paint (ms), median of 1"]) > 0
