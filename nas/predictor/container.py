"""One file of plain numbers: a header in JSON, named arrays, and a checksum over both.

An ``.npz`` archive, read with pickles refused, so that reading a file runs nothing in it. A file
that was changed, cut short, or written by something else is told from one of ours.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.reading import BROKEN_ARRAYS, parse_json, read_arrays
from nas.writing import write_whole
from spaces.errors import NasError

FORMAT = 2
_MAGIC = "nas predictor"
_HEADER = "header"
MAX_BYTES = 256 * 2**20  # unpacked: a small file may stand for a large one

Arrays = Mapping[str, NDArray[np.generic]]


class BadPredictor(NasError, ValueError):
    """A file that is no predictor, or not the one that was written."""


def write(path: Path, header: Mapping[str, Any], arrays: Arrays) -> str:
    """Write a file; return its checksum."""
    checksum = _checksum(header, arrays)
    whole = {"magic": _MAGIC, "format": FORMAT, "sha256": checksum, "content": header}
    text = json.dumps(whole, sort_keys=True, allow_nan=False).encode()
    buffer = io.BytesIO()
    packed = {_HEADER: np.frombuffer(text, dtype=np.uint8), **arrays}
    np.savez_compressed(buffer, allow_pickle=False, **packed)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NasError(f"{path.parent}: cannot make the folder: {error.strerror}") from None
    write_whole(path, buffer.getvalue())
    return checksum


def read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]], str]:
    """Return header, arrays and checksum of a file.

    Raises:
        BadPredictor: It cannot be read, is of another kind or format, or was changed.
    """
    try:
        arrays = read_arrays(path, MAX_BYTES)
        whole = parse_json(bytes(arrays.pop(_HEADER)))
    except FileNotFoundError as error:
        raise BadPredictor(f"{path}: cannot read: {error.strerror}") from None
    except BROKEN_ARRAYS as error:  # what is not readable as arrays is one of these, too
        raise BadPredictor(f"{path}: no predictor file: {error}") from None
    if not isinstance(whole, dict) or whole.get("magic") != _MAGIC:
        raise BadPredictor(f"{path}: no predictor file: something else wrote it")
    if whole.get("format") != FORMAT:
        raise BadPredictor(
            f"{path}: a predictor of format {whole.get('format')}, this version reads {FORMAT}; "
            "fit it again, or use the version that wrote it"
        )
    header, checksum = whole.get("content"), whole.get("sha256")
    if not isinstance(header, dict) or _checksum(header, arrays) != checksum:
        raise BadPredictor(f"{path}: was changed after it was written: the checksum does not hold")
    return header, arrays, str(checksum)


def _checksum(header: Mapping[str, Any], arrays: Arrays) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True, allow_nan=False).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
