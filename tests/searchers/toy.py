"""A small search space and scores for it, so that the tests of strategies are fast and exact."""

import itertools
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from spaces import Arch, Costs, InvalidArch, NasError, Population, Space


class Toy(Space):
    """Digits; where the first is 0, the last has no effect, so its canonical value is 0."""

    name = "toy"
    summary = "digits, for tests"

    def __init__(self, dimensions: Sequence[int] = (3, 4, 3, 2)) -> None:
        self._dimensions = tuple(dimensions)

    @property
    def dimensions(self) -> tuple[int, ...]:
        return self._dimensions

    @property
    def n_functions(self) -> int:
        """How many distinct canonical forms there are, worked out by hand."""
        first, *middle, last = self._dimensions
        return int(np.prod(middle)) * ((first - 1) * last + 1)

    def to_str(self, arch: Arch) -> str:
        return "-".join(map(str, arch))

    def from_str(self, text: str) -> Arch:
        return self.validate([int(part) for part in text.split("-")])

    def all(self) -> Population:
        grid = np.indices(self._dimensions, dtype=np.int64)
        # The official order is the reverse of the enumeration, so that nobody relies on the latter.
        return np.ascontiguousarray(grid.reshape(len(self._dimensions), -1).T[::-1])

    def index(self, arch: Arch) -> int:
        return len(self) - 1 - int(np.ravel_multi_index(arch, self._dimensions))

    def canonicalise(self, population: Population) -> Population:
        rows = population.copy()
        rows[rows[:, 0] == 0, -1] = 0
        return rows

    def costs(
        self, population: Population, *, num_classes: int = 10, resolution: int = 32
    ) -> Costs:
        params: NDArray[np.int64] = population.sum(axis=1)
        return Costs(params=params, flops=params)

    def layers(self, population: Population) -> NoReturn:
        raise NotImplementedError("the toy space has no networks")

    def build(self, arch: Arch, *, num_classes: int = 10, in_chans: int = 3) -> NoReturn:
        raise NotImplementedError("the toy space has no networks")


class Fenced(Toy):
    """The toy without 0 twice in a row: a space that forbids some combinations of choices."""

    name = "fenced"

    def _allowed(self, population: Population) -> NDArray[np.bool_]:
        zero = population[:, :-1] == 0  # the last choice is free, since canonical forms zero it
        repeated: NDArray[np.bool_] = (zero[:, 1:] & zero[:, :-1]).any(axis=1)
        return ~repeated

    def validate(self, arch: Sequence[int]) -> Arch:
        values = super().validate(arch)
        if not self._allowed(np.asarray([values]))[0]:
            raise InvalidArch(f"{self.name}: two zeros in a row: {values}")
        return values

    def all(self) -> Population:
        members = super().all()
        return members[self._allowed(members)]

    def __len__(self) -> int:
        return len(self.all())

    def sample(self, rng: np.random.Generator) -> Arch:
        return self.at(int(rng.integers(len(self))))

    def neighbours(self, arch: Arch) -> tuple[Arch, ...]:
        near = super().neighbours(arch)
        return tuple(a for a, ok in zip(near, self._allowed(np.asarray(near)), strict=True) if ok)

    def mutate(self, arch: Arch, rng: np.random.Generator) -> Arch:
        near = self.neighbours(arch)
        return near[int(rng.integers(len(near)))]


class Unordered(Toy):
    """The toy without an official order, as a space too large to be listed."""

    name = "unordered"

    def all(self) -> NoReturn:
        raise NasError("unordered: there is no official order")

    def at(self, index: int) -> NoReturn:
        self.all()


def hill(arch: Arch) -> float:
    """A score with one summit at 2, 2, 2, ... and an interaction between neighbouring choices."""
    distance = sum(abs(value - 2) for value in arch)
    steps = sum(a != b for a, b in itertools.pairwise(arch))
    return -float(distance) - 0.5 * steps
