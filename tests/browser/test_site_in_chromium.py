"""The site of archives in a real headless Chromium without a network, followed by its links."""

import pytest

import browsers
import forged_archives
from dode.report.archives import format, site
from test_page_in_chromium import CONTRASTS, DESK, NAMELESS, PHONE, texts

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browsers.executable() is None, reason=f"none of {', '.join(browsers.NAMES)} is installed"),
]
CELL = "digits-edm/j-ipndm/nfe5"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("site")
    again = forged_archives.written(place / "again.zip", forged_archives.few(), by="Another lab", date="2030-01-01")
    site.write([format.read(forged_archives.DEMO), format.read(again)], place / "site")
    return place / "site"


@pytest.fixture(scope="module")
def chromium():
    with browsers.started() as browser:
        yield browser


@pytest.fixture
def visit(chromium, folder):
    """Opens a page of the site in a new profile; after the test nothing was complained of or asked for elsewhere."""
    errors, asked, profiles = [], set(), []

    def opened(name="index.html", **options):
        profile = chromium.new_context(offline=True, **{**DESK, **options})
        profiles.append(profile)
        profile.on("weberror", lambda found: errors.append(str(found.error)))
        profile.on("console", lambda said: errors.append(said.text) if said.type in ("error", "assert") else None)
        profile.on("request", lambda request: asked.add(request.url.split("#")[0]))
        page = profile.new_page()
        page.goto((folder / name).as_uri())
        return page

    yield opened
    for profile in profiles:
        profile.close()
    assert errors == []
    assert all(url.startswith(("data:", folder.as_uri())) for url in asked)


def cell_page(folder):
    (path,) = [path for path in folder.glob("cells/j-ipndm-nfe5-*") if CELL in path.read_text()]
    return path.relative_to(folder).as_posix()


def test_from_the_index_to_a_cell_and_to_its_benchmarks_page(visit):
    page = visit()
    page.locator("section#digits-edm td.best a").first.click()
    assert texts(page, "h1") == ["J-iPNDM, 5 evaluations"]
    assert texts(page, ".history tbody th")[0].startswith("paired FID")
    assert page.locator(".tiles i").count() == 16
    page.locator("nav a").click()
    page.locator("#cell[open]").wait_for()
    assert texts(page, "#cell-title") == ["J-iPNDM"]
    commands = texts(page, "#cell .command code")
    assert commands == [f"python -m dode audit again.zip {CELL}"]
    page.keyboard.press("Escape")
    page.locator("header a", has_text="All benchmarks").click()
    assert texts(page, "h1") == ["Few-step diffusion samplers"]


def test_samples_of_a_cell_are_drawn(visit, folder):
    page = visit(cell_page(folder))
    size = page.evaluate(
        "(async () => { const tiles = getComputedStyle(document.querySelector('.tiles'));"
        "const image = new Image(); image.src = tiles.getPropertyValue('--strip').slice(4, -1); await image.decode();"
        "return [image.naturalWidth, image.naturalHeight]; })()"
    )
    assert size == [16 * 8, 8]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_the_contrast_of_wcag_aa(visit, folder, scheme):
    for name in ("index.html", cell_page(folder)):
        worst, text = visit(name, color_scheme=scheme).evaluate(CONTRASTS)
        assert worst >= 4.5, text


def test_a_phone_scrolls_down_alone_and_every_region_has_a_name(visit, folder):
    for name in ("index.html", cell_page(folder)):
        page = visit(name, **PHONE)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.evaluate(NAMELESS) == []
