"""The page of any configuration with made-up scores, fits and samples: nothing is run."""

import math
import zlib

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from dode import storage
from dode.benchmark import figure_cells, provenance
from dode.benchmark.dependencies import Dependencies
from dode.benchmark.facts import Facts, share
from dode.benchmark.files import Files
from dode.benchmark.workloads import Workloads
from dode.names import REFERENCE, CellName
from dode.report import collection
from dode.report import costs as report
from dode.report.fine_solution import Fine
from dode.report.page import page, thumbnails

CODE = "0" * 16
ENVIRONMENT = {"software": {"dode": "0"}, "machine": {"cpu": "a processor", "threads": 2, "device": "cpu"}}


def rng_of(name):
    """A generator that belongs to a name."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def score(cell, seeds):
    """What the ``score.json`` of a cell may hold: both FIDs fall with NFE, and with distillation."""
    rng, (_, solver, nfe) = rng_of(str(cell)), cell.key
    lost = (40 if not cell.distilled else 12) * (1 + rng_of(solver).random()) / nfe
    metrics = {"fid": (2 + lost, 0.02), "trajectory_rmse": (0.5 / math.sqrt(nfe), 0.002), "precision": (0.6, 0.01)}
    if solver != REFERENCE:
        metrics["paired_fid"] = lost, 0.02
    entries = {}
    for key, (value, spread) in metrics.items():
        blocks = (value * (1 + spread * rng.standard_normal(seeds))).tolist()
        error = float(np.std(blocks, ddof=1)) if seeds > 1 else spread * value
        entries[key] = {"value": float(np.mean(blocks)), "error": error, "blocks": blocks}
        entries[key]["error_kind"] = "seeds" if seeds > 1 else "images"
    against = {"reference": {"file": "real.npz", "sha256": "0" * 64, "images": 10}, "extractor": "{}"}
    return {
        "metrics": entries,
        "biased": [],
        "images": 10,
        "seeds": seeds,
        **against,
        **ENVIRONMENT,
        "samples": [ENVIRONMENT],
    }


def fit(cell):
    """What the ``lambdas.json`` of a cell may hold."""
    rng = rng_of(str(cell))
    if cell.is_joint or cell.method:
        return joint_fit(cell, rng)
    rms, count = np.exp(-np.arange(cell.nfe) / 5), cell.entry["distill"]["directions"]
    return {
        "lambdas": rng.normal(size=(cell.nfe, count)).tolist(),
        "rms_before": rms.tolist(),
        "rms_after": (rms / 2).tolist(),
        **ENVIRONMENT,
        **({"teacher": ENVIRONMENT} if cell.with_teacher else {}),
    }


def joint_fit(cell, rng):
    """The same of a joint fit, which kept the general form."""
    levels = np.geomspace(8, 0.05, cell.nfe).tolist()
    compared = {"gain": 0.5, "gain_error": 0.1, "change": -0.7, "change_error": 0.1}
    rung = {"start": "given", "iterations": 4, "evaluations": 1000, "rmse_fitted": 0.02, "rmse_held_out": 0.03}
    families = ("plain", 0, None, True), ("levels", 19, compared, True), ("general", 26, compared, True)
    return {
        "family": "general",
        "lambdas": None,
        "directions": None,
        "coefficients": np.tril(rng.normal(size=(cell.nfe + 1, cell.nfe + 1))).tolist(),
        "given": [*np.geomspace(80, 0.002, cell.nfe).tolist(), 0.0],
        "levels": [*levels, 0.0],
        "told": levels,
        "rungs": [
            {**rung, "family": family, "numbers": numbers, "compared": against, "taken": taken}
            for family, numbers, against, taken in families
        ],
        "rms_before": [None] * cell.nfe,
        "rms_after": [None] * cell.nfe,
        **ENVIRONMENT,
        "teacher": ENVIRONMENT,
    }


def made(depends, cell):
    """What the files of a cell say they were made of, ``(of its score, of its fit)``, but for digests of code."""
    own = {"cell": depends.trajectory(cell).params()}
    score = {
        **own,
        "samples": depends.samples(cell).params(),
        "scoring": depends.score(cell.dataset["id"]),
        "code": {"sample": CODE, "score": CODE},
    }
    if not cell.fitted:
        return score, None
    distill = {**depends.teacher(cell).params(), **depends.fit(cell).params()}
    code = dict.fromkeys(("distill", *(["teacher"] * cell.with_teacher)), CODE)
    return score, {**own, "distill": distill, "code": code}


def crops(shape, count, rng):
    """Natural images in [-1, 1], (count, C, H, W), cut from two photographs."""
    channels, height, width = shape
    photographs, found = load_sample_images().images, []
    for _ in range(count):
        photograph = photographs[rng.integers(2)]
        side = int(rng.integers(160, 420))
        top, left = (int(rng.integers(0, most - side + 1)) for most in photograph.shape[:2])
        cut = Image.fromarray(photograph[top : top + side, left : left + side]).resize((width, height))
        found.append(np.asarray(cut.convert("RGB" if channels == 3 else "L")).reshape(height, width, channels))
    return np.stack(found).transpose(0, 3, 1, 2) / 127.5 - 1


def trajectory(cell, fine):
    """A way a little beside the fine one."""
    sigmas = np.geomspace(80, 0.01, cell.nfe + 1)
    states = np.stack(list(fine.at(sigmas))) + 0.1 * rng_of(str(cell)).standard_normal((1, cell.nfe + 1, 1, 1, 1))
    return thumbnails.trajectory(sigmas, states, fine)


def straight(shape):
    """A fine solution: noise that fades from an image."""
    sigmas, rng = np.append(np.geomspace(80, 0.01, 39), 0.0), np.random.default_rng(0)
    image, noise = rng.uniform(-1, 1, shape), rng.standard_normal(shape)
    return Fine(sigmas, (image + sigmas[:, None, None, None] * noise)[None])


def costs(bench, folder, scores):
    """Write what the learning of each cell may have cost, with the scores of all cells; its path."""
    rows = []
    for facts in figure_cells.costs(bench, Workloads(bench), "logs"):
        name, plain = str(CellName.of(facts)), not facts["distilled"]
        rng = rng_of(f"cost of {name}")
        work = {"gs": 800_000, "greedy": 9_000, "prepared": 300_000}.get(facts["learnt"], 60_000) * rng.uniform(0.5, 2)
        own = {"numbers": int(rng.integers(5, 80)), "evaluations": int(work)}
        own |= {"gradients": own["evaluations"] * (facts["learnt"] == "gs") // 2}
        own = dict.fromkeys(own, 0) if plain else own
        seconds = (
            {"seconds": None, "memory": None} if plain else {"seconds": work / 2e4, "memory": rng.uniform(300, 900)}
        )
        rows.append({**facts, **own, **seconds, "metrics": scores[name]["metrics"]})
    report.write(report.frame(rows), bench.config["benchmark"], folder / "costs.csv", folder / "costs.md")
    return folder / "costs.csv"


def write(bench, folder, edit=lambda found: None, scored=score, costed=False):
    """Write ``index.html`` into ``folder`` for a :class:`dode.benchmark.cells.Benchmark`; ``edit`` may change its data
    before.

    ``scored`` makes a cell's scores. ``costed``: whether what was learnt has costs, made up too.

    Returns:
        (path of the page, its data, its thumbnails).
    """
    collected, small, most, all_scores = [], {}, share(len(bench.cells)), {}
    depends, facts = Dependencies(bench), Facts(bench)
    for (dataset, part), cells in Files(bench).parts.items():
        scores, fits = {}, {}
        for cell in cells:
            of_score, of_fit = made(depends, cell)
            scores[str(cell)] = {**scored(cell, bench.datasets[dataset]["seeds"]), "made": of_score}
            if cell.fitted:
                fits[str(cell)] = {**fit(cell), **of_fit}
        all_scores |= scores
        collected.append(folder / f"{dataset}-{part}.json")
        storage.write_json(collected[-1], {"scores": scores, "fits": fits})
        shape = bench.image_shape(dataset)
        fine, images = straight(shape), crops(shape, thumbnails.SHOWN, rng_of(dataset))
        for cell in cells:
            samples = thumbnails.sprite(np.roll(images, cell.nfe, axis=0), most)
            small[str(cell)] = {"samples": samples, "trajectory": trajectory(cell, fine)}
    halves = folder / "halves.json"
    storage.write_json(halves, {"halves": {"fid": [0.4, 0.5, 0.6]}, "images": 5})
    halves = {dataset["id"]: halves for dataset in bench.with_data()}
    record = provenance.completed(provenance.names(bench), bench.root, *collection.made(collected))
    spent = costs(bench, folder, all_scores) if costed else None
    found = page.data(facts.cells(), facts.datasets(), collected, halves, record, costs=spent)
    edit(found)
    config = {key: value for key, value in bench.config.items() if key != "execution"}
    page.write(folder / "index.html", found, small, config)
    return folder / "index.html", found, small
