"""The page in a real headless Chromium without a network, on made-up scores of the embedded benchmark's cells."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import browsers
import synthetic_pages
from dode.benchmark.cells import Benchmark

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browsers.executable() is None, reason=f"none of {', '.join(browsers.NAMES)} is installed"),
]
ROOT = Path(__file__).parents[2]
HOSTILE = "<img src=x onerror=alert(1)> & <b>DDIM</b>"
CELL = "digits-edm/d-ddim-refined/nfe5"
OPEN = "document.getElementById('cell').open"
TITLE = "document.getElementById('cell-title').textContent.trim()"
DESK = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True}


def hostile(found):
    found["solvers"]["dpmpp-2m"]["label"] = HOSTILE


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    bench = Benchmark(yaml.safe_load((ROOT / "config" / "config.yaml").read_text()), ROOT)
    return synthetic_pages.write(bench, tmp_path_factory.mktemp("page"), hostile, costed=True)


@pytest.fixture(scope="module")
def chromium():
    with browsers.started() as browser:
        yield browser


@pytest.fixture
def visit(chromium, made):
    """Opens a file, the page of ``made`` if none is named, in a new profile without a network.

    After the test nothing was complained of and nothing but the files was asked for.
    """
    errors, asked, files = [], set(), set()
    with contextlib.ExitStack() as profiles:

        def opened(fragment="", path=made[0], **options):
            profile = profiles.enter_context(chromium.new_context(offline=True, **{**DESK, **options}))
            profile.on("weberror", lambda found: errors.append(str(found.error)))
            profile.on("console", lambda said: errors.append(said.text) if said.type in ("error", "assert") else None)
            profile.on("request", lambda request: asked.add(request.url.split("#")[0]))
            files.add(path.as_uri())
            page = profile.new_page()
            page.goto(path.as_uri() + fragment)
            return page

        yield opened
    assert errors == []
    assert {url for url in asked if not url.startswith("data:")} <= files


@pytest.fixture
def page(visit):
    return visit()


def texts(page, selector):
    """The texts of all elements that a selector finds."""
    return [text.strip() for text in page.locator(selector).all_text_contents()]


def column(page, index):
    """The texts of a column of the table of scores, from above."""
    return texts(page, f"#scores tbody tr > :nth-child({index + 1})")


def numbers(texts):
    return [float(text.split(" ")[0]) for text in texts if text != "–"]


def test_the_answer_is_that_of_the_data(page, made):
    own = made[1]["datasets"][0]
    row = next(row for row in own["choices"]["paired_fid"] if row["nfe"] == 10)
    label = made[1]["solvers"][row[row["better"]]["best"].split("/")[1]]["label"]
    assert label in page.evaluate("document.querySelector('#choice .lead b').textContent")
    assert page.evaluate("document.querySelectorAll('.choice.wins').length") == 1
    assert page.evaluate("document.querySelectorAll('#choice .tiles i').length") == 16
    page.locator("#budget label", has_text="5").click()
    assert page.evaluate("document.querySelector('#choice .lead').textContent").startswith("At most 5 evaluations")
    assert "nfe=5" in page.evaluate("location.hash")


def test_paired_fid_is_shown_first_and_fid_beside_it_with_what_each_says(page, made):
    assert page.evaluate("document.getElementById('metric').value") == "paired_fid"
    assert page.evaluate("document.getElementById('meaning').textContent").startswith("Says what the few steps cost.")
    for card in texts(page, "#choice .choice"):
        assert " paired FID\n" in card
        assert " FID\n" in card.replace("paired FID", "")
    said = texts(page, "#choice > .note")[0]
    assert "paired FID says what the few steps cost, and FID says how good the images are" in " ".join(said.split())
    page.locator("#metric").select_option("fid")
    assert "Says how good the images are" in page.evaluate("document.getElementById('meaning').textContent")
    assert all(" paired FID\n" in card for card in texts(page, "#choice .choice"))


def test_what_is_marked_in_the_table_are_the_marks_of_the_data(page, made):
    own = made[1]["datasets"][0]
    for mark in ("best", "second"):
        found = page.evaluate(f"[...document.querySelectorAll('#scores .{mark}')].map((each) => each.dataset.cell)")
        assert sorted(found) == sorted(own["marks"]["paired_fid"][mark])
    assert found


def test_a_page_with_scores_that_are_not_finite_at_the_fewest_evaluations_is_drawn(visit, tmp_path):
    def failing(cell, seeds):
        found = synthetic_pages.score(cell, seeds)
        if cell.nfe == 5:
            found["metrics"]["fid"] |= {"value": None, "error": None, "blocks": [None] * seeds}
        return found

    bench = Benchmark(yaml.safe_load((ROOT / "config" / "config.yaml").read_text()), ROOT)
    path, *_ = synthetic_pages.write(bench, tmp_path, scored=failing)
    page = visit("#metric=fid&nfe=5", path)
    assert texts(page, "#budget label") == ["10"]
    assert "Not finite" in page.evaluate("document.getElementById('trust-body').textContent")


def test_columns_sort_both_ways_and_say_so(page):
    assert page.evaluate("document.querySelectorAll('#scores [aria-sort]').length") == 0
    for direction, reverse in (("ascending", False), ("descending", True)):
        page.locator("[data-sort='5']").click()
        assert page.evaluate("document.querySelector('#scores [aria-sort]').getAttribute('aria-sort')") == direction
        found = numbers(column(page, 1))
        assert found == sorted(found, reverse=reverse)
        assert len(found) == 7
        assert page.evaluate("document.activeElement.dataset.sort") == "5"
    page.locator("[data-sort='solver']").click()
    assert column(page, 0) == sorted(column(page, 0), key=str.lower)


def test_the_better_end_of_a_score_comes_first(page):
    page.locator("#metric").select_option("precision")
    page.locator("[data-sort='5']").click()
    assert numbers(column(page, 1)) == sorted(numbers(column(page, 1)), reverse=True)


def test_the_table_is_filtered_by_words_and_by_kind(page):
    page.locator("#find").fill("ipndm")
    assert column(page, 0) == ["iPNDM", "D-iPNDM", "J-iPNDM"]
    assert page.evaluate("document.getElementById('count').textContent") == "3 of 7 solvers"
    page.locator("[name=kind][value=distilled]").click()
    assert column(page, 0) == ["D-iPNDM", "J-iPNDM"]
    page.locator("#find").fill("nothing like this")
    assert column(page, 0) == ["No solver matches."]


def test_a_cell_opens_by_keyboard_and_gives_the_focus_back(page):
    page.evaluate("document.querySelector('#scores [data-cell]').focus()")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    name = page.evaluate("document.activeElement.dataset.cell")
    assert name == "digits-ddpm/dpmpp-2m/nfe10"
    page.keyboard.press("Enter")
    assert page.evaluate(OPEN)
    assert page.evaluate(TITLE) == HOSTILE
    assert f"cell={name}" in page.evaluate("location.hash")
    page.keyboard.press("Escape")
    assert not page.evaluate(OPEN)
    assert page.evaluate("document.activeElement.dataset.cell") == name
    page.wait_for_url(lambda url: "cell=" not in url)


def test_one_cell_of_the_table_is_in_the_order_of_the_tab_key(page):
    assert page.evaluate("document.querySelectorAll('#scores [data-cell][tabindex=\"0\"]').length") == 1
    assert page.evaluate("document.querySelectorAll('#scores [data-cell]').length") == 14


def test_a_link_opens_its_cell_with_all_its_parts(visit, made):
    page = visit(f"#cell={CELL}")
    assert page.evaluate(OPEN)
    assert page.evaluate(TITLE) == "D-DDIM (m=3, refined)"
    assert page.evaluate("document.getElementById('dataset').value") == "digits-edm"
    headings = texts(page, "#cell .body > h3")
    parts = ["Samples", "What was fitted", "The path from noise to image", "Take it home", "Make it again"]
    assert headings == parts
    tiles = "[...document.querySelectorAll('#cell .samples .row')].map((row) => row.querySelectorAll('i').length)"
    assert page.evaluate(tiles) == [16] * 4
    # Three directions, the residuals, the error and two pixels of it.
    assert page.evaluate("document.querySelectorAll('#cell .drawing svg').length") == 6
    lambdas = next(each for each in made[1]["cells"] if each["name"] == CELL)["fit"]["lambdas"]
    shown = page.evaluate(
        "[...document.querySelectorAll('#cell details td')].slice(0, 3).map((each) => each.textContent)"
    )
    assert [float(text.replace("−", "-")) for text in shown] == pytest.approx(lambdas[0], abs=1e-6)
    export, again = texts(page, "#cell .command code")
    assert "export results/digits digits-edm d-ddim-refined 5 " in export
    assert again == f"python -m dode run digits.json -- results/digits/{CELL}/score.json"
    page.locator("#cell .buttons button:nth-child(2)").click()
    assert "10 evaluations" in page.evaluate("document.querySelector('#cell header p').textContent")


def test_samples_are_drawn(visit):
    """Their strip is an image that the browser can read, of the size of 16 samples."""
    page = visit(f"#cell={CELL}")
    size = page.evaluate(
        "(async () => { const tiles = getComputedStyle(document.querySelector('#cell .tiles'));"
        "const image = new Image(); image.src = tiles.getPropertyValue('--strip').slice(4, -1); await image.decode();"
        "return [image.naturalWidth, image.naturalHeight]; })()"
    )
    assert size == [16 * 8, 8]


def test_text_of_the_data_is_never_markup(page):
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert HOSTILE in column(page, 0)


def test_curves_have_points_with_words_and_open_their_cell(page):
    svg = "document.querySelector('#curve svg')"
    page.evaluate(f"{svg}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    x, y = page.evaluate(
        f"(() => {{ const place = {svg}.querySelector('.mark').getBoundingClientRect();"
        "return [place.x + place.width / 2, place.y + place.height / 2]; })()"
    )
    page.mouse.move(x, y)
    tip = page.evaluate("document.querySelector('#curve .tip:not([hidden])')?.textContent")
    assert tip.startswith("DDIM")
    assert "NFE 5" in tip
    page.mouse.click(x, y)
    assert page.evaluate(OPEN)
    assert page.evaluate(TITLE) == "DDIM"
    page.keyboard.press("Escape")
    page.evaluate(f"{svg}.focus()")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.evaluate(OPEN)


def test_a_solver_that_loses_nothing_leaves_the_axis_of_the_others_logarithmic(visit, tmp_path):
    def exact(cell, seeds):
        found = synthetic_pages.score(cell, seeds)
        if cell.key[1:] == ("ddim", 10):
            found["metrics"]["paired_fid"] |= {"value": 0.0, "error": 0.0, "blocks": [0.0] * seeds}
        return found

    bench = Benchmark(yaml.safe_load((ROOT / "config" / "config.yaml").read_text()), ROOT)
    path, *_ = synthetic_pages.write(bench, tmp_path, scored=exact)
    page = visit(path=path)
    assert page.evaluate("document.querySelectorAll('#curve .drawing .mark').length") == 13
    assert "0" not in texts(page, "#curve .drawing text")
    assert page.evaluate("document.querySelector('[data-cell=\"digits-ddpm/ddim/nfe10\"]').dataset.value") == "0.0"


def test_a_line_is_hidden_by_its_legend(page):
    count = "document.querySelectorAll('#curve .drawing g').length"
    before = page.evaluate(count)
    page.locator("#curve .legend button").first.click()
    assert page.evaluate("document.querySelector('#curve .legend button').getAttribute('aria-pressed')") == "false"
    assert page.evaluate(count) == before - 1


def test_the_legend_names_the_levels_and_nothing_is_written_on_the_curves(visit):
    page = visit("#metric=fid", **PHONE)
    names = texts(page, "#curve .legend span")
    assert [name.split(" (")[0] for name in names] == ["reference: fine heun steps", "real halves"]
    assert page.evaluate("document.querySelectorAll('#curve .drawing line.level').length") == len(names)
    dashes = "[...document.querySelectorAll('#curve .level')].map((each) => each.getAttribute('stroke-dasharray'))"
    drawn = page.evaluate(dashes)
    assert drawn[:2] == drawn[2:]
    assert len(set(drawn)) == 2
    inside = (
        "(() => { const grid = [...document.querySelectorAll('#curve .grid')];"
        "const mark = grid.map((each) => each.getBoundingClientRect());"
        "const left = Math.min(...mark.map((each) => each.left)), low = Math.max(...mark.map((each) => each.bottom));"
        "return [...document.querySelectorAll('#curve .drawing text')].filter((each) => {"
        "const box = each.getBoundingClientRect(); return box.right > left + 1 && box.top < low; }).length; })()"
    )
    assert page.evaluate(inside) == 0


def test_trajectory_error_comes_with_a_warning(page):
    assert not page.evaluate("document.getElementById('meaning').classList.contains('warning')")
    page.locator("#metric").select_option("trajectory_rmse")
    assert "On its own it misleads" in page.evaluate("document.getElementById('meaning').textContent")
    assert "look at paired FID" in page.evaluate("document.querySelector('#choice .lead').textContent")


def luminance(page, what):
    color = page.evaluate(f"getComputedStyle(document.body).{what}")
    return sum(float(part) for part in color[4:-1].split(",")[:3]) / 3


def test_the_theme_is_the_readers_until_one_is_chosen(page):
    assert luminance(page, "backgroundColor") > 200 > luminance(page, "color")
    page.emulate_media(color_scheme="dark")
    assert luminance(page, "backgroundColor") < 60 < luminance(page, "color")
    page.locator("#theme").click()
    assert luminance(page, "backgroundColor") > 200
    page.reload()
    assert luminance(page, "backgroundColor") > 200


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
def test_all_text_has_the_contrast_of_wcag_aa(page, scheme):
    page.emulate_media(color_scheme=scheme)
    worst, text = page.evaluate(CONTRASTS)
    assert worst >= 4.5, text


def test_paper_is_white_and_its_text_dark_whatever_the_theme(page):
    page.emulate_media(color_scheme="dark")
    for _ in range(3):  # light, dark, the reader's
        page.emulate_media(media="screen")
        page.locator("#theme").click()
        page.emulate_media(media="print")
        assert luminance(page, "backgroundColor") == 255
        assert luminance(page, "color") < 60
        worst, text = page.evaluate(CONTRASTS)
        assert worst >= 4.5, text
        # Else a browser leaves out the samples, which are backgrounds.
        assert page.evaluate("getComputedStyle(document.querySelector('.tiles i')).printColorAdjust") == "exact"


def test_a_chart_is_no_wider_than_the_paper(page):
    page.emulate_media(media="print")
    width = (
        "(() => { document.querySelector('main').style.width = '600px';"  # and before it can be drawn anew
        "return document.querySelector('#curve svg').getBoundingClientRect().width; })()"
    )
    assert page.evaluate(width) <= 600


def lead(page):
    """What is said of costs, of the kind that is chosen."""
    return " ".join(page.locator("#costs [data-axis]:not([hidden])").inner_text().split())


def test_costs_are_those_of_the_chosen_evaluations_and_kind(visit, made):
    page, own = visit("#dataset=digits-edm&nfe=10"), made[1]["datasets"][1]
    best = {nfe: found["work"]["best"] for nfe, found in own["economy"]["paired_fid"].items()}
    labels = {nfe: made[1]["solvers"][name.split("/")[1]]["label"] for nfe, name in best.items()}
    assert lead(page).startswith(f"At NFE 10, the best of what was learnt is {labels[10]} (")
    page.locator("#cost-budget label", has_text="5").click()
    assert lead(page).startswith(f"At NFE 5, the best of what was learnt is {labels[5]} (")
    assert "evaluations." in lead(page)
    assert page.evaluate("document.querySelector('#choice .lead').textContent").startswith("At most 5 evaluations")
    assert page.evaluate("document.querySelector('#budget :checked').value") == "5"
    page.locator("[name=cost][value=seconds]").check()
    assert "seconds." in lead(page)
    assert page.evaluate("location.hash").endswith("nfe=5&cost=seconds")
    again = visit(page.evaluate("location.hash"))
    assert lead(again) == lead(page)
    assert again.locator("#costs .drawing .label").first.text_content() == "seconds to learn it"


def test_in_the_chart_of_costs_plain_solvers_stand_at_the_left_and_a_point_opens_its_cell(page, made):
    """Filled markers are of what was learnt, hollow ones of plain solvers."""
    texts_of = page.locator("#costs .drawing text").all_text_contents()
    assert "plain" in texts_of
    of_group = "(each) => [each.dataset.solver, each.matches('.dashed'), +each.querySelector('use').getAttribute('x')]"
    places = page.locator("#costs .drawing g[data-solver]").evaluate_all(f"(all) => all.map({of_group})")
    elsewhere = {"reference", "heun", "d-heun"}  # of other evaluations or data sets
    assert {name for name, *_ in places} == set(made[1]["solvers"]) - elsewhere
    plain = {x for _, dashed, x in places if dashed}
    assert len(plain) == 1
    assert max(plain) < min(x for _, dashed, x in places if not dashed)
    for name, dashed, _ in places:
        assert dashed is not made[1]["solvers"][name]["distilled"]
    page.locator("#costs .drawing svg").focus()
    said = [page.locator("#costs .tip").inner_text()]
    for _ in places[1:]:  # the keyboard reaches every point, from left to right
        page.keyboard.press("ArrowRight")
        said.append(page.locator("#costs .tip").inner_text())
    assert len(set(said)) == len(places)
    assert ["learnt nothing" in each for each in said] == [True] * 3 + [False] * 4
    page.keyboard.press("Enter")
    assert page.evaluate(OPEN)


def test_the_table_of_costs_is_sorted_and_searched(page):
    def shown(index):
        return texts(page, f"#cost-table tbody tr > :nth-child({index})")

    page.locator("#cost-table [data-sort=evaluations]").click()
    counts = [int(text.replace(",", "")) for text in shown(5) if text != "–"]
    assert counts == sorted(counts)
    assert shown(5)[0] == "–"  # nothing learnt costs nothing
    page.locator("#cost-table [data-sort=learnt]").click()
    assert [text for text in shown(2) if text != "–"] == ["greedy", "greedy", "joint", "refined"]
    page.locator("#cost-find").fill("joint")
    assert shown(1) == ["J-iPNDM"]
    assert page.locator("#cost-count").inner_text() == "1 of 7 solvers"
    assert len(column(page, 0)) == 7  # the other table has a field of its own
    page.locator("#cost-table .link").click()
    assert page.evaluate(TITLE) == "J-iPNDM"


def test_where_nothing_was_learnt_nothing_is_said_of_costs(visit, tmp_path):
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    config["solvers"] = [entry for entry in config["solvers"] if "distill" not in entry]
    page = visit(path=synthetic_pages.write(Benchmark(config, ROOT), tmp_path, costed=True)[0])
    assert page.locator("#costs, #to-costs").count() == 0
    assert page.locator("#trust").is_visible()


def test_costs_are_hidden_for_a_data_set_where_nothing_was_learnt(visit, tmp_path):
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    for entry in config["solvers"]:
        if "distill" in entry:
            entry["datasets"] = ["digits-edm"]
    page = visit(path=synthetic_pages.write(Benchmark(config, ROOT), tmp_path, costed=True)[0])
    for name, there in (("digits-ddpm", False), ("digits-edm", True)):
        page.locator("#dataset").select_option(name)
        assert page.locator("#costs").is_visible() is there
        assert page.locator("#to-costs").is_visible() is there


@pytest.mark.parametrize("fragment", ["", f"#cell={CELL}"], ids=["page", "cell"])
def test_a_phone_scrolls_down_alone(visit, fragment):
    page = visit(fragment, **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("(document.querySelector('dialog[open]') ?? document.body).scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_table_that_goes_on_to_the_right_says_so(visit, scheme):
    page = visit(**PHONE, color_scheme=scheme)
    region = page.get_by_role("region", name="Models and images")
    region.scroll_into_view_if_needed()
    assert region.evaluate("each => each.scrollWidth > each.clientWidth")

    def edge():
        box = region.bounding_box()
        image = page.screenshot(clip={**box, "x": box["x"] + box["width"] - 4, "width": 4, "height": 6})
        return np.asarray(Image.open(io.BytesIO(image)).convert("L"), dtype=float).mean()

    before = edge()
    region.evaluate("each => { each.scrollLeft = each.scrollWidth; }")
    page.evaluate("() => new Promise(requestAnimationFrame)")
    assert abs(before - edge()) > 20


NAMELESS = """(() => {
  const named = (each) => each.getAttribute("aria-label") || each.getAttribute("aria-labelledby") ||
    each.textContent.trim() || each.labels?.length;
  const all = document.querySelectorAll("button, input, select, a, svg[role], [role=region], [role=img], dialog");
  return [...all].filter((each) => !named(each)).map((each) => each.outerHTML.slice(0, 80));
})()"""


def test_every_control_and_region_has_a_name(visit):
    page = visit(f"#cell={CELL}")
    assert page.evaluate(NAMELESS) == []
