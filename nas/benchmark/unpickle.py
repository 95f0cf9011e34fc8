"""Read the pickles of the official archives without running anything that they say.

A pickle is a program: ``GLOBAL`` and ``STACK_GLOBAL`` fetch any function by name, ``REDUCE`` calls
it. Here the names are an allow-list of what the official NATS-Bench records hold, and each allowed
name stands for a small, inert substitute of ours, so that ``REDUCE``, ``NEWOBJ`` and ``BUILD`` have
nothing to work with:

    collections.OrderedDict                    a plain ``dict``, which is ordered as well
    numpy.dtype                                a description that takes only scalar number types
    numpy.core.multiarray.scalar (or _core)    decodes the bytes of one number into a Python number
    builtins.set                               ``set`` (older pickle protocols write it by name)

Archives of images hold whole arrays as well. :func:`load_arrays`, and only it, allows for them

    numpy.ndarray                              an empty box that takes numbers of one plain type
    numpy.core.multiarray._reconstruct         makes such a box, and nothing else
    _codecs.encode                             bytes that Python 3 wrote for Python 2

Anything else is refused by name. Size is bounded: reading more than ``max_bytes`` of *decompressed*
pickle ends with an error, so a small file cannot fill the memory by decompression. A small pickle
may also ask the unpickler for a huge internal table; while one is read, the process may take
16 bytes more for each byte allowed and 256 MiB, where the system can limit that (Linux).
"""

from __future__ import annotations

import bz2
import io
import math
import pickle
import reprlib
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from nas.reading import memory_limit
from spaces.errors import NasError

#: Enough for the largest single-file archive: 15,625 topology records of 0.33 MB each are 5.1 GB.
MAX_ARCHIVE_BYTES = 16 * 2**30
#: Enough for one record of a fast-mode folder (0.33 MB) or its index of names (1.4 MB).
MAX_RECORD_BYTES = 64 * 2**20

_LEAST_MEMORY = 2**28
_MEMORY_PER_BYTE = 16  # a number takes 32 bytes as an object, and 2 to 9 in a pickle

#: What the C unpickler is known to raise on bytes that are no pickle, or not a whole one.
_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    ImportError,
    LookupError,
    TypeError,
    ValueError,
    OverflowError,
    MemoryError,
    RecursionError,
    OSError,
)


class UnsafePickle(NasError, ValueError):
    """A pickle that asks for something that no official archive holds."""


class UnreadablePickle(NasError, ValueError):
    """A file that is no pickle, is cut off, or is larger than allowed."""


# numpy's name of a number type on the left, struct's on the right
_CODES = {
    "f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b",
    "u8": "Q", "u4": "I", "u2": "H", "u1": "B", "b1": "?",
}  # fmt: skip


def _text(value: object) -> str:
    """Return a text, also one that Python 2 wrote as bytes; nothing for anything else."""
    if isinstance(value, bytes):
        return value.decode("latin1")
    return value if isinstance(value, str) else ""


class _Number:
    """Stands in for :class:`numpy.dtype`: the type of one number, and how to decode its bytes."""

    def __init__(self, name: object, align: object = False, copy: object = True) -> None:
        text = _text(name).lstrip("<=|")
        if text not in _CODES:
            known = ", ".join(_CODES)
            raise UnsafePickle(f"refused numpy.dtype({_shown(name)}); allowed: {known}")
        self.name = text
        self.code = _CODES[text]
        self.order = "<"

    def __setstate__(self, state: object) -> None:
        # what numpy writes for a plain number: (version, byte order, and "none of it" six times)
        if not (
            isinstance(state, tuple)
            and len(state) in (8, 9)
            and _text(state[1]) in ("<", ">", "|", "=")
            and all(part is None or part in (-1, 0) for part in state[2:])
        ):
            raise UnsafePickle(f"refused numpy.dtype with the state {_shown(state)}")
        self.order = ">" if _text(state[1]) == ">" else "<"


def _scalar(number: object, data: object) -> float | int | bool:
    """Return the number in ``data``; stands in for ``numpy.core.multiarray.scalar``."""
    if not isinstance(number, _Number) or not isinstance(data, bytes):
        raise UnsafePickle("refused a numpy scalar that is not one plain number")
    try:
        (value,) = struct.unpack(number.order + number.code, data)
    except struct.error:
        raise UnsafePickle(f"refused a numpy scalar of {len(data)} bytes") from None
    return value  # type: ignore[no-any-return]  # one of float, int, bool, by the code


_ALLOWED: dict[tuple[str, str], Callable[..., object]] = {
    ("collections", "OrderedDict"): dict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,  # Python 2's name, written by protocols 0 to 2
    ("numpy", "dtype"): _Number,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,  # its name since numpy 2
}


class _Box:
    """Stands in for :class:`numpy.ndarray`: numbers of one plain type, set once."""

    array: NDArray[Any]

    def __setstate__(self, state: object) -> None:
        # what numpy writes: (version, shape, type, whether columns come first, bytes)
        if not (
            isinstance(state, tuple)
            and len(state) == 5
            and isinstance(state[1], tuple)
            and all(isinstance(size, int) and size >= 0 for size in state[1])
            and isinstance(state[2], _Number)
            and isinstance(state[4], bytes)
        ):
            raise UnsafePickle("refused a numpy array that does not hold plain numbers")
        _, shape, number, columns_first, content = state
        kind = np.dtype(number.name).newbyteorder(number.order)
        if len(content) != math.prod(shape) * kind.itemsize:
            raise UnsafePickle(
                f"refused a numpy array of shape {shape} and type {kind.name} with "
                f"{len(content):,} bytes"
            )
        array = np.frombuffer(content, kind)
        self.array = array.reshape(shape, order="F" if columns_first else "C")


def _box(kind: object, shape: object, code: object) -> _Box:
    """Return an empty box; stands in for ``numpy.core.multiarray._reconstruct``."""
    if kind is not _Box or shape != (0,) or _text(code) != "b":
        raise UnsafePickle("refused a numpy array of another kind")
    return _Box()


def _latin1(text: object, encoding: object) -> bytes:
    """Return the bytes in a text; stands in for ``_codecs.encode``."""
    if not isinstance(text, str) or _text(encoding) != "latin1":
        raise UnsafePickle(f"refused _codecs.encode with the encoding {_shown(encoding)}")
    return text.encode("latin1")


_ARRAYS: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy", "ndarray"): _Box,
    ("numpy.core.multiarray", "_reconstruct"): _box,
    ("numpy._core.multiarray", "_reconstruct"): _box,
    ("_codecs", "encode"): _latin1,
}


def _shown(value: object) -> str:
    """Return how a value looks, cut short: a few bytes of pickle can nest it without end."""
    text = reprlib.repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


class _Unpickler(pickle.Unpickler):
    """Resolves names by :attr:`allowed` only."""

    allowed: ClassVar[Mapping[tuple[str, str], Callable[..., object]]] = _ALLOWED

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        try:
            return self.allowed[module, name]
        except KeyError:
            allowed = ", ".join(sorted({".".join(key) for key in self.allowed}))
            raise UnsafePickle(
                f"refused the global '{module}.{name}'; an official archive needs only {allowed}"
            ) from None

    def persistent_load(self, pid: object) -> object:
        raise UnsafePickle(f"refused the persistent id {_shown(pid)}; no official archive has any")


class _ArrayUnpickler(_Unpickler):
    """Knows arrays of plain numbers as well."""

    allowed = _ALLOWED | _ARRAYS


class _Bounded(io.RawIOBase):
    """Passes on at most ``limit`` bytes of ``stream``, then raises."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        super().__init__()
        self._stream = stream
        self._limit = limit
        self._left = limit

    def _count(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            self._refuse()
        return data

    def _refuse(self) -> None:
        raise UnreadablePickle(
            f"holds more than the allowed {self._limit:,} bytes when decompressed; "
            "pass a larger max_bytes if you trust it"
        )

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            size = self._left + 1
        # one byte beyond the limit is enough to know, however much the pickle asks for
        return self._count(self._stream.read(min(size, self._left + 1)))

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - any writable buffer
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def readline(self, size: int | None = -1, /) -> bytes:
        most = self._left + 1
        return self._count(
            self._stream.readline(most if size is None or size < 0 else min(size, most))
        )


def _loaded(unpickler: _Unpickler, size: int) -> object:
    with memory_limit(_LEAST_MEMORY + _MEMORY_PER_BYTE * size):
        try:
            return unpickler.load()
        except MemoryError:
            raise UnreadablePickle("asks for more memory than a file of its kind needs") from None


def load_pickle(path: Path, *, max_bytes: int = MAX_RECORD_BYTES) -> object:
    """Return what a pickle file holds: numbers, texts, and dicts, lists, tuples and sets of them.

    Args:
        path: A pickle, compressed with bzip2 (as the official ``.pickle.pbz2``) or plain.
        max_bytes: Largest size of the decompressed pickle.

    Raises:
        UnsafePickle: It asks for a name outside the allow-list; nothing was run.
        UnreadablePickle: It is no pickle, is cut off, or is larger than ``max_bytes``.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(3) == b"BZh"
            raw.seek(0)
            stream: BinaryIO = bz2.BZ2File(raw) if packed else raw  # type: ignore[assignment]
            with _Bounded(stream, max_bytes) as bounded:
                # the restricted class above, not pickle.load
                return _loaded(_Unpickler(bounded), max_bytes)
    except NasError as error:
        raise type(error)(f"{path}: {error}") from None
    except FileNotFoundError:
        raise UnreadablePickle(f"{path}: no such file") from None
    except _BROKEN as error:
        reason = str(error) or type(error).__name__
        raise UnreadablePickle(f"{path}: not a readable pickle: {reason}") from None


def load_arrays(content: bytes, where: str) -> dict[str, object]:
    """Return the dict that a pickle holds, as archives of images have it, its arrays as NumPy's.

    Args:
        content: The pickle; what Python 2 wrote as text comes out as bytes, but for the keys.
        where: What it was read from, for messages.

    Raises:
        UnsafePickle: It asks for a name outside the allow-list; nothing was run.
        UnreadablePickle: It is no pickle, is cut off, or holds no dict.
    """
    try:
        loaded = _loaded(_ArrayUnpickler(io.BytesIO(content), encoding="bytes"), len(content))
    except NasError as error:
        raise type(error)(f"{where}: {error}") from None
    except _BROKEN as error:
        reason = str(error) or type(error).__name__
        raise UnreadablePickle(f"{where}: not a readable pickle: {reason}") from None
    if not isinstance(loaded, dict):
        raise UnreadablePickle(f"{where}: expected a dict, got {type(loaded).__name__}")
    try:
        return {
            _text(key): value.array if isinstance(value, _Box) else value
            for key, value in loaded.items()
        }
    except AttributeError:  # a box that nothing was put into
        raise UnreadablePickle(f"{where}: it holds an array without content") from None
