"""What a training goes on from when it was killed: one file, written whole or not at all.

A file holds a dictionary that ``torch.load(weights_only=True)`` reads: nothing in it can run code.
An epoch is written after it is over. The new file is complete on the disk before it takes the place
of the old one, so that whatever happens meanwhile (SIGKILL, a full disk), there is a good one.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import torch

from nas.writing import write_whole
from spaces.errors import NasError

FORMAT = 1
NAME = "checkpoint.pt"


def save(path: Path, state: dict[str, Any]) -> None:
    """Write the state of a training.

    Args:
        path: The file.
        state: Tensors, numbers, texts, and dictionaries and lists of them.

    Raises:
        NasError: It cannot be written; the file is as before.
    """
    # Into memory first: of a full disk torch itself says "unexpected pos", and leaves a torn file.
    packed = io.BytesIO()
    torch.save({"format": FORMAT, **state}, packed)
    write_whole(path, packed.getbuffer(), "the last good checkpoint is still there")


def copy(source: Path, path: Path) -> None:
    """Copy a file whole or not at all, and have it on the disk.

    Raises:
        NasError: It cannot be written; the file is as before.
    """
    write_whole(path, source.read_bytes(), f"{source} is still there")


def load(path: Path, key: str, device: str) -> dict[str, Any] | None:
    """Return the state in a file.

    Args:
        path: The file.
        key: What the training is of; another one's state is refused.
        device: Where tensors go.

    Returns:
        The state, or None where there is no file.

    Raises:
        NasError: It is no checkpoint, or one of another training.
    """
    if not path.exists():
        return None
    advice = "delete it to train from the beginning"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's thoughts about pickles that it then refuses
            state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch's reader raises anything on broken bytes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NasError(f"{path}: not a readable checkpoint: {reason}; {advice}") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise NasError(f"{path}: not a checkpoint of this version; {advice}")
    if state.get("key") != key:
        raise NasError(
            f"{path}: of another training (its architecture, data, settings or seed differ); "
            f"{advice}, or name another folder"
        )
    return state
