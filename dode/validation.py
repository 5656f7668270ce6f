"""Mappings checked against a schema file and completed with its defaults; errors are one clear sentence."""

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from dode.registry import nearest


class ConfigError(ValueError):
    """A bad configuration; the message names the key, the value and what is allowed."""


def _with_defaults(validator):
    """A validator that fills in the defaults of a schema's properties as it goes."""
    check_properties = validator.VALIDATORS["properties"]

    def fill(checker, properties, instance, schema):
        if checker.is_type(instance, "object"):
            for key, subschema in properties.items():
                if isinstance(subschema, dict) and "default" in subschema:
                    instance.setdefault(key, copied(subschema["default"]))
        yield from check_properties(checker, properties, instance, schema)

    def is_integer(_, value):
        """40.0 is not a number of images, although JSON Schema accepts it as an integer."""
        return isinstance(value, int) and not isinstance(value, bool)

    types = validator.TYPE_CHECKER.redefine("integer", is_integer)
    return jsonschema.validators.extend(validator, {"properties": fill}, type_checker=types)


def copied(value: Any) -> Any:
    """Plain dictionaries and lists in one order of keys, whatever mappings the caller has (Snakemake has its own)."""
    return json.loads(json.dumps(value, sort_keys=True))


Validator = _with_defaults(jsonschema.Draft202012Validator)


def read_yaml(path: str | Path) -> Any:
    """The value in a YAML file; ConfigError in one sentence if it is not YAML."""
    try:
        return yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


@functools.cache
def _schema(path):
    return yaml.safe_load(Path(path).read_text())


def _key(path):
    """``solvers[2].nfe`` from a path of keys and indices."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "(top level)"


def _named(path, instance):
    """The ids of the entries on a path, as ``"; solvers[2] is 'ddim'"``, or an empty string."""
    text = ""
    for i, part in enumerate(path, 1):
        instance = instance[part]
        if isinstance(part, int) and isinstance(instance, dict) and isinstance(instance.get("id"), str):
            text += f"; {_key(list(path)[:i])} is {instance['id']!r}"
    return text


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
        "maxItems": lambda: f"at most {error.validator_value} entries, not {len(error.instance)}",
        "pattern": lambda: f"text that matches {error.validator_value}",
    }.get(error.validator)
    value = repr(error.instance)
    value = value if len(value) <= 200 else f"{value[:200]}..."
    return f"{key}: {value} is not allowed; allowed: {allowed() if allowed else error.message[:500]}"


def validate(instance: Any, schema: str | Path, what: str) -> None:
    """Check ``instance`` against the schema file and fill in defaults, in place.

    Raises:
        ConfigError: naming ``what``, the key, the value, what is allowed and the nearest right name.
    """
    error = jsonschema.exceptions.best_match(Validator(_schema(schema)).iter_errors(instance))
    if error is not None:
        raise ConfigError(f"{what}: {_sentence(error)}{_named(error.absolute_path, instance)}")
