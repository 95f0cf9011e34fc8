"""TransNAS-Bench-101 macro space: how many modules, and which of them halve or double what.

Duan et al. 2021, https://arxiv.org/abs/2105.11871. A network has four to six modules of two ResNet
basic blocks. Each module is of one of four kinds: 1 changes nothing, 2 doubles the channels, 3
halves the resolution, 4 does both. One to four modules halve, one to three double: 3,256 networks,
written ``64-1234-basic``: channels of the stem, the modules, the block.

Layers and parameters are the benchmark's; but the two convolutions of its stem, which halve images
of 256 pixels twice, have stride 1 here, so that images of 32 pixels have maps to be scored.

The benchmark numbers its members in the order of a file that this project does not have; here they
are in the order of their texts, shorter ones first.

Letters: N architectures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spaces.base import Arch, Costs, Population, Space
from spaces.cell import CellGraph, Operation, conv_flops, conv_params
from spaces.errors import InvalidArch

if TYPE_CHECKING:
    from torch import nn

BASE = 64
MODULES = (4, 6)  # fewest and most
HALVED = (1, 4)  # modules that halve: fewest and most
DOUBLED = (1, 3)
_KINDS = 4
_ABSENT = 4  # of the last two choices: there is no such module
_DRAWS = 32


class TransnasMacro(Space):
    """An architecture is the kind of each module, 0 to 3; the last two may be 4, which is none."""

    name = "transnas_macro"
    summary = "TransNAS-Bench-101 macro: 4 to 6 modules of 4 kinds, 3,256 networks"
    dimensions = (_KINDS,) * MODULES[0] + (_KINDS + 1,) * (MODULES[1] - MODULES[0])

    def __len__(self) -> int:
        return len(self._all)

    @cached_property
    def _all(self) -> Population:
        grid = np.indices(self.dimensions).reshape(len(self.dimensions), -1).T
        members = grid[_are_members(grid)]
        texts = [self._text(tuple(row)) for row in members.tolist()]
        order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), texts[i]))
        members = np.ascontiguousarray(members[order], dtype=np.int64)
        members.setflags(write=False)
        return members

    @cached_property
    def _places(self) -> dict[Arch, int]:
        return {tuple(row): place for place, row in enumerate(self._all.tolist())}

    def all(self) -> Population:
        return self._all

    def index(self, arch: Arch) -> int:
        return self._places[self.validate(arch)]

    def validate(self, arch: Sequence[int]) -> Arch:
        """Return ``arch`` as a tuple of Python integers.

        Raises:
            InvalidArch: Wrong length, a value out of range, a module behind an absent one, or too
                few or too many modules that halve or double.
        """
        values = super().validate(arch)
        if values not in self._places:
            raise InvalidArch(
                f"{self.name}: expected {HALVED[0]} to {HALVED[1]} modules that halve (3, 4), "
                f"{DOUBLED[0]} to {DOUBLED[1]} that double (2, 4), and none behind an absent one, "
                f"got {values}"
            )
        return values

    def sample(self, rng: np.random.Generator) -> Arch:
        return tuple(self._all[int(rng.integers(len(self)))].tolist())

    def sample_many(self, n: int, rng: np.random.Generator) -> Population:
        return self._all[rng.integers(len(self), size=n)]

    def neighbours(self, arch: Arch) -> tuple[Arch, ...]:
        """Return every member that differs in exactly one choice, in a fixed order."""
        return tuple(near for near in super().neighbours(arch) if near in self._places)

    def mutate(self, arch: Arch, rng: np.random.Generator) -> Arch:
        """Return one of the neighbours, drawn uniformly."""
        near = self.neighbours(arch)
        return near[int(rng.integers(len(near)))]

    def crossover(self, first: Arch, second: Arch, rng: np.random.Generator) -> Arch:
        """Take each choice from one of the two parents; draws that are no members are rejected.

        Should every one of 32 draws be one, the child is ``first``.
        """
        take_first = rng.integers(2, size=(_DRAWS, len(first)))
        children = np.where(take_first, np.asarray(first), np.asarray(second))
        members = children[_are_members(children)]
        return tuple(members[0].tolist()) if len(members) else first

    def _text(self, arch: Arch) -> str:
        kinds = "".join(str(kind + 1) for kind in arch if kind != _ABSENT)
        return f"{BASE}-{kinds}-basic"

    def to_str(self, arch: Arch) -> str:
        return self._text(self.validate(arch))

    def from_str(self, text: str) -> Arch:
        match = re.fullmatch(rf"{BASE}-([1-4]{{{MODULES[0]},{MODULES[1]}}})-basic", text, re.ASCII)
        digits = match[1] if match is not None else ""
        arch = tuple(int(digit) - 1 for digit in digits) + (_ABSENT,) * (MODULES[1] - len(digits))
        if arch not in self._places:
            raise InvalidArch(
                f"{self.name}: cannot read {text!r}; expected the form '{BASE}-1234-basic': 4 to 6 "
                "modules, 1 normal, 2 doubles channels, 3 halves resolution, 4 both; 1 to 4 of "
                "them halve, 1 to 3 double"
            )
        return arch

    def canonicalise(self, population: Population) -> Population:
        return population  # different modules are different functions

    def channels(self, population: Population) -> Population:
        """Return the channels that leave every module, ``(N, 6)``, 0 of those that are absent."""
        return np.stack(
            [np.where(kinds == _ABSENT, 0, after) for kinds, _, after in _modules(population)],
            axis=1,
        )

    def costs(
        self, population: Population, *, num_classes: int = 10, resolution: int = 32
    ) -> Costs:
        stem = conv_params(3, BASE // 2, 3) + conv_params(BASE // 2, BASE, 3)
        params = np.full(len(population), stem)
        first = conv_flops(3, BASE // 2, 3, resolution) + conv_flops(BASE // 2, BASE, 3, resolution)
        flops = np.full(len(population), first)
        size = np.full(len(population), resolution)
        for kinds, before, after in _modules(population):
            halves, there = kinds >= 2, kinds != _ABSENT
            size = np.where(halves & there, (size + 1) // 2, size)
            weights = 9 * (before * after + 3 * after**2)
            norms = 8 * after
            short = there & (halves | (before != after))
            weights = weights + short * before * after
            norms = norms + short * 2 * after
            params = params + there * (weights + norms)
            flops = flops + there * weights * size**2
        classifier = (after + 1) * num_classes
        return Costs(params=params + classifier, flops=flops + classifier)

    def layers(self, population: Population) -> Iterator[CellGraph]:
        """Describe the two blocks of every module that there is room for; an absent one is a skip.

        Node 2 is what leaves the first block, 1 and 3 are between the convolutions of a block.
        """
        widest = BASE * 2 ** DOUBLED[1]
        for kinds, before, after in _modules(population):
            there = kinds != _ABSENT
            changes = there & ((kinds >= 2) | (before != after))
            conv = np.where(there, _CONV_3X3, _NONE)
            short = np.where(changes, _CONV_1X1, _SKIP)
            skip = np.full(len(population), _SKIP)
            chosen = np.stack([conv, conv, short, conv, conv, skip], axis=1)
            widths = np.stack([before, *[after] * 4], axis=1) / widest
            yield CellGraph(_EDGES, _OPERATIONS, chosen, widths)

    def build(self, arch: Arch, *, num_classes: int = 10, in_chans: int = 3) -> nn.Module:
        from spaces.transnas_macro_net import MacroNetwork  # late: only who builds needs torch

        kinds = [kind for kind in self.validate(arch) if kind != _ABSENT]
        return MacroNetwork(kinds, num_classes, in_chans)


def _are_members(population: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which rows, each choice within its range, are members, ``(N,)``."""
    there = population != _ABSENT
    halved = (there & (population >= 2)).sum(axis=1)
    doubled = (there & (population % 2 == 1)).sum(axis=1)
    within = (halved >= HALVED[0]) & (halved <= HALVED[1])
    within &= (doubled >= DOUBLED[0]) & (doubled <= DOUBLED[1])
    return np.asarray(within & (there[:, -2] | ~there[:, -1]), dtype=np.bool_)


def _modules(population: Population) -> Iterator[tuple[Population, Population, Population]]:
    """Yield kind, channels that come and channels that go of every module, ``(N,)`` each."""
    before = np.full(len(population), BASE)
    for kinds in population.T:
        after = np.where((kinds % 2 == 1) & (kinds != _ABSENT), 2 * before, before)
        yield kinds, before, after
        before = after


_NONE, _SKIP, _CONV_1X1, _CONV_3X3 = range(4)
_OPERATIONS = (
    Operation("none", "none"),
    Operation("skip", "skip"),
    Operation("conv_1x1", "conv", 1),
    Operation("conv_3x3", "conv", 3),
)
_EDGES = ((0, 1), (1, 2), (0, 2), (2, 3), (3, 4), (2, 4))

TRANSNAS_MACRO = TransnasMacro()
