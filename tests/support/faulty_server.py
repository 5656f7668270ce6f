"""A real HTTP server that can do what servers do to a download. The path chooses: ``/good``, ``/stalling``, ...

``/f/1234/?dl=1`` is a share of heibox, ``/<owner>/<repository>/resolve/<revision>/<path>`` and ``/api/models/...`` the
Hugging Face hub and ``/uc?id=...`` Google Drive, as far as their client libraries look.
"""

import contextlib
import gzip
import hashlib
import http.server
import json
import re
import threading
import urllib.parse
import urllib.request

GOOD = bytes(range(256)) * 1500  # several of the downloader's chunks
SHA256 = hashlib.sha256(GOOD).hexdigest()
WRONG = GOOD[::-1]
PAGE = b"\n <!DOCTYPE html>\n<html><title>Quota exceeded</title></html>"
FORM = (
    b'<html><form id="download-form" action="https://drive.google.com/download" method="get">'
    b'<input type="hidden" name="id" value="%s"><input type="hidden" name="confirm" value="t"></form></html>'
)
QUOTA = b'<html><p class="uc-error-subcaption">Too many users have viewed or downloaded this file</p></html>'
CUT = 200_000


def _commit(revision):
    """A commit is itself, a branch or a tag one of that name."""
    return revision if re.fullmatch("[0-9a-f]{40}", revision) else hashlib.sha1(revision.encode()).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """One request; ``server.asked`` holds (path, Range header) of each."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        with self.server.lock:
            self.server.asked.append((self.path, self.headers.get("Range")))
            count = sum(path == self.path for path, _ in self.server.asked)
        parts = url.path.strip("/").split("/")
        kind = "hub" if "resolve" in parts else parts[0].replace("-", "_")
        getattr(self, f"_{kind}")(url, count)

    def _send(self, content=None, announced=None, kind="application/octet-stream", tag=None, **headers):
        """Send ``content`` and close; a part is sent where the tag is still the one that it is asked by."""
        content = self.server.content if content is None else content
        state, start = 200, 0
        if tag and self.headers.get("If-Range") == tag:
            state, start = 206, int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send_response(state)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str((len(content) if announced is None else announced) - start))
        for name, value in {"ETag": tag, **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content[start:])

    def _redirect(self, target):
        self.send_response(302)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _good(self, url, count):
        self._send()

    def _files(self, url, count):
        """One of several: ``/files/<its path>``."""
        self._send(self.server.files[urllib.parse.unquote(url.path).removeprefix("/files/")])

    def _wrong(self, url, count):
        self._send(self.server.content[::-1])

    def _missing(self, url, count):
        self.send_error(404)

    def _truncated(self, url, count):
        self._send(self.server.content[:CUT], announced=len(self.server.content))

    def _short(self, url, count):
        self._send(self.server.content[:CUT])

    def _unannounced(self, url, count):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.content[:CUT])

    def _broken_once(self, url, count):
        content = self.server.content
        self._send(content[:CUT] if count == 1 else content, announced=len(content), tag='"one"')

    def _changed_between(self, url, count):
        """Another file, and tag, from the second request on."""
        content = self.server.content
        first = content[::-1][:CUT]
        self._send(first if count == 1 else content, announced=len(content), tag=f'"{min(count, 2)}"')

    def _stalling(self, url, count):
        self._send(self.server.content[:CUT], announced=len(self.server.content))
        self.server.stop.wait()

    def _busy_twice(self, url, count):
        self.send_error(503) if count < 3 else self._send()

    def _endless(self, url, count):
        """Zeros until the other side has had enough."""
        what = url.path.removeprefix("/endless").strip("/")
        block, headers = bytes(2**16), {}
        if "redirect" in what:
            headers["Location"] = "/good"
        if what.endswith("chunked"):
            headers["Transfer-Encoding"] = "chunked"
            block = b"%x\r\n%s\r\n" % (len(block), block)
        if what == "announced":
            headers["Content-Length"] = str(10**15)
        if what == "gzip":
            headers["Content-Encoding"] = "gzip"
            block = gzip.compress(bytes(2**26))
        self.send_response(302 if "redirect" in what else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            while not self.server.stop.is_set():
                self.wfile.write(block)

    def _dripping(self, url, count):
        """A byte now and then, for ever."""
        what = url.path.removeprefix("/dripping").strip("/")
        head = "HTTP/1.1 302 Found\r\nLocation: /dripping\r\n\r\n" if what == "redirect" else "HTTP/1.1 200 OK\r\n"
        piece = {"headers": b"a", "continue": b"HTTP/1.1 100 Continue\r\n\r\n"}.get(what, b"x")
        if what == "":
            head += f"Content-Length: {len(self.server.content)}\r\n\r\n"
        with contextlib.suppress(ConnectionError):
            if what != "continue":
                self.wfile.write(head.encode())
            while not self.server.stop.wait(0.05) and what != "redirect":
                self.wfile.write(piece)

    def _malformed(self, url, count):
        """One header is ``server.header``, as it is."""
        name, value = self.server.header
        state = {"Location": "302 Found", "Content-Range": "206 Partial Content"}.get(name, "200 OK")
        with contextlib.suppress(ConnectionError):
            self.wfile.write(f"HTTP/1.1 {state}\r\n".encode())
            self.wfile.write(
                name.encode() + b": " + value.encode("utf-8" if not value.isascii() else "ascii") + b"\r\n\r\n"
            )
            self.wfile.write(self.server.content[:10])

    def _partial(self, url, count):
        """The beginning of the file, as such."""
        self.send_response(206)
        self.send_header("Content-Range", f"bytes 0-{CUT - 1}/{len(self.server.content)}")
        self.send_header("Content-Length", str(CUT))
        self.end_headers()
        self.wfile.write(self.server.content[:CUT])

    def _nothing(self, url, count):
        self.send_response(int(url.path.split("/")[-1]))
        self.end_headers()

    def _packed(self, url, count):
        self._send(gzip.compress(self.server.content), Content_Encoding="gzip")

    def _page(self, url, count):
        self._send(PAGE, kind="text/html; charset=utf-8")

    def _disguised_page(self, url, count):
        self._send(PAGE)

    def _script(self, url, count):
        self._send(b"<!-- moved --><script>location = '/login'</script>", kind="text/html")

    def _mislabelled(self, url, count):
        self._send(kind="text/html")

    def _redirected(self, url, count):
        self._redirect("/good")

    def _round(self, url, count):
        self._redirect("/round")

    def _f(self, url, count):
        self._redirect("/seafhttp/files/5678/model.ckpt") if url.query == "dl=1" else self._page(url, count)

    def _seafhttp(self, url, count):
        self._send(Content_Disposition='attachment; filename="model.ckpt"')

    def _hub(self, url, count):
        if "/absent/" in url.path:
            self._send(b"", X_Error_Code="RepoNotFound")
        repository, _, rest = url.path.strip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        commit = _commit(revision)
        if repository not in self.server.repositories:
            self._send(tag=f'"{SHA256}"', X_Repo_Commit=commit, X_Linked_Etag=f'"{SHA256}"')
        elif repository in self.server.gated and self.headers.get("Authorization") is None:
            self._refuse(401, "GatedRepo", f"Access to model {repository} is restricted. Please log in.")
        elif (content := self.server.repositories[repository].get(name)) is None:
            self._refuse(404, "EntryNotFound", "Entry not found")
        else:
            self._send(content, tag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=commit)

    def _refuse(self, status, code, message):
        """As the hub says why, in headers."""
        self.send_response(status)
        for name, value in {"X-Error-Code": code, "X-Error-Message": message, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def _api(self, url, count):
        """``/api/models/<owner>/<repository>/revision/<revision>`` or ``/tree/...``: its files, gated or not."""
        owner, name, kind, revision = url.path.removeprefix("/api/models/").split("/")[:4]
        repository = f"{owner}/{name}"
        if repository not in self.server.repositories:
            self._refuse(401, "RepoNotFound", "Invalid username or password.")
            return
        known = self.server.repositories[repository].items()
        commit = _commit(revision)
        files = [{"rfilename": path} for path, _ in known]
        found = {"id": repository, "sha": commit, "siblings": files, "private": False, "tags": [], "downloads": 0}
        tree = [{"type": "file", "path": path, "size": len(content), "oid": commit} for path, content in known]
        self._send(json.dumps(tree if kind == "tree" else found).encode(), kind="application/json")

    def _uc(self, url, count):
        file = urllib.parse.parse_qs(url.query)["id"][0]
        self._send(QUOTA if file == "busy" else FORM % file.encode(), kind="text/html; charset=utf-8")

    def _embeddedfolderview(self, url, count):
        entry = '<a href="https://drive.google.com/file/d/{}/view?usp=drive_web">{}</a>'
        files = "".join(entry.format(f"{name:x<30}", f"{name}.npz") for name in ("good", "busy"))
        self._send(f"<html><title>statistics</title>{files}</html>".encode(), kind="text/html; charset=utf-8")

    def _download(self, url, count):
        asked = urllib.parse.parse_qs(url.query)
        assert asked["confirm"] == ["t"]
        if asked["id"] == ["stalling"]:
            self._stalling(url, count)
        else:
            self._send(Content_Disposition='attachment; filename="ckpt.pth"')

    def log_message(self, *_):
        """Silent."""


class Proxy(Handler):
    """Forwards what is asked of ``http://checkpoints.invalid`` to ``server.behind``."""

    def do_GET(self):
        self.server.asked.append((self.path, None))
        path = urllib.parse.urlparse(self.path).path
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.server.behind + path) as answer:
            self._send(answer.read())


@contextlib.contextmanager
def serving(handler=Handler):
    """A server that listens, with ``url`` and ``asked``; its file is ``content``, and ``files`` below /files/.

    ``repositories`` are those of the hub, files by their paths; of those that are ``gated`` only with a token.
    """
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked, server.lock, server.stop = [], threading.Lock(), threading.Event()
        server.content, server.files = GOOD, {}
        server.repositories, server.gated = {}, set()
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.stop.set()
            server.shutdown()
            thread.join()
