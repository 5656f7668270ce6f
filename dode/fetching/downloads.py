"""The bytes of one URL, by the library that knows its kind: pooch, huggingface_hub, gdown, or a copy of a file.

Content that cannot be the file raises :class:`Refused`, a URL that cannot be read OSError; both messages say why. How
much a download may take is limited (:mod:`dode.fetching.supervision`).
"""

import importlib.util
import logging
import re
import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pooch
from requests import exceptions
from tqdm import tqdm

from dode import texts
from dode.fetching import supervision
from dode.fetching.supervision import Refused

log = logging.getLogger(__name__)

TIMEOUT = 60  # seconds without a connection or a byte
ATTEMPTS = 4
PAUSE = 2.0  # seconds before the second attempt, doubled before each further one
CHUNK = 1 << 14
WITH_FILE = (200, 203, 206)  # HTTP states whose body is the file
PASSING = (408, 425, 429, 500, 502, 503, 504)  # HTTP states that a later attempt may not find
HUB = re.compile(r"hf:([^/@]+/[^/@]+)/([^@]+)(?:@(.+))?")  # repository, path, revision
NUMBER = r"[0-9]{1,18}"
EXTRA = {"huggingface_hub": "huggingface_hub>=1", "gdown": "gdown>=6.5"}  # as in pyproject.toml


def download(url: str, path: str | Path, *, size: int | None = None, folder: str | Path = ".") -> None:
    """Write the content of ``url`` to ``path``; a library may write other files into the same folder.

    Args:
        url: ``https:``, ``http:``, ``file:`` (a regular file, relative to ``folder``),
            ``hf:owner/repository/path@revision``, ``gdrive:<file id>``, or ``gdrive-folder:<folder id>/<file name>``.
        path: the file to write, in an empty folder.
        size: bytes that the file must have; a server that announces another number is refused before the download, and
            one that sends more is not listened to any longer. None: at most :data:`dode.fetching.supervision.MOST`.
        folder: what relative ``file:`` URLs are relative to.

    Raises:
        Refused: where the server sends another file or a web page.
        OSError: where the file could not be read, after the repetitions that make sense, or not within the limits.
    """
    path, scheme = Path(path), url.split(":", 1)[0]
    if scheme not in SCHEMES:
        raise OSError(f"'{scheme}:' is not one of {', '.join(f'{name}:' for name in SCHEMES)}")
    check_name(url)
    supervision.within_limits(lambda: SCHEMES[scheme](url, path, size, folder), path.parent, size)


def check_name(url: str) -> None:
    """Raise OSError for a URL of which a part is none of the file's name, though it may be meant so.

    A ``#`` begins a fragment, and is never sent; a ``?`` begins a query, which only servers have.
    """
    allowed = "#" if urlparse(url).scheme in ("http", "https") else "#?"
    name, *rest = re.split(f"[{allowed}]", url, maxsplit=1)
    if rest:
        mark = url[len(name)]
        raise OSError(
            f"{name}{mark}...: what follows the '{mark}' is no part of the file's name; allowed: %{ord(mark):02X} in "
            "its place, or nothing from there on"
        )


def is_page(head: bytes, content_type: str = "") -> bool:
    """Whether the first bytes ``head`` are a web page's; what the server calls a page need only begin with a tag."""
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    named = content_type.partition(";")[0].strip().lower() in ("text/html", "application/xhtml+xml")
    return head.startswith((b"<!doctype html", b"<html", b"<head")) or (named and head.startswith(b"<"))


def _refuse_page(head, content_type=""):
    if is_page(head, content_type):
        raise Refused("is a web page (HTML), not the file: probably a login, quota or error page")


def _refuse_size(announced, size):
    if announced is None:
        return
    if size is not None and announced != size:
        raise Refused(f"the server announces {announced} bytes, expected {size}")
    if announced > supervision.MOST and size is None:
        raise Refused(supervision.too_long(announced, size))


def local(url: str, folder: str | Path) -> Path:
    """The file of a ``file:`` URL, which may be relative to ``folder``."""
    return Path(folder) / unquote(urlparse(url).path)


def _copy(url, path, size, folder):
    place = urlparse(url)
    if place.netloc not in ("", "localhost"):
        raise OSError(f"a file: URL is of this machine, and not of the host '{place.netloc}': write file:///path")
    source = local(url, folder)
    if source.exists() and not source.is_file():  # a device or a pipe has no end, or waits for a writer
        raise OSError(f"{source} is no regular file")
    shutil.copyfile(source, path)


def _announced(length):
    """What a server says that a body has, in bytes; None where it says nothing."""
    if length is None:
        return None
    if not re.fullmatch(NUMBER, length):
        raise OSError(f"the server announces '{texts.shown(length)[:80]}' bytes, which is no number")
    return int(length)


class _Body:
    """A file as pooch writes it. What cannot be the file is refused as soon as it shows."""

    def __init__(self, file, size, bar):
        self.file, self.size, self.bar = file, size, bar
        self.content_type, self.validator, self.total = "", None, None

    def headers(self):
        """Of the next request: what is there already is not asked for again, if the file is still the same."""
        headers = {"Accept-Encoding": "identity"}  # so that Content-Length counts the file's bytes
        if self.file.tell() and self.validator:
            headers |= {"Range": f"bytes={self.file.tell()}-", "If-Range": self.validator}
        return headers

    def answered(self, response, **_):
        """Hook of requests, before the body is read."""
        if response.is_redirect:
            response.raw.close()  # its body, which may have no end, would be read into memory
            return
        if not response.ok:
            return
        if response.status_code not in WITH_FILE:
            raise OSError(f"the server answers {response.status_code}, without a file")
        packed = response.headers.get("Content-Encoding", "identity").strip().lower() != "identity"
        self.total = None if packed else _announced(response.headers.get("Content-Length"))
        if response.status_code == 206:
            self.total = self._range(response.headers.get("Content-Range", ""))
        else:
            self.file.seek(0)
            self.file.truncate()
        _refuse_size(self.total, self.size)
        self.bar.total, self.bar.n = self.total, self.file.tell()
        self.content_type = response.headers.get("Content-Type", "")
        tag = response.headers.get("ETag", "")  # a weak one does not stand for the same bytes
        self.validator = tag if tag.startswith('"') else response.headers.get("Last-Modified")
        if packed:  # the server counts other bytes
            self.validator = None

    def _range(self, span):
        """Bytes of the whole file, of which a part is sent."""
        found = re.fullmatch(rf"bytes ({NUMBER})-{NUMBER}/({NUMBER})", span)
        if not found or int(found[1]) != self.file.tell():
            said = texts.shown(span)[:80] or "others"
            raise Refused(f"asked for the bytes from {self.file.tell()}, the server sent {said}")
        return int(found[2])

    def write(self, data):
        begun = self.file.tell()
        if begun == 0:
            _refuse_page(data[:1024], self.content_type)
        most = supervision.MOST if self.size is None else self.size
        if begun + len(data) > most:
            raise Refused(supervision.too_long(begun + len(data), self.size))
        self.bar.update(len(data))
        return self.file.write(data)

    def check_end(self):
        """Of a part of a file no library knows whether the rest has come."""
        if self.total is not None and self.file.tell() != self.total:
            raise OSError(f"truncated: {self.file.tell()} bytes, the server announced {self.total}")

    def flush(self):
        self.file.flush()


def _reason(error, body):
    """Why a request failed, in words."""
    text = str(error)
    if isinstance(error, exceptions.Timeout) or "timed out" in text:
        return f"stalled: nothing arrived for {TIMEOUT} s, after {body.file.tell()} bytes"
    if isinstance(error, exceptions.ChunkedEncodingError):
        count = re.search(r"IncompleteRead\((.*?)\)", text)
        return f"truncated: the connection was closed early ({count[1] if count else text})"
    return texts.shown(text)  # which may hold the reason phrase of a server


def _passes(error):
    """Whether a later attempt may succeed."""
    if isinstance(error, exceptions.HTTPError):
        return error.response.status_code in PASSING
    kinds = (exceptions.ConnectionError, exceptions.Timeout, exceptions.ChunkedEncodingError)
    return isinstance(error, kinds) and not isinstance(error, exceptions.SSLError)


def _http(url, path, size, folder):
    # Updated seldom enough for a log, which keeps each state of the bar.
    bar = tqdm(unit="B", unit_scale=True, mininterval=5, desc=path.name)
    with bar, path.open("wb") as file:
        body = _Body(file, size, bar)
        for attempt in range(ATTEMPTS):
            options = {"headers": body.headers(), "hooks": {"response": body.answered}}
            try:
                pooch.HTTPDownloader(chunk_size=CHUNK, timeout=TIMEOUT, **options)(url, body, None)
                return body.check_end()
            except exceptions.RequestException as error:
                reason = _reason(error, body)
                if attempt + 1 == ATTEMPTS or not _passes(error):
                    raise OSError(reason) from error
            log.warning("%s: %s; attempt %d of %d follows", url, reason, attempt + 2, ATTEMPTS)
            time.sleep(PAUSE * 2**attempt)


def optional(name: str, url: str) -> Any:
    """A package that only URLs of one kind need."""
    try:
        return importlib.import_module(name)
    except ImportError:
        scheme = url.split(":", 1)[0]
        raise OSError(f"{scheme}: URLs need a further package: python -m pip install '{EXTRA[name]}'") from None


def _hub(url, path, size, folder):
    found = HUB.fullmatch(url)
    if not found:
        raise OSError("a file on the hub is written as hf:owner/repository/path@revision")
    hub = optional("huggingface_hub", url)
    repository, name, revision = found.groups()
    try:
        address = hub.hf_hub_url(repository, name, revision=revision)
        _refuse_size(hub.get_hf_file_metadata(address, timeout=TIMEOUT).size, size)
        kept = hub.hf_hub_download(
            repository, name, revision=revision, local_dir=path.parent / "hub", etag_timeout=TIMEOUT
        )
    except Refused:
        raise
    except Exception as error:  # of its HTTP library too, whose errors are of no common kind
        raise OSError(hub_reason(error, repository)) from error
    Path(kept).replace(path)


def hub_reason(error: Exception, repository: str) -> str:
    """Why huggingface_hub failed to read from a repository (``owner/name``), in words."""
    kind = type(error).__name__
    if kind == "GatedRepoError":
        return (
            f"the repository is gated: accept its licence on https://huggingface.co/{repository}, and give a token of "
            "your account in the environment variable HF_TOKEN"
        )
    return f"{kind}: {' '.join(str(error).split())}"


def of_the_hub(repository: str, name: str, revision: str | None, *, online: bool) -> Path | None:
    """The path of a small file of the hub in huggingface_hub's own cache; None where the repository has none.

    Args:
        repository, name, revision: ``owner/name``, the path in it, and its version, None for the newest.
        online: whether it is downloaded if it is not in the cache; otherwise it counts as absent.

    Raises OSError where the hub cannot be asked.
    """
    if not online and importlib.util.find_spec("huggingface_hub") is None:
        return None
    hub = optional("huggingface_hub", "hf:")
    kept = hub.try_to_load_from_cache(repository, name, revision=revision)
    if isinstance(kept, str) or not online:
        return Path(kept) if isinstance(kept, str) else None
    try:
        return Path(hub.hf_hub_download(repository, name, revision=revision, etag_timeout=TIMEOUT))
    except Exception as error:  # as above; a file that is not there has a name of its own in some releases alone
        if "EntryNotFoundError" in (type(error).__name__, type(error).__name__.removeprefix("Remote")):
            return None
        raise OSError(f"hf:{repository}/{name}: {hub_reason(error, repository)}") from error


def _drive_folder(url, path, size, folder):
    gdown = optional("gdown", url)
    place, _, name = url.partition(":")[2].partition("/")
    try:
        listed = gdown.download_folder(id=place, skip_download=True, quiet=True, use_cookies=False, timeout=TIMEOUT)
    except (gdown.exceptions.DownloadError, exceptions.RequestException) as error:
        raise OSError(f"the folder cannot be listed: {' '.join(str(error).split())}") from error
    found = {file.path: file.id for file in listed}
    if name not in found:
        raise OSError(f"the folder has no file '{name}'; it has {', '.join(sorted(found)) or 'none'}")
    _drive(f"gdrive:{found[name]}", path, size, folder)


def _drive(url, path, size, folder):
    gdown = optional("gdown", url)

    def check(_, total):
        _refuse_size(total, size)

    try:
        gdown.download(
            id=url.partition(":")[2],
            output=str(path),
            use_cookies=False,
            timeout=TIMEOUT,
            retries=ATTEMPTS - 1,
            progress=check,
        )
    except gdown.exceptions.FileURLRetrievalError as error:
        reason = " ".join(str(error).split())
        raise Refused(f"Google Drive sent a web page (HTML), not the file (quota or permission): {reason}") from error
    except gdown.exceptions.DownloadError as error:
        raise OSError(" ".join(str(error).split())) from error


SCHEMES = {"https": _http, "http": _http, "file": _copy, "hf": _hub, "gdrive": _drive, "gdrive-folder": _drive_folder}
