"""Expressions of Python, and how they are broken into lines: as ``ruff format`` does, 100 wide.

Numbers that may differ between two blocks of one class are :class:`Hole`; everything else is fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

WIDTH = 100
INDENT = 4


@dataclass(frozen=True)
class Hole:
    """A number of one block.

    Attributes:
        value: The number.
        role: What it counts, such as ``c_in`` or ``kernel``.
    """

    value: int
    role: str


@dataclass(frozen=True)
class Arg:
    """An argument of a call, an entry of a list or of a dictionary.

    Attributes:
        value: What is given.
        prefix: What stands before it, such as ``stride=``.
        default: An argument of this value is left out.
    """

    value: Expr
    prefix: str = ""
    default: int | None = None


@dataclass(frozen=True)
class Bracket:
    """What may be broken into lines: a call, a list, a dictionary, a tuple of indices.

    Attributes:
        head: What stands before the bracket.
        args: In the bracket.
        ends: The brackets themselves.
    """

    head: Expr
    args: tuple[Arg, ...]
    ends: str = "()"


@dataclass(frozen=True)
class Joined:
    """Parts that stand beside each other, such as the two sides of a sum."""

    parts: tuple[Expr, ...]


Expr: TypeAlias = str | Hole | Bracket | Joined


def call(head: Expr, *values: Expr) -> Bracket:
    """Return a call without keywords."""
    return Bracket(head, tuple(Arg(value) for value in values))


def holes(expr: Expr) -> Iterator[Hole]:
    """Yield the numbers of an expression, from left to right."""
    if isinstance(expr, Hole):
        yield expr
    elif isinstance(expr, Bracket):
        yield from holes(expr.head)
        for arg in expr.args:
            yield from holes(arg.value)
    elif isinstance(expr, Joined):
        for part in expr.parts:
            yield from holes(part)


def filled(expr: Expr, fill: Callable[[Hole], Expr]) -> Expr:
    """Return an expression with every number replaced, from left to right.

    An argument that comes out as its default is left out.
    """
    if isinstance(expr, Hole):
        return fill(expr)
    if isinstance(expr, Joined):
        return Joined(tuple(filled(part, fill) for part in expr.parts))
    if isinstance(expr, Bracket):
        head = filled(expr.head, fill)
        args = tuple(Arg(filled(arg.value, fill), arg.prefix, arg.default) for arg in expr.args)
        return Bracket(
            head,
            tuple(x for x in args if x.default is None or x.value != str(x.default)),
            expr.ends,
        )
    return expr


def skeleton(expr: Expr) -> Expr:
    """Return an expression without its numbers: equal for two that differ in nothing else."""
    return filled(expr, lambda hole: Hole(0, hole.role))


def flat(expr: Expr) -> str:
    """Return an expression on one line."""
    if isinstance(expr, str):
        return expr
    if isinstance(expr, Hole):
        return str(expr.value)
    if isinstance(expr, Joined):
        return "".join(map(flat, expr.parts))
    inside = ", ".join(_flat_arg(arg) for arg in expr.args)
    return f"{flat(expr.head)}{expr.ends[0]}{inside}{expr.ends[1]}"


def _flat_arg(arg: Arg) -> str:
    return f"{arg.prefix}{flat(arg.value)}"


def lines(expr: Expr, indent: int, before: str = "", after: str = "") -> list[str]:
    """Return a statement or an argument as lines.

    On one line if it fits; else what is in the bracket on a line of its own; else an argument a
    line.

    Args:
        expr: The expression.
        indent: Columns before it.
        before: What stands before it on its first line.
        after: What stands after it on its last line.
    """
    margin = " " * indent
    whole = f"{margin}{before}{flat(expr)}{after}"
    if len(whole) <= WIDTH or not isinstance(expr, Bracket) or not expr.args:
        return [whole]
    first = f"{margin}{before}{flat(expr.head)}{expr.ends[0]}"
    last = f"{margin}{expr.ends[1]}{after}"
    inner = f"{margin}{' ' * INDENT}{', '.join(_flat_arg(arg) for arg in expr.args)}"
    if len(inner) <= WIDTH:
        return [first, inner, last]
    comma = "," if len(expr.args) > 1 else ""
    found = [first]
    for arg in expr.args:
        found += lines(arg.value, indent + INDENT, arg.prefix, comma)
    return [*found, last]
