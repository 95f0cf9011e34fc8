"""Fetch the official archives, when asked: resumed, checked, and put in place at once.

What has come so far lies in ``NAME.partial``; a connection that breaks, or a process that is
killed, goes on there. The file gets its name when its md5 is the published one, never before.
"""

from __future__ import annotations

import http
import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from nas.reading import expanded
from nas.training.archives import (
    MIRROR_VARIABLE,
    THROTTLED,
    Archive,
    by_hand,
    md5_of,
    missing,
)
from nas.training.images import DataError

TIMEOUT_SECONDS = 30.0  # without a single byte
TRIES = 4  # of one address, each going on where the one before broke off
_CHUNK = 2**18

#: Told of a file's name, of the bytes that are there, and of all of them where that is known.
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Wanted:
    """One file to fetch.

    Attributes:
        name: Its name.
        md5: Its published md5.
        folder: Where it goes.
        urls: Where it can be had, in this order.
    """

    name: str
    md5: str
    folder: Path
    urls: Sequence[str]
    hint: str = ""

    @property
    def path(self) -> Path:
        """Where it will lie."""
        return self.folder / self.name

    @property
    def partial(self) -> Path:
        """Where what has come so far lies."""
        return self.folder / f"{self.name}.partial"


class _Broken(Exception):
    """An address that did not give the whole file; the text is the reason."""


def fetch(
    archive: Archive, root: str, *, url: str | None = None, progress: Progress | None = None
) -> list[Path]:
    """Fetch what an archive lacks in ``root``; return the files, fetched now or before.

    Args:
        archive: Which one.
        root: Where it goes; made if it is not there.
        url: Address of the file, or of a folder that holds it, instead of any other.
        progress: Told how far it is.

    Raises:
        DataError: No address gave a file with the published md5, or it cannot be written.
    """
    files = wanted(archive, root, url or os.environ.get(MIRROR_VARIABLE))
    for file in files:
        _fetch_one(file, progress or (lambda name, done, total: None))
    return [file.path for file in files]


def wanted(archive: Archive, root: str, mirror: str | None) -> list[Wanted]:
    """Return the files of an archive, and where to fetch them.

    Args:
        archive: Which one.
        root: Where it goes.
        mirror: An address that takes the place of all others.
    """
    base = expanded(root)
    if archive.tar is not None:
        urls = [_address(mirror, archive.tar)] if mirror else archive.urls
        return [Wanted(archive.tar, archive.tar_md5, base, urls, f" {THROTTLED}")]
    if not mirror:
        raise DataError(missing(archive, root))
    folder = base / archive.folder
    return [
        Wanted(name, md5, folder, [_address(mirror, name)]) for name, md5 in archive.files.items()
    ]


def _address(mirror: str, name: str) -> str:
    parts = urllib.parse.urlsplit(mirror)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise DataError(f"expected an address that begins with http:// or https://, got {mirror!r}")
    if parts.path.endswith(f"/{name}") or parts.query:
        return mirror
    return f"{mirror.rstrip('/')}/{name}"


def _fetch_one(file: Wanted, progress: Progress) -> None:
    try:
        if file.path.is_file() and md5_of(file.path) == file.md5:
            return
        file.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file.partial}.lock", timeout=0):
            reasons = _from_any(file, progress)
    except Timeout:
        raise DataError(f"{file.path}: another process is fetching it") from None
    except OSError as error:  # of the disk: those of the connection are reasons
        raise DataError(f"{file.path}: cannot write: {error.strerror or error}") from None
    if reasons:
        told = "".join(f"\n  {reason}" for reason in reasons)
        kept = _size(file.partial)
        rest = f"{kept:,} bytes are kept, and the next try goes on there. " if kept else ""
        raise DataError(
            f"{file.name}: could not be fetched:{told}\n{rest}Try again later, name a mirror by "
            f"--url, or {by_hand(file.name, file.md5, file.folder)}.{file.hint}"
        )


def _from_any(file: Wanted, progress: Progress) -> list[str]:
    """Fetch from the first address that gives the file; return nothing, or why each failed."""
    if file.partial.is_file() and md5_of(file.partial) == file.md5:  # killed just before its name
        file.partial.replace(file.path)
        return []
    reasons = []
    for url in file.urls:
        reason = _from_one(file, url, progress)
        if reason is None:
            return []
        reasons.append(f"{url}: {reason}")
    return reasons


def _from_one(file: Wanted, url: str, progress: Progress) -> str | None:
    """Fetch from one address; return why it failed, or None if it did not."""
    reason = ""
    for _ in range(TRIES):
        before = _size(file.partial)
        try:
            _append(file, url, progress)
        except _Broken as error:
            reason = str(error)
            if _size(file.partial) == before:
                break  # nothing new: no use in asking again
            continue
        found = md5_of(file.partial)
        if found == file.md5:
            file.partial.replace(file.path)
            return None
        reason = f"it gave another file: its md5 is {found}, expected {file.md5}"
        file.partial.unlink()
        if not before:
            break  # all of it came from here; otherwise the first part may be to blame
    return reason


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _append(file: Wanted, url: str, progress: Progress) -> None:
    """Fetch the rest of a file, or all of it where the server does not give parts."""
    have = _size(file.partial)
    headers = {"User-Agent": "nas-search"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS
        )
    except urllib.error.HTTPError as error:
        error.close()
        if have and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            file.partial.unlink()  # it is no beginning of what they have
        raise _Broken(f"{error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Broken(_reason(error)) from None
    with answer:
        done = have if _goes_on(answer, have) else 0
        length = answer.headers.get("Content-Length", "")
        total = done + int(length) if length.isdecimal() else None
        with file.partial.open("ab" if done else "wb") as out:
            while chunk := _read(answer):
                out.write(chunk)
                done += len(chunk)
                progress(file.name, done, total)
            out.flush()
            os.fsync(out.fileno())
    if total is not None and done < total:
        raise _Broken(f"the connection broke off after {done:,} of {total:,} bytes")


def _goes_on(answer: http.client.HTTPResponse, have: int) -> bool:
    """Tell whether an answer begins where the part at hand ends."""
    begins = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    return answer.status == http.HTTPStatus.PARTIAL_CONTENT and begins


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(_reason(error)) from None


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return str(reason) or type(error).__name__
