"""A cell's solver, grid and coefficients as one file, and that file as a sampler for your own model."""

from __future__ import annotations

import codecs
import importlib.metadata
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from dode import calls, driver, grids, sampling, solvers, storage, texts
from dode.directions import Directions
from dode.distillation import citations, fit_checks, released
from dode.grids import spellings
from dode.grids.facts import ModelFacts
from dode.grids.of_model import check_levels
from dode.grids.tensor import checked
from dode.models.preconditioning import preconditionings
from dode.solvers.base import Denoise
from dode.solvers.non_stationary import NAME, NonStationary
from dode.validation import ConfigError, validate
from dode.weights import foreign_json

if TYPE_CHECKING:
    from dode.distillation.fitted import Fit

FORMAT, LATEST = "dode sampler", 4
ADDED = ("told", "coefficients")  # with version 2
OF_VERSION = {3: "an index_scale, or a prediction of v, image or flow", 4: "afs, or a basis of slopes"}
FOR_THE_RECORD = ("fit", "conditions", "scores", "software")
MAX_BYTES, MAX_VALUES = 2**22, 200_000  # a solver of 400 evaluations with coefficients of its own has 160,000
SCHEMA = Path(__file__).with_suffix(".schema.yaml")


class Sampler:
    """A result ready for use on your own model; made by :func:`load`.

    Attributes:
        record: the file's contents, as ``dode/portable.schema.yaml`` describes them.
        solver: the :class:`dode.solvers.Solver`.
        sigmas: noise levels, descending, float64.
        lambdas, directions: the fitted coefficients (K, m) and what they belong to; None for a plain solver, and for
            one whose coefficients are part of it (:mod:`dode.solvers.non_stationary`).
        told: the noise level that the network is told at each evaluation, (K,); None where it is the state's.
        facts: the :class:`dode.models.ModelFacts` of the model that the result is of; where it is one of the authors'
            recipes, on the schedule and at the index that this calls the network with.
        own_facts: those of the model whatever the recipe.
        recipe: the :class:`dode.distillation.released.Recipe` of a result of the authors' code, else None.
        to_images: factor on the end states (1 but for recipes of the authors that end above sigma = 0).
    """

    def __init__(self, record: dict[str, Any]):
        self.record, model = record, record["model"]
        own, needed = record["version"], version(record, model)
        if own in OF_VERSION and needed != own:
            raise ValueError(f"version: {own} is of results with {OF_VERSION[own]}; this is of {needed}")
        if "preconditioning" in model:
            options = dict(model["preconditioning"])
            preconditionings.check_options(options.pop("name"), options)
        self.facts, self.to_images = ModelFacts.of_card(model), 1.0
        self.own_facts = self.facts
        name, options = record["solver"]["name"], record["solver"]["options"]
        coefficients, self.told = record.get("coefficients"), record.get("told")
        if (coefficients is not None) != (name == NAME):
            raise ValueError(f"coefficients: the solver '{NAME}' has them, and no other")
        if coefficients is None:
            self.solver = solvers.create(name, **options).of_model(self.facts.sigma_min)
            if record.get("afs"):
                self.solver = self.solver.with_afs()
        elif "afs" in record:
            raise ValueError("afs: the coefficients are those of every step; leave it out")
        else:
            self.solver = NonStationary(_square(coefficients, self.nfe + 1))
        self.sigmas = checked(record["sigmas"])
        steps = len(self.sigmas) - 1
        if self.solver.nfe(steps, end=self.sigmas[-1]) != self.nfe:
            raise ValueError(f"{len(self.sigmas)} sigmas do not match {self.nfe} evaluations of '{name}'")
        self.recipe = None
        if grids.grids.get(record["grid"]["name"]).recipe:
            order = fit_checks.recipe_order(self.facts.prediction, name, options)
            made = self.recipe = released.recipe(name, order, self.facts, steps, 1)
            if not torch.allclose(checked(made.sigmas), self.sigmas, rtol=1e-9, atol=0):
                raise ValueError("the sigmas are not those of the authors' recipe for this solver and model")
            self.solver, self.facts, self.to_images = made.student, made.facts, made.to_images
        self.lambdas = self.directions = None
        if (record["lambdas"] is None) != (record["directions"] is None):
            raise ValueError("lambdas and directions: either both or neither must be null")
        if record["lambdas"] is not None:
            self.lambdas, self.directions = _matrix(record["lambdas"]), Directions(**record["directions"])
            sampling.Correction(self.lambdas, self.directions, self.facts.prediction, evaluations=self.nfe)
        self._student().evaluated_levels()  # refuses told levels of another number

    def _student(self):
        return sampling.Student(self.solver, self.sigmas, self.lambdas, self.directions, self.told)

    @property
    def nfe(self) -> int:
        """Number of network evaluations."""
        return self.record["nfe"]

    def first_size(self, prior_std: Callable[[Any], Any]) -> float:
        """Standard deviation of the state at the first network evaluation, of a model with this ``prior_std``."""
        begin = self.sigmas.new_full((1, 1, 1, 1), float(prior_std(self.sigmas[0])))
        return float(driver.first_state(self.solver, begin, self.sigmas))

    @property
    def citation(self) -> str:
        """What to cite, one source per line."""
        return "\n".join(map(texts.shown, self.record["citation"]))

    @property
    def evaluated(self) -> list[float]:
        """The noise level of each network evaluation, in order: a list of ``nfe`` numbers."""
        return self._student().evaluated_levels()

    def sample(self, denoise: Denoise, latents: torch.Tensor) -> torch.Tensor:
        """Images from noise.

        Args:
            denoise: as of :func:`dode.sample`; bound to its labels where it has classes. What it does not say of
                itself is that of the result's model. Some recipes of the authors call the network at another index than
                the state's (``ipndm`` and ``deis``, and all where the network rescales the index), so theirs must be a
                :class:`dode.models.NoisePrediction` (or have a method ``at`` like it).
            latents: (B, C, H, W), unit normal.

        Returns:
            The end states, (B, C, H, W) in the dtype of ``latents``: to the bit what the benchmark's own cell makes of
            the same noise with the same network and batch.

        Raises:
            NonFiniteError, ValueError: as :func:`dode.sample` does; of a distilled result, for another model than its
                own.
        """
        latents, facts = calls.noise(latents), ModelFacts.of(denoise, self.own_facts)
        calls.check_unit(latents)
        check_levels(self.sigmas.numpy(), facts)
        self.check_prediction(ModelFacts.of(denoise).prediction)
        self.check_model(facts.said(), latents.shape[1:])
        denoise = self.recipe.bound(denoise) if self.recipe else denoise
        start = latents.to(torch.float64) * facts.prior_std(self.sigmas[0])
        end = self._student().run(denoise, latents, start=start, prediction=facts.prediction)
        return end.to(latents.dtype) * self.to_images

    def check_model(self, said: Mapping[str, Any], image_shape: Sequence[int] | None = None) -> None:
        """Raise ValueError if this is distilled, and not of a model that says this of itself, or of other images."""
        if self.lambdas is not None or self.solver.name == NAME:
            own = self.record["model"]["image_shape"]
            fit_checks.check_model(said, self.own_facts.said(), own if image_shape is None else image_shape, own)

    def check_prediction(self, prediction: str) -> None:
        """Raise ValueError if this is one of the authors' recipes for models of another ``prediction``."""
        if self.recipe and prediction != self.facts.prediction:
            raise ValueError(
                f"the authors' recipe is for {self.facts.prediction} prediction, but the model is for {prediction}"
            )

    def evaluations(
        self,
        latents: torch.Tensor,
        *,
        prediction: str | None = None,
        prior_std: Callable[[Any], Any] | None = None,
        shift: float = 0,
        index_factor: float = 1.0,
    ) -> sampling.Evaluations:
        """:meth:`sample` for a program that calls the network itself: :func:`dode.sampling.evaluations`.

        Args:
            latents: (B, C, H, W), unit normal.
            prediction, prior_std: as of :func:`dode.sampling.evaluations`; by default those of the result's model.
            shift, index_factor: those of ``facts``, to confirm that the network is called where the result needs it: at
                ``index_factor (facts.schedule.index(sigma) + shift)``. 0 and 1 but for recipes of the authors:
                ``ipndm`` and ``deis`` have a shift, and all have a factor where the network rescales the index itself.

        Returns:
            A generator of points ``(x, sigma)`` whose return value is what :meth:`sample` returns, to the bit.

        Raises:
            ValueError: for another ``shift`` or ``index_factor``, or another ``prediction`` than that of a distilled
                result or a recipe.
        """
        latents = calls.noise(latents)
        model: dict[str, Any] = {"prediction": spellings.prediction(prediction or self.facts.prediction)}
        model["prior_std"] = prior_std or self.facts.prior_std
        self.check_prediction(model["prediction"])
        self.check_model(ModelFacts(**model).said(), latents.shape[1:])
        own, where = self.facts, "the state's own index"
        if own.shift or own.index_factor != 1:
            where = (
                f"the index {own.index_factor:g} (facts.schedule.index(sigma) + {own.shift}), another than the state's"
            )
        for name, given, due in (("shift", shift, own.shift), ("index_factor", index_factor, own.index_factor)):
            if given != due:
                raise ValueError(
                    f"{name}: {given} is not allowed; allowed: {due}, for the network is called at {where}"
                )
        fitted: dict[str, Any] = {"lambdas": self.lambdas, "directions": self.directions, "told": self.told}
        return self._scaled(sampling.evaluations(self.solver, latents, self.sigmas, **fitted, **model))

    def _scaled(self, run):
        return (yield from run) * self.to_images

    def save(self, path: str | Path) -> None:
        """Write :attr:`record` as a file that :func:`load` reads."""
        write(path, self.record)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return type(self), (self.record,)

    def __repr__(self) -> str:
        kind = "plain" if self.lambdas is None and self.solver.name != NAME else "distilled"
        return texts.shown(f"<{kind} {self.solver.name}, NFE {self.nfe}, of {self.record['model']['card']}>")


def load(source: str | Path | dict[str, Any]) -> Sampler:
    """The :class:`Sampler` of a file that ``python -m dode export`` wrote, or of its contents as a dictionary.

    Raises:
        ValueError: in one sentence that names the file, where it is damaged, or not such a file.
        OSError: where it cannot be read.
    """
    if isinstance(source, dict):
        return _sampler(_plain(source), "result")
    if not isinstance(source, str | os.PathLike):
        raise ValueError(
            f"result: {type(source).__name__} is not allowed; allowed: a file, or its contents as a dictionary"
        )
    if Path(source).exists() and not Path(source).is_file():
        raise ValueError(f"{source}: not a regular file")
    with Path(source).open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    return _sampler(_parsed(content, str(source)), str(source))


def _parsed(content, what):
    if len(content) > MAX_BYTES:
        raise ValueError(f"{what}: it has more than {MAX_BYTES} bytes, which no exported result has")
    return foreign_json.parsed(content.removeprefix(codecs.BOM_UTF8), f"{what}: it", ValueError)


def _plain(record):
    """A copy as it would come from a file; in what is for the record alone, NaN is null."""
    try:
        told = {key: _without_nan(value) if key in FOR_THE_RECORD else value for key, value in record.items()}
        text = json.dumps(told, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"result: cannot be written as JSON: {error}") from None
    return _parsed(text.encode(), "result")


def _without_nan(value):
    return json.loads(json.dumps(value), parse_constant=lambda _: None)


def _count(value):
    """How many values a value of JSON has in it."""
    found, waiting = 0, [value]
    while waiting:
        each = waiting.pop()
        found += 1
        waiting += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
    return found


def _sampler(record, what):
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"{what}: not an exported result; expected a file that `python -m dode export` wrote")
    if record.get("version") not in range(1, LATEST + 1):
        raise ValueError(
            f"{what}: version {record.get('version')!r} of the format is not supported; this release reads 1 to "
            f"{LATEST}"
        )
    if (count := _count(record)) > MAX_VALUES:
        raise ValueError(f"{what}: it has {count} values, more than the {MAX_VALUES} that a result may have")
    try:
        validate(record, SCHEMA, what)
        return Sampler(record)
    except ConfigError as error:
        raise ConfigError(str(error)[:1200]) from None  # it may quote names of the file, of any length
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ValueError(f"{what}: {str(error)[:1200]}") from None


def _matrix(rows):
    if len({len(row) for row in rows}) > 1 or not all(math.isfinite(value) for row in rows for value in row):
        raise ValueError("lambdas: not a matrix of finite numbers")
    return torch.tensor(rows, dtype=torch.float64)


def _square(rows, size):
    """A square matrix of finite numbers, lower triangular, whose first number is positive."""
    if len(rows) != size or any(len(row) != size for row in rows):
        raise ValueError(f"coefficients: {size} rows of {size} numbers are needed for {size - 1} evaluations")
    if not all(math.isfinite(value) for row in rows for value in row) or rows[0][0] <= 0:
        raise ValueError("coefficients: not finite, or the first one not positive")
    if any(value for index, row in enumerate(rows) for value in row[index + 1 :]):
        raise ValueError(
            "coefficients: a state may depend on outputs before it alone, so that above the diagonal are 0"
        )
    return rows


def of_fit(
    fit: Fit,
    *,
    model: Mapping[str, Any],
    grid: Mapping[str, Any],
    made: Mapping[str, Any],
    conditions: Mapping[str, Any],
    packages: Sequence[str] = ("dode", "torch"),
) -> dict[str, Any]:
    """The record of a joint fit, as ``dode/portable.schema.yaml`` describes it.

    Args:
        fit: as :func:`dode.distill` returns it.
        model: what the record says of the model, but for the shape of its images (or latents), which the fit knows.
        grid: ``name`` and ``options`` of the grid that it began on.
        made: what was chosen for the fit, and ``conditions`` of its images, for the record.
        packages: whose versions are recorded.
    """
    student, solver, numbers = fit.student, fit.student.solver, _numbers
    general = isinstance(solver, NonStationary)
    own = dict(model) | {"image_shape": list(fit.image_shape)}
    found: dict[str, Any] = {"lambdas": None, "directions": None}
    if student.lambdas is not None:
        found = {"lambdas": numbers(student.lambdas), "directions": cast(Directions, student.directions).said()}
    if student.told is not None:
        found["told"] = numbers(student.told)
    if solver.afs:
        found["afs"] = True
    if general:
        found["coefficients"] = solver.options["coefficients"]
    software = {name: importlib.metadata.version(name) for name in packages}
    fitted = "joint" if general or student.lambdas is not None else None
    how: dict[str, Any] = {"fit": fitted, "general": general, "afs": solver.afs}
    return {
        "format": FORMAT,
        "version": version(found, own),
        "solver": {"name": solver.name, "options": {} if general else solver.options},
        "grid": dict(grid),
        "sigmas": numbers(student.sigmas),
        "nfe": student.nfe,
        **found,
        "fit": {"fit": "joint", "family": fit.family, **made, "rungs": [_rung(rung) for rung in fit.rungs]},
        "model": own,
        "conditions": dict(conditions),
        "software": software,
        "citation": [f"dode {software['dode']}", *citations.sources(solver.name, grid["name"], **how)],
    }


def _numbers(values):
    """As lists of Python's own numbers; torch would take a list of them for float32."""
    return torch.as_tensor(values, dtype=torch.float64).tolist()


def _rung(rung):
    return {**vars(rung), "compared": rung.compared and rung.compared._asdict()}


def version(fit: dict[str, Any], model: dict[str, Any]) -> int:
    """The lowest version of the format that has the keys of a fit and of its model, and the model's prediction."""
    if "afs" in fit or (fit.get("directions") or {}).get("basis"):
        return LATEST
    if "index_scale" in model or model["prediction"] in ("v", "image", "flow"):
        return 3
    return 2 if any(key in fit for key in ADDED) else 1


def write(path: str | Path, record: dict[str, Any]) -> None:
    """Write a record, checked: what is written can be loaded. ``path`` may be ``-`` and the like
    (:func:`dode.storage.write_where_told`).
    """
    _sampler(_plain(record), str(path))
    storage.write_where_told(path, storage.json_text(record))
