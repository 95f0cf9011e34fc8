"""Tiny data sets in the format of the official archives, written by hand as Python 2 did."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.training.archives import ARCHIVES, Archive


def text(value: str) -> bytes:
    """Return a text as Python 2 pickles one: SHORT_BINSTRING."""
    return b"U" + bytes([len(value)]) + value.encode()


def number(value: int) -> bytes:
    """Return an integer: BININT."""
    return b"J" + struct.pack("<i", value)


def numbers(values: Sequence[int]) -> bytes:
    """Return a list of integers: EMPTY_LIST, MARK, ..., APPENDS."""
    return b"](" + b"".join(map(number, values)) + b"e"


def array(values: NDArray[np.uint8]) -> bytes:
    """Return a uint8 array as NumPy under Python 2 pickles one.

    ``_reconstruct(ndarray, (0,), 'b')``, then BUILD with (version, shape, dtype, order, bytes).
    """
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text("b") + b"tR"
    none = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"
    kind = b"cnumpy\ndtype\n(" + text("u1") + b"K\x00K\x01tR(K\x03" + text("|") + none + b"tb"
    shape = b"(" + b"".join(map(number, values.shape)) + b"t"
    content = values.tobytes()
    return (
        empty + b"(K\x01" + shape + kind + b"\x89T" + struct.pack("<I", len(content)) + content
    ) + b"tb"


def entry(fields: Mapping[str, bytes]) -> bytes:
    """Return a pickled dict, protocol 2."""
    items = b"".join(text(key) + value for key, value in fields.items())
    return b"\x80\x02}(" + items + b"u."


def names(values: Sequence[str]) -> bytes:
    """Return a list of texts."""
    return b"](" + b"".join(map(text, values)) + b"e"


def contents(archive: Archive, per_file: int = 20) -> dict[str, bytes]:
    """Return every file of a tiny data set of random images, class after class."""
    rng = np.random.default_rng(0)
    n_classes = {"cifar10": 10, "cifar100": 100, "imagenet16_120": 120}[archive.name]
    first = 1 if archive.first_classes else 0
    files = {}
    for at, name in enumerate([*archive.train, *archive.test]):
        data = rng.integers(0, 256, (per_file, 3 * archive.size**2), dtype=np.uint8)
        labels = [first + (at * per_file + i) % n_classes for i in range(per_file)]
        if archive.first_classes:
            labels[-1] = 121  # a class that NATS-Bench leaves out
        files[name] = entry({
            "batch_label": text("hand-made"), "data": array(data),
            archive.label_key: numbers(labels),
        })  # fmt: skip
    if archive.meta:
        files[archive.meta[0]] = entry(
            {archive.classes_key: names([f"class {i}" for i in range(n_classes)])}
        )
    return files


def md5(content: bytes) -> str:
    """Return the md5 of some bytes."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def registered(
    archive: Archive, files: Mapping[str, bytes], tar: bytes = b"", per_file: int = 20
) -> Archive:
    """Return an archive with the md5s and sizes of these files."""
    kept = per_file - (1 if archive.first_classes else 0)
    return replace(
        archive,
        train={name: md5(files[name]) for name in archive.train},
        test={name: md5(files[name]) for name in archive.test},
        meta=(archive.meta[0], md5(files[archive.meta[0]])) if archive.meta else None,
        tar_md5=md5(tar),
        n_train=kept * len(archive.train),
        n_test=kept * len(archive.test),
        splits=None,
    )


def packed(
    archive: Archive, files: Mapping[str, bytes], extra: Mapping[str, bytes] | None = None
) -> bytes:
    """Return a tar.gz of the files in their folder, and then of extra members by full names."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        members = {f"{archive.folder}/{name}": content for name, content in files.items()}
        for name, content in {**members, **(extra or {})}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def unpacked(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write the files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def tiny(name: str) -> tuple[Archive, dict[str, bytes], bytes]:
    """Return a tiny data set: its record, its files, and its tar file."""
    archive = ARCHIVES[name]
    files = contents(archive)
    tar = packed(archive, files)
    return registered(archive, files, tar), files, tar
