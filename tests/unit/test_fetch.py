"""Files come over HTTP, from the hub, Drive and folders: verified, whole or not at all. The server is real."""

import contextlib
import hashlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

import faulty_server
from dode.fetching import downloads, supervision
from dode.fetching.fetch import Expected, fetch
from faulty_server import CUT, GOOD, PAGE, SHA256, WRONG

WRONG_SHA256 = hashlib.sha256(WRONG).hexdigest()
MD5 = hashlib.md5(GOOD).hexdigest()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSE", 0.01)


def expect_a_stall(monkeypatch):
    """All other answers may take as long as a busy machine needs."""
    monkeypatch.setattr(downloads, "TIMEOUT", 0.5)


@pytest.fixture
def server():
    with faulty_server.serving() as server:
        yield server


@pytest.fixture
def target(tmp_path):
    """Where the file shall go, in a folder that must hold nothing else."""
    return tmp_path / "fetched" / "model.safetensors"


@pytest.fixture
def dead():
    """A URL where nobody listens."""
    with contextlib.closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/dead"


def left(target):
    return {path.name: path.read_bytes() for path in target.parent.iterdir()}


def paths(server):
    return [path for path, _ in server.asked]


def test_a_good_file_arrives_and_is_described(server, target):
    found = fetch([f"{server.url}/good"], SHA256, target)
    assert left(target) == {target.name: GOOD}
    assert (found.path, found.url, found.size, found.sha256) == (target, f"{server.url}/good", len(GOOD), SHA256)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_first_url_that_answers_is_enough(server, target):
    fetch([f"{server.url}/good", f"{server.url}/missing"], SHA256, target)
    assert paths(server) == ["/good"]


@pytest.mark.parametrize("before", [None, b"older"])
def test_a_wrong_digest_is_refused_with_url_and_both_digests_and_leaves_nothing_behind(server, target, before):
    if before is not None:
        target.parent.mkdir()
        target.write_bytes(before)
    with pytest.raises(ValueError, match="sha256") as caught:
        fetch([f"{server.url}/wrong"], SHA256, target)
    for part in (f"{server.url}/wrong", SHA256, WRONG_SHA256):
        assert part in str(caught.value)
    assert left(target) == ({} if before is None else {target.name: before})


@pytest.mark.parametrize("digests", [{"md5": MD5}, {"sha256": SHA256[:8]}, {"sha256": SHA256, "md5": MD5}, {}])
def test_each_kind_of_published_digest_is_enforced(server, target, digests):
    expected = Expected.of(digests)
    fetch([f"{server.url}/good"], expected, target)
    assert left(target) == {target.name: GOOD}
    if digests:
        with pytest.raises(ValueError, match=f"the card says {next(iter(digests.values()))}"):
            fetch([f"{server.url}/wrong"], expected, target)


KNOWN, UNKNOWN = {"size": len(GOOD), "sha256": SHA256}, {}
FAULTS = {
    # path: (error, what the message says, requests) where size and digest are known, and where they are not
    "missing": (OSError, "404", 1),
    "truncated": (OSError, f"truncated: .*{CUT} bytes read, {len(GOOD) - CUT} more expected", 4),
    "stalling": (OSError, "stalled: nothing arrived for 0.5 s", 4),
    "round": (OSError, "30 redirects", 31),
    "page": (ValueError, r"web page \(HTML\)", 1),
    "disguised-page": (ValueError, r"web page \(HTML\)", 1),
    "script": (ValueError, r"web page \(HTML\)", 1),
    "f/1234/": (ValueError, r"web page \(HTML\)", 1),
}
ONLY_KNOWN = {
    "wrong": (ValueError, f"sha256 is {WRONG_SHA256}", 1),
    "short": (ValueError, f"announces {CUT} bytes, expected {len(GOOD)}", 1),
    "unannounced": (ValueError, f"is truncated: {CUT} bytes, expected {len(GOOD)}", 1),
}


@pytest.mark.parametrize(
    ("card", "path", "fault"),
    [(KNOWN, *item) for item in {**FAULTS, **ONLY_KNOWN}.items()] + [(UNKNOWN, *item) for item in FAULTS.items()],
    ids=lambda value: value if isinstance(value, str) else "known" if value is KNOWN else "",
)
def test_each_fault_is_named_leaves_nothing_behind_and_the_mirror_is_tried(
    server, target, monkeypatch, card, path, fault
):
    kind, said, count = fault
    if path == "stalling":
        expect_a_stall(monkeypatch)
    # A page has another size, which would be noticed first.
    expected = Expected.of({**card, "size": len(PAGE)} if "page" in path and card else card)
    if path in ("script", "f/1234/"):
        expected = Expected(digests=expected.digests)
    with pytest.raises(kind, match=f"{server.url}/{path}: .*{said}"):
        fetch([f"{server.url}/{path}"], expected, target)
    assert left(target) == {}
    assert len(server.asked) == count
    fetch([f"{server.url}/{path}", f"{server.url}/good"], Expected.of({"sha256": SHA256}), target)
    assert left(target) == {target.name: GOOD}


ENDLESS = ["endless", "endless/chunked", "endless/gzip", "endless/announced"]


@pytest.mark.parametrize("card", [KNOWN, UNKNOWN], ids=["known", "unknown"])
@pytest.mark.parametrize("path", ENDLESS)
def test_a_body_without_an_end_is_read_up_to_the_size_of_the_file(server, target, monkeypatch, path, card):
    monkeypatch.setattr(supervision, "MOST", 2 * len(GOOD))
    urls = [f"{server.url}/{path}", f"{server.url}/good"]
    with pytest.raises(ValueError, match=r"is too long: |announces 10{15} bytes, expected 384000") as caught:
        fetch(urls[:1], Expected.of(card), target)
    assert "\n" not in str(caught.value)
    assert left(target) == {}
    fetch(urls, Expected.of(KNOWN), target)
    assert left(target) == {target.name: GOOD}


@pytest.mark.parametrize("path", ["endless/redirect", "endless/redirect/chunked"])
def test_the_body_of_a_redirect_is_not_read(server, target, monkeypatch, path):
    monkeypatch.setattr(supervision, "MEMORY", 50_000_000)
    fetch([f"{server.url}/{path}"], SHA256, target)
    assert left(target) == {target.name: GOOD}


def test_what_is_sent_packed_though_it_should_not_is_unpacked(server, target):
    fetch([f"{server.url}/packed"], Expected.of(KNOWN), target)
    assert left(target) == {target.name: GOOD}


@pytest.mark.parametrize("path", ["dripping", "dripping/headers", "dripping/continue", "dripping/redirect"])
@pytest.mark.parametrize(
    ("limits", "said"),
    [({"WINDOW": 1.0, "LEAST": 1000}, "too slow: [0-9]+ bytes within"), ({"LONGEST": 1.0}, "not complete after 1.0 s")],
    ids=["rate", "total"],
)
def test_a_server_that_sends_a_byte_now_and_then_is_left(server, target, monkeypatch, path, limits, said):
    for name, value in limits.items():
        monkeypatch.setattr(supervision, name, value)
    with pytest.raises(OSError, match=f"{server.url}/{path}: {said}"):
        fetch([f"{server.url}/{path}"], Expected.of(KNOWN), target)
    assert left(target) == {}


def test_the_mirror_of_a_slow_server_is_tried(server, target, monkeypatch):
    monkeypatch.setattr(supervision, "WINDOW", 2.0)
    monkeypatch.setattr(supervision, "LEAST", 100)
    fetch([f"{server.url}/dripping", f"{server.url}/good"], Expected.of(KNOWN), target)
    assert left(target) == {target.name: GOOD}


MALFORMED = {
    "Content-Length": ["many", "-5", "1e5", "0x10", "5, 6", "9" * 5000, "٣", ""],
    "Content-Range": ["bytes", "bytes 0-9/*", "bytes 7-9/10", f"bytes 0-9/{'9' * 5000}", "bytes ٠-٩/١٠", "\x1b[2J", ""],
    "Location": [
        "http://[::1",
        "http://a:99999/b",
        "http://",
        "//",
        "ftp://a/b",
        "file:///etc/passwd",
        "\xff\xfe",
        "http://a b/",
    ],
}


@pytest.mark.parametrize(
    ("header", "value"), [(name, value) for name, values in MALFORMED.items() for value in values], ids=ascii
)
def test_a_malformed_header_is_one_sentence_and_the_mirror_is_tried(server, target, monkeypatch, header, value):
    monkeypatch.setattr(downloads, "ATTEMPTS", 1)
    server.header = (header, value)
    with pytest.raises((OSError, ValueError), match=f"{server.url}/malformed") as caught:
        fetch([f"{server.url}/malformed"], Expected.of(KNOWN), target)
    assert type(caught.value) in (OSError, ValueError)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    fetch([f"{server.url}/malformed", f"{server.url}/good"], SHA256, target)
    assert left(target) == {target.name: GOOD}


@pytest.mark.parametrize("path", ["partial", "nothing/204", "nothing/302"])
def test_an_answer_that_is_not_the_whole_file_is_none(server, target, path):
    with pytest.raises(
        OSError, match=r"truncated: 200000 bytes, the server announced 384000|answers (204|302), without"
    ):
        fetch([f"{server.url}/{path}"], Expected(), target)
    assert left(target) == {}


def test_a_file_url_is_of_this_machine(target, tmp_path):
    (tmp_path / "weights.bin").write_bytes(GOOD)
    with pytest.raises(OSError, match=r"of this machine, and not of the host 'elsewhere'"):
        fetch([f"file://elsewhere{tmp_path}/weights.bin"], SHA256, target)
    fetch([f"file://localhost{tmp_path}/weights.bin"], SHA256, target)
    assert left(target) == {target.name: GOOD}


@pytest.mark.parametrize("made", ["pipe", "device", "socket", "folder", "link"])
def test_a_file_url_of_what_is_no_regular_file_is_refused_at_once(target, tmp_path, made):
    path = tmp_path / "weights.bin"
    if made == "pipe":
        os.mkfifo(path)
    elif made == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
    elif made == "folder":
        path.mkdir()
    else:
        path = path if made == "link" else "/dev/zero"
        (tmp_path / "weights.bin").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="is no regular file"):
        fetch([f"file:{path}"], Expected.of(KNOWN), target)
    assert left(target) == {}


def test_a_path_that_no_system_has_is_one_sentence(target):
    with pytest.raises(OSError, match="null byte"):
        fetch(["file:a%00b"], SHA256, target)


def test_a_library_that_writes_or_takes_too_much_or_dies_is_ended(target, monkeypatch):
    """The libraries of the hub and of Drive have no limits of their own."""

    def write(url, path, size, folder):
        with path.open("wb") as file:
            while True:
                file.write(bytes(100_000))

    def hoard(url, path, size, folder):
        kept = []
        while True:
            kept.append(b"x" * 1_000_000)

    def die(url, path, size, folder):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(supervision, "MOST", 1_000_000)
    monkeypatch.setattr(supervision, "MEMORY", 100_000_000)
    monkeypatch.setattr(supervision, "LOOK", 0.01)
    for work, said in ((write, "is too long"), (hoard, "memory"), (die, "SIGKILL")):
        monkeypatch.setitem(downloads.SCHEMES, "hf", work)
        with pytest.raises((OSError, ValueError), match=said):
            fetch(["hf:a/b/c"], Expected(), target)
        assert left(target) == {}


def test_a_download_ends_with_the_process_that_asked_for_it(server, target):
    code = "import sys; from dode.fetching.fetch import fetch; fetch([sys.argv[1]], sys.argv[2], sys.argv[3])"
    arguments = [sys.executable, "-c", code, f"{server.url}/dripping", SHA256, target]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE) as process:
        while not server.asked:
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.stderr.read()  # until nobody has it any more


def test_what_a_server_wrongly_calls_a_page_is_taken(server, target):
    fetch([f"{server.url}/mislabelled"], SHA256, target)
    assert target.read_bytes() == GOOD


@pytest.mark.parametrize("path", ["redirected", "f/1234/?dl=1", "busy-twice"])
def test_redirects_and_shares_are_followed_and_a_busy_server_is_asked_again(server, target, path):
    fetch([f"{server.url}/{path}"], SHA256, target)
    assert left(target) == {target.name: GOOD}


def test_a_broken_download_goes_on_where_it_broke_off(server, target):
    fetch([f"{server.url}/broken-once"], Expected.of(KNOWN), target)
    (_, first), (_, second) = server.asked
    assert first is None
    assert 0 < int(re.fullmatch(r"bytes=(\d+)-", second)[1]) <= CUT
    assert left(target) == {target.name: GOOD}


def test_a_file_that_changes_between_attempts_is_never_mixed(server, target):
    fetch([f"{server.url}/changed-between"], Expected.of({"size": len(GOOD)}), target)
    assert left(target) == {target.name: GOOD}


def test_when_every_url_fails_one_error_gives_each_reason(server, target, dead, tmp_path):
    urls = [
        f"{server.url}/missing",
        dead,
        f"{server.url}/truncated",
        "file:absent.bin",
        "gopher://old/file",
        "hf:short",
    ]
    with pytest.raises(OSError, match="could not be fetched") as caught:
        fetch(urls, SHA256, target, folder=tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    reasons = ("404", "refused", "truncated", "No such file", "'gopher:' is not one of https:", "hf:owner/repository")
    for url, reason in zip(urls, reasons, strict=True):
        assert reason in message.split(url, 1)[1]
    assert left(target) == {}


def test_a_file_url_is_relative_to_the_cards_folder(target, tmp_path, monkeypatch):
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "weights 1.bin").write_bytes(GOOD)
    monkeypatch.chdir(tmp_path)
    fetch(["file:weights%201.bin"], SHA256, target, folder="cards")
    assert left(target) == {target.name: GOOD}
    with pytest.raises(OSError, match="weights"):
        fetch(["file:weights%201.bin"], SHA256, target, folder=".")


@pytest.mark.parametrize("mark", ["#", "?"])
def test_a_file_whose_name_would_be_cut_off_is_not_another_one(target, tmp_path, mark):
    (tmp_path / "a").write_bytes(b"another")
    (tmp_path / f"a{mark}b").write_bytes(GOOD)
    escaped = {"#": "%23", "?": "%3F"}[mark]
    said = re.escape(f"file:a{mark}...: what follows the '{mark}' is no part of the file's name; allowed: {escaped} in")
    with pytest.raises(OSError, match=said):
        fetch([f"file:a{mark}b"], SHA256, target, folder=tmp_path)
    assert left(target) == {}
    fetch([f"file:a{escaped}b"], SHA256, target, folder=tmp_path)
    assert target.read_bytes() == GOOD


def test_an_absolute_file_url_is_taken_as_it_is_and_verified_too(target, tmp_path):
    (tmp_path / "weights.bin").write_bytes(GOOD)
    fetch([(tmp_path / "weights.bin").as_uri()], SHA256, target, folder="nowhere")
    assert target.read_bytes() == GOOD
    (tmp_path / "weights.bin").write_bytes(GOOD + b"x")
    with pytest.raises(ValueError, match="is too long"):
        fetch(["file:weights.bin"], Expected.of(KNOWN), target, folder=tmp_path)


def test_the_usual_variables_name_a_proxy(server, target, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with faulty_server.serving(faulty_server.Proxy) as proxy:
        proxy.behind = server.url
        monkeypatch.setenv("http_proxy", proxy.url)
        fetch(["http://checkpoints.invalid/good"], SHA256, target)
        assert paths(proxy) == ["http://checkpoints.invalid/good"]
    assert paths(server) == ["/good"]
    assert target.read_bytes() == GOOD


def test_progress_goes_where_standard_error_goes(server, target, capfd):
    fetch([f"{server.url}/good"], SHA256, target)
    assert re.search(r"model\.safetensors: 100%.*384k/384k", capfd.readouterr().err)


def test_a_killed_download_is_cleaned_up_by_the_next_one(server, target):
    code = "import sys; from dode.fetching.fetch import fetch; fetch([sys.argv[1]], sys.argv[2], sys.argv[3])"
    arguments = [sys.executable, "-c", code, f"{server.url}/stalling", SHA256, target]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:
        while not any(path.stat().st_size for path in target.parent.glob(".*/*")):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert len(list(target.parent.iterdir())) == 1
    fetch([f"{server.url}/good"], SHA256, target)
    assert left(target) == {target.name: GOOD}


def test_another_machines_download_is_left_alone_until_it_has_been_silent_for_long(server, target):
    other = target.parent / f".{target.name}.fetching-1-elsewhere-abc"
    other.mkdir(parents=True)
    (other / target.name).write_bytes(b"half")
    fetch([f"{server.url}/good"], SHA256, target)
    assert other.exists()
    for path in (other / target.name, other):
        os.utime(path, (0, 0))
    fetch([f"{server.url}/good"], SHA256, target)
    assert left(target) == {target.name: GOOD}


@pytest.fixture
def hub(server, monkeypatch):
    """huggingface_hub, with the hub at the local server."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    return server


def test_a_file_of_the_hub_comes_at_its_revision(hub, target):
    fetch(["hf:google/ddpm/unet/model.bin@v1"], Expected.of(KNOWN), target)
    assert left(target) == {target.name: GOOD}
    assert {path for path in paths(hub) if "/api/" not in path} == {"/google/ddpm/resolve/v1/unet/model.bin"}


@pytest.mark.parametrize("card", [{"sha256": WRONG_SHA256}, {"size": 5}])
def test_a_file_of_the_hub_is_verified(hub, target, card):
    with pytest.raises(ValueError, match=r"sha256 is|announces"):
        fetch(["hf:google/ddpm/model.bin@v1"], Expected.of(card), target)
    assert left(target) == {}


@pytest.fixture
def drive(server, monkeypatch):
    """gdown, with Google Drive at the local server."""
    pytest.importorskip("gdown")
    import requests

    send = requests.Session.request

    def local(self, method, url, **options):
        return send(self, method, url.replace("https://drive.google.com", server.url), **options)

    monkeypatch.setattr(requests.Session, "request", local)
    return server


def test_a_big_file_of_drive_is_confirmed(drive, target):
    fetch(["gdrive:1R_H-x"], Expected.of(KNOWN), target)
    assert left(target) == {target.name: GOOD}


@pytest.mark.parametrize(
    ("file", "card", "kind", "said"),
    [
        ("busy", KNOWN, ValueError, r"web page \(HTML\).*Too many users"),
        ("good", {"size": 5}, ValueError, f"announces {len(GOOD)} bytes, expected 5"),
        ("good", {"sha256": WRONG_SHA256}, ValueError, "sha256 is"),
        ("stalling", KNOWN, OSError, "timed out"),
    ],
)
def test_a_fault_of_drive_is_named_and_leaves_nothing_behind(drive, target, monkeypatch, file, card, kind, said):
    if file == "stalling":
        expect_a_stall(monkeypatch)
        monkeypatch.setattr(downloads, "ATTEMPTS", 1)
    with pytest.raises(kind, match=said):
        fetch([f"gdrive:{file}"], Expected.of(card), target)
    assert left(target) == {}


def test_a_file_in_a_folder_of_drive_is_found_by_its_name(drive, target):
    fetch(["gdrive-folder:1_Op/good.npz"], Expected.of(KNOWN), target)
    assert left(target) == {target.name: GOOD}
    assert paths(drive)[1].startswith("/uc?id=goodxxxxx")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("gdrive-folder:1_Op/other.npz", r"no file 'other.npz'; it has busy.npz, good.npz"),
        ("gdrive-folder:1_Op", r"no file ''; it has"),
    ],
)
def test_a_file_that_the_folder_has_not_is_refused_with_what_it_has(drive, target, url, said):
    with pytest.raises(OSError, match=said):
        fetch([url], Expected.of(KNOWN), target)
    assert left(target) == {}


@pytest.mark.parametrize(("url", "package"), [("hf:a/b/c", "huggingface_hub>=1"), ("gdrive:a", "gdown>=6.5")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(target, monkeypatch, url, package):
    monkeypatch.setitem(sys.modules, package.split(">")[0], None)
    with pytest.raises(OSError, match=f"python -m pip install '{package}'"):
        fetch([url], SHA256, target)


def test_the_packages_named_are_those_of_the_extra():
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(downloads.EXTRA.values()) <= set(project["optional-dependencies"]["hub"])


def test_retries_are_in_the_log(server, target, tmp_path):
    handler = logging.FileHandler(tmp_path / "log")
    logging.getLogger().addHandler(handler)
    try:
        fetch([f"{server.url}/busy-twice"], SHA256, target)
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    said = (tmp_path / "log").read_text().splitlines()
    assert [line for line in said if "503" in line and "follows" in line] == said[:2]


def test_the_reason_phrase_of_a_server_is_shown_escaped():
    error = downloads.exceptions.HTTPError("404 Client Error: \x1b[2J\u202egone for url: http://a/b")
    assert downloads._reason(error, None) == r"404 Client Error: \x1b[2J\u202egone for url: http://a/b"
