"""Files of a user: what YAML would silently take for something else is refused, with file, line and key."""

import json

import pytest
import yaml

from dode.validation import ConfigError, read_text, read_yaml, refuse_odd, validate
from workspace import REPOSITORY


@pytest.fixture
def file(tmp_path):
    """``file(contents)``: the path of a file with this text or these bytes."""

    def made(contents):
        path = tmp_path / "mine.yaml"
        path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
        return path

    return made


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: (top level): the key 'a' is given twice, first in line 1"),
        ("a:\n- b: 1\n  b: 2\n", "line 3: a[0]: the key 'b' is given twice, first in line 2"),
        ("solvers:\n- nfe: [010]\n", "line 2: solvers[0].nfe[0]: 010 is an octal number"),
        ("a: -07", "a: -07 is an octal number"),
        ("a: 0_10", "a: 0_10 is an octal number"),
        ("a: !!int '010'", "a: 010 is an octal number"),
        ("a: 1:30", "a: 1:30 is a sexagesimal number"),
        ("a: 1:30.5", "a: 1:30.5 is a sexagesimal number"),
        ("on: 1", "a key 'on' is read as bool"),
        ("1: on", "a key '1' is read as int"),
        ("~: 1", "a key '~' is read as null"),
        ("? [a]\n: 1", "a key is a collection"),
        ("a: &a\n  b: *a", "a.b: it holds itself"),
        ("a: &a [*a]", "a[0]: it holds itself"),
        ("a: 2024-99-01", "not YAML"),
        ("a: [", "not YAML"),
        ("a: 1\n---\na: 2", "not YAML"),
        ("[" * 5000, "nested too deeply"),
        (b"a: 1\nb: caf\xe9\n", "line 2: the byte 0xe9 is not UTF-8"),
        ("a: 1".encode("utf-16"), "UTF-16"),
        ("a: 1".encode("utf-16-be"), "UTF-16"),
        ('{"a": 1,\n "a": 2}', "the key 'a' is given twice; it is in the lines 1, 2"),
    ],
)
def test_what_a_reader_takes_for_something_else_is_refused(file, text, says):
    path = file(text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert says in message
    assert "\n" not in message


def test_aliases_that_unfold_to_billions_of_values_are_refused(file):
    layers = [
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    with pytest.raises(ConfigError, match="aliases unfold"):
        read_yaml(file("\n".join([f"a: &a [{', '.join('x' * 9)}]", *layers])))


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: No such file"):
        read_yaml(tmp_path / "none.yaml")
    for path in (tmp_path, "/dev/zero"):
        with pytest.raises(ConfigError, match="is no regular file"):
            read_yaml(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("\ufeffa: 1", {"a": 1}),
        ("a: [0, 10, 0x10, 1_000, '010', -0, 0.5, 00:30x]", {"a": [0, 10, 16, 1000, "010", 0, 0.5, "00:30x"]}),
        ("b: &x {c: 1, d: 1}\ne: {<<: *x, c: 2}", {"b": {"c": 1, "d": 1}, "e": {"c": 2, "d": 1}}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        (json.dumps({"label": "λ 😀", "a": 1}, indent="\t"), {"label": "λ 😀", "a": 1}),
    ],
)
def test_what_is_plain_is_read(file, text, value):
    assert read_yaml(file(text)) == value


def test_a_byte_order_mark_is_no_text(file):
    assert read_text(file(b"\xef\xbb\xbfa,b")) == "a,b"


HIMSELF = {"solvers": [{}]}
HIMSELF["solvers"][0]["options"] = HIMSELF


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"solvers": [{"label": "a\x1b[31m"}]}, r"solvers[0].label: 'a\x1b[31m' contains U+001B"),
        ({"label": "two\nlines"}, r"label: 'two\nlines' contains U+000A"),
        ({"label": "a\u200bb"}, "U+200B (zero width space)"),
        ({"label": "\u202etxt"}, "U+202E (right-to-left override)"),
        ({"label": "\u2028"}, "U+2028 (line separator)"),
        ({"data": {"folder": "</script><script>"}}, "data.folder: '</script><script>' contains '<'"),
        ({"label": "<b>"}, "contains '<'"),
        ({"label": "<!--"}, "contains '<'"),
        ({"a\x07": 1}, r"'a\x07' contains U+0007"),
        ({True: 1}, "the key True is not text"),
        ({1: 1, "a": 2}, "the key 1 is not text"),
        ({"seed": float("nan")}, "seed: nan is not allowed"),
        ({"seed": {1, 2}}, "is a set"),
        (HIMSELF, "solvers[0].options: it holds itself"),
    ],
)
def test_odd_values_are_refused_with_their_key(value, says):
    with pytest.raises(ConfigError) as caught:
        refuse_odd(value, what="configuration")
    assert str(caught.value).startswith("configuration: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("1e5", "integer", "x: '1e5' is not allowed; allowed: a value of type integer; write 100000"),
        ("1.0e+5", "integer", "x: 100000.0 is not allowed; allowed: a value of type integer; write 100000"),
        ("'100000'", "integer", "x: '100000' is not allowed; allowed: a value of type integer; write 100000"),
        ("-2E+3", "integer", "x: '-2E+3' is not allowed; allowed: a value of type integer; write -2000"),
        ("1e5", "[integer, 'null']", "x: '1e5' is not allowed; allowed: a value of type integer or null; write 100000"),
        ("2e-3", "number", "x: '2e-3' is not allowed; allowed: a value of type number; write 0.002"),
        ("2e-7", "number", "x: '2e-7' is not allowed; allowed: a value of type number; write 2.0e-07"),
        ("2e3", "number", "x: '2e3' is not allowed; allowed: a value of type number; write 2000"),
        ("0.5", "integer", "x: 0.5 is not allowed; allowed: a value of type integer"),
        ("1e-3", "integer", "x: '1e-3' is not allowed; allowed: a value of type integer"),
        ("1e999", "number", "x: '1e999' is not allowed; allowed: a value of type number"),
        ("many", "integer", "x: 'many' is not allowed; allowed: a value of type integer"),
        ("true", "integer", "x: True is not allowed; allowed: a value of type integer"),
        ("1e5", "boolean", "x: '1e5' is not allowed; allowed: a value of type boolean"),
    ],
)
def test_a_number_that_yaml_reads_as_something_else_is_refused_with_how_to_write_it(tmp_path, text, kind, says):
    schema = tmp_path / f"{abs(hash(kind))}.yaml"
    schema.write_text(f"properties: {{x: {{type: {kind}}}}}", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        validate({"x": yaml.safe_load(text)}, schema, "configuration")
    assert str(caught.value) == f"configuration: {says}"
    if "write" in says:
        hint = yaml.safe_load(says.rpartition("write ")[2])
        validate({"x": hint}, schema, "configuration")
        assert hint == float(yaml.safe_load(text))


def test_prose_may_have_lines_and_tags_and_a_label_a_comparison():
    refuse_odd({"notes": "see <https://example.org>\nand more", "label": "m<3, λ"}, what="card", prose=["notes"])


@pytest.mark.parametrize(
    ("place", "key", "says"),
    [
        ((), "seeds", "unknown key 'seeds' (datasets[*].seeds has that name); known: archives"),
        ((), "fit_images", "unknown key 'fit_images' (datasets[*].fit_images has that name)"),
        (("datasets", 0), "seed", "unknown key 'seed' (seed at the top level, solvers[*].distill.seed, "),
        (("solvers", 0), "alignment", "unknown key 'alignment' (solvers[*].distill.alignment has that name)"),
        ((), "sede", "unknown key 'sede' (did you mean 'seed'?); known: archives"),
    ],
)
def test_a_key_that_belongs_elsewhere_is_said_to(place, key, says):
    config = yaml.safe_load((REPOSITORY / "config" / "config.yaml").read_text())
    part = config
    for each in place:
        part = part[each]
    part[key] = 1
    with pytest.raises(ConfigError) as caught:
        validate(config, REPOSITORY / "config" / "schemas" / "config.schema.yaml", "configuration")
    assert says in str(caught.value)
