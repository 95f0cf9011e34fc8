"""What every search space can do: a stateless object that gives a tuple of integers its meaning."""

from __future__ import annotations

import math
import operator
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spaces.errors import InvalidArch, NasError

if TYPE_CHECKING:
    from torch import nn

    from spaces.cell import CellGraph

Arch: TypeAlias = tuple[int, ...]
Population: TypeAlias = NDArray[np.int64]  # (N, D)


#: Of the numbers that a space of one's own may hold: a file may come from anybody, and what is
#: described is laid out in memory, layer by layer.
MOST_CHOSEN = {"width": 65_536, "depth": 256, "cells": 256, "kernel": 255, "expansion": 256}
MOST_STAGES = 64


def check_choices(name: str, choices: Sequence[int]) -> None:
    """Check the choices of a width, depth and so on.

    Raises:
        NasError: None, one twice, or one out of range; the message begins with ``name``.
    """
    most = MOST_CHOSEN[name]
    if not choices or len(set(choices)) < len(choices):
        raise NasError(f"{name}: expected different numbers of at least 1, got {choices}")
    if not 1 <= min(choices) <= max(choices) <= most:
        raise NasError(
            f"{name}: expected numbers of at least 1 and at most {most:,}, got {choices}"
        )


@dataclass(frozen=True)
class Costs:
    """Size and arithmetic of N networks.

    Attributes:
        params: Trainable weights, ``(N,)``.
        flops: Multiply-accumulates for one image, ``(N,)``; NATS-Bench calls them FLOPs.
    """

    params: NDArray[np.int64]
    flops: NDArray[np.int64]


class Space(ABC):
    """A finite set of architectures, each a tuple of D choices.

    Stateless: it knows no accuracy, no data set and no benchmark file. Position ``i`` of an
    :data:`Arch` takes values ``0 .. dimensions[i] - 1``. The text form of an architecture is the
    official string of the benchmark that the space comes from.

    Attributes:
        name: The key in :data:`spaces.SPACES`.
        summary: One line for a person.
        revision: Raised when the meaning of an architecture changes: cached scores go stale.
        row_columns: Columns of a table that name a member, as :meth:`from_row` reads them.
    """

    name: str
    summary: str
    revision: int = 1
    row_columns: tuple[str, ...] = ("arch",)

    @property
    def halvings(self) -> int:
        """How often every network halves an even height and width, so that odd ones do not fit."""
        return 0

    def check_resolution(self, resolution: int) -> None:
        """Raise NasError unless the networks take images of this height and width."""
        multiple = 2**self.halvings
        if resolution < 1 or resolution % multiple:
            raise NasError(
                f"resolution: networks of {self.name} halve images {self.halvings} times, so it "
                f"must be a multiple of {multiple}, got {resolution}"
            )

    @property
    @abstractmethod
    def dimensions(self) -> tuple[int, ...]:
        """Number of choices at each position, ``(D,)``."""

    def __len__(self) -> int:
        # Python's own limit of a length; a space may well have more members than that.
        return min(math.prod(self.dimensions), sys.maxsize)

    def __repr__(self) -> str:
        return f"<space {self.name}: {len(self)} architectures>"

    def validate(self, arch: Sequence[int]) -> Arch:
        """Return ``arch`` as a tuple of Python integers.

        Raises:
            InvalidArch: No integers, wrong length, or a value out of range.
        """
        if (  # what it nearly always is; without a loop of Python's own
            type(arch) is tuple
            and len(arch) == len(self.dimensions)
            and set(map(type, arch)) == {int}
            and min(arch) >= 0
            and all(map(operator.lt, arch, self.dimensions))
        ):
            return arch
        try:
            values = tuple(operator.index(value) for value in arch)
        except TypeError:  # a text, a fraction, no sequence at all: int() would take some of them
            raise InvalidArch(
                f"{self.name}: expected {len(self.dimensions)} integers, got {arch!r}"
            ) from None
        if len(values) != len(self.dimensions):
            raise InvalidArch(
                f"{self.name}: an architecture has {len(self.dimensions)} choices, "
                f"got {len(values)}: {values}"
            )
        for position, (value, size) in enumerate(zip(values, self.dimensions, strict=True)):
            if not 0 <= value < size:
                raise InvalidArch(
                    f"{self.name}: choice {position} must be in 0..{size - 1}, "
                    f"got {value}: {values}"
                )
        return values

    def sample(self, rng: np.random.Generator) -> Arch:
        """Draw one architecture uniformly."""
        return tuple(rng.integers(self.dimensions).tolist())

    def sample_many(self, n: int, rng: np.random.Generator) -> Population:
        """Draw ``n`` architectures uniformly, with replacement, ``(n, D)``."""
        return np.asarray([self.sample(rng) for _ in range(n)], dtype=np.int64)

    def mutate(self, arch: Arch, rng: np.random.Generator) -> Arch:
        """Return ``arch`` with one choice changed to another value, both drawn uniformly."""
        free = [i for i, size in enumerate(self.dimensions) if size > 1]
        position = free[int(rng.integers(len(free)))]
        size = self.dimensions[position]
        shift = int(rng.integers(1, size))  # a shift cannot return the parent
        changed = (arch[position] + shift) % size
        return (*arch[:position], changed, *arch[position + 1 :])

    def mutate_many(self, archs: Sequence[Arch], rng: np.random.Generator) -> Population:
        """Return a mutation of each architecture, ``(n, D)``."""
        return np.asarray([self.mutate(arch, rng) for arch in archs], dtype=np.int64)

    def crossover(self, first: Arch, second: Arch, rng: np.random.Generator) -> Arch:
        """Take each choice from one of the two parents with equal probability."""
        take_first = rng.integers(2, size=len(first))
        return tuple(
            int(a if take else b) for a, b, take in zip(first, second, take_first, strict=True)
        )

    def neighbours(self, arch: Arch) -> tuple[Arch, ...]:
        """Return every architecture that differs in exactly one choice, in a fixed order."""
        return tuple(
            (*arch[:position], value, *arch[position + 1 :])
            for position, size in enumerate(self.dimensions)
            for value in range(size)
            if value != arch[position]
        )

    def leaps(self, arch: Arch) -> tuple[Arch, ...]:
        """Return members further away than one choice that count as near, too, in a fixed order.

        A canonical form has dropped what reads nothing or feeds nothing. Where no single choice
        puts it back, :meth:`neighbours` alone would let a search only shrink. None by default.
        """
        return ()

    def near(self, arch: Arch) -> tuple[Arch, ...]:
        """Return neighbours and leaps: what a search may step to."""
        return (*self.neighbours(arch), *self.leaps(arch))

    def encode(self, arch: Arch) -> NDArray[np.float64]:
        """Return the one-hot code of every choice, concatenated: ``(sum(dimensions),)``."""
        code = np.zeros(sum(self.dimensions))
        offset = 0
        for value, size in zip(arch, self.dimensions, strict=True):
            code[offset + value] = 1.0
            offset += size
        return code

    @abstractmethod
    def to_str(self, arch: Arch) -> str:
        """Return the benchmark's official string."""

    @abstractmethod
    def from_str(self, text: str) -> Arch:
        """Parse the benchmark's official string.

        Raises:
            InvalidArch: The text is not exactly what :meth:`to_str` would print.
        """

    def from_row(self, row: Mapping[str, str]) -> Arch:
        """Parse one row of a table, by column name; only :attr:`row_columns` are read.

        Raises:
            InvalidArch: The columns hold no member of the space.
        """
        return self.from_str(row["arch"])

    @abstractmethod
    def all(self) -> Population:
        """Return every architecture in the benchmark's official order, ``(len, D)``, read-only."""

    @abstractmethod
    def index(self, arch: Arch) -> int:
        """Return the position of ``arch`` in the benchmark's official order."""

    def at(self, index: int) -> Arch:
        """Return the architecture at a position of the benchmark's official order.

        Raises:
            InvalidArch: The index is out of range.
        """
        if not 0 <= index < len(self):
            raise InvalidArch(f"{self.name}: index must be in 0..{len(self) - 1}, got {index}")
        return tuple(self.all()[index].tolist())

    @abstractmethod
    def canonicalise(self, population: Population) -> Population:
        """Replace each architecture by the representative of those that compute the same function.

        Args:
            population: ``(N, D)``.

        Returns:
            ``(N, D)``. The representative is the cheapest member (fewest parameters), ties by
            position in the enumeration of choices; applying the map twice changes nothing.
        """

    def canonical(self, arch: Arch) -> Arch:
        """Return the representative of the architectures that compute the same function."""
        row = self.canonicalise(np.asarray([arch], dtype=np.int64))[0]
        return tuple(row.tolist())

    @abstractmethod
    def costs(
        self, population: Population, *, num_classes: int = 10, resolution: int = 32
    ) -> Costs:
        """Count parameters and multiply-accumulates without building a network.

        Args:
            population: ``(N, D)``.
            num_classes: Width of the classifier.
            resolution: Height and width of the input image in pixels.
        """

    @abstractmethod
    def layers(self, population: Population) -> Iterator[CellGraph]:
        """Describe the networks of a population as graphs of operations, one per kind of layer.

        Layers that are the same for every member may be left out.

        Args:
            population: ``(N, D)``.
        """

    @abstractmethod
    def build(self, arch: Arch, *, num_classes: int = 10, in_chans: int = 3) -> nn.Module:
        """Return the full-size network of the benchmark, freshly initialised, in train mode.

        It maps ``(N, in_chans, H, W)`` images to ``(N, num_classes)`` logits.

        Args:
            arch: A member.
            num_classes: Width of the classifier; 0 leaves it out, so that the network returns the
                pooled features ``(N, F)``.
            in_chans: Channels of the images.
        """

    def thin(self) -> Space:
        """Return the same space with the smallest network around its choices.

        Raises:
            NasError: The space has no such form.
        """
        raise NasError(f"{self.name} has no thin form")


#: A space with more members than this is drawn from, but not listed.
LISTED = 2**24


class ProductSpace(Space):
    """A space in which every combination of choices is a member.

    It can be enumerated, unless it has more than :data:`LISTED` members; then there is no order,
    no index and no list of all.
    """

    def enumerate(self) -> Population:
        """Return every architecture, the last choice varying fastest, ``(len, D)``."""
        grid = np.indices(self.dimensions, dtype=np.int64)
        return np.ascontiguousarray(grid.reshape(len(self.dimensions), -1).T)

    @cached_property
    def _strides(self) -> NDArray[np.int64]:
        """Weights that turn a row into its place in :meth:`enumerate`, ``(D,)``."""
        sizes = np.asarray(self.dimensions, dtype=np.int64)
        return np.append(np.cumprod(sizes[::-1])[::-1][1:], 1)

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        """Enumeration places in the official order, ``(len,)``; spaces with another override it."""
        return np.arange(len(self))

    @cached_property
    def _place(self) -> NDArray[np.int64]:
        """The inverse of :attr:`_order`."""
        inverse = np.empty_like(self._order)
        inverse[self._order] = np.arange(len(self))
        return inverse

    @cached_property
    def _all(self) -> Population:
        members = self.enumerate()[self._order]
        members.setflags(write=False)
        return members

    def all(self) -> Population:
        self._check_listed()
        return self._all

    def at(self, index: int) -> Arch:
        self._check_listed()
        return super().at(index)

    def _check_listed(self) -> None:
        if len(self) > LISTED:
            raise NasError(
                f"{self.name}: {math.prod(self.dimensions):.3g} architectures are too many to list "
                "and have no official order; name one by its string, or draw some"
            )

    def index(self, arch: Arch) -> int:
        self._check_listed()
        return int(self._place[int(np.dot(self.validate(arch), self._strides))])

    def sample_many(self, n: int, rng: np.random.Generator) -> Population:
        return rng.integers(self.dimensions, size=(n, len(self.dimensions)))

    def mutate_many(self, archs: Sequence[Arch], rng: np.random.Generator) -> Population:
        members = np.array(archs, dtype=np.int64)
        sizes = np.asarray(self.dimensions)
        rows = np.arange(len(members))
        free = np.flatnonzero(sizes > 1)
        position = free[rng.integers(len(free), size=len(members))]
        shift = rng.integers(1, sizes[position])
        members[rows, position] = (members[rows, position] + shift) % sizes[position]
        return members
