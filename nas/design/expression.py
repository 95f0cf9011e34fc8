r"""Formulas: typed expressions over the statistics of layers; text that reads as it computes.

    mean(log(min_eigenvalue[relu])) + 0.5 * sum(growth[block])

``min_eigenvalue[relu]`` is an atom (:mod:`nas.design.atoms`): one number for every place of a role.
Arithmetic inside of a reduction works place by place, and on places of one role only; a reduction
(``mean``, ``sum``, ``min``, ``max``, ``std``) makes one number per network of them; outside there
are numbers only. So every formula is a number per network, and nonsense cannot be written.

Operations, all total on finite numbers:

    a + b, a - b, a * b, -a
    a / b              a b / (b^2 + 1e-6): the quotient, but 0 where b is 0
    log(a)             ln(|a| + 1e-6)
    sqrt(a)            of |a|
    square(a), abs(a)
    smaller(a, b), larger(a, b)

A product of many large numbers may overflow, which is told as a failure of the proxy, as is a
reduction over no place at all. So is a network with a block that nothing leaves: no path leads from
images to logits, and there is nothing to say of it (a formula over weights alone runs nothing and
does not see that). Constants are plain numbers.

Text is read by Python's own parser, whose tree is then taken apart by an allow-list; nothing is
ever evaluated by it. Length, nodes and depth are bounded.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from nas.design.atoms import ROLES
from nas.design.layers import REDUCTIONS, Numbers, Sample
from spaces.errors import NasError, did_you_mean

MAX_CHARACTERS = 4_000
MAX_NODES = 200
MAX_DEPTH = 30

#: What keeps logarithms and quotients finite: above the rounding of a float32 near 1.
EPSILON = 1e-6

SCALAR = ""  # the type of a number per network; any other type is the name of a role


class BadFormula(NasError, ValueError):
    """A text that is no formula; the message says what came and what is allowed."""


def _log(a: Numbers) -> Numbers:
    return np.log(np.abs(a) + EPSILON, dtype=a.dtype)


def _divide(a: Numbers, b: Numbers) -> Numbers:
    quotient: Numbers = a * b / (b * b + EPSILON)
    return quotient


#: Place by place, or on numbers; by how they are written.
UNARY: Mapping[str, Callable[[Numbers], Numbers]] = {
    "neg": np.negative,
    "log": _log,
    "sqrt": lambda a: np.sqrt(np.abs(a)),
    "square": np.square,
    "abs": np.abs,
}
BINARY: Mapping[str, Callable[[Numbers, Numbers], Numbers]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": _divide,
    "smaller": np.minimum,
    "larger": np.maximum,
}
_SYMBOLS: Mapping[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
}
_BINDING = {"+": 1, "-": 1, "*": 2, "/": 2, "neg": 3}


@dataclass(frozen=True, eq=False, slots=False)
class Node:
    """One operation of a formula and what it works on; equal to any node of the same text.

    Attributes:
        op: ``atom``, ``constant``, or a name of :data:`UNARY`, :data:`BINARY`, ``REDUCTIONS``.
        parts: What it works on.
        name: Of an atom.
        kind: The role of an atom; of any other node the type of its value: a role, or ``SCALAR``.
        value: Of a constant.
    """

    op: str
    parts: tuple[Node, ...] = ()
    name: str = ""
    kind: str = SCALAR
    value: float = 0.0
    _hash: int = field(init=False, repr=False)
    size: int = field(init=False, repr=False)
    depth: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        fixed = object.__setattr__
        fixed(self, "_hash", hash((self.op, self.parts, self.name, self.kind, self.value)))
        fixed(self, "size", 1 + sum(part.size for part in self.parts))
        fixed(self, "depth", 1 + max((part.depth for part in self.parts), default=0))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Node)
            and self._hash == other._hash
            and (self.op, self.name, self.kind, self.value)
            == (other.op, other.name, other.kind, other.value)
            and self.parts == other.parts
        )

    def walk(self) -> Iterator[Node]:
        """Yield the node and all below, from the left."""
        yield self
        for part in self.parts:
            yield from part.walk()

    @cached_property
    def wanted(self) -> dict[str, tuple[str, ...]]:
        """Atoms that it reads, by role; both in alphabetical order."""
        read = sorted({(node.kind, node.name) for node in self.walk() if node.op == "atom"})
        roles = dict.fromkeys(role for role, _ in read)
        return {role: tuple(name for r, name in read if r == role) for role in roles}

    @cached_property
    def shape(self) -> Node:
        """The same with 1 in the place of every constant."""
        if self.op == "constant":
            return self if self.value == 1 else constant(1.0)
        shapes = tuple(part.shape for part in self.parts)
        if all(a is b for a, b in zip(shapes, self.parts, strict=True)):
            return self
        return Node(self.op, shapes, kind=self.kind)

    @cached_property
    def simple(self) -> Node:
        """The same without what cancels or folds; see :func:`simplified`."""
        made = _simplified(self)
        if made is not self:
            made.__dict__["simple"] = made
        return made

    @cached_property
    def _written(self) -> str:
        return _text(self)

    def __str__(self) -> str:
        return self._written


def atom(name: str, role: str) -> Node:
    """Return an atom of a role."""
    return Node("atom", name=name, kind=role)


def constant(value: float) -> Node:
    """Return a number, which must not be negative: that is ``neg`` of one."""
    return Node("constant", value=float(value))


def apply(op: str, *parts: Node) -> Node:
    """Return an operation on nodes.

    Raises:
        BadFormula: Their types do not go together.
    """
    kinds = {part.kind for part in parts if part.op != "constant"}
    if op in REDUCTIONS:
        (part,) = parts
        if part.kind == SCALAR:
            raise BadFormula(f"{op}(...) reduces places, got a number: {_short(part)}")
        return Node(op, parts)
    # A constant goes with any role.
    if len(kinds) > 1:
        named = [f"[{kind}]" if kind else "a number" for kind in sorted(kinds)]
        raise BadFormula(
            f"{op!r} works on places of one role or on numbers, got {' and '.join(named)}: "
            f"{' , '.join(map(_short, parts))}"
        )
    return Node(op, parts, kind=next(iter(kinds), SCALAR))


def _short(node: Node) -> str:
    text = str(node)
    return text if len(text) <= 60 else text[:57] + "..."


def _number(value: float) -> str:
    return repr(int(value)) if value == int(value) and value < 1e15 else repr(value)


def _text(node: Node) -> str:
    if node.op == "atom":
        return f"{node.name}[{node.kind}]"
    if node.op == "constant":
        return _number(node.value)
    if node.op not in _BINDING:
        return f"{node.op}({', '.join(map(str, node.parts))})"
    binding = _BINDING[node.op]
    if node.op == "neg":
        return f"-{_wrapped(node.parts[0], binding)}"
    left, right = node.parts
    # Of equal binding the left one is done first, as Python reads it.
    return f"{_wrapped(left, binding)} {node.op} {_wrapped(right, binding + 1)}"


def _wrapped(node: Node, binding: int) -> str:
    text = str(node)
    return text if _BINDING.get(node.op, 9) >= binding else f"({text})"


def parse(text: str) -> Node:
    """Return the formula that a text writes; ``parse(str(node)) == node``.

    Raises:
        BadFormula: It is none.
    """
    if len(text) > MAX_CHARACTERS:
        raise BadFormula(f"at most {MAX_CHARACTERS:,} characters, got {len(text):,}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        what = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        raise BadFormula(f"cannot read {_cut(text)}: {what}") from None
    node = _Reader().read(tree, 1)
    if node.kind != SCALAR:
        raise BadFormula(
            f"{_cut(text)} has one number per place; reduce it: {', '.join(REDUCTIONS)}"
        )
    if not node.wanted:
        raise BadFormula(f"{_cut(text)} reads no atom, so it says nothing of a network")
    return node


def _cut(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


class _Reader:
    """Takes Python's tree apart by an allow-list."""

    def __init__(self) -> None:
        self._nodes = 0

    def read(self, tree: ast.expr, depth: int) -> Node:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise BadFormula(f"more than {MAX_NODES} operations, atoms and numbers")
        if depth > MAX_DEPTH:
            raise BadFormula(f"more than {MAX_DEPTH} levels of nesting")
        if isinstance(tree, ast.BinOp) and type(tree.op) in _SYMBOLS:
            parts = self.read(tree.left, depth + 1), self.read(tree.right, depth + 1)
            return apply(_SYMBOLS[type(tree.op)], *parts)
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
            return apply("neg", self.read(tree.operand, depth + 1))
        if isinstance(tree, ast.Constant):
            return self._constant(tree.value)
        if isinstance(tree, ast.Subscript):
            return self._atom(tree)
        if isinstance(tree, ast.Call):
            return self._call(tree, depth)
        if isinstance(tree, ast.Name):
            raise BadFormula(f"{tree.id!r}: an atom has a role in brackets, as rms[relu]")
        raise BadFormula(
            f"{_cut(ast.unparse(tree))}: expected numbers, atoms such as rms[relu], + - * /, or "
            f"{', '.join([*_calls()])}"
        )

    @staticmethod
    def _constant(value: object) -> Node:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadFormula(f"expected a number, got {_cut(repr(value))}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise BadFormula("a number is too large")
        return constant(number)

    @staticmethod
    def _atom(tree: ast.Subscript) -> Node:
        if not isinstance(tree.value, ast.Name) or not isinstance(tree.slice, ast.Name):
            raise BadFormula(f"{_cut(ast.unparse(tree))}: expected an atom such as rms[relu]")
        name, role = tree.value.id, tree.slice.id
        if role not in ROLES:
            raise BadFormula(
                f"no role named {role!r}.{did_you_mean(role, list(ROLES))} "
                f"Known: {', '.join(ROLES)}"
            )
        names = ROLES[role].names
        if name not in names:
            raise BadFormula(
                f"[{role}] has no atom named {name!r}.{did_you_mean(name, list(names))} "
                f"Known: {', '.join(names)}"
            )
        return atom(name, role)

    def _call(self, tree: ast.Call, depth: int) -> Node:
        known = _calls()
        name = tree.func.id if isinstance(tree.func, ast.Name) else ast.unparse(tree.func)
        if name not in known:
            raise BadFormula(
                f"no function named {_cut(name)}.{did_you_mean(name, list(known))} "
                f"Known: {', '.join(known)}"
            )
        if tree.keywords or len(tree.args) != known[name]:
            given = len(tree.args) + len(tree.keywords)
            raise BadFormula(f"{name}(...) takes {known[name]} argument(s), got {given}")
        return apply(name, *(self.read(part, depth + 1) for part in tree.args))


def _calls() -> dict[str, int]:
    """Return the functions that a text may call, and how many arguments each takes."""
    return {
        **dict.fromkeys(REDUCTIONS, 1),
        **{name: 1 for name in UNARY if name != "neg"},
        **{name: 2 for name in BINARY if name not in _BINDING},
    }


def simplified(node: Node) -> Node:
    """Return a formula of the same value, up to the sixth digit, without what cancels or folds.

    Signs move outwards, constants to the left and together; nothing is reordered beyond that.
    """
    return node.simple


def _simplified(node: Node) -> Node:
    parts = tuple(part.simple for part in node.parts)
    if not parts:
        return node
    if all(part.op == "constant" for part in parts) and node.op not in REDUCTIONS:
        return _folded(Node(node.op, parts, kind=node.kind))
    made = _simple_unary(node.op, *parts) if len(parts) == 1 else _simple_binary(node.op, *parts)
    return node if made == node else made


def _folded(node: Node) -> Node:
    """Return the number that an operation on numbers makes."""
    numbers = [np.float64(part.value) for part in node.parts]
    with np.errstate(all="ignore"):
        if len(numbers) == 1:
            value = float(UNARY[node.op](np.asarray(numbers[0])))
        else:
            value = float(BINARY[node.op](*map(np.asarray, numbers)))
    if not math.isfinite(value):
        return node
    value = float(f"{value:.6g}")  # a person reads it
    return constant(value) if value >= 0 else apply("neg", constant(-value))


def _simple_unary(op: str, part: Node) -> Node:
    inner = part.parts[0] if part.op == "neg" else None
    if op == "neg":
        if inner is not None:
            return inner
        if part.op == "-":
            return apply("-", *part.parts[::-1])
    elif op in ("log", "sqrt", "square", "abs") and inner is not None:
        return _simple_unary(op, inner)  # none of them minds a sign
    elif op == "abs" and part.op in ("abs", "square", "sqrt"):
        return part
    elif op in ("mean", "sum") and inner is not None:
        return apply("neg", _simple_unary(op, inner))
    elif op in ("mean", "sum") and part.op == "*" and part.parts[0].op == "constant":
        return apply("*", part.parts[0], _simple_unary(op, part.parts[1]))
    return apply(op, part)


def _simple_binary(op: str, left: Node, right: Node) -> Node:
    if op in ("+", "-"):
        return _simple_sum(op, left, right)
    if op in ("*", "/"):
        signs = (left.op == "neg") + (right.op == "neg")
        bare = [part.parts[0] if part.op == "neg" else part for part in (left, right)]
        made = _simple_product(*bare) if op == "*" else apply("/", *bare)
        return apply("neg", made) if signs == 1 else made
    return left if left == right else apply(op, left, right)


def _simple_sum(op: str, left: Node, right: Node) -> Node:
    if right.op == "neg":
        return _simple_sum("-" if op == "+" else "+", left, right.parts[0])
    if right.op == "constant" and right.value == 0:
        return left
    if op == "+" and left.op == "neg":
        return apply("-", right, left.parts[0])
    return apply(op, left, right)


def _simple_product(left: Node, right: Node) -> Node:
    if right.op == "constant":
        left, right = right, left
    if left.op != "constant":
        return apply("*", left, right)
    if right.op == "*" and right.parts[0].op == "constant":
        product = _folded(Node("*", (left, right.parts[0])))
        left, right = (product, right.parts[1]) if product.op == "constant" else (left, right)
    return right if left.op == "constant" and left.value == 1 else apply("*", left, right)


def evaluate(node: Node, sample: Sample) -> Numbers:
    """Return the value of a formula for every network, ``(N,)``; not finite where it has none.

    Args:
        node: A number per network.
        sample: By role, with the atoms that the formula reads.
    """
    with np.errstate(all="ignore"):
        value = _value(node, sample)
    for layers in sample.values():
        if layers.dead is not None:
            value = np.where(layers.dead, np.nan, value)
    return value


def _value(node: Node, sample: Sample) -> Numbers:
    if node.op == "atom":
        return sample[node.kind].atom(node.name)
    if node.op == "constant":
        some = next(iter(sample.values()))
        return np.asarray(node.value, dtype=some.values.dtype)
    if node.op in REDUCTIONS:
        (part,) = node.parts
        return REDUCTIONS[node.op](sample[part.kind], _value(part, sample))
    parts = [_value(part, sample) for part in node.parts]
    return UNARY[node.op](*parts) if len(parts) == 1 else BINARY[node.op](*parts)
