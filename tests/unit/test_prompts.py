"""Prompts from files: one for each image, in one order, and what is refused."""

import hashlib
import json

import pytest

from dode.images import prompts

ROWS = ["a red cat", "a blue dog, asleep", 'a "car"']
COCO = {
    "images": [{"id": 9}, {"id": 4}, {"id": 7}, {"id": 5}],
    "annotations": [
        {"image_id": 4, "id": 1, "caption": "A blue dog, asleep"},
        {"image_id": 9, "id": 2, "caption": "A red cat "},
        {"image_id": 9, "id": 3, "caption": "A cat."},
        {"image_id": 7, "id": 4, "caption": "A car"},
    ],
}
FILES = {
    "a.txt": 'a red cat\na blue dog, asleep\na "car"\n',
    "windows.txt": '\ufeffa red cat\r\na blue dog, asleep\r\n a "car"',
    "old.txt": 'a red cat\ra blue dog, asleep\ra "car"\r',
    "a.csv": 'id,prompt\n1,a red cat\n2,"a blue dog, asleep"\n3,"a ""car"""\n',
    "a.jsonl": "".join(json.dumps({"prompt": row, "id": 1}) + "\n" for row in ROWS),
}


@pytest.fixture
def file(tmp_path):
    def written(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_the_rows_in_order(file, name):
    assert prompts.read(file(name, FILES[name])) == ROWS


def test_a_column_may_have_another_name(file):
    assert prompts.read(file("a.csv", "caption,prompt\nx,y\n"), column="caption") == ["x"]
    assert prompts.read(file("a.jsonl", '{"caption": "x"}\n'), column="caption") == ["x"]


def test_cocos_captions_give_each_image_its_first_one_in_the_order_of_the_images(file):
    """An image without captions has no row."""
    assert prompts.read(file("captions.json", json.dumps(COCO))) == ["A red cat", "A blue dog, asleep", "A car"]


def test_the_sha256_is_that_of_the_file(file):
    path = file("a.txt", FILES["a.txt"])
    own = hashlib.sha256(FILES["a.txt"].encode()).hexdigest()
    assert prompts.read(path, sha256=own) == ROWS
    with pytest.raises(ValueError, match=f"the sha256 of '.*a.txt' is {own}, but {'0' * 64} is asked for"):
        prompts.read(path, sha256="0" * 64)


def test_a_file_that_is_edited_is_read_again(file):
    assert prompts.read(file("a.txt", "x\n")) == ["x"]
    assert prompts.read(file("a.txt", "longer\n")) == ["longer"]


@pytest.mark.parametrize(
    ("name", "content", "options", "says"),
    [
        ("a.txt", "x\n\ny\n", {}, r"row 2 of '.*a\.txt' is empty; every image needs a prompt"),
        ("a.txt", "x\n \t\n", {}, "row 2 of .* is empty"),
        ("a.txt", "x\n\u200b\ufeff\n", {}, "row 2 of .* is empty"),
        ("a.txt", "x\n", {"column": "prompt"}, "column: 'prompt' is asked for, but .* has no columns"),
        ("a.txt", "caf\xe9\n".encode("latin-1"), {}, "line 1: the byte 0xe9 is not UTF-8; allowed: text in UTF-8"),
        ("a.txt", "x\n".encode("utf-16"), {}, "is UTF-16 or has null bytes; allowed: text in UTF-8"),
        ("a.csv", "id,text\n1,x\n", {}, "column: .*: unknown column 'prompt'; known: id, text"),
        ("a.csv", "prompt\nx\n", {"column": "promt"}, r"unknown column 'promt' \(did you mean 'prompt'\?\)"),
        ("a.csv", "id,prompt\n1,x\n2\n", {}, "row 2 of .* is empty"),
        (
            "a.csv",
            "prompt\ncaf\xe9\n".encode("latin-1"),
            {},
            "line 2: the byte 0xe9 is not UTF-8; allowed: text in UTF-8",
        ),
        (
            "a.csv",
            "id,prompt\n1,x\n2,a dog, asleep\n",
            {},
            "row 2 of .* has 3 values for 2 columns; a prompt with a comma",
        ),
        ("a.csv", "prompt,prompt\nx,y\n", {}, "column: .* has the column 'prompt' more than once; rename the others"),
        ("a.csv", "", {}, "is not CSV with a row of names above"),
        (
            "a.jsonl",
            '{"prompt": "x"}\n{"text": "y"}\n',
            {},
            "row 2 of .*: unknown column 'prompt'; known: text",
        ),
        ("a.jsonl", '{"prompt": "x"}\n\n{"prompt": "y"}\n', {}, "row 2 of .* is empty; every image needs a prompt"),
        ("a.jsonl", '{"prompt": 3}\n', {}, "row 1 of .* is 3, which is no text"),
        ("a.jsonl", '{"prompt": "x"}\n[1]\n', {}, "row 2 of .* is not a JSON object"),
        ("a.jsonl", '{"prompt": \n', {}, "row 1 of .* is not JSON"),
        ("a.jsonl", '{"prompt": "x", "prompt": "y"}\n', {}, 'row 1 of .* has the key "prompt" twice'),
        ("a.jsonl", '{"prompt": "x", "score": NaN}\n', {}, "row 1 of .* has NaN, which is not a finite number"),
        ("a.jsonl", '{"prompt": "\\ud800 cat"}\n', {}, "row 1 of .* has half of a surrogate pair"),
        ("a.json", '{"images": [{"id": [1]}], "annotations": []}', {}, "an 'id' of 'images' is no number and no text"),
        ("a.json", "[]", {}, "is not a file of COCO's captions: it has no list 'images' of objects with 'id'"),
        (
            "a.json",
            '{"images": [], "annotations": [{"id": 1}]}',
            {},
            "no list 'annotations' of objects with 'image_id'",
        ),
        ("a.yaml", "x\n", {}, r"is not allowed; allowed: a file that ends with \.txt, \.csv, \.jsonl, \.json"),
    ],
)
def test_what_is_no_file_of_prompts_is_refused_in_one_sentence(file, name, content, options, says):
    with pytest.raises(ValueError, match=says) as caught:
        prompts.read(file(name, content), **options)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*none.txt'; a relative path is relative to the working"):
        prompts.read(tmp_path / "none.txt")


def test_too_few_prompts_are_refused_with_how_many_are_needed():
    prompts.check_count(["x"] * 5, "a.txt", 3, 2)
    with pytest.raises(ValueError, match=r"'a.txt' has 4 prompts, but 5 are needed: 3 for the scored images and 2"):
        prompts.check_count(["x"] * 4, "a.txt", 3, 2)
