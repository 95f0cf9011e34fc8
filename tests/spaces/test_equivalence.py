"""Which cells compute the same function: ours, the benchmark's rule, and brute force.

The benchmark's authors find 6,466 distinct cells of the topology space by writing each as a nested
sum. :meth:`spaces.CellSpace.canonicalise` finds 5,044. Neither refines the other:

Ours merges what their text tells apart. All of it is exact for every weight, because zero is the
neutral element of the sum, sums are associative, and average pooling is linear:

* edges whose input is a sum of zeros are dead (their text knows a lone zero only);
* a sum has no zero terms (their text keeps each of them);
* nested sums are one sum (their text keeps the brackets that a skip leaves);
* pooling a sum is the sum of the pooled terms, and pooling zeros gives zeros.

Ours keeps apart what their text merges: one convolution used twice, and two convolutions of the
same input, used once each. Their weights are drawn independently, so the functions differ, and so
do the parameters.
"""

from collections import Counter, defaultdict
from functools import lru_cache
from itertools import permutations

import numpy as np
import pytest

from spaces import NATS_TSS, TRANSNAS_MICRO, Arch, CellSpace, Population

#: (number of the convolution that makes the term, -1 for the input; times pooled) -> how often
Value = Counter[tuple[int, int]]
Form = tuple[object, ...]


def published_text(space: CellSpace, arch: Arch) -> str:
    """Write a cell by the rule of the benchmark's authors."""
    texts = ["0"]
    for node in range(1, space.n_nodes):
        terms = []
        for edge, op in zip(space.edges, space.operations(arch), strict=True):
            if edge.target != node:
                continue
            source = texts[edge.source]
            if op.kind == "none" or source == "#":
                terms.append("#")
            elif op.kind == "skip":
                terms.append(source)
            else:
                terms.append(f"({source})@{op.name}")
        texts.append("+".join(sorted(terms)))
    return texts[-1]


def exact_form(space: CellSpace, arch: Arch, *, shared: bool = True) -> Form:
    """Return what is equal for two cells exactly if one is the other with renamed convolutions.

    A value is a sum of atoms, the input and the results of convolutions, each pooled so many times.
    The form lists kernel and input of every convolution that matters, and the output, under the
    numbering of the convolutions that makes it smallest; all numberings are tried.

    Args:
        space: A cell space without max-pooling.
        arch: Its member.
        shared: Whether a convolution used twice differs from two convolutions.
    """
    nodes: list[Value] = [Counter({(-1, 0): 1})]
    atoms: dict[int, tuple[int, Value]] = {}
    operations = space.operations(arch)
    for node in range(1, space.n_nodes):
        total: Value = Counter()
        for e, edge in enumerate(space.edges):
            op = operations[e]
            if edge.target != node or op.kind == "none" or not nodes[edge.source]:
                continue
            source = nodes[edge.source]
            if op.kind == "conv":
                atoms[e] = (op.kernel, source)
                source = Counter({(e, 0): 1})
            more = 1 if op.kind == "avg_pool" else 0
            for (atom, pooled), times in source.items():
                total[atom, pooled + more] += times
        nodes.append(total)
    if not shared:
        return _tree(nodes[-1], atoms)
    live: set[int] = set()
    to_visit = [atom for atom, _ in nodes[-1]]
    while to_visit:
        atom = to_visit.pop()
        if atom >= 0 and atom not in live:
            live.add(atom)
            to_visit += [other for other, _ in atoms[atom][1]]
    return min(_written(nodes[-1], atoms, order) for order in permutations(sorted(live)))


def _written(output: Value, atoms: dict[int, tuple[int, Value]], order: tuple[int, ...]) -> Form:
    """Write a cell under one numbering of its convolutions."""
    number = {-1: -1} | {atom: place for place, atom in enumerate(order)}

    def terms(value: Value) -> Form:
        return tuple(sorted((number[atom], pooled, n) for (atom, pooled), n in value.items()))

    return (terms(output), *((atoms[atom][0], terms(atoms[atom][1])) for atom in order))


def _tree(value: Value, atoms: dict[int, tuple[int, Value]]) -> Form:
    """Write a value as a nested sum, so that a convolution used twice is written twice."""
    merged: Counter[Form] = Counter()
    for (atom, pooled), times in value.items():
        inner = () if atom < 0 else (atoms[atom][0], _tree(atoms[atom][1], atoms))
        merged[(inner, pooled)] += times
    return tuple(sorted(((key, n) for key, n in merged.items()), key=repr))


def is_one_to_one(first: list[object], second: list[object]) -> bool:
    return len(set(first)) == len(set(second)) == len(set(zip(first, second, strict=True)))


def refines(fine: list[object], coarse: list[object]) -> bool:
    """Tell whether what is equal under ``fine`` is always equal under ``coarse``."""
    return len(set(zip(fine, coarse, strict=True))) == len(set(fine))


@lru_cache
def members(space: CellSpace) -> list[Arch]:
    return [tuple(row) for row in space.all().tolist()]


@lru_cache
def published(space: CellSpace) -> list[object]:
    return [published_text(space, arch) for arch in members(space)]


@lru_cache
def ours(space: CellSpace) -> list[object]:
    return [tuple(row) for row in space.canonicalise(space.all()).tolist()]


def test_the_published_number_of_distinct_cells() -> None:
    assert len(set(published(NATS_TSS))) == 6466


def test_our_number_of_distinct_cells() -> None:
    assert len(set(ours(NATS_TSS))) == 5044


def cell(*operations: str) -> Arch:
    """Return the cell with these operations on the edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3."""
    short = {"-": 0, "skip": 1, "1x1": 2, "3x3": 3, "pool": 4}
    return NATS_TSS.validate([short[name] for name in operations])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(
            cell("3x3", "-", "-", "skip", "skip", "3x3"),
            cell("3x3", "-", "-", "skip", "skip", "-"),
            id="node 2 is a sum of zeros, so the edge that leaves it is dead",
        ),
        pytest.param(
            cell("-", "skip", "-", "-", "-", "3x3"),
            cell("-", "-", "-", "3x3", "-", "-"),
            id="a convolution of the input plus zero is one of the input",
        ),
        pytest.param(
            cell("1x1", "3x3", "skip", "-", "-", "skip"),
            cell("1x1", "-", "-", "3x3", "skip", "-"),
            id="a sum inside a sum is one sum",
        ),
        pytest.param(
            cell("1x1", "3x3", "skip", "-", "-", "pool"),
            cell("1x1", "3x3", "-", "-", "pool", "pool"),
            id="pooling a sum is the sum of the pooled",
        ),
    ],
)
def test_ours_merges(first: Arch, second: Arch) -> None:
    assert published_text(NATS_TSS, first) != published_text(NATS_TSS, second)
    assert NATS_TSS.canonical(first) == NATS_TSS.canonical(second)


@pytest.mark.parametrize(
    ("once", "twice"),
    [
        pytest.param(
            cell("3x3", "-", "skip", "-", "skip", "skip"),
            cell("3x3", "3x3", "-", "-", "skip", "skip"),
            id="twice one convolution, and the sum of two",
        ),
        pytest.param(
            cell("3x3", "-", "skip", "skip", "1x1", "3x3"),
            cell("3x3", "3x3", "-", "skip", "1x1", "3x3"),
            id="two readers of one convolution, and each with its own",
        ),
    ],
)
def test_ours_keeps_apart(once: Arch, twice: Arch) -> None:
    assert published_text(NATS_TSS, once) == published_text(NATS_TSS, twice)
    assert NATS_TSS.canonical(once) != NATS_TSS.canonical(twice)
    params = NATS_TSS.costs(np.asarray([once, twice])).params
    assert params[0] < params[1]


def test_every_merge_beyond_the_published_rule_is_one_of_the_four() -> None:
    """Their nested sums, simplified by the four rules, are coarser than both."""
    trees: list[object] = [exact_form(NATS_TSS, arch, shared=False) for arch in members(NATS_TSS)]
    assert refines(published(NATS_TSS), trees)
    assert refines(ours(NATS_TSS), trees)
    assert len(set(trees)) == 4660
    # Where a published class falls apart, no two of its parts have the same parameters.
    params = NATS_TSS.costs(NATS_TSS.canonicalise(NATS_TSS.all())).params.tolist()
    parts: dict[object, dict[object, int]] = defaultdict(dict)
    for text, form, size in zip(published(NATS_TSS), ours(NATS_TSS), params, strict=True):
        parts[text][form] = size
    split = [sizes for sizes in parts.values() if len(sizes) > 1]
    assert len(split) == 430
    assert all(len(set(sizes.values())) == len(sizes) for sizes in split)


def some_classes(space: CellSpace, n: int) -> Population:
    """Return ``n`` members at least: every member of classes that are drawn at random."""
    classes: dict[object, list[Arch]] = defaultdict(list)
    for arch, form in zip(members(space), ours(space), strict=True):
        classes[form].append(arch)
    groups = list(classes.values())
    chosen: list[Arch] = []
    for place in np.random.default_rng(5).permutation(len(groups)):
        chosen += groups[place]
        if len(chosen) >= n:
            break
    return np.asarray(chosen)


def assert_exact(space: CellSpace, population: Population) -> None:
    forms: list[object] = [exact_form(space, tuple(row)) for row in population.tolist()]
    assert is_one_to_one(space.function_key(population).tolist(), forms)
    canonical = space.canonicalise(population)
    assert is_one_to_one([tuple(row) for row in canonical.tolist()], forms)
    assert [exact_form(space, tuple(row)) for row in canonical.tolist()] == forms


def test_equal_keys_are_isomorphic_cells() -> None:
    assert_exact(NATS_TSS, some_classes(NATS_TSS, 1500))


@pytest.mark.slow
@pytest.mark.parametrize("space", [NATS_TSS, TRANSNAS_MICRO], ids=lambda space: space.name)
def test_equal_keys_are_isomorphic_cells_in_the_whole_space(space: CellSpace) -> None:
    assert_exact(space, space.all())


def test_the_exact_form_sees_what_it_should() -> None:
    """The yardstick itself: renamed convolutions are equal, shared and separate ones are not."""
    renamed = (
        cell("1x1", "3x3", "-", "-", "1x1", "3x3"),
        cell("3x3", "1x1", "-", "-", "3x3", "1x1"),
    )
    assert exact_form(NATS_TSS, renamed[0]) == exact_form(NATS_TSS, renamed[1])
    shared = (
        cell("3x3", "-", "skip", "-", "skip", "skip"),
        cell("3x3", "3x3", "-", "-", "skip", "skip"),
    )
    assert exact_form(NATS_TSS, shared[0]) != exact_form(NATS_TSS, shared[1])
    assert exact_form(NATS_TSS, cell(*("-",) * 6)) == ((),)
    assert exact_form(NATS_TSS, cell("-", "-", "-", "pool", "-", "-")) == (((-1, 1, 1),),)
