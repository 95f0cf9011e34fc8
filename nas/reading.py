"""Files that somebody else wrote, read with limits: what they are, their size, what they unpack to.

A small compressed file can stand for any amount of memory, a named pipe never ends, and a device
has no size; each is refused before it can do harm. Nothing read here is ever run.
"""

from __future__ import annotations

import json
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spaces.errors import NasError

MIB = 2**20
Arrays = dict[str, NDArray[Any]]

#: What NumPy and zipfile raise on bytes that are no archive of arrays, whatever byte is damaged.
BROKEN_ARRAYS = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError, ValueError),
    *(LookupError, TypeError, NotImplementedError, RuntimeError, SyntaxError, ArithmeticError),
    *(MemoryError, RecursionError, AttributeError, tokenize.TokenError),
)


class UnreadableFile(NasError, ValueError):
    """A file that is missing, is no regular file, is broken, or is larger than allowed."""


def read_bytes(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the content of a regular file.

    Args:
        path: The file.
        limit: Its largest size, bytes.

    Raises:
        UnreadableFile: The text does not name the file; it says what is wrong with it.
        FileNotFoundError: There is none.
    """
    try:
        # O_NONBLOCK: opening a named pipe would wait for whoever writes into it
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(number, "rb") as stream:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise UnreadableFile("cannot read: not a regular file")
            content = stream.read(limit + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        if isinstance(error, NasError):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise UnreadableFile(f"cannot read: {reason}") from None
    if len(content) > limit:
        raise UnreadableFile(f"larger than the allowed {size_text(limit)}")
    return content


def read_text(path: str | os.PathLike[str], limit: int) -> str:
    """Return a regular file of UTF-8 text; raises as :func:`read_bytes`."""
    content = read_bytes(path, limit)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"expected UTF-8 text, byte {error.start} is not") from None


def read_json(path: str | os.PathLike[str], limit: int = 256 * MIB) -> Any:  # noqa: ANN401
    """Return what a file of JSON holds; raises as :func:`read_bytes`, and where it is no JSON."""
    return parse_json(read_text(path, limit))


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401 - whatever it holds
    """Return what a text of JSON holds.

    Raises:
        UnreadableFile: It is none, or nests without end.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise UnreadableFile(f"not JSON: {error}") from None
    except RecursionError:
        raise UnreadableFile("not JSON: it is nested too deeply") from None


def gunzip(data: bytes, limit: int) -> bytes:
    """Return what gzipped bytes unpack to.

    Raises:
        UnreadableFile: It is larger than allowed, or broken.
    """
    parts: list[bytes] = []
    left = limit + 1
    while data:
        unpacker = zlib.decompressobj(wbits=31)  # 31: with the header and checksum of gzip
        try:
            parts.append(unpacker.decompress(data, left))
        except zlib.error as error:
            raise UnreadableFile(f"broken gzip file: {error}") from None
        left -= len(parts[-1])
        if left <= 0:
            raise UnreadableFile(f"unpacks to more than the allowed {size_text(limit)}")
        if not unpacker.eof:
            raise UnreadableFile("broken gzip file: it ends too early")
        data = unpacker.unused_data.lstrip(b"\0")  # members may follow one another, with padding
    return b"".join(parts)


def read_arrays(path: Path, limit: int) -> Arrays:
    """Return the arrays of an ``.npz`` file, or the one of an ``.npy`` file under the name ``""``.

    Args:
        path: The file.
        limit: What all of it may unpack to, bytes.

    Raises:
        UnreadableFile: It is too large, holds pickled objects, or is none.
        FileNotFoundError: There is none.
    """
    with reading_arrays(path, limit) as found:
        if not isinstance(found, np.lib.npyio.NpzFile):
            return {"": np.asarray(found)}
        return {name: array_of(found, name) for name in found.files}


def array_of(archive: Any, name: str) -> NDArray[Any]:  # noqa: ANN401 - an NpzFile
    """Return a member of what :func:`reading_arrays` yields."""
    found = archive[name]
    if not isinstance(found, np.ndarray):  # NumPy hands out the bytes of what it does not know
        raise ValueError(f"{name}: not an array")
    return found


@contextmanager
def reading_arrays(path: Path, limit: int) -> Iterator[Any]:
    """Yield what ``numpy.load`` makes of a file within the limit; faults are :func:`read_arrays`'s.

    What is read of an ``.npz`` inside of the block is guarded as well.
    """
    try:
        # opened here, for NumPy leaves a broken file open
        with path.open("rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise UnreadableFile("cannot read: not a regular file")
            size = os.fstat(stream.fileno()).st_size
            if zipfile.is_zipfile(stream):
                with zipfile.ZipFile(stream) as archive:
                    size = sum(entry.file_size for entry in archive.infolist())
            if size > limit:
                raise UnreadableFile(f"unpacks to more than the allowed {size_text(limit)}")
            stream.seek(0)
            found = np.load(stream, allow_pickle=False)
            try:
                yield found
            finally:
                if isinstance(found, np.lib.npyio.NpzFile):
                    found.close()
    except FileNotFoundError:
        raise
    except (OSError, *BROKEN_ARRAYS) as error:
        if isinstance(error, NasError):
            raise
        raise UnreadableFile(_reason(error)) from None


def _reason(error: BaseException) -> str:
    if "allow_pickle" in str(error):
        return "it holds pickled objects, which are never loaded"
    text = " ".join(str(error).split())
    return text if text else type(error).__name__


@contextmanager
def memory_limit(extra: int) -> Iterator[None]:
    """Let this process take at most so many bytes more; what asks for more gets a MemoryError.

    Where the system knows no such limit (anywhere but on Linux), nothing is limited. It holds for
    all threads of the process.

    Args:
        extra: Bytes beside those that are taken now; at most what the machine has.
    """
    try:
        import resource

        page = os.sysconf("SC_PAGE_SIZE")
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * page
        extra = min(extra, os.sysconf("SC_PHYS_PAGES") * page)
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    except (ImportError, OSError, ValueError):
        yield
        return
    wanted = taken + extra
    if soft != resource.RLIM_INFINITY:
        wanted = min(wanted, soft)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def size_text(size: int) -> str:
    """Return ``64 MiB`` for a number of bytes."""
    for unit, name in ((2**30, "GiB"), (MIB, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:,.4g} {name}"
    return f"{size} bytes"


def expanded(text: str) -> Path:
    """Return a path in which ``~`` is a home, where there is such a user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # "~nobody"
        return Path(text)


def is_file(path: Path) -> bool:
    """Tell whether a path is that of a file; false where it cannot be that of anything."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long for the file system, or forbidden to look at
        return False
