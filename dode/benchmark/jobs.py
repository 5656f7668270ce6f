"""What the scripts do with a cell: its model, its grid, its noise. One place for what they share."""

import functools
import json

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dode import grids, solvers, storage
from dode.benchmark import scripting
from dode.distillation import fit_checks, fitting, released
from dode.distillation.directions import Directions
from dode.images import noise
from dode.models import loading, precision


class Run:
    """A cell's solver on its grid and model, from the ``run`` parameters of :class:`dode.benchmark.cells.Benchmark`.

    ``inputs`` holds the files of ``Benchmark.preparations`` by name (a rule's ``snakemake.input``). The solver and the
    grid are made when first asked for, so that the rule that prepares them has a run too.
    """

    def __init__(self, run, checkpoint, execution, inputs=None):
        self.run = run
        self.inputs = {} if inputs is None else inputs
        self.device = scripting.device(execution["device"])
        precision.allow_tf32(run["model"].get("precision", {}).get("tf32", False))
        self.shape = tuple(run["model"]["image_shape"])
        self.denoise = loading.load(
            run["model"],
            checkpoint,
            device=self.device,
            batch_size=execution["batch_size"],
            channels_last=execution.get("channels_last", False),
            compile=execution.get("compile", False),
            guidance=run.get("guidance"),
            classifier=self.inputs.get("classifier"),
        )

    def _prepared(self, name):
        path = self.inputs.get(name)
        return {} if path is None else {"prepared": path}

    @property
    def steps(self):
        """Number of grid intervals."""
        return solvers.create(self.run["solver"], **self.run["options"]).steps(self.run["nfe"])

    @functools.cached_property
    def solver(self):
        """The cell's solver."""
        return solvers.create(self.run["solver"], **self.run["options"], **self._prepared("prepared_solver"))

    @functools.cached_property
    def sigmas(self):
        """The cell's grid."""
        grid = self.run["grid"]
        options = {**grid["options"], **self._prepared("prepared_grid")}
        return grids.for_model(self.denoise, grid["name"], self.steps, **options)

    def images(self, x):
        """The images that end states are."""
        return x

    def latents(self, indices, **where):
        """The noise of images (:func:`dode.images.noise.latents`) on the run's device."""
        return noise.latents(indices, self.shape, **{"seed": self.run["seed"], **where}).to(self.device)

    def denoise_for(self, indices, **where):
        """The denoiser bound to the classes of images (:func:`dode.images.noise.labels`); the plain one of a model
        without.

        The classes of fitting set and samples are drawn in the same manner.
        """
        if "classes" not in self.run["model"]:
            return self.denoise
        drawn = {"draw": self.run["labels"], "seed": self.run["seed"], **where}
        return self.denoise.conditioned(noise.labels(indices, self.run["model"]["classes"], **drawn))

    @property
    def _fitting_set(self):
        distill = self.run["distill"]
        return {"indices": range(distill["images"]), "stream": "fit", "seed": distill.get("seed", self.run["seed"])}

    def fit_denoise(self):
        """The denoiser bound to the classes of the fitting set."""
        return self.denoise_for(**self._fitting_set)

    def fit_latents(self):
        """The noise of the fitting set."""
        return self.latents(**self._fitting_set)

    def pairing(self):
        """The cell's :class:`dode.teacher.Alignment`."""
        distill = self.run["distill"]
        return fitting.align(
            self.solver,
            self.denoise,
            self.sigmas,
            substeps=distill["substeps"],
            alignment=distill["alignment"],
            teacher=distill["teacher"],
        )


class ReleasedRun(Run):
    """A cell on the grid ``released``: the recipe of the authors for its solver (:mod:`dode.released`)."""

    def __init__(self, run, *others):
        super().__init__(run, *others)
        facts = self.denoise.facts
        order = fit_checks.recipe_order(facts.prediction, run["solver"], run["options"])
        scale = run.get("distill", {}).get("substeps", 1)
        self.recipe = released.recipe(run["solver"], order, facts, self.steps, scale)
        self.denoise = self.recipe.bound(self.denoise)

    @property
    def solver(self):
        """The recipe's solver."""
        return self.recipe.student

    @property
    def sigmas(self):
        """The recipe's grid."""
        return self.recipe.sigmas

    def pairing(self):
        """The recipe's :class:`dode.teacher.Alignment`."""
        return self.recipe.pairing

    def images(self, x):
        """The images that end states are: the recipe takes them in the model's own coordinates."""
        return x * self.recipe.to_images


def run_of(run, *others):
    """The :class:`Run` of a cell, of the kind that its grid asks for; arguments as of :class:`Run`."""
    return (ReleasedRun if grids.grids.get(run["grid"]["name"]).recipe else Run)(run, *others)


def write_states(path, states, made):
    """Write ``(level, state)`` pairs as float32 safetensors, the levels and the dict ``made`` in the header."""
    levels, tensors = [], {}
    for level, state in states:
        tensors[str(len(levels))] = state.float().cpu().contiguous()
        levels.append(level)
    with storage.atomic(path) as temporary:
        # One entry: safetensors writes several in an order that changes from one process to the next.
        save_file(tensors, temporary, metadata={"states": json.dumps({"sigmas": levels, "made": made})})


def _header(file):
    return json.loads(file.metadata()["states"])


def read_made(path):
    """The dict ``made`` that :func:`write_states` wrote."""
    with safe_open(path, framework="pt") as file:
        return _header(file)["made"]


def read_states(path, device="cpu"):
    """Generate the pairs that :func:`write_states` wrote; one state is in memory at a time."""
    with safe_open(path, framework="pt", device=str(device)) as file:
        for index, level in enumerate(_header(file)["sigmas"]):
            yield level, file.get_tensor(str(index))


def write_fit(path, fit, facts):
    """A fit as JSON, with what is known of the cell."""
    values = {
        "lambdas": fit.lambdas.tolist(),
        "directions": vars(fit.directions),
        "sigmas": fit.sigmas.tolist(),
        "rms_before": fit.rms_before.tolist(),
        "rms_after": fit.rms_after.tolist(),
        "refinement": None if fit.refinement is None else vars(fit.refinement),
    }
    storage.write_json(path, {**facts, **values})


def read_lambdas(path):
    """``(lambdas, directions)`` of :func:`write_fit` for :func:`dode.sample`."""
    values = storage.read_json(path)
    return torch.tensor(values["lambdas"], dtype=torch.float64), Directions(**values["directions"])
