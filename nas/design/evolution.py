"""Genetic programming: formulas that breed, on islands, until they rank well.

Each island keeps a population. A generation makes as many children as there are parents, by

    crossover   a part of one parent in the place of a part of the same type of another
    join        a + c b, where c gives both about the same spread: formulas are sums by nature
    mutation    a part replaced by a fresh one, an operation or atom by another of its kind, a
                constant moved, a part taken for the whole, an operation put around
    fresh       a new tree

and keeps the best of parents and children by ``worth - parsimony * size``, of those that order the
sample alike only the smallest. Now and then the best of each island go to the next one.
An island whose best has not moved for a while starts anew.

Every epoch (some generations) of an island depends on its population, on the
seed and on its number, and on nothing else, so that a run that was killed goes on as it would have,
and islands may be evolved side by side.

Why not DEAP, which is the best-kept library of its kind: its operators draw from Python's global
generator, which here nobody may seed; its typed trees fail with an IndexError where a type has no
terminal (a number per network has none here: it begins with a reduction); and its trees are lists
of nodes that share nothing, where evaluation needs sub-expressions that can be looked up. What is
used of it would be the tournament.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nas.design.atoms import ROLES
from nas.design.expression import (
    BINARY,
    EPSILON,
    MAX_DEPTH,
    SCALAR,
    UNARY,
    Node,
    apply,
    atom,
    constant,
    simplified,
)
from nas.design.judging import Judge, Verdict
from nas.design.layers import REDUCTIONS
from nas.seeds import generator

_ARITHMETIC = ("+", "-", "*", "/")
_DEPTH = 3  # of fresh parts
_OF_ONE_SHAPE = 3  # formulas on an island that differ in their constants only
_TRIES = 8  # to make a child that is small enough, before a parent is taken as it is


@dataclass(frozen=True)
class Settings:
    """How formulas are evolved.

    Attributes:
        population: Formulas on an island.
        islands: How many.
        generations: In an epoch.
        epochs: How many.
        tournament: Drawn to choose a parent, the best of them.
        max_size: Operations, atoms and constants of a formula.
        parsimony: Kendall that one of these has to be worth.
        atoms: What may be read: names by role.
    """

    population: int = 200
    islands: int = 4
    generations: int = 10
    epochs: int = 10
    tournament: int = 4
    max_size: int = 30
    parsimony: float = 0.0005
    atoms: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {role.name: role.names for role in ROLES.values()}
    )


@dataclass(frozen=True)
class Individual:
    """A formula and what it is worth.

    Attributes:
        node: The formula.
        verdict: On the training sample.
        score: Worth minus what its size costs.
    """

    node: Node
    verdict: Verdict
    score: float


class Breeder:
    """Makes formulas at random."""

    def __init__(
        self, settings: Settings, rng: np.random.Generator, spread: Callable[[Node], float]
    ) -> None:
        """Take what it draws from.

        Args:
            settings: Sizes and roles.
            rng: Its generator.
            spread: Standard deviation of a formula over a sample.
        """
        self._settings = settings
        self._rng = rng
        self._spread = spread

    def _one_of(self, some: Sequence[str]) -> str:
        return some[int(self._rng.integers(len(some)))]

    def fresh(self, kind: str = SCALAR, depth: int = _DEPTH) -> Node:
        """Return a new tree of a type."""
        return self._number(depth) if kind == SCALAR else self._places(kind, depth)

    def _number(self, depth: int) -> Node:
        draw = self._rng.random()
        if depth <= 1 or draw < 0.45:
            role = self._one_of(list(self._settings.atoms))
            return apply(self._one_of(list(REDUCTIONS)), self._places(role, depth - 1))
        if draw < 0.8:
            op = self._one_of(_ARITHMETIC)
            return apply(op, self._number(depth - 1), self._number(depth - 1))
        if draw < 0.9:
            return apply(self._one_of(list(UNARY)), self._number(depth - 1))
        return apply("*", self._constant(), self._number(depth - 1))

    def _places(self, role: str, depth: int) -> Node:
        draw = self._rng.random()
        if depth <= 1 or draw < 0.4:
            return atom(self._one_of(self._settings.atoms[role]), role)
        if draw < 0.65:
            return apply(self._one_of(list(UNARY)), self._places(role, depth - 1))
        if draw < 0.9:
            op = self._one_of(list(BINARY))
            return apply(op, self._places(role, depth - 1), self._places(role, depth - 1))
        return apply(self._one_of(_ARITHMETIC), self._places(role, depth - 1), self._constant())

    def _constant(self) -> Node:
        return constant(rounded(float(10 ** self._rng.uniform(-2, 2))))

    def child(self, parents: Callable[[], Node]) -> Node:
        """Return a formula made of one or two parents, small enough."""
        for _ in range(_TRIES):
            draw = self._rng.random()
            if draw < 0.3:
                made = self._crossed(parents(), parents())
            elif draw < 0.5:
                made = self._joined(parents(), parents())
            elif draw < 0.92:
                made = self._mutated(parents())
            else:
                made = self.fresh()
            made = simplified(made)
            if made.size <= self._settings.max_size and made.depth <= MAX_DEPTH:
                return made
        return parents()

    def _part(self, node: Node, kind: str | None = None) -> tuple[int, Node] | None:
        """Draw a part and its place, which is not a constant inside of a product of places."""
        some = [
            (place, part)
            for place, part in enumerate(node.walk())
            if part.op != "constant" and (kind is None or part.kind == kind)
        ]
        return some[int(self._rng.integers(len(some)))] if some else None

    def _crossed(self, first: Node, second: Node) -> Node:
        chosen = self._part(first)
        assert chosen is not None
        place, part = chosen
        given = self._part(second, part.kind)
        return first if given is None else replaced(first, place, given[1])

    def _joined(self, first: Node, second: Node) -> Node:
        """Return first + c second, or -; of a sum only one of its terms is taken."""
        while second.op in ("+", "-") and self._rng.random() < 0.7:
            second = second.parts[int(self._rng.integers(2))]
        if second.kind != SCALAR or second.op == "constant":
            return first
        if self._rng.random() < 0.3:
            second = self.fresh(SCALAR, 2)
        ratio = self._spread(first) / self._spread(second) if self._spread(second) else math.nan
        if not math.isfinite(ratio) or not EPSILON < ratio < 1 / EPSILON:
            return first
        weight = constant(rounded(ratio * float(np.exp(self._rng.normal(-0.7, 1.0)))))
        return apply(self._one_of(("+", "-")), first, apply("*", weight, second))

    def _mutated(self, node: Node) -> Node:
        draw = self._rng.random()
        if draw < 0.3:
            return self._renewed(node)
        if draw < 0.55:
            return self._pointed(node)
        if draw < 0.8:
            return self._moved(node)
        if draw < 0.9:
            return self._hoisted(node)
        return self._wrapped(node)

    def _renewed(self, node: Node) -> Node:
        chosen = self._part(node)
        assert chosen is not None
        place, part = chosen
        return replaced(node, place, self.fresh(part.kind, int(self._rng.integers(1, _DEPTH + 1))))

    def _pointed(self, node: Node) -> Node:
        """Change one operation or atom to another of its kind."""
        chosen = self._part(node)
        assert chosen is not None
        place, part = chosen
        if part.op == "atom":
            return replaced(
                node, place, atom(self._one_of(self._settings.atoms[part.kind]), part.kind)
            )
        tables = (list(REDUCTIONS), list(UNARY), list(BINARY))
        names = next(table for table in tables if part.op in table)
        return replaced(node, place, apply(self._one_of(names), *part.parts))

    def _moved(self, node: Node) -> Node:
        """Change one constant by a factor; where there is none, change a point."""
        some = [(i, part) for i, part in enumerate(node.walk()) if part.op == "constant"]
        if not some:
            return self._pointed(node)
        place, part = some[int(self._rng.integers(len(some)))]
        factor = float(np.exp(self._rng.normal(0.0, 0.5)))
        return replaced(node, place, constant(rounded(part.value * factor)))

    def _hoisted(self, node: Node) -> Node:
        chosen = self._part(node)
        assert chosen is not None
        place, part = chosen
        given = self._part(part, part.kind)
        assert given is not None
        return replaced(node, place, given[1])

    def _wrapped(self, node: Node) -> Node:
        chosen = self._part(node)
        assert chosen is not None
        place, part = chosen
        if self._rng.random() < 0.5:
            return replaced(node, place, apply(self._one_of(list(UNARY)), part))
        other = self.fresh(part.kind, 2)
        return replaced(node, place, apply(self._one_of(_ARITHMETIC), part, other))


def rounded(value: float) -> float:
    """Return a positive number with two significant digits, that a person can read."""
    return float(f"{min(max(value, 1e-9), 1e9):.1e}")


def replaced(node: Node, place: int, part: Node) -> Node:
    """Return the tree with another part at a place of :meth:`Node.walk`."""
    if place == 0:
        return part
    place -= 1
    parts = list(node.parts)
    for number, below in enumerate(parts):
        if place < below.size:
            parts[number] = replaced(below, place, part)
            break
        place -= below.size
    return apply(node.op, *parts) if node.op != "atom" else node


def oriented(node: Node, verdict: Verdict) -> Node:
    """Return the formula, turned round where it falls as accuracy rises."""
    if not verdict.taus or sum(verdict.taus) >= 0:
        return node
    return simplified(apply("neg", node))


class Island:
    """One population."""

    def __init__(
        self, settings: Settings, judge: Judge, population: Sequence[Individual] = ()
    ) -> None:
        self._settings = settings
        self._judge = judge
        self.population = list(population)

    @property
    def best(self) -> Individual:
        """The formula of the highest score."""
        return self.population[0]

    def judged(self, nodes: Sequence[Node]) -> list[Individual]:
        """Return the formulas that do not fail, each the right way round, with their worth."""
        verdicts = self._judge.judge(nodes)
        turned = [oriented(node, v) for node, v in zip(nodes, verdicts, strict=True)]
        again = [i for i, node in enumerate(turned) if node is not nodes[i]]
        for i, verdict in zip(again, self._judge.judge([turned[i] for i in again]), strict=True):
            verdicts[i] = verdict
        return [
            Individual(node, v, v.worth - self._settings.parsimony * node.size)
            for node, v in zip(turned, verdicts, strict=True)
            if v.taus
        ]

    def keep(self, some: Sequence[Individual], rng: np.random.Generator) -> None:
        """Let the best fifth live, and of the others the better of two at a time.

        Of those that order the sample alike only the smallest counts, and of those that differ in
        their constants only the best few: otherwise one formula with all its neighbours would soon
        be the whole island.
        """
        ordered = sorted(some, key=lambda x: (-x.score, x.node.size, str(x.node)))
        orders: set[str] = set()
        shapes: Counter[Node] = Counter()
        distinct = []
        for one in ordered:
            shape = one.node.shape
            if one.verdict.key not in orders and shapes[shape] < _OF_ONE_SHAPE:
                orders.add(one.verdict.key)
                shapes[shape] += 1
                distinct.append(one)
        free = self._settings.population
        first = max(1, free // 5)
        kept, rest = distinct[:first], distinct[first:]
        while rest and len(kept) < free:
            order = rng.permutation(len(rest))
            pairs = order[: len(order) // 2 * 2].reshape(-1, 2).min(axis=1)
            taken = set(pairs[: free - len(kept)].tolist()) or {0}
            kept += [rest[i] for i in taken]
            rest = [one for i, one in enumerate(rest) if i not in taken]
        self.population = sorted(kept, key=lambda x: (-x.score, x.node.size, str(x.node)))

    def found(self, rng: np.random.Generator) -> None:
        """Begin with fresh formulas."""
        breeder = Breeder(self._settings, rng, self._judge.spread)
        self.keep(self._fresh(breeder, 2 * self._settings.population), rng)

    def _fresh(self, breeder: Breeder, count: int) -> list[Individual]:
        return self.judged([breeder.fresh() for _ in range(count)])

    def evolve(self, rng: np.random.Generator, generations: int) -> None:
        """Go on for some generations."""
        breeder = Breeder(self._settings, rng, self._judge.spread)

        def parent() -> Node:
            drawn = rng.integers(len(self.population), size=self._settings.tournament)
            return self.population[int(drawn.min())].node  # the best come first

        for _ in range(generations):
            known = {one.node for one in self.population}
            children = [breeder.child(parent) for _ in range(self._settings.population)]
            new = [child for child in dict.fromkeys(children) if child not in known]
            self.keep([*self.population, *self.judged(new)], rng)


def epoch_of(
    settings: Settings,
    judge: Judge,
    seed: int,
    number: int,
    island: int,
    population: Sequence[Individual],
    stale: bool,
) -> list[Individual]:
    """Return the population of an island after one more epoch.

    Args:
        settings: How.
        judge: On the training sample.
        seed: Of the run.
        number: Of the epoch, from 0.
        island: Its number.
        population: At the start, migrants included; empty in the first epoch.
        stale: Whether it starts anew.
    """
    rng = generator(seed, "design", "island", island, "epoch", number)
    here = Island(settings, judge)
    if not population or stale:
        here.found(rng)
    else:
        here.keep(population, rng)
    here.evolve(rng, settings.generations)
    return here.population
