"""Every solver on the exact toy: docs/solvers.md and its picture.

``python benchmarks/toy.py`` measures the root-mean-square error of the end state on the Gaussian mixture of
``dode.models.mixture``: plain, distilled with one and with three directions, and on a searched grid; then, for each
number of evaluations, the best that this library can do (solver, grid, fit) against the best plain solver. ``--quick``
only shows that everything runs. ``--picture`` draws the picture alone, from the tables that are there.
"""

import argparse
import dataclasses
import itertools
import multiprocessing
import re
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

import dode
from dode import grids, solvers
from dode.distillation import search
from dode.models import mixture
from dode.report.figures import toy_figure

PAGE = Path(__file__).parents[1] / "docs" / "solvers.md"
NFES = (3, 4, 5, 6, 8, 10, 15, 20)
CHAMPION_NFES = (4, 5, 6, 8, 10)
SUBSTEPS, CANDIDATES = 10, 61
# Which champion is chosen on these seeds (of fit and of fresh images) and reported on the others.
CHOOSING, REPORTED = (5, 6), (0, 1, 2, 3, 4)
GRIDS = ("karras", "log-snr", "uniform-time", "uniform-index", "quadratic", "searched")
FITS = {
    "m=1": {"fit": "greedy", "directions": 1, "substeps": SUBSTEPS},
    "m=3": {"fit": "greedy", "directions": 3, "substeps": SUBSTEPS},
    "m=3, refined": {"fit": "refined", "directions": 3, "substeps": SUBSTEPS},
    "m=4, refined": {"fit": "refined", "directions": 4, "substeps": SUBSTEPS},
    # A run of the toy costs so little that the fit may take seven times what it takes by default: 1 to 3 CPU seconds.
    "joint": {"fit": "joint", "budget": 1_000_000},
}
# Of the (solver, grid) pairs of an NFE so many, the best of their greedy fits, are refined or fitted jointly.
TRIED = {"refined": 24, "joint": 8}
# With its levels free, what a joint fit begins at matters little, so it is tried from the usual solvers, too.
USUAL = [("ddim", "karras"), ("ipndm (4)", "karras"), ("dpm-solver++ (2M)", "karras")]
# What a file cannot tell: outputs kept and the grid of the publication.
HISTORY = {
    "ddim": "0",
    "deis": "order",
    "dpm-solver": "0",
    "dpm-solver++": "0, 1, 2, 2",
    "dpm-solver-multistep": "order - 1",
    "flow-ab": "order - 1",
    "flow-heun": "0",
    "flow-midpoint": "0",
    "gradient-estimation": "1",
    "heun": "0",
    "ipndm": "order - 1",
    "ipndm_v": "order - 1",
    "plms": "3",
    "pndm": "3",
    "res-multistep": "order - 1",
    "unipc": "order",
}
PUBLISHED_GRIDS = {
    "ddim": "uniform-index, quadratic",
    "deis": "quadratic in time",
    "dpm-solver": "log-snr",
    "dpm-solver++": "uniform-time, log-snr",
    "dpm-solver-multistep": "log-snr",
    "flow-ab": "–",
    "flow-heun": "flow-linear",
    "flow-midpoint": "flow-linear",
    "gradient-estimation": "–",
    "heun": "karras",
    "ipndm": "uniform-index",
    "ipndm_v": "karras",
    "plms": "uniform-index",
    "pndm": "uniform-index",
    "res-multistep": "log-snr",
    "unipc": "log-snr, uniform-time",
}


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is measured."""

    fitted: int = 400
    fresh: int = 2048
    nfes: tuple = NFES
    champion_nfes: tuple = CHAMPION_NFES


QUICK = Size(fitted=32, fresh=64, nfes=(3, 4), champion_nfes=(4,))


#: Solvers that can be fitted: of the others the levels depend on the image.
NAMES = [
    name
    for name in solvers.names()
    if not (
        solvers.create(name).method.prepare or solvers.create(name).per_image or solvers.create(name).method.network
    )
]


def variants(name):
    """A solver's options, every combination of their choices."""
    choices = solvers.create(name).method.choices
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def all_variants():
    """``(name, options)`` of all of :data:`NAMES`."""
    return [(name, options) for name in NAMES for options in variants(name)]


def labelled(name, options):
    """``deis (2, time)``."""
    return f"{name} ({', '.join(map(str, options.values()))})" if options else name


_searches = {}


def grid_of(name, steps, seed, size):
    """A grid from sigma = 80 to 0.002 and 0; the searched one on the fitting images of ``seed``."""
    if name != "searched":
        return grids.grids.create(name, steps=steps, sigma_max=80.0, sigma_min=0.002)
    candidates = grids.karras(steps=CANDIDATES - 1)
    if seed not in _searches:
        _searches[seed] = search.costs(mixture.denoise, mixture.latents(size.fitted, seed), candidates)
    return search.Grid.of(candidates[search.path(_searches[seed], steps)], candidates.variable, None)


def error(name, options, nfe, grid, fit, seed, size):
    """RMSE of the end states of fresh images; NaN where the solver cannot make ``nfe`` evaluations."""
    solver = solvers.create(name, **options)
    try:
        sigmas = grid_of(grid, solver.steps(nfe), seed, size)
    except ValueError:
        return float("nan")
    fresh, lambdas = mixture.latents(size.fresh, 100 + seed), None
    try:
        if fit:
            lambdas = dode.distill(solver, mixture.denoise, mixture.latents(size.fitted, seed), sigmas, **FITS[fit])
        end = dode.sample(solver, mixture.denoise, fresh, sigmas, lambdas=lambdas)
    except (FloatingPointError, ValueError):  # a fit that is refused or breaks down is no entry
        return float("nan")
    return mixture.rmse(end, mixture.exact(size.fresh, 100 + seed))


def _measure(case):
    torch.set_num_threads(1)
    return error(*case)


def measure(cases, size, workers):
    """``cases`` (name, options, nfe, grid, fit, seed) with their errors, a frame."""
    arguments = [(*case, size) for case in cases]
    with multiprocessing.Pool(workers) as pool:
        errors = list(
            tqdm(pool.imap(_measure, arguments, chunksize=8), total=len(arguments), desc="runs", mininterval=5)
        )
    rows = [(labelled(name, options), *rest) for name, options, *rest in cases]
    return pd.DataFrame(rows, columns=["solver", "nfe", "grid", "fit", "seed"]).assign(rmse=errors)


def of_the_table(size):
    """The runs behind the table: plain, m = 1, m = 3 and the searched grid, every solver and NFE."""
    columns = [("karras", None), ("karras", "m=1"), ("karras", "m=3"), ("searched", None)]
    return [
        (name, options, nfe, grid, fit, seed)
        for name, options in all_variants()
        for nfe in size.nfes
        for grid, fit in columns
        for seed in REPORTED
    ]


def of_the_candidates(size, seeds):
    """Every solver and grid at the champions' NFE, plain and with a greedy fit."""
    return [
        (name, options, nfe, grid, fit, seed)
        for name, options in all_variants()
        for nfe in size.champion_nfes
        for grid in GRIDS
        for fit in (None, "m=1", "m=3")
        for seed in seeds
    ]


def of_the_best(greedy, seeds):
    """The pairs of solver and grid with the best greedy fits, with the fits that are made of all numbers together."""
    by_label = {labelled(name, options): (name, options) for name, options in all_variants()}
    by_nfe = greedy.xs("m=3", level="fit").dropna().sort_values().groupby(level="nfe")
    cases = []
    for fit, count in TRIED.items():
        pairs = {nfe: [(solver, grid) for solver, _, grid in best.head(count).index] for nfe, best in by_nfe}
        for name in (name for name, options in FITS.items() if options["fit"] == fit):
            usual = USUAL if fit == "joint" else []
            cases += [
                (*by_label[solver], nfe, grid, name, seed)
                for nfe, best in pairs.items()
                for solver, grid in dict.fromkeys([*best, *usual])
                for seed in seeds
            ]
    return cases


def means(frame):
    """Mean over seeds; NaN where a seed has none."""
    keys = ["solver", "nfe", "grid", "fit"]
    return frame.fillna({"fit": "plain"}).groupby(keys, sort=False)["rmse"].agg(lambda x: x.mean(skipna=False))


def champions(chosen, size, workers):
    """The best of each kind, chosen on other seeds than it is reported on: a frame, a row each NFE."""
    by_label = {labelled(name, options): (name, options) for name, options in all_variants()}
    rows = []
    for nfe, group in chosen.groupby(level="nfe"):
        group = group.droplevel("nfe").dropna()
        plain, fits = group.xs("plain", level="fit"), group.drop("plain", level="fit")
        kinds = {
            "plain": (plain.xs("karras", level="grid").idxmin(), "karras"),
            "plain, any grid": plain.idxmin(),
            "ours": fits.idxmin(),
        }
        for kind, key in kinds.items():
            solver, grid, fit = (*key, None)[:3]
            cases = [(*by_label[solver], nfe, grid, fit, seed) for seed in REPORTED]
            errors = measure(cases, size, workers)["rmse"]
            rows.append((nfe, kind, solver, grid, fit or "", errors.mean(), errors.std(ddof=1)))
    return pd.DataFrame(rows, columns=["nfe", "kind", "solver", "grid", "fit", "rmse", "sd"])


def number(value):
    """Three digits, or a dash."""
    return "–" if not np.isfinite(value) else f"{value:.3f}" if value < 10 else f"{value:.0f}"


def facts_table():
    """Source, order, evaluations, history, published grid and options of each solver, Markdown."""
    rows = []
    for name in NAMES:
        method = solvers.create(name).method
        orders = sorted({solvers.create(name, **options).order for options in variants(name)})
        solver = solvers.create(name)
        options = "; ".join(
            f"`{key}`: {', '.join(map(str, values))} (default {method.options[key]})"
            for key, values in method.choices.items()
        )
        rows.append(
            {
                "solver": f"`{name}`",
                "source": re.sub(r"arXiv:(\S+\d)", r"[\1](https://arxiv.org/abs/\1)", method.source),
                "order of accuracy": ", ".join(map(str, orders)),
                "evaluations per interval": solver.nfe(31) - solver.nfe(30),
                "evaluations of 10 intervals": solver.nfe(10),
                "outputs kept": HISTORY[name],
                "published with": PUBLISHED_GRIDS[name],
                "options": options or "–",
            }
        )
    return pd.DataFrame(rows).to_markdown(index=False)


def errors_table(errors, size):
    """One cell a solver and NFE: plain / m = 1 / m = 3 / searched grid, Markdown."""
    columns = [("karras", "plain"), ("karras", "m=1"), ("karras", "m=3"), ("searched", "plain")]
    rows = []
    for name, options in all_variants():
        solver = labelled(name, options)
        row = {"solver": solver}
        for nfe in size.nfes:
            values = [errors[solver, nfe, grid, fit] for grid, fit in columns]
            row[f"NFE {nfe}"] = " / ".join(map(number, values)) if np.isfinite(values).any() else "–"
        rows.append(row)
    return pd.DataFrame(rows).to_markdown(index=False)


def champions_table(best):
    """The champions with the gain over the best plain solver, Markdown."""
    rows = []
    for nfe, group in best.groupby("nfe"):
        of = group.set_index("kind")
        ours = of.loc["ours"]

        def cell(row):
            return f"{row['rmse']:.3f} ± {row['sd']:.3f}: {row['solver']}, {row['grid']}"

        rows.append(
            {
                "NFE": nfe,
                "best plain, karras": cell(of.loc["plain"]),
                "best plain, any grid": cell(of.loc["plain, any grid"]),
                "best distilled": f"{cell(ours)}, {ours['fit']}",
                "gain": f"{of.loc['plain', 'rmse'] / ours['rmse']:.1f}×",
                "gain on any grid": f"{of.loc['plain, any grid', 'rmse'] / ours['rmse']:.1f}×",
            }
        )
    return pd.DataFrame(rows).to_markdown(index=False)


def rows_of(text, mark):
    """The rows of the table between the marks of ``mark``, each ``{heading: content}``."""
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    lines = text[text.index(begin) + len(begin) : text.index(end)].strip().splitlines()
    heading, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(heading, row, strict=True)) for row in rows]


def panels(text):
    """The curves of the picture from the tables in ``text``.

    Each method of theirs with its default options, plain and distilled; and the champions.
    """
    of = {row["solver"]: row for row in rows_of(text, "errors")}
    made = {name: solvers.create(name) for name in NAMES}
    defaults = [labelled(name, {key: own.options[key] for key in own.method.choices}) for name, own in made.items()]
    defaults = [name for name in defaults if name in of]
    titles = ["plain", "distilled, m = 1", "distilled, m = 3"]
    curves = {title: {solver: ([], []) for solver in defaults} for title in titles}
    for name in defaults:
        for nfe in (heading for heading in of[name] if heading.startswith("NFE ")):
            for title, value in zip(titles, of[name][nfe].split(" / "), strict=False):
                if value != "–":
                    curves[title][name][0].append(int(nfe.removeprefix("NFE ")))
                    curves[title][name][1].append(float(value))
    best = rows_of(text, "champions")
    nfes = [int(row["NFE"]) for row in best]
    kinds = ("best plain, karras", "best plain, any grid", "best distilled")
    return curves, {kind: (nfes, [float(row[kind].split(" ± ")[0]) for row in best]) for kind in kinds}


def replace(text, mark, content):
    """``text`` with what stands between the marks of ``mark`` replaced."""
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    return text[: text.index(begin) + len(begin)] + f"\n{content}\n" + text[text.index(end) :]


def measured(size, workers, seeds):
    """The tables of the page, by their marks."""
    errors = means(measure(of_the_table(size), size, workers))
    greedy = means(measure(of_the_candidates(size, seeds), size, workers))
    together = means(measure(of_the_best(greedy, seeds), size, workers))
    best = champions(pd.concat([greedy, together]), size, workers)
    return {"solvers": facts_table(), "errors": errors_table(errors, size), "champions": champions_table(best)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny, prints the tables and writes nothing")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--picture", action="store_true", help="measures nothing")
    options = parser.parse_args()
    if not options.picture:
        tables = measured(
            QUICK if options.quick else Size(), options.workers, CHOOSING[:1] if options.quick else CHOOSING
        )
        if options.quick:
            print("\n\n".join(tables.values()))
            return
        text = PAGE.read_text(encoding="utf-8")
        for mark, content in tables.items():
            text = replace(text, mark, content)
        PAGE.write_text(text, encoding="utf-8")
    toy_figure.draw(*panels(PAGE.read_text(encoding="utf-8")), [PAGE.parent / "images" / "solvers.png"])


if __name__ == "__main__":
    main()
