"""Files of ours, written whole or not at all."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path

from spaces.errors import NasError


def partial_of(path: Path) -> Path:
    """Return where a file is written before it takes its place.

    Beside it, for a rename is whole within one file system only. What processes of this machine
    left there that were killed is removed.
    """
    start = f".{path.name}.{platform.node()}."
    with suppress(OSError):
        for left in path.parent.iterdir():
            number = left.name.removeprefix(start).removesuffix(".partial")
            ours = left.name == f"{start}{number}.partial" and number.isdecimal()
            if ours and not _lives(int(number)):
                left.unlink(missing_ok=True)
    return path.with_name(f"{start}{os.getpid()}.partial")


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


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
    partial = partial_of(path)
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
