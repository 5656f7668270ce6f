"""The Chromium of the system, headless and driven by Playwright."""

import contextlib
import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Root, as in a container, has no sandbox; the others keep it from asking its makers' servers for anything.
_OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def executable() -> str | None:
    """Path of a Chromium; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def started() -> Iterator[Browser]:
    """A browser, closed at the end."""
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=executable(), args=_OPTIONS) as browser,
    ):
        yield browser
