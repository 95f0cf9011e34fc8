"""Statistics of architectures, computed once and kept: plain arrays in a folder, memory-mapped.

A folder holds, for one space under one set of conditions, a file of float32 numbers per role (one
line of counts and S atoms for each place, network after network) and an index, one line of JSON for
each batch of architectures. A batch is written first and indexed afterwards: whatever a process
that was killed left behind the last indexed batch is cut off when the folder is opened again, and
the work goes on from there. The name of the folder is a digest of everything that the numbers
depend on.

Letters: N architectures, L places of them all, S atoms.
"""

from __future__ import annotations

import hashlib
import json
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from nas.design.atoms import REVISION, ROLES
from nas.design.layers import Layers, Sample
from nas.proxies.base import Conditions
from nas.reading import parse_json
from nas.workers import Here, WorkerLost, Workers
from spaces import Arch, Space
from spaces.errors import NasError

_INDEX = "index.jsonl"

#: Measures the statistics of some canonical architectures, by role.
Measure = Callable[[Space, Sequence[Arch], Conditions, Mapping[str, Sequence[str]]], Sample]
Progress = Callable[[int, int], None]


def identity(space: Space, conditions: Conditions, roles: Sequence[str]) -> dict[str, Any]:
    """Return everything that the statistics of an architecture depend on."""
    return {
        "space": space.name,
        "space_revision": space.revision,
        "conditions": asdict(conditions),
        "atoms": {role: list(ROLES[role].names) for role in roles},
        "revision": REVISION,
    }


@dataclass(frozen=True)
class _Measuring:
    """What chunks of architectures have in common when they are measured."""

    measure: Measure
    space: Space
    conditions: Conditions
    wanted: Mapping[str, Sequence[str]]

    def __call__(self, archs: Sequence[Arch]) -> Sample:
        return self.measure(self.space, archs, self.conditions, self.wanted)


class Archive:
    """The statistics of one space under one set of conditions, in a folder of their own."""

    def __init__(
        self, folder: Path, space: Space, conditions: Conditions, roles: Sequence[str]
    ) -> None:
        """Open or make the folder, and cut off what was not finished.

        Args:
            folder: Where folders of statistics lie.
            space: Whose architectures.
            conditions: Of networks and images.
            roles: What is measured.

        Raises:
            NasError: Another process writes here, or nothing can be written.
        """
        self.space, self.conditions, self.roles = space, conditions, tuple(sorted(set(roles)))
        what = identity(space, conditions, self.roles)
        text = json.dumps(what, sort_keys=True)
        name = f"{space.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        self.folder = folder / name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / "lock")
            self._lock.acquire(timeout=0)
            (self.folder / "about.json").write_text(json.dumps(what, indent=1) + "\n")
        except Timeout:
            raise NasError(f"{self.folder}: another process is writing statistics here") from None
        except OSError as error:
            raise NasError(f"{self.folder}: cannot be written: {error.strerror}") from None
        self._places: dict[Arch, int] = {}
        self._lengths: dict[str, list[int]] = {role: [] for role in self.roles}
        self._dead: list[bool] = []
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let others write."""
        self._lock.release()

    def __len__(self) -> int:
        return len(self._places)

    def _file(self, role: str) -> Path:
        return self.folder / f"{role}.f32"

    def _columns(self, role: str) -> int:
        return len(ROLES[role].names) + 1  # counts first

    def _open(self) -> None:
        index = self.folder / _INDEX
        index.touch()
        whole = index.read_bytes()
        finished = whole[: whole.rfind(b"\n") + 1]
        for number, line in enumerate(finished.splitlines(), start=1):
            try:
                self._note(parse_json(line))
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise NasError(
                    f"{index}:{number}: damaged ({type(error).__name__}: {error}); remove "
                    f"{self.folder}, the statistics are measured again"
                ) from None
        with index.open("r+b") as stream:
            stream.truncate(len(finished))
        for role in self.roles:
            self._file(role).touch()
            size = 4 * self._columns(role) * sum(self._lengths[role])
            if self._file(role).stat().st_size < size:
                raise NasError(
                    f"{self._file(role)}: shorter than its index says; remove {self.folder}"
                )
            with self._file(role).open("r+b") as stream:
                stream.truncate(size)

    def _note(self, batch: Mapping[str, Any]) -> None:
        archs = [self.space.validate(arch) for arch in batch["archs"]]
        dead = [bool(flag) for flag in batch["dead"]]
        lengths = {role: list(map(operator.index, batch["lengths"][role])) for role in self.roles}
        if {len(archs)} != {len(dead), *map(len, lengths.values())}:
            raise ValueError("expected one entry for each architecture")
        if any(length < 0 for column in lengths.values() for length in column):
            raise ValueError("expected lengths of 0 or more")
        for arch in archs:
            self._places[arch] = len(self._places)
        self._dead += dead
        for role in self.roles:
            self._lengths[role] += lengths[role]

    def add(
        self,
        archs: Sequence[Arch],
        measure: Measure,
        progress: Progress | None = None,
        batch: int = 64,
        workers: Workers | None = None,
    ) -> None:
        """Measure those of some canonical architectures that are not known yet.

        Args:
            archs: Members of the space, canonical.
            measure: How.
            progress: Called after each batch with (done, in all) of those that were missing.
            batch: Architectures measured and written at a time.
            workers: Who measures; by default this process.

        Raises:
            NasError: A worker ended.
        """
        missing = [arch for arch in dict.fromkeys(archs) if arch not in self._places]
        wanted = {role: ROLES[role].names for role in self.roles}
        chunks = [missing[start : start + batch] for start in range(0, len(missing), batch)]
        measuring = _Measuring(measure, self.space, self.conditions, wanted)
        done = 0
        for number, found in (workers or Here()).start(measuring, chunks):
            if isinstance(found, WorkerLost):
                raise NasError(f"statistics of {len(chunks[number])} architectures: {found}")
            self._write(chunks[number], found)
            done += len(chunks[number])
            if progress is not None:
                progress(done, len(missing))

    def _write(self, archs: Sequence[Arch], found: Sample) -> None:
        for role in self.roles:
            layers = found[role]
            rows = np.concatenate([layers.counts[None], layers.values]).T
            self._append(self._file(role), np.ascontiguousarray(rows, dtype="<f4").tobytes())
        lengths = {role: np.diff(found[role].offsets).tolist() for role in self.roles}
        dead = np.zeros(len(archs), dtype=np.bool_)
        for role in self.roles:
            flags = found[role].dead
            dead |= False if flags is None else flags
        entry = {
            "archs": [list(arch) for arch in archs],
            "dead": dead.tolist(),
            "lengths": lengths,
        }
        self._append(self.folder / _INDEX, json.dumps(entry).encode() + b"\n")
        self._note(entry)

    @staticmethod
    def _append(path: Path, content: bytes) -> None:
        try:
            with path.open("ab") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise NasError(
                f"{path}: cannot write: {error.strerror}; what was measured before is kept"
            ) from None

    def sample(self, archs: Sequence[Arch]) -> dict[str, Layers]:
        """Return what is known of some canonical architectures, by role.

        Raises:
            KeyError: One was not measured.
        """
        places = np.asarray([self._places[arch] for arch in archs], dtype=np.int64)
        return {role: self._layers(role).of(places) for role in self.roles}

    def dead(self, archs: Sequence[Arch]) -> NDArray[np.bool_]:
        """Tell which of some canonical architectures let nothing through, ``(N,)``."""
        return np.asarray([self._dead[self._places[arch]] for arch in archs], dtype=np.bool_)

    def _layers(self, role: str) -> Layers:
        """Return the statistics of a role as the file holds them, mapped, not read."""
        offsets = np.concatenate([[0], np.cumsum(self._lengths[role])]).astype(np.int64)
        shape = (int(offsets[-1]), self._columns(role))
        rows: Any = (
            np.memmap(self._file(role), dtype="<f4", mode="r", shape=shape)
            if shape[0]
            else np.zeros(shape, dtype="<f4")
        )
        dead = np.asarray(self._dead, dtype=np.bool_)
        return Layers(ROLES[role].names, rows[:, 1:].T, rows[:, 0], offsets, dead)
