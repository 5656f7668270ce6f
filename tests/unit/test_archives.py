"""An archive is what was packed, to the bit; whatever else a file is, it is refused in one sentence."""

import base64
import io
import json
import os
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import forged_archives
import mutations
from dode.__main__ import main
from dode.report.archives import evidence, format, site
from dode.report.archives.format import ArchiveError
from forged_archives import DEMO
from mutations import mutated

D_DDIM, J_IPNDM = "digits-edm/d-ddim/nfe5", "digits-edm/j-ipndm/nfe5"


def refusal(path):
    with pytest.raises(ArchiveError) as caught:
        format.read(path)
    text = str(caught.value)
    assert str(path) in text
    assert len(text) < 1500
    assert "\n" not in text
    return text


def test_the_demos_archive_is_small_and_has_all_its_cells():
    assert DEMO.stat().st_size < 300_000
    found = format.read(DEMO)
    assert len(found.cells) == len(set(found.cells)) == 34
    assert set(found.fits) == {cell["name"] for cell in found.facts["cells"] if cell["fitted"]}


def test_the_same_contents_are_the_same_bytes_in_any_order(tmp_path):
    found = forged_archives.few()
    backwards = json.loads(json.dumps(dict(reversed(found.items()))), object_pairs_hook=lambda x: dict(reversed(x)))
    written = [
        format.write(tmp_path / name, own, by="A lab", date="2026-11-29")
        for name, own in (("one.zip", found), ("other.zip", backwards))
    ]
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()
    assert written[0].sha256 == written[1].sha256 == format.read(tmp_path / "one.zip").sha256
    again = forged_archives.members(tmp_path / "one.zip")
    assert {name: again[name] for name in format.MEMBERS} == {name: found[name] for name in format.MEMBERS}
    assert (again["archive.json"]["by"], again["archive.json"]["date"]) == ("A lab", "2026-11-29")


def test_nothing_is_written_that_could_not_be_read(tmp_path):
    found = forged_archives.few()
    del found["scores.json"][D_DDIM]
    with pytest.raises(ArchiveError, match=r"scores\.json"):
        format.write(tmp_path / "bad.zip", found, by="", date="2026-11-29")
    for day in ("yesterday", "2026-13-45", "2026-02-29"):
        with pytest.raises(ArchiveError, match=f"date: '{day}' is not allowed; allowed: a day of the calendar"):
            format.write(tmp_path / "bad.zip", forged_archives.few(), by="", date=day)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_is_written_where_a_user_says(tmp_path, capsysbinary):
    """Behind a link and to standard output; a file that is named as that of a killed writer stays."""
    neighbour = tmp_path / ".shared.zip.12345678.zip"
    neighbour.write_text("not ours")
    (tmp_path / "link.zip").symlink_to("shared.zip")
    for path in (tmp_path / "link.zip", "-"):
        format.write(path, forged_archives.few(), by="", date="2026-11-29")
    assert (tmp_path / "link.zip").is_symlink()
    assert capsysbinary.readouterr().out == (tmp_path / "shared.zip").read_bytes()
    assert neighbour.read_text() == "not ours"


@pytest.fixture
def unpacked(tmp_path):
    """A folder of results as far as it is needed to be told what it lacks."""
    found = forged_archives.few()
    folder = tmp_path / "results" / "digits"
    for name, score in found["scores.json"].items():
        (folder / name).mkdir(parents=True)
        (folder / name / "score.json").write_text(json.dumps(score))
    (folder / "provenance.json").write_text(json.dumps(found["provenance.json"]))
    (folder / "facts.json").write_text(json.dumps(found["facts.json"] | {"halves": {}}))
    return folder


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--by", "x" * 101], "by: 101 characters are not allowed; allowed: at most 100"),
        (["--by", "Lab\x1b[2J"], "by: 'Lab\\x1b[2J' contains U+001B"),
        (["--by", "<b>"], "by: '<b>' contains '<'"),
        (["--date", "yesterday"], "date: 'yesterday' is not allowed; allowed: YYYY-MM-DD"),
        (["--date", "2026-13-45"], "date: '2026-13-45' is not allowed; allowed: YYYY-MM-DD"),
        (["--date", "2026-02-29"], "date: '2026-02-29' is not allowed"),
        (["--date", "20261129"], "date: '20261129' is not allowed"),
        (["--evidence", "0"], "evidence: 0 images are not allowed; allowed: at least 1"),
    ],
)
def test_what_cannot_be_packed_as_asked_is_one_sentence(unpacked, tmp_path, capsys, arguments, says):
    assert main(["pack", str(unpacked), "--output", str(tmp_path / "a.zip"), *arguments]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "a.zip").exists()


def test_results_that_are_not_finished_are_not_packed(unpacked, tmp_path, capsys):
    """Of an older version, of two configurations, or cut off."""

    def said(folder=unpacked):
        assert main(["pack", str(folder), "--output", str(tmp_path / "a.zip")]) == 1
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        return error

    assert "not a folder of results" in said(tmp_path)
    (unpacked / D_DDIM / "score.json").rename(tmp_path / "score.json")
    assert f"is not finished ({D_DDIM} has no score)" in said()
    (tmp_path / "score.json").rename(unpacked / D_DDIM / "score.json")
    facts = json.loads((unpacked / "facts.json").read_text())
    (unpacked / "facts.json").write_text(json.dumps(facts | {"cells": facts["cells"][1:]}))
    assert "its records are of two configurations" in said()
    (unpacked / "facts.json").unlink()
    assert "facts.json is missing: run snakemake again, which writes it with the page" in said()


def test_every_cut_and_every_flipped_bit_is_noticed(tmp_path):
    content, path = DEMO.read_bytes(), tmp_path / "damaged.zip"
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(content), 60):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            found = format.read(path)
        except ArchiveError:
            continue
        # A bit that no reader looks at, such as one of a date.
        assert found.scores == format.read(DEMO).scores
        assert found.evidence == format.read(DEMO).evidence
    for size in (0, 1, 21, 22, 1000, len(content) - 1):
        path.write_bytes(content[:size])
        refusal(path)
    path.write_bytes(content + b"\0")
    refusal(path)
    path.write_bytes(b"#!/bin/sh\n" + content)
    refusal(path)


def texts():
    return {name: json.dumps(value).encode() for name, value in forged_archives.few().items()}


def rewritten(path, edit):
    """Write the few cells with a zip file's entries edited: ``edit(entry)`` for each before it is written."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in texts().items():
            entry = zipfile.ZipInfo(name)
            edit(entry)
            packed.writestr(entry, text)
    return path


@pytest.mark.parametrize(
    "name", ["../evil.json", "/etc/evil.json", "a/b.json", "evil.py", "FACTS.json", "facts.json/", "C:\\x"]
)
def test_other_members_are_refused(tmp_path, name):
    """As one more, and in the place of one."""
    path = tmp_path / "other.zip"
    path.write_bytes(forged_archives.zipped(texts() | {name: b"{}"}))
    assert "other members" in refusal(path)
    own = texts()
    own[name] = own.pop("facts.json")
    path.write_bytes(forged_archives.zipped(own))
    assert "other members" in refusal(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_member_twice_is_refused(tmp_path):
    path = tmp_path / "twice.zip"
    own = texts()
    del own["facts.json"]
    path.write_bytes(forged_archives.zipped(own))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as packed:
        packed.writestr("scores.json", b"{}")
    assert "other members" in refusal(path)


def test_links_and_other_compressions_are_refused(tmp_path):
    def link(entry):
        entry.external_attr = 0o120777 << 16

    assert "no plain file" in refusal(rewritten(tmp_path / "link.zip", link))

    def other(entry):
        entry.compress_type = zipfile.ZIP_BZIP2

    path = tmp_path / "bzip2.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as packed:
        for name, text in texts().items():
            packed.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_BZIP2)
    assert "compressed in another way" in refusal(path)


def test_an_encrypted_member_is_refused(tmp_path):
    content = bytearray(forged_archives.zipped(texts()))
    place = content.rindex(b"PK\1\2")
    content[place + 8] |= 1
    (tmp_path / "encrypted.zip").write_bytes(content)
    assert "no plain file" in refusal(tmp_path / "encrypted.zip")


def test_a_bomb_is_refused_without_unpacking_it(tmp_path, monkeypatch):
    """One that says how large it is, and one that says that it is small."""
    monkeypatch.setattr(format, "MOST_UNPACKED", 3_000_000)
    own = texts() | {"facts.json": b" " * 4_000_000}
    path = tmp_path / "bomb.zip"
    path.write_bytes(forged_archives.zipped(own))
    assert "unpacks to more than 3,000,000 bytes" in refusal(path)
    content = bytearray(path.read_bytes())
    for start, place in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        at = next(
            i for i in range(len(content)) if content[i : i + 4] == start and b"facts.json" in content[i + 30 : i + 60]
        )
        content[at + place : at + place + 4] = struct.pack("<I", 100)
    path.write_bytes(content)
    assert "damaged" in refusal(path)


def test_what_is_no_regular_file_is_refused(tmp_path, monkeypatch):
    assert "no regular file" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "no regular file" in refusal(tmp_path / "pipe")
    assert "No such file" in refusal(tmp_path / "none.zip")
    monkeypatch.setattr(format, "MOST", 1000)
    path = tmp_path / "large.zip"
    path.write_bytes(DEMO.read_bytes())
    assert "more than 1,000 bytes" in refusal(path)


def test_a_text_with_another_checksum_than_the_manifests_is_refused(tmp_path):
    found = texts()
    right = forged_archives.zipped(found)
    with zipfile.ZipFile(io.BytesIO(right)) as packed:
        manifest = packed.read("archive.json")
    with zipfile.ZipFile(tmp_path / "changed.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in (found | {"archive.json": manifest, "halves.json": b"{}"}).items():
            packed.writestr(name, text)
    assert "halves.json is not what its checksum says" in refusal(tmp_path / "changed.zip")


def test_another_version_says_what_to_do(tmp_path):
    path = forged_archives.written(tmp_path / "new.zip", forged_archives.few(), version=2)
    assert "version 2; this dode reads version 1: update dode" in refusal(path)
    path = forged_archives.written(tmp_path / "new.zip", forged_archives.few(), format="another")
    assert "is not an archive" in refusal(path)


def forged(key, value):
    """An edit of the members: ``scores.json/<cell>/metrics/fid/value``; a number multiplies, anything else replaces."""

    def edit(found):
        *way, last = key.split("|")
        place = found
        for part in way:
            place = place[int(part) if isinstance(place, list) else part]
        last = int(last) if isinstance(place, list) else last
        place[last] = value(place[last]) if callable(value) else value

    return edit


SCORE, RECORD, FIT = (f"{name}.json|{D_DDIM}" for name in ("scores", "cells", "fits"))
FORGERIES = [
    ("a better score", forged(f"{SCORE}|metrics|fid|value", lambda x: x / 2), "not the mean over its seeds"),
    ("a seed less", forged(f"{SCORE}|metrics|fid|blocks", lambda x: [*x, 1.0]), "4 values for 3 seeds"),
    ("a negative error", forged(f"{SCORE}|metrics|fid|error", -1.0), "negative error"),
    (
        "an unknown metric",
        lambda m: m["scores.json"][D_DDIM]["metrics"].update(best=m["scores.json"][D_DDIM]["metrics"]["fid"]),
        "unknown metric",
    ),
    ("another solver", forged(f"{SCORE}|made|cell|solver", "heun"), "made from something else than its record says"),
    ("another fit", forged(f"{FIT}|distill|images", 7), "made from something else than its record says"),
    ("another network's fit", forged(f"{FIT}|cell|model|prediction", "noise"), "made from something else"),
    ("coefficients cut off", forged(f"{FIT}|lambdas", lambda x: x[:-1]), "not of 5 evaluations"),
    ("ragged coefficients", forged(f"{FIT}|lambdas|0", [1.0, 2.0]), "rows of different lengths"),
    ("fewer evaluations", forged(f"provenance.json|cells|{D_DDIM}|run|nfe", 4), "nfe"),
    ("more images", forged(f"provenance.json|cells|{D_DDIM}|samples|images", 50000), "images 50000"),
    ("another label", forged(f"provenance.json|cells|{D_DDIM}|label", "Mine"), "label 'Mine'"),
    ("other code", forged(f"provenance.json|cells|{D_DDIM}|code|score", "0" * 16), "by other code"),
    ("another scoring", forged("provenance.json|datasets|digits-edm|scoring|kid|subsets", 3), "in another way"),
    ("another model", forged("provenance.json|datasets|digits-edm|model|sha256", "0" * 64), "something else"),
    ("no reference", forged("provenance.json|datasets|digits-edm|reference", "digits-edm/ddim/nfe5"), "no reference"),
    ("a machine that is not there", forged(f"provenance.json|cells|{D_DDIM}|environments|score", [7]), "not there"),
    ("evidence of more images", forged(f"evidence.json|{D_DDIM}|images", 33), "another number of images"),
    ("evidence that is no base64", forged(f"evidence.json|{D_DDIM}|digests", "A" * 1025), "base64"),
    (
        "a sketch that is not finite",
        forged(
            f"evidence.json|{D_DDIM}|sketches",
            lambda x: base64.b64encode(np.full(384, np.nan, "<f4").tobytes()).decode(),
        ),
        "not finite",
    ),
    ("no evidence", lambda m: m["evidence.json"].pop(D_DDIM), "evidence.json are not those of facts.json"),
    (
        "a cell of its own",
        lambda m: m["scores.json"].update({"digits-edm/x/nfe5": m["scores.json"][D_DDIM]}),
        "scores.json are not",
    ),
    ("a tag", forged("facts.json|cells|0|label", "<script>alert(1)</script>"), "HTML tag"),
    ("a hidden character", forged("facts.json|cells|0|label", "DD\u202eIM"), "cannot be seen"),
    ("a style", forged(f"thumbnails.json|{D_DDIM}|samples|png", "A);background:red"), "is not allowed"),
    ("a name that is a path", forged("facts.json|cells|1|name", "../../x/nfe5"), "is not allowed"),
    ("no name", forged("facts.json|cells|1|name", None), "is not allowed"),
    ("an id that is a path", forged("facts.json|datasets|0|id", ".."), "is not allowed"),
    (
        "a published score that is a text",
        forged("facts.json|cells|0|published", [{"fid": "<b>", "source": "x"}]),
        "is not allowed",
    ),
    ("a missing key", lambda m: m["scores.json"][D_DDIM].pop("metrics"), "the key 'metrics' is missing"),
    ("a list for an object", forged("halves.json", []), "is not allowed"),
    ("another benchmark's name", forged("provenance.json|benchmark", "mine"), "two names"),
    ("a path that is cut off", forged(f"thumbnails.json|{D_DDIM}|trajectory|error", [1.0]), "cut off"),
    ("a joint fit without levels", forged(f"fits.json|{J_IPNDM}|levels", None), "no noise levels"),
]


@pytest.mark.parametrize(("edit", "says"), [row[1:] for row in FORGERIES], ids=[row[0] for row in FORGERIES])
def test_a_forged_archive_with_right_checksums_is_refused(tmp_path, edit, says):
    path = forged_archives.edited(tmp_path / "forged.zip", edit)
    assert says in refusal(path)


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b'{"a": NaN}', b'{"a": 1, "a": 2}', b"\xff\xfe{}", b"", b'{"a": 1e999}', b"1" * 5000]
)
def test_a_text_that_is_no_plain_json_is_refused(tmp_path, text):
    path = tmp_path / "text.zip"
    path.write_bytes(forged_archives.zipped(texts() | {"halves.json": text}))
    assert "halves.json" in refusal(path)


def read_or_refusal(path):
    """The archive, or the one line with which it is refused."""
    try:
        return format.read(path)
    except ArchiveError as error:
        (line,) = str(error).splitlines()
        return line


def leaves(value, way=()):
    """The ways to all values within a value."""
    yield way
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*way, key))


FEW = forged_archives.few()
WAYS = [way for way in leaves(FEW) if way and way[0] != format.MANIFEST]
ODD = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        -1,
        7,
        1e308,
        -0.5,
        "",
        "x",
        "a/b/nfe5",
        "../x",
        "é<b>",
        [],
        {},
        [[]],
        [None],
        {"a": {}},
        "9" * 300,
    ]
)


fuzzed = settings(
    max_examples=mutations.examples(20),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@fuzzed
@given(data=st.data())
def test_whatever_values_an_archive_has_it_is_refused_or_can_be_shown(tmp_path_factory, data):
    """Any values changed, with right checksums: one kind of error, or a site."""
    found = json.loads(json.dumps(FEW))
    for _ in range(data.draw(st.integers(1, 2))):
        way = data.draw(st.sampled_from(WAYS))
        place = found
        try:
            for part in way[:-1]:
                place = place[part]
            if data.draw(st.booleans()):
                place[way[-1]] = data.draw(ODD)
            else:
                del place[way[-1]]
        except (KeyError, IndexError, TypeError):  # the first change has taken it away
            continue
    folder = tmp_path_factory.mktemp("fuzzed")
    path = forged_archives.written(folder / "fuzzed.zip", found)
    archive = read_or_refusal(path)
    assert isinstance(archive, str) or site.write([archive], folder / "site")[0].is_file()


@fuzzed
@given(data=st.data())
def test_whatever_bytes_a_file_has_there_is_one_kind_of_error(tmp_path_factory, data):
    content = DEMO.read_bytes()
    # Half of the changes where the structure of the zip file is.
    structure = st.sampled_from([*range(100), *range(len(content) - 700, len(content))])
    content = mutated(content, data, structure)
    path = tmp_path_factory.getbasetemp() / "bytes.zip"
    path.write_bytes(content)
    found = read_or_refusal(path)
    assert isinstance(found, str) or found.scores == format.read(DEMO).scores


def test_a_command_tells_a_damaged_archive_in_one_sentence(tmp_path, capsys):
    (tmp_path / "cut.zip").write_bytes(DEMO.read_bytes()[:5000])
    for command in (["audit"], ["add"], ["pages", "--output", str(tmp_path / "site")]):
        assert main([command[0], str(tmp_path / "cut.zip"), *command[1:]]) == 1
        error = capsys.readouterr().err
        assert "cut off" in error
        assert len(error.splitlines()) == 1
    assert not (tmp_path / "site").exists()


def test_the_sketch_of_an_image_tells_how_far_another_is():
    """Unbiased: over many images, the mean square of the estimates is that of the distances."""
    rng = np.random.default_rng(1)
    ends = rng.uniform(-1, 1, (400, 3, 8, 8)).astype(np.float32)
    others = ends + 0.01 * rng.standard_normal(ends.shape).astype(np.float32)
    own = evidence.of([ends[:200], ends[200:]])
    assert evidence.fault(own) is None
    found = []
    for place, (digest, sketch) in enumerate(zip(evidence.digests(others), evidence.sketches(others), strict=True)):
        known, kept = evidence.kept(own, *divmod(place, 200))
        assert digest != known
        found.append(evidence.distance(sketch, kept, ends[0].size))
    # 400 images times 4 directions: a relative standard deviation of sqrt(2 / 1600) of the mean square.
    assert np.mean(np.square(found)) == pytest.approx(1e-4, rel=4 * np.sqrt(2 / 1600))
    same = evidence.kept(own, 1, 3)
    assert evidence.digests(ends[203:204])[0] == same[0]
    assert evidence.distance(evidence.sketches(ends[203:204])[0], same[1], ends[0].size) < 1e-7


def test_the_signs_of_a_sketch_are_the_same_for_ever():
    """They are part of the format: an archive of today is audited by a dode of another year."""
    assert evidence._signs(20)[0].tolist() == SIGNS
    assert np.abs(evidence._signs(1000).mean()) < 0.1


SIGNS = [1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, 1, 1, -1, -1, -1, -1, -1, 1, 1]


@pytest.mark.parametrize(
    ("precision", "expected"),
    [({}, 1e-3), ({"dtype": "float32", "tf32": True}, 1e-2), ({"dtype": "bfloat16"}, 3e-2), ({"dtype": "odd"}, 3e-2)],
)
def test_the_tolerance_follows_the_precision(precision, expected):
    assert evidence.tolerance(precision) == expected
