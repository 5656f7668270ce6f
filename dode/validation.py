"""Mappings checked against a schema file and completed with its defaults; errors are one clear sentence."""

import codecs
import contextlib
import functools
import json
import math
import operator
import os
import re
import stat
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from dode import texts
from dode.registry import nearest, written


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
_FORMATS = {"date": "a day of the calendar as YYYY-MM-DD"}
_CHECKER = jsonschema.FormatChecker(_FORMATS)
_DEEPEST = 8  # keys in one another that are looked through


def refuse_odd(value: Any, *, what: str, prose: Iterable[str] = ()) -> None:
    """Refuse what is no plain value: keys that are no text, dates, NaN, what holds itself, text that cannot be seen.

    Args:
        value: mappings and lists, of a file or of a caller.
        what: they are, for the message: ``"configuration"`` or the name of a file.
        prose: keys whose text may have several lines and ``<``.

    Raises:
        ConfigError: naming ``what``, the key and the value.
    """
    try:
        _refuse_odd(value, (), frozenset(prose), ())
    except _Odd as error:
        raise ConfigError(f"{what}: {_key(error.path)}: {error.sentence}") from None
    except RecursionError:
        raise ConfigError(f"{what}: it is nested too deeply") from None


class _Odd(Exception):
    def __init__(self, path, sentence):
        self.path, self.sentence = path, sentence


def _refuse_odd(value, path, prose, around):
    if isinstance(value, str):
        try:
            is_prose = bool(path) and path[-1] in prose
            texts.refuse(value, lines=is_prose, tags=is_prose)
        except ValueError as error:
            raise _Odd(path, str(error)) from None
    elif isinstance(value, float) and not math.isfinite(value):
        raise _Odd(path, f"{value} is not allowed; allowed: finite numbers")
    elif isinstance(value, Mapping | list | tuple):
        if id(value) in around:
            raise _Odd(path, "it holds itself, by an anchor of YAML; write it out")
        around = (*around, id(value))
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            if isinstance(value, Mapping):
                if not isinstance(key, str):
                    raise _Odd(path, f"the key {key!r} is not text; put it in quotes")
                _refuse_odd(key, path, (), ())
            _refuse_odd(item, (*path, key), prose, around)
    elif value is not None and not isinstance(value, bool | int | float):
        raise _Odd(
            path, f"{texts.shown(value)} is a {type(value).__name__}, not text; put dates and the like in quotes"
        )


#: Keys of configurations and cards whose texts, or lists of texts, are paths or URLs.
PATHS = ("folder", "zip", "file", "cache", "urls", "source")


def from_home(path: str) -> str:
    """A path, or a ``file:`` URL, that begins with ``~`` or ``~user``, with this home's folder in its place.

    Nobody's home is left as it is, and so are other texts.
    """
    scheme = path[: len("file:")] if path.startswith("file:~") else ""
    home, slash, rest = path[len(scheme) :].partition("/")
    if not home.startswith("~"):
        return path
    place = os.path.expanduser(home)
    return scheme + (urllib.parse.quote(place) if scheme and place != home else place) + slash + rest


def paths_from_home(value: Any) -> Any:
    """A configuration or a card with :func:`from_home` of what is under :data:`PATHS`, at any depth."""
    if isinstance(value, list | tuple):
        return [paths_from_home(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {key: _paths(item) if key in PATHS else paths_from_home(item) for key, item in value.items()}


def _paths(value):
    if isinstance(value, str):
        return from_home(value)
    return [_paths(item) for item in value] if isinstance(value, list) else paths_from_home(value)


def read_text(path: str | Path) -> str:
    """The text of a file, which must be UTF-8 (a byte order mark is left out); ConfigError in one sentence if not."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConfigError(f"{path}: is no regular file")
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data:
        raise ConfigError(f"{path}: is UTF-16 or has null bytes; allowed: text in UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = data[: error.start].count(b"\n") + 1, data[error.start]
        raise ConfigError(f"{path}, line {line}: the byte 0x{byte:02x} is not UTF-8; allowed: text in UTF-8") from None


def read_yaml(path: str | Path) -> Any:
    """The value in a YAML or JSON file.

    Stricter than PyYAML where it changes silently what a reader takes the file to say: a key that is given twice, of
    which it keeps the last, and the octal and sexagesimal numbers of YAML 1.1 (``010`` is 8, ``1:30`` is 90).

    Raises:
        ConfigError: in one sentence with the line, for these and for what is not text in UTF-8, not YAML, has keys that
            are no text, holds itself or would be too large.
    """
    text = read_text(path)
    try:
        with contextlib.suppress(json.JSONDecodeError):
            return json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, path, text))
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _refuse_node(node, str(path), (), {}, ())
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise ConfigError(f"{path}: it is nested too deeply") from None
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError) as error:  # ValueError: of a date, or of an integer with thousands of digits
        raise ConfigError(f"{path}: not YAML: {texts.shown(' '.join(str(error).split()))}") from None


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file (:func:`read_yaml`); ConfigError for a file with anything else in it."""
    found = read_yaml(path)
    if not isinstance(found, dict):
        single = f"is a single value, {texts.shown(repr(found)[:100])}"
        kind = "is empty" if found is None else "is a list" if isinstance(found, list) else single
        raise ConfigError(f"{path}: {kind}; allowed: keys with their values, such as 'benchmark: mine'")
    return found


def _unique(pairs, path, text):
    """A dictionary from an object of JSON; its parser knows no lines."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        lines = [
            n for n, line in enumerate(text.splitlines(), 1) if re.search(f"{re.escape(json.dumps(twice))}\\s*:", line)
        ]
        where = ", ".join(map(str, lines))
        raise ConfigError(f"{path}: the key '{texts.shown(twice)}' is given twice; it is in the lines {where}")
    return found


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MOST_VALUES = 1_000_000  # that aliases may unfold to
_NUMBERS = {"tag:yaml.org,2002:int": int, "tag:yaml.org,2002:float": float}


def _refuse_node(node, file, path, seen, around):
    """How many values a node unfolds to; ConfigError for what a reader would take for something else."""
    place = f"{file}, line {node.start_mark.line + 1}: {_key(path)}"
    if id(node) in around:
        raise ConfigError(f"{place}: it holds itself, by the anchor in that line; write it out")
    if id(node) in seen:
        return seen[id(node)]
    around, count = (*around, id(node)), 1
    if isinstance(node, yaml.ScalarNode):
        _refuse_number(node, place)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            count += _refuse_node(item, file, (*path, index), seen, around)
    else:
        _refuse_keys(node, file, path)
        for key, item in node.value:
            count += _refuse_node(item, file, (*path, key.value), seen, around)
    if count > _MOST_VALUES:
        raise ConfigError(f"{place}: its aliases unfold to more than {_MOST_VALUES} values")
    seen[id(node)] = count
    return count


def _refuse_keys(node, file, path):
    lines = {}
    for key, _ in node.value:
        place = f"{file}, line {key.start_mark.line + 1}: {_key(path)}"
        if key.tag == "tag:yaml.org,2002:merge":
            name = "<<"
        elif key.tag == "tag:yaml.org,2002:str":
            name = key.value
        else:
            said = (
                f"'{key.value}' is read as {key.tag.split(':')[-1]}"
                if isinstance(key.value, str)
                else "is a collection"
            )
            raise ConfigError(f"{place}: a key {said}, but keys are text; put it in quotes")
        if name in lines:
            raise ConfigError(f"{place}: the key '{texts.shown(name)}' is given twice, first in line {lines[name]}")
        lines[name] = key.start_mark.line + 1


def _refuse_number(node, place):
    if node.tag not in _NUMBERS:
        return
    digits = node.value.lstrip("+-").replace("_", "")
    if ":" in digits:
        raise ConfigError(
            f"{place}: {node.value} is a sexagesimal number in YAML 1.1; write it as a decimal, or in quotes"
        )
    if is_octal(digits):
        raise ConfigError(
            f"{place}: {node.value} is an octal number in YAML 1.1; write it without the leading 0, or in quotes"
        )


def is_octal(text: str) -> bool:
    """Whether digits start with a 0 that says that they are octal, or says nothing."""
    return re.fullmatch(r"[+-]?0[0-9_]+", text) is not None


@functools.cache
def _schema(path):
    return yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)


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


def _places(schema, name, part=None, path=()):
    """Where a schema has the key ``name``, as ``datasets[*].seeds``."""
    part = schema if part is None else part
    if "$ref" in part:
        part = functools.reduce(operator.getitem, part["$ref"].removeprefix("#/").split("/"), schema)
    inner = [*part.get("properties", {}).items(), *([("[*]", part["items"])] if "items" in part else [])]
    for key, value in inner:
        own = (*path, key)
        if key == name:
            yield ".".join(own).replace(".[", "[") if path else f"{key} at the top level"
        elif isinstance(value, Mapping) and len(own) < _DEEPEST:
            yield from _places(schema, name, value, own)


def _nearest_key(name, known, schema):
    """A known key that may be meant: the same elsewhere, or else one that is spelt alike, in words."""
    found = list(dict.fromkeys(_places(schema, name)))
    if not found:
        return nearest(name, known)
    return f" ({', '.join(found[:3])} {'has' if len(found) == 1 else 'have'} that name)"


def _sentence(error, schema):
    """One sentence for a schema error."""
    if error.validator == "oneOf" and error.context:
        return _sentence(_of_the_named(error.context), schema)
    key = _key(error.absolute_path)
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        extra = next(name for name in error.instance if name not in known)
        return f"{key}: unknown key '{extra}'{_nearest_key(extra, known, schema)}; known: {', '.join(known)}"
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
        "minLength": lambda: f"at least {error.validator_value} characters",
        "maxLength": lambda: f"at most {error.validator_value} characters, not {len(error.instance)}",
        "minItems": lambda: f"at least {error.validator_value} entries",
        "maxItems": lambda: f"at most {error.validator_value} entries, not {len(error.instance)}",
        "pattern": lambda: f"text that matches {error.validator_value}",
        "format": lambda: _FORMATS[error.validator_value],
    }.get(error.validator)
    hint = ""
    if error.validator == "type" and any(kind in error.validator_value for kind in ("integer", "number")):
        hint = written(error.instance, fraction="number" in error.validator_value)
    value = repr(error.instance)
    value = value if len(value) <= 200 else f"{value[:200]}..."
    return f"{key}: {value} is not allowed; allowed: {allowed() if allowed else error.message[:500]}{hint}"


def _of_the_named(errors):
    """Of the errors of several forms, one of the form whose name the value has, or else the first."""
    forms: dict[Any, list[Any]] = {}
    for error in errors:
        forms.setdefault(error.schema_path[0], []).append(error)
    named = [own for own in forms.values() if not any("name" in error.path for error in own)]
    return (named or list(forms.values()))[0][0]


def validate(instance: Any, schema: str | Path, what: str) -> None:
    """Check ``instance`` against the schema file and fill in defaults, in place.

    Raises:
        ConfigError: naming ``what``, the key, the value, what is allowed and the nearest right name.
    """
    known = _schema(schema)
    error = jsonschema.exceptions.best_match(Validator(known, format_checker=_CHECKER).iter_errors(instance))
    if error is not None:
        raise ConfigError(f"{what}: {_sentence(error, known)}{_named(error.absolute_path, instance)}")
