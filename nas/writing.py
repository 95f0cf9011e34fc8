"""Files of ours, written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from spaces.errors import NasError


def write_whole(path: Path, data: bytes | memoryview | str, consolation: str = "") -> None:
    """Write a file whole or not at all, and have it on the disk.

    Args:
        path: The file.
        data: What it will hold; a text is written as UTF-8.
        consolation: What a person should know if it fails.

    Raises:
        NasError: It cannot be written; the file is as before.
    """
    content = data.encode() if isinstance(data, str) else data
    # beside the file, for a rename is whole within one file system only
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        told = f"; {consolation}" if consolation else ""
        raise NasError(f"{path}: cannot write: {error.strerror}{told}") from None
