"""Checkpoints by URL, verified: ``file:`` and ``https:`` take the same way."""

import logging
from pathlib import Path
from urllib.parse import unquote, urlparse

import pooch

from dode.storage import atomic

log = logging.getLogger(__name__)


def _download(url, target, folder):
    """Bytes of ``url`` to ``target``; raises OSError where they cannot be had."""
    if url.startswith("file:"):
        Path(target).write_bytes((Path(folder) / unquote(urlparse(url).path)).read_bytes())
    else:
        pooch.HTTPDownloader(progressbar=True, timeout=60)(url, str(target), None)


def fetch(urls, sha256, target, *, folder="."):
    """Fetch a file from the first of ``urls`` that answers, verify it and put it at ``target``, whole or not at all.

    Args:
        urls: where the file is; the second and further are mirrors.
        sha256: its digest, 64 hexadecimal digits.
        target: path of the verified file.
        folder: what relative ``file:`` URLs are relative to.

    Raises:
        ValueError: where no URL has the file and the digest of one differs; the message names URL, expected and found
            digest. Nothing is kept.
        OSError: where no URL could be read; the message holds the reason for each.
    """
    reasons, wrong = [], False
    with atomic(target) as temporary:
        for url in urls:
            try:
                _download(url, temporary, folder)
            except OSError as error:
                reasons.append(f"{url}: {error}")
                continue
            found = pooch.file_hash(str(temporary), alg="sha256")
            if found != sha256:
                reasons.append(f"{url}: sha256 is {found}, the card says {sha256}; nothing was kept")
                wrong = True
                continue
            log.info("%s: sha256 %s", url, found)
            return
        kind = ValueError if wrong else OSError
        raise kind("the file could not be fetched: " + "; ".join(reasons))
