"""Size of the page of a large benchmark, and how long a browser takes over it. Prints a Markdown table.

Scores are made up, samples are cut from photographs and as large as the models' images; see benchmarks/README.md.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import browsers  # noqa: E402
import synthetic_pages  # noqa: E402
from dode.benchmark.cells import Benchmark  # noqa: E402

MEASURED = {
    "first paint": "performance.getEntriesByName('first-contentful-paint')[0]?.startTime",
    "load event": "performance.getEntriesByType('navigation')[0].loadEventEnd",
    "another data set": """(() => { const select = document.getElementById("dataset"), start = performance.now();
        select.selectedIndex = select.length - 1; select.dispatchEvent(new Event("change")); document.body.offsetHeight;
        return performance.now() - start; })()""",
    "a cell opened": """(() => { const start = performance.now(); document.querySelector("#scores [data-cell]").click();
        document.body.offsetHeight; return performance.now() - start; })()""",
}
# Resolved once there was a paint. Playwright's own waiting calls `eval` in later frames, and the page forbids that.
PAINTED = """new Promise((resolve) => new PerformanceObserver((seen) =>
    seen.getEntriesByName("first-contentful-paint").length && resolve()).observe({ type: "paint", buffered: true }))"""


def main():
    """Make the page, open it a few times, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "config" / "paper.yaml")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    bench = Benchmark(yaml.safe_load(arguments.config.read_text(encoding="utf-8")), ROOT)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        path, _, small = synthetic_pages.write(bench, Path(folder), costed=True)
        wall = time.perf_counter() - start
        whole = path.stat().st_size
        largest = max(len(own["samples"]["png"]) for own in small.values())
        images = sorted({own["samples"]["count"] for own in small.values()})
        print(f"| {len(bench.cells)} cells | |\n|:--|--:|")
        print(f"| the page (MB) | {whole / 1e6:.1f} |\n| samples of a cell, at most (kB) | {largest / 1e3:.0f} |")
        print(f"| images of a cell | {images[0]} to {images[-1]} |\n| made in (s) | {wall:.1f} |")
        for name, value in seen(path, arguments.runs).items():
            print(f"| {name} (ms), median of {arguments.runs} | {value:.0f} |")


def seen(path, runs):
    """Medians of :data:`MEASURED` in milliseconds, each run in a new browser."""
    found = []
    for _ in range(runs):
        with browsers.started() as browser:
            page = browser.new_page(offline=True)
            page.goto(path.as_uri())
            page.evaluate(PAINTED)
            found.append([page.evaluate(each) for each in MEASURED.values()])
    return dict(zip(MEASURED, map(statistics.median, zip(*found, strict=True)), strict=True))


if __name__ == "__main__":
    main()
