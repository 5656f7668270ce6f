"""Checkpoints come over HTTP and from files alike: verified, whole or not at all. The server is real."""

import contextlib
import hashlib
import http.server
import socket
import threading

import pytest

from dode.fetch import fetch

GOOD = bytes(range(256)) * 500
SHA256 = hashlib.sha256(GOOD).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(GOOD)))
        self.end_headers()
        self.wfile.write({"/good": GOOD, "/wrong": GOOD[::-1], "/truncated": GOOD[:1000]}[self.path])

    def log_message(self, *_):
        """Silent."""


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


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


def test_a_good_file_arrives(server, target):
    fetch([f"{server.url}/good"], SHA256, target)
    assert left(target) == {target.name: GOOD}


def test_the_first_url_that_answers_is_enough(server, target):
    fetch([f"{server.url}/good", f"{server.url}/missing"], SHA256, target)
    assert server.asked == ["/good"]


@pytest.mark.parametrize("before", [None, b"older"])
def test_a_wrong_digest_is_refused_with_url_and_both_digests_and_leaves_nothing_behind(server, target, before):
    if before is not None:
        target.parent.mkdir()
        target.write_bytes(before)
    with pytest.raises(ValueError, match="sha256") as caught:
        fetch([f"{server.url}/wrong"], SHA256, target)
    for part in (f"{server.url}/wrong", SHA256, hashlib.sha256(GOOD[::-1]).hexdigest()):
        assert part in str(caught.value)
    assert left(target) == ({} if before is None else {target.name: before})


@pytest.mark.parametrize("first", ["/missing", "/truncated"])
def test_a_mirror_serves_where_the_first_url_fails(server, target, first):
    fetch([server.url + first, f"{server.url}/good"], SHA256, target)
    assert server.asked == [first, "/good"]
    assert left(target) == {target.name: GOOD}


def test_a_truncated_body_is_never_kept(server, target):
    with pytest.raises(OSError, match="truncated"):
        fetch([f"{server.url}/truncated"], hashlib.sha256(GOOD[:1000]).hexdigest(), target)
    assert left(target) == {}


def test_when_every_url_fails_one_error_gives_each_reason(server, target, dead, tmp_path):
    urls = [f"{server.url}/missing", dead, f"{server.url}/truncated", "file:absent.bin", "gopher://old/file"]
    with pytest.raises(OSError, match="could not be fetched") as caught:
        fetch(urls, SHA256, target, folder=tmp_path)
    for url, reason in zip(urls, ("404", "refused", "", "No such file", "gopher"), strict=True):
        message = str(caught.value)
        assert url in message
        assert reason in message.split(url, 1)[1]
    assert left(target) == {}


def test_a_file_url_is_relative_to_the_cards_folder(target, tmp_path, monkeypatch):
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "weights.bin").write_bytes(GOOD)
    monkeypatch.chdir(tmp_path)
    fetch(["file:weights.bin"], SHA256, target, folder="cards")
    assert left(target) == {target.name: GOOD}
    with pytest.raises(OSError, match="weights"):
        fetch(["file:weights.bin"], SHA256, target, folder=".")


def test_an_absolute_file_url_is_taken_as_it_is(target, tmp_path):
    (tmp_path / "weights.bin").write_bytes(GOOD)
    fetch([(tmp_path / "weights.bin").as_uri()], SHA256, target, folder="nowhere")
    assert target.read_bytes() == GOOD


def test_a_file_url_with_a_wrong_digest_is_refused(target, tmp_path):
    (tmp_path / "weights.bin").write_bytes(GOOD + b"x")
    with pytest.raises(ValueError, match=SHA256):
        fetch(["file:weights.bin"], SHA256, target, folder=tmp_path)
    assert left(target) == {}
