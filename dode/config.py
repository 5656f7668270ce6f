"""The configuration: read, checked by schema and by meaning, defaults filled in. One clear error, before any job."""

import functools
import json
from pathlib import Path

import jsonschema
import yaml

from dode import data, fit_checks, grids, schedules, solvers
from dode.directions import Directions
from dode.registry import nearest, unknown

REFERENCE = "reference"  # id of the fine-step solver of each dataset among the cells
CONVERTED = ("torch", "edm-pickle")  # formats of checkpoints that are read into safetensors first
FIT_IMAGES = 100
RESERVED = (REFERENCE, "real", "logs", "figures")  # folders of results that are no dataset's and no solver's


class ConfigError(ValueError):
    """A bad configuration; the message names the key, the value and what is allowed."""


def _with_defaults(validator):
    """A validator that fills in the defaults of a schema's properties as it goes."""
    check_properties = validator.VALIDATORS["properties"]

    def fill(checker, properties, instance, schema):
        if checker.is_type(instance, "object"):
            for key, subschema in properties.items():
                if isinstance(subschema, dict) and "default" in subschema:
                    instance.setdefault(key, _copy(subschema["default"]))
        yield from check_properties(checker, properties, instance, schema)

    def is_integer(_, value):
        """40.0 is no number of images, though JSON Schema takes it for an integer."""
        return isinstance(value, int) and not isinstance(value, bool)

    types = validator.TYPE_CHECKER.redefine("integer", is_integer)
    return jsonschema.validators.extend(validator, {"properties": fill}, type_checker=types)


def _copy(value):
    """Plain dictionaries and lists in one order of keys, whatever mappings the caller has (Snakemake has its own)."""
    return json.loads(json.dumps(value, sort_keys=True))


Validator = _with_defaults(jsonschema.Draft202012Validator)


@functools.cache
def _schema(path):
    return yaml.safe_load(Path(path).read_text())


def _key(path):
    """``solvers[2].nfe`` from a path of keys and indices."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "(top level)"


def _types(types, schema):
    """``a value of type integer or object with the keys a, b``."""
    types = [types] if isinstance(types, str) else types
    keys = f" with the keys {', '.join(sorted(schema['properties']))}" if "properties" in schema else ""
    return "a value of type " + " or ".join(kind + keys * (kind == "object") for kind in types)


def _sentence(error):
    """One sentence for a schema error."""
    key = _key(error.absolute_path)
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        extra = next(name for name in error.instance if name not in known)
        return f"{key}: unknown key '{extra}'{nearest(extra, known)}; known: {', '.join(known)}"
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"{key}: the key '{missing}' is missing"
    if error.validator == "enum":
        values = error.validator_value
        return f"{key}: {error.instance!r} is not one of {', '.join(map(str, values))}{nearest(error.instance, values)}"
    allowed = {
        "type": lambda: _types(error.validator_value, error.schema),
        "minimum": lambda: f"at least {error.validator_value}",
        "maximum": lambda: f"at most {error.validator_value}",
        "exclusiveMinimum": lambda: f"more than {error.validator_value}",
        "minItems": lambda: f"at least {error.validator_value} entries",
        "pattern": lambda: f"text that matches {error.validator_value}",
    }.get(error.validator)
    return f"{key}: {error.instance!r} is not allowed; allowed: {allowed() if allowed else error.message}"


def validate(instance, schema, what):
    """Check ``instance`` against the schema file and fill in defaults, in place.

    Raises:
        ConfigError: naming ``what``, the key, the value, what is allowed and the nearest right name.
    """
    error = jsonschema.exceptions.best_match(Validator(_schema(schema)).iter_errors(instance))
    if error is not None:
        raise ConfigError(f"{what}: {_sentence(error)}")


def cards_folder(root):
    """Where the cards are."""
    return Path(root) / "config" / "models"


def load_card(root, name, key):
    """The model card ``config/models/<name>.yaml`` under ``root``, checked."""
    folder = cards_folder(root)
    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"{key}: {unknown('card', name, [card.stem for card in folder.glob('*.yaml')])}")
    try:
        card = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    place = str(path.relative_to(root))
    validate(card, Path(root) / "config" / "schemas" / "card.schema.yaml", place)
    _check_format(card, place)
    return card


def _check_format(card, place):
    """Refuse a key where nothing is looked up, and a program that may change."""
    if "key" in card and card["format"] not in CONVERTED:
        raise ConfigError(f"{place}: key: a file of the format {card['format']} has none; leave it out")
    if card["format"] == "torchscript" and (card["role"] != "features" or len(card.get("sha256", "")) < 64):
        raise ConfigError(
            f"{place}: format: 'torchscript' is a program and runs: it is for features only, and with its whole sha256"
        )


def load(config, root):
    """A checked copy of ``config`` with defaults, and the cards it names.

    Args:
        config: the configuration as a dictionary (as read from YAML).
        root: the folder that holds ``config/``.

    Returns:
        ``(config, cards)``, cards by name.

    Raises:
        ConfigError: with one sentence that names the key, the value and what is allowed.
    """
    config = _copy(config)
    validate(config, Path(root) / "config" / "schemas" / "config.schema.yaml", "configuration")
    _check_unique(config["datasets"], "datasets")
    _check_unique(config["solvers"], "solvers")
    known = [dataset["id"] for dataset in config["datasets"]]
    for name in config["execution"]["datasets"]:
        if name not in known:
            raise ConfigError(f"execution.datasets: {unknown('dataset', name, known)}")
    cards = {}
    for index, dataset in enumerate(config["datasets"]):
        _check_dataset(dataset, f"datasets[{index}]", cards, config, root)
    for index, entry in enumerate(config["solvers"]):
        entry.setdefault("label", entry["id"])
        entry.setdefault("datasets", known)
        for name in entry["datasets"]:
            if name not in known:
                raise ConfigError(f"solvers[{index}].datasets: {unknown('dataset', name, known)}")
        chosen = {f"datasets[{known.index(name)}]": config["datasets"][known.index(name)] for name in entry["datasets"]}
        _check_solver(entry, f"solvers[{index}]", chosen, cards)
    _check_labels(config["solvers"])
    return _copy(config), cards


def _check_unique(entries, key):
    seen = {}
    for index, entry in enumerate(entries):
        if entry["id"] in seen:
            raise ConfigError(
                f"{key}[{index}].id: '{entry['id']}' is the id of {key}[{seen[entry['id']]}] too; ids are unique"
            )
        if entry["id"] in RESERVED:
            raise ConfigError(f"{key}[{index}].id: '{entry['id']}' is taken; not allowed: {', '.join(RESERVED)}")
        seen[entry["id"]] = index


def _check_labels(entries):
    """Figures and tables know a solver by its label."""
    seen = {}
    for index, entry in enumerate(entries):
        for dataset in entry["datasets"]:
            other = seen.setdefault((dataset, entry["label"]), index)
            if other != index:
                raise ConfigError(
                    f"solvers[{index}].label: '{entry['label']}' is the label of solvers[{other}] on {dataset} too"
                )


def _refuse(key, function, *arguments, **options):
    """Call a check of the library; its ValueError becomes a ConfigError that names the key."""
    try:
        return function(*arguments, **options)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ConfigError(f"{key}: {error}") from None


def _check_dataset(dataset, key, cards, config, root):
    _take_card(dataset["model"], "diffusion", f"{key}.model", cards, root)
    _fill_in(dataset, key, cards[dataset["model"]])
    _check_real(dataset, key, cards, root)
    _check_conditions(dataset, key, cards, root)
    total, shards = dataset["images"] * dataset["seeds"], config["execution"]["shards"]
    if shards > total:
        raise ConfigError(f"execution.shards: {shards} shards for {total} images of {key}; at most {total}")
    kept = dataset.setdefault("trajectory_images", min(500, dataset["images"]))
    if kept > dataset["images"]:
        raise ConfigError(f"{key}.trajectory_images: {kept} of {dataset['images']} images; at most {dataset['images']}")
    steps = _check_nfe(f"{key}.reference", dataset["reference"]["solver"], {}, [dataset["reference"]["nfe"]])
    place = f"{key}.reference.grid" if "grid" in dataset["reference"] else f"{key}.grid"
    grid = dataset["reference"].get("grid", dataset["grid"])
    _check_grid(grid, place, cards[dataset["model"]], steps)
    if grids.grids.get(grid["name"]).prepare:
        raise ConfigError(
            f"{place}.name: '{grid['name']}' must be prepared; {key}.reference needs a grid that need not"
        )
    _check_grid(dataset["grid"], f"{key}.grid", cards[dataset["model"]], [])
    if grid["name"] == "released":
        fine = {"solver": dataset["reference"]["solver"], "options": {}}
        _check_recipe(fine, f"{key}.reference", None, cards[dataset["model"]], steps)


def _fill_in(dataset, key, card):
    """What the dataset does not say is as its model's card has it."""
    for option, value in card.get("sampling", {}).items():
        dataset.setdefault(option, _copy(value))
    if "data" not in dataset and "statistics" in card:
        dataset.setdefault("statistics", card["statistics"])
    dataset.setdefault("fit_images", FIT_IMAGES)
    if "grid" not in dataset:
        raise ConfigError(f"{key}.grid: the key is missing, and the card '{dataset['model']}' has no sampling.grid")


def _check_real(dataset, key, cards, root):
    """Real images, or statistics of such, and features that are the statistics' own."""
    if "data" in dataset:
        _refuse(f"{key}.data", data.check, dataset["data"])
    elif "statistics" not in dataset:
        raise ConfigError(
            f"{key}.data: the key is missing, there is no {key}.statistics, and the card '{dataset['model']}' has none"
        )
    if "statistics" in dataset:
        name = dataset["statistics"]
        card = _take_card(name, "statistics", f"{key}.statistics", cards, root)
        if dataset.setdefault("features", card["features"]) != card["features"]:
            raise ConfigError(
                f"{key}.features: '{dataset['features']}', but the statistics '{name}' are of '{card['features']}'; "
                "features of two extractors cannot be compared"
            )
    if "features" not in dataset:
        raise ConfigError(f"{key}.features: the key is missing")
    _take_card(dataset["features"], "features", f"{key}.features", cards, root)


def _take_card(name, role, key, cards, root):
    """Put the card ``name`` into ``cards``; refuse one of another role."""
    card = cards[name] = cards.get(name) or load_card(root, name, key)
    if card["role"] != role:
        raise ConfigError(f"{key}: card '{name}' has the role '{card['role']}', not '{role}'")
    return card


def _check_conditions(dataset, key, cards, root):
    """How classes are drawn and guide: of models that have classes alone."""
    name, card = dataset["model"], cards[dataset["model"]]
    if "classes" not in card:
        for option in ("labels", "guidance"):
            if option in dataset:
                raise ConfigError(
                    f"{key}.{option}: model '{name}' has no classes (card key 'classes'); leave the key out"
                )
        return
    dataset.setdefault("labels", "uniform")
    guidance = dataset.get("guidance", {})
    if guidance.get("name") == "classifier":
        if "classifier" not in guidance:
            raise ConfigError(
                f"{key}.guidance.classifier: the key is missing; it names a card with the role classifier"
            )
        if card["prediction"] != "noise" or "schedule" not in card:
            raise ConfigError(f"{key}.guidance.name: 'classifier' needs a noise-prediction model with a schedule")
        _take_card(guidance["classifier"], "classifier", f"{key}.guidance.classifier", cards, root)
    elif "classifier" in guidance:
        raise ConfigError(f"{key}.guidance.classifier: '{guidance['name']}' has no classifier; leave the key out")


def _check_nfe(key, name, options, nfes):
    """The grid intervals of each NFE; refuses unknown solvers and options, and NFEs the solver cannot make."""
    _refuse(f"{key}.solver", solvers.create, name)
    solver = _refuse(f"{key}.options", solvers.create, name, **options)
    return [_refuse(f"{key}.nfe", solver.steps, nfe) for nfe in nfes]


def _check_grid(grid, key, card, steps):
    _refuse(f"{key}.name", grids.grids.get, grid["name"])
    _refuse(f"{key}.options", grids.refuse_filled, grid.setdefault("options", {}))
    _refuse(f"{key}.options", grids.grids.check_options, grid["name"], {"steps": 1, **grid["options"]})
    for count in steps:
        _refuse(f"{key}.options", grids.check, grid["name"], count, card, **grid["options"])


def _check_solver(entry, key, chosen, cards):
    if len(set(entry["nfe"])) < len(entry["nfe"]):
        raise ConfigError(f"{key}.nfe: {entry['nfe']} names an NFE twice")
    steps = _check_nfe(key, entry["solver"], entry["options"], entry["nfe"])
    if "prepared" in entry["options"]:
        raise ConfigError(f"{key}.options: 'prepared' follows from a preparation; leave it out")
    for place, dataset in chosen.items():
        card = cards[dataset["model"]]
        grid, place = (entry["grid"], key) if "grid" in entry else (dataset["grid"], place)
        _check_grid(grid, f"{place}.grid", card, steps)
        alignment = entry.get("distill", {}).get("alignment")
        if grid["name"] == "released":
            _check_recipe(entry, key, alignment, card, steps)
        elif alignment == "released":
            _check_released_grid(entry, key, grid, card)
        if "distill" in entry:
            _check_distill(entry, f"{key}.distill", card, dataset)


def _check_recipe(entry, key, alignment, card, steps):
    """Refuse what the authors' code has no recipe for."""
    if alignment not in (None, "released"):
        raise ConfigError(
            f"{key}.distill.alignment: '{alignment}' on the grid 'released', which has a teacher of its own; "
            "allowed: released"
        )
    _refuse(f"{key}.options", fit_checks.recipe_order, card["prediction"], entry["solver"], entry["options"])
    if "schedule" in card:
        schedule = schedules.schedules.create(**card["schedule"])
        for count in steps:
            _refuse(f"{key}.grid", fit_checks.check_recipe_schedule, entry["solver"], count, schedule)
    elif card["prediction"] == "noise":
        raise ConfigError(f"{key}.grid.name: 'released' needs the schedule of a noise-prediction model")


def _check_released_grid(entry, key, grid, card):
    _refuse(f"{key}.distill.alignment", fit_checks.check_released, card["prediction"], entry["solver"])
    if not grids.grids.get(grid["name"]).family:
        raise ConfigError(
            f"{key}.distill.alignment: 'released' has a teacher on the same grid with more steps, which "
            f"'{grid['name']}' cannot make; allowed: {', '.join(grids.families())}"
        )
    if card["prediction"] == "data":
        for nfe in entry["nfe"]:
            fine = entry["distill"]["substeps"] * nfe
            _refuse(f"{key}.distill.substeps", grids.check, grid["name"], fine, card, **grid["options"])


def _check_distill(entry, key, card, dataset):
    distill = entry["distill"]
    if "teacher" in distill and _refuse(f"{key}.teacher", solvers.create_teacher, distill["teacher"]).method.prepare:
        raise ConfigError(f"{key}.teacher: '{distill['teacher']}' must be prepared itself; take another teacher")
    if distill["alignment"] == "released":
        if "teacher" in distill:
            raise ConfigError(f"{key}.teacher: alignment 'released' has its own teacher; leave the key out")
        if distill["directions"] != 1:
            raise ConfigError(f"{key}.directions: alignment 'released' has one direction, not {distill['directions']}")
    _refuse(f"{key}.refine", fit_checks.check_refine, distill["refine"], distill["alignment"])
    directions = _refuse(f"{key}.directions", Directions.of, distill["directions"], card["prediction"])
    images = distill.get("images", dataset["fit_images"])
    for nfe in entry["nfe"]:
        _refuse(f"{key}.images", fit_checks.check_images, images, directions.count, nfe, distill["refine"])
