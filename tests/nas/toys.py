"""Doubles for the tests of oracle, store and engine: a small space, and proxies that cost nothing.

Run as a script it is the process that the resume tests kill: see :func:`main`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas.engine import Searcher
from nas.proxies.base import Conditions, ProxyError, ProxySpec, score_batch
from nas.result import Result
from searchers.base import Strategy
from spaces import SPACES
from spaces.base import Arch, Costs, Population, Space
from spaces.errors import InvalidArch

if TYPE_CHECKING:
    from torch import nn

    from spaces.cell import CellGraph


class ToySpace(Space):
    """Six choices of three; where the first is 0 the second is idle: 729 texts, 567 functions."""

    name = "toy"
    summary = "729 architectures that need no network"

    @property
    def dimensions(self) -> tuple[int, ...]:
        return (3,) * 6

    def to_str(self, arch: Arch) -> str:
        return "-".join(map(str, self.validate(arch)))

    def from_str(self, text: str) -> Arch:
        return self.validate([int(part) for part in text.split("-")])

    @cached_property
    def _all(self) -> Population:
        return np.indices(self.dimensions, dtype=np.int64).reshape(6, -1).T

    def all(self) -> Population:
        return self._all

    def index(self, arch: Arch) -> int:
        return int(np.ravel_multi_index(self.validate(arch), self.dimensions))

    def canonicalise(self, population: Population) -> Population:
        changed = population.copy()
        changed[changed[:, 0] == 0, 1] = 0
        return changed

    def costs(
        self, population: Population, *, num_classes: int = 10, resolution: int = 32
    ) -> Costs:
        total = population.sum(axis=1)
        return Costs(params=100 * total + num_classes, flops=total * resolution**2)

    def layers(self, population: Population) -> Iterator[CellGraph]:
        return iter(())  # no network, no layers

    def build(self, arch: Arch, *, num_classes: int = 10, in_chans: int = 3) -> nn.Module:
        from torch import nn

        return nn.Sequential(nn.Flatten(), nn.Linear(12, num_classes))


TOY = ToySpace()
# 24 canonical architectures, all distinct
SOME: list[Arch] = [TOY.canonical(TOY.at(place)) for place in range(0, 729, 31)]
WEIGHTS = np.sqrt(np.arange(2.0, 8.0))  # irrational: no two sums are equal, all digits are used


def truth(arch: Arch) -> float:
    """Return the toy score, which tells any two architectures apart."""
    return float(np.dot(WEIGHTS, arch))


class Toy:
    """A proxy of one's own: ``truth`` unless ``answer`` says otherwise; remembers its calls."""

    name = "toy"
    revision = 1

    def __init__(
        self,
        answer: Callable[[Arch], object] = truth,
        *,
        of_function: bool = False,
        directions: dict[str, int] | None = None,
        advice: dict[str, str] | None = None,
    ) -> None:
        self.answer = answer
        self.of_function = of_function
        self.directions = directions or {}
        self.advice = advice or {}
        self.calls: list[list[Arch]] = []

    @property
    def scored(self) -> list[Arch]:
        """Every architecture that was given, in order, repeats included."""
        return [arch for call in self.calls for arch in call]

    def __call__(
        self, space: Space, archs: Sequence[Arch], conditions: Conditions
    ) -> list[float | ProxyError]:
        self.calls.append(list(archs))
        return [self.answer(arch) for arch in archs]  # type: ignore[misc]  # tests return anything


class InOrder(Strategy):
    """Asks for the given architectures, one after the other, and remembers what it is told."""

    def __init__(self, space: Space, *, seed: int = 0, archs: Iterable[Arch] = SOME) -> None:
        super().__init__(space, seed=seed)
        self.waiting = list(archs)
        self.heard: list[tuple[Arch, float | None]] = []

    def _propose(self, n: int) -> Sequence[Arch]:
        block, self.waiting = self.waiting[:n], self.waiting[n:]
        return block

    def _next_unseen(self) -> Arch | None:
        return None  # the list is all there is

    def _observe(self, candidate: object, score: float | None) -> None:
        self.heard.append((candidate.arch, score))  # type: ignore[attr-defined]


class Logged:
    """Writes every architecture to a log *before* it is scored; slow enough to be killed at it."""

    revision = 1
    of_function = True

    def __init__(
        self, log: Path, score: Callable[[Space, Arch, Conditions], float | ProxyError]
    ) -> None:
        self.name = f"logged {score.__name__}"
        self.log = log
        self.score = score

    def __call__(
        self, space: Space, archs: Sequence[Arch], conditions: Conditions
    ) -> list[float | ProxyError]:
        answers: list[float | ProxyError] = []
        for arch in archs:
            # one write of one line: a killed process leaves no half of it
            with self.log.open("ab", buffering=0) as stream:
                stream.write(f"{space.to_str(arch)}\n".encode())
            answers.append(self.score(space, arch, conditions))
        return answers


def slow(space: Space, arch: Arch, conditions: Conditions) -> float | ProxyError:
    """Return the toy score after two milliseconds; every seventh sum of choices is a failure."""
    time.sleep(0.002)
    return ProxyError(f"broken: {arch[-1]}") if sum(arch) % 7 == 0 else truth(arch)


def meco(space: Space, arch: Arch, conditions: Conditions) -> float | ProxyError:
    """Return the real score of a real network, late enough to be killed at it."""
    time.sleep(0.02)
    return score_batch(space, [ProxySpec.parse("meco")], [arch], conditions)[0][0]


def trial_records(result: Result) -> list[dict[str, object]]:
    """Return the trials as JSON records, without what may differ in a resumed search."""
    records: list[dict[str, object]] = []
    for trial in result.trials:
        record = asdict(trial)
        del record["seconds"], record["cached"]
        records.append(json.loads(json.dumps(record)))
    return records


def refuse(arch: Sequence[int]) -> NDArray[np.float64]:
    """Raise what an architecture that cannot be built raises."""
    raise InvalidArch(f"toy: no {arch}")


def main(
    cache: str, log: str, out: str, scene: str, strategy: str, budget: str, batch: str
) -> None:
    """Search with a cache file and a log of scorings; write the trials to ``out``.

    Args:
        cache: The file of scores.
        log: Where every scored architecture is written.
        out: Where the trials are written.
        scene: ``toy`` or ``real``.
        strategy: Its name.
        budget: Number of trials.
        batch: Candidates asked at once.
    """
    if scene == "real":  # loads torch before the killer's clock begins
        meco(SPACES["nats_tss"], SPACES["nats_tss"].at(0), Conditions(resolution=16))
    searcher = Searcher(
        space=TOY if scene == "toy" else "nats_tss",
        proxy=Logged(Path(log), slow if scene == "toy" else meco),
        strategy=strategy,
        budget=int(budget),
        batch=int(batch),
        seed=3,
        resolution=16,
        cache=cache,
    )
    os.write(1, b"started\n")  # the killer's clock begins here
    result = searcher.run()
    record = {"trials": trial_records(result), "best": result.best.text}
    part = Path(f"{out}.part")
    part.write_text(json.dumps(record), encoding="utf-8")
    part.replace(out)  # a killed process leaves the whole file or none


if __name__ == "__main__":
    main(*sys.argv[1:])
