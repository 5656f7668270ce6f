"""Whether a fit helps: every solver on the embedded models, plain on its best grid, with the greedy fit, and jointly.

``python benchmarks/fits.py`` measures what ``benchmarks/fits.csv`` lacks, where each number is kept, and writes the
last section of docs/solvers.md: it goes on where it was killed. ``--print`` writes nothing; ``--models``,
``--solvers`` and ``--nfe`` choose some; ``--quick`` only shows that it runs.

A cell is a model, a solver with its default options, a number of evaluations, and one of: plain on eight grids,
each as it is, with an analytic first step, to the smallest noise level instead of 0, and with both; the paper's fit
(one coefficient per evaluation, one after the other) on the model's own grid, three coefficients refined together on
the searched grid, and the joint fit, which begins on the model's own grid. Of the plain solver's 32 grids those are
scored that are among the best three, by RMSE or by paired FID, on the images that fits see. All cells of a model are
scored on the same noise. The fine solution is a cell too: a FID below its own is no gain.
"""

import argparse
import contextlib
import csv
import functools
import itertools
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from embedded import card, fine, on_grid
from fits_cells import (
    BLOCKS,
    CANDIDATES,
    ENDINGS,
    FITS,
    FITTED,
    GRIDS,
    MODELS,
    NFES,
    OWN_NFES,
    SCORES,
    SEARCHED,
    TRIED,
    USUAL,
)
from toy import NAMES as SOLVERS
from toy import PAGE, replace
from tqdm import tqdm

import dode
from dode import grids, solvers
from dode.distillation import search
from dode.images import data, noise, pixels
from dode.metrics import distances, features
from dode.metrics.distances import Statistics
from dode.models import loading
from dode.report import verdicts

ROOT = Path(__file__).parents[1]
FOUND = ROOT / "benchmarks" / "fits.csv"


class Bench:
    """One model with its noise, fine solutions and searched grids."""

    def __init__(self, name, images=None, fitted=FITTED):
        self.name, self.model = name, MODELS[name]
        self.images, self.fitted = images or self.model.images, fitted
        self.denoise = loading.load(*card(name), batch_size=self.model.batch)
        self.extractor = features.create(*card(self.model.features))
        self.scored = [self._noise(self.images, "sample", block) for block in range(BLOCKS)]
        self.references = [self._fine(latents) for latents in self.scored]
        self.paired = [self._gaussian(ends) for ends in self.references]
        others = torch.cat(
            [self._fine(self._noise(self.images, "sample", block)) for block in range(BLOCKS, 2 * BLOCKS)]
        )
        self.own = self._gaussian(others)
        self.real = self._real()
        self.latents = self._noise(fitted, "fit", 0)
        self.ends = self._fine(self.latents)
        self.aim = self._gaussian(self.ends)
        searched = self._noise(min(SEARCHED, fitted), "fit", 1)
        self.candidates = {
            end: grids.for_model(self.denoise, "karras", CANDIDATES - 1, end=end) for end in ("zero", "sigma_min")
        }
        self.costs = {
            end: search.costs(self.denoise, searched, levels, batch_size=self.model.batch)
            for end, levels in self.candidates.items()
        }

    def _noise(self, count, stream, block):
        return noise.latents(range(count), self.model.shape, seed=0, stream=stream, block=block)

    def _fine(self, latents):
        return fine(self.name, self.denoise, latents)

    def _gaussian(self, ends):
        return self._of_bytes(pixels.to_bytes(ends))

    def _of_bytes(self, images):
        return Statistics.of(features.stream(self.extractor, images, 500)).gaussian

    def _real(self):
        """Moments of real images."""
        if self.name.startswith("digits"):
            return self._of_bytes(data.load("digits", self.model.shape)[0])
        with np.load(ROOT / "config" / "models" / "mnist-real-statistics.npz") as arrays:
            return self._of_bytes(np.moveaxis(arrays["arr_0"], 3, 1))

    def grid(self, name, solver, nfe):
        """The grid of a name in :data:`GRIDS`, with one in :data:`ENDINGS`, on which a solver makes ``nfe``."""
        kind, comma, ending = name.partition(",")
        if kind != "searched":
            return on_grid(name, self.denoise, solver, nfe)
        ending = ENDINGS[comma + ending]
        end, steps = ending.get("end", "zero"), grids.intervals(solver, nfe, ending)
        candidates, chosen = self.candidates[end], search.path(self.costs[end], steps)
        return grids.tensor.Grid.of(candidates[chosen], candidates.variable, None, "afs" in ending)

    def promising(self, method, nfe):
        """Grids on which a plain solver is among the best :data:`TRIED` on the fitting images, by either score."""
        found = {}
        for name in map("".join, itertools.product(GRIDS, ENDINGS)):
            with contextlib.suppress(FloatingPointError, ValueError):  # it may not be able to make so many evaluations
                end = dode.sample(method, self.denoise, self.latents, self.grid(name, method, nfe))
                rmse = (end - self.ends).square().mean().sqrt().item()
                found[name] = (rmse, distances.fid(self._gaussian(end), self.aim))
        ranked = [sorted(found, key=lambda name: found[name][score]) for score in (0, 1)]
        return sorted({*ranked[0][:TRIED], *ranked[1][:TRIED]})

    def measure(self, solver, nfe, fit):
        """``{grid: scores}``, a value per block; of a fit that breaks down or cannot be made the reason alone."""
        method = solvers.create(solver)
        if fit == "fine":
            return {self.model.fine[2]: self.scores(self.references)}
        if fit == "plain":
            return {
                grid: self.scores(
                    [dode.sample(method, self.denoise, noise, self.grid(grid, method, nfe)) for noise in self.scored]
                )
                for grid in self.promising(method, nfe)
            } or {"": {"note": "no grid on which it makes so many evaluations"}}
        grid = "searched" if fit == "refined" else self.model.own
        options = dict(FITS[fit], **({"ends": self.ends} if fit == "joint" else {}))
        try:
            found = dode.distill(method, self.denoise, self.latents, self.grid(grid, method, nfe), **options)
        except (FloatingPointError, ValueError) as error:
            return {grid: {"note": str(error)[:80]}}
        return {grid: self.scores([found.student.sample(self.denoise, noise) for noise in self.scored])}

    def scores(self, made):
        """Those of the end states of the blocks."""
        own = [self._gaussian(ends) for ends in made]
        squares = [(x - y).square().mean().item() for x, y in zip(made, self.references, strict=True)]
        found = {
            "paired_fid": [distances.fid(one, aim) for one, aim in zip(own, self.paired, strict=True)],
            "self_fid": [distances.fid(one, self.own) for one in own],
            "fid": [distances.fid(one, self.real) for one in own],
            "rmse": [value**0.5 for value in squares],
        }
        return {name: " ".join(f"{value:.5g}" for value in values) for name, values in found.items()}


def cells(options):
    """``(model, solver, nfe, fit)`` of everything that is asked for, the long ones last."""
    yield from ((model, *MODELS[model].fine[:2], "fine") for model in options.models)
    for fit, model, solver in itertools.product(("plain", *FITS), options.models, options.solvers):
        if solver in MODELS[model].solvers and fit in ("plain", *MODELS[model].fits):
            for nfe in OWN_NFES.get(solver, USUAL):
                if nfe in options.nfe and nfe in MODELS[model].nfes:
                    yield model, solver, nfe, fit


COLUMNS = ("model", "solver", "nfe", "fit", "grid", *SCORES, "note")


@functools.cache
def bench(name, images, fitted):
    """A model's, made once in a process; before the others are forked, so that they share it."""
    return Bench(name, images, fitted)


def _one(task):
    (model, *rest), images, fitted = task
    return (model, *rest), bench(model, images, fitted).measure(*rest)


def measured(options):
    """Measure what the file lacks."""
    torch.set_num_threads(1)  # the processes share the cores
    options.found.parent.mkdir(parents=True, exist_ok=True)
    done = set()
    if options.found.is_file():
        done = set(pd.read_csv(options.found)[list(COLUMNS[:4])].itertuples(index=False, name=None))
    left = [cell for cell in cells(options) if cell not in done]
    images, fitted = (40, 24) if options.quick else (None, FITTED)
    for model in {cell[0] for cell in left}:
        bench(model, images, fitted)
    with options.found.open("a", newline="", encoding="utf-8") as file, multiprocessing.Pool(options.workers) as pool:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if not done:
            writer.writeheader()
        tasks = [(cell, images, fitted) for cell in left]
        for cell, scores in tqdm(pool.imap_unordered(_one, tasks), total=len(tasks), desc="cells", mininterval=5):
            writer.writerows({**dict(zip(COLUMNS, (*cell, grid), strict=False)), **of} for grid, of in scores.items())
            file.flush()
            os.fsync(file.fileno())


def entries(frame):
    """``{(model, solver, nfe): {(fit, grid): {score: entry}}}``, entries as :mod:`dode.report.verdicts` has them."""
    found = {}
    for row in frame.dropna(subset=["paired_fid"]).to_dict("records"):
        of = {}
        for score in SCORES:
            blocks = [float(value) for value in row[score].split()]
            value, error = float(np.mean(blocks)), float(np.std(blocks, ddof=1))
            of[score] = {"value": value, "error": error, "error_kind": "seeds", "blocks": blocks}
        found.setdefault((row["model"], row["solver"], row["nfe"]), {})[row["fit"], row["grid"]] = of
    return found


def best(cell, fit, score):
    """The (grid, entry) of a kind with the lowest score; None where it has none."""
    own = {grid: of[score] for (kind, grid), of in cell.items() if kind == fit}
    return min(own.items(), key=lambda item: item[1]["value"]) if own else None


def number(value):
    """Two digits."""
    return "–" if value is None else f"{value:.2g}" if value < 1e4 else f"{value:.0e}"


def full_tables(found):
    """Paired FID of every solver, one table per model, Markdown."""
    parts = []
    for model in MODELS:
        rows = []
        for solver in MODELS[model].solvers:
            row = {"solver": f"`{solver}`"}
            for nfe in NFES:
                cell = found.get((model, solver, nfe))
                values = [best(cell, fit, "paired_fid") for fit in ("plain", "greedy", "joint")] if cell else []
                texts = [number(value[1]["value"]) if value else "–" for value in values]
                row[f"NFE {nfe}"] = " / ".join(texts) if cell else ""
            rows.append(row)
        table = pd.DataFrame(rows)
        table = table.loc[:, (table != "").any(axis=0)]
        if len(table.columns) > 1:
            parts.append(f"`{model}`:\n\n{table.to_markdown(index=False)}")
    return "\n\n".join(parts)


def champions(found):
    """The best of each kind over solvers and grids for a model and NFE, Markdown."""
    rows = []
    for model, nfe in itertools.product(MODELS, USUAL):
        own = {solver: cell for (name, solver, count), cell in found.items() if (name, count) == (model, nfe)}
        for score in ("paired_fid", "rmse"):
            of = {}
            for fit in ("plain", "refined", "joint"):
                pairs = [(solver, *entry) for solver, cell in own.items() if (entry := best(cell, fit, score))]
                if pairs:
                    of[fit] = min(pairs, key=lambda pair: pair[2]["value"])
            if not {"plain", "joint"} <= {*of}:
                continue

            def cell(solver, grid, entry, named=True):
                return f"{number(entry['value'])} ± {entry['error']:.1g}: {solver}{f', {grid}' if named else ''}"

            gains = {fit: f"{of[fit][2]['value'] / of['joint'][2]['value']:.1f}×" for fit in of}
            rows.append(
                {
                    "model": model,
                    "score": {"paired_fid": "paired FID", "rmse": "RMSE"}[score],
                    "NFE": nfe,
                    "best plain": cell(*of["plain"]),
                    "best refined": cell(*of["refined"], named=False) if "refined" in of else "",
                    "best joint": cell(*of["joint"], named=False),
                    "plain / joint": gains["plain"],
                    "refined / joint": gains.get("refined", ""),
                }
            )
    return pd.DataFrame(rows).sort_values(["score", "model", "NFE"]).to_markdown(index=False) if rows else ""


def worse(found):
    """Where the joint fit is worse than the same solver plain on its best grid, beyond the error.

    Returns:
        The number of joint fits, a line for each such score, and how many scores are left out: FIDs of a plain solver
        below that of the fine solution, whose errors cancel the model's.
    """
    lines, compared, left_out = [], 0, 0
    for (model, solver, nfe), cell in sorted(found.items()):
        if best(cell, "joint", "fid") is None:
            continue
        compared += 1
        for score in ("paired_fid", "self_fid", "fid"):
            (grid, plain), (_, joint) = best(cell, "plain", score), best(cell, "joint", score)
            if joint["value"] <= plain["value"] or verdicts.tied(joint, plain):
                continue
            text = f"{joint['value']:.3g} against {plain['value']:.3g} on `{grid}`"
            if score == "fid":
                _, fine = best(found[model, *MODELS[model].fine[:2]], "fine", score)
                text += f"; the fine solution has {fine['value']:.3g}"
                if plain["value"] < fine["value"]:
                    left_out += 1
                    continue
            lines.append(f"- {model}, `{solver}`, NFE {nfe}, {score.replace('_', ' ')}: {text}")
    return compared, lines, left_out


def gains(found):
    """How far the joint fit is ahead of the same solver at 4 to 8 evaluations, a sentence."""
    cells = {key: cell for key, cell in found.items() if 4 <= key[2] <= 8 and best(cell, "joint", "paired_fid")}
    if not cells:
        return ""

    def ratio(cell, fit, score):
        return best(cell, fit, score)[1]["value"] / best(cell, "joint", score)[1]["value"]

    plain = {key: ratio(cell, "plain", "paired_fid") for key, cell in cells.items()}
    refined = [
        max(ratio(cell, "refined", score) for score in ("paired_fid", "rmse"))
        for cell in cells.values()
        if best(cell, "refined", "paired_fid")
    ]
    far, ahead, median = sum(gain >= 5 for gain in plain.values()), sum(gain >= 2 for gain in refined), np.median
    model, solver, nfe = least = min(plain, key=plain.get)
    return (
        "At 4 to 8 evaluations the joint fit's paired FID is at least 5 times lower than that of the same solver plain "
        f"on its best grid in {far} of {len(plain)} cases, {median([*plain.values()]):.0f} times in the median and "
        f"{plain[least]:.1f} times at the least ({model}, `{solver}`, NFE {nfe}). In {ahead} of {len(refined)} it is "
        "at least twice as good, in paired FID or RMSE, as the refined fit on the searched grid."
    )


def section(found):
    """What goes into the page."""
    compared, lines, left_out = worse(found)
    verdict = (
        f"Of {compared} joint fits, compared by three scores each with the same solver "
        f"plain on its best grid, {len(lines) or 'none'} {'is' if len(lines) == 1 else 'are'} worse beyond "
        f"the error, besides {left_out} FIDs where the plain solver's is below that of the fine solution"
    )
    verdict += ":\n\n" + "\n".join(lines) if lines else "."
    return "\n\n".join([champions(found), gains(found), verdict, full_tables(found)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--solvers", nargs="+", default=SOLVERS, choices=SOLVERS)
    parser.add_argument("--nfe", nargs="+", type=int, default=NFES)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--found", type=Path, default=FOUND, help="the file of what was measured")
    parser.add_argument("--quick", action="store_true", help="few images; prints and writes no page")
    parser.add_argument("--print", action="store_true", help="prints and writes no page")
    options = parser.parse_args()
    measured(options)
    text = section(entries(pd.read_csv(options.found)))
    if options.print or options.quick:
        print(text)
    else:
        PAGE.write_text(replace(PAGE.read_text(encoding="utf-8"), "digits", text), encoding="utf-8")


if __name__ == "__main__":
    main()
