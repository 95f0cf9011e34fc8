"""The code of a block's ``forward``: as its author wrote it, or the operations that it really does.

A ``forward`` that only calls its children is taken over as it is. One that looks things up, decides
or loops is traced (``torch.fx``) and written down as straight-line code: without copies, without
zeros that are added, without slices that cut nothing, and without what nobody reads.
"""

from __future__ import annotations

import ast
import inspect
import operator
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from nas.export.layout import WIDTH, Arg, Bracket, Expr, Hole, Joined, call, flat
from spaces.cell_net import Zero
from spaces.errors import NasError

_INDENT = 8  # of a statement in a method


@dataclass(frozen=True)
class Statement:
    """One statement of a method: ``before`` is ``return`` or what is assigned."""

    before: str
    expr: Expr


@dataclass(frozen=True)
class Forward:
    """The code of a method ``forward``.

    Attributes:
        args: Names of what it is called with.
        body: Its statements, where it was traced.
        source: Its lines, where it was taken over.
        reads: Names of the children that it calls, by their first part.
    """

    args: tuple[str, ...]
    body: tuple[Statement, ...] = ()
    source: tuple[str, ...] = ()
    reads: frozenset[str] = field(default=frozenset())


def argument_names(module: nn.Module) -> tuple[str, ...]:
    """Return the names of what a module is called with."""
    return tuple(inspect.signature(type(module).forward).parameters)[1:]


def as_written(module: nn.Module) -> Forward | None:
    """Return the ``forward`` of a module as its author wrote it, if that is all it does.

    None if it uses anything but its children, its arguments and torch, or if it decides anything.
    """
    try:
        source = textwrap.dedent(inspect.getsource(type(module).forward))
    except (OSError, TypeError):
        return None
    method = ast.parse(source).body[0]
    if not isinstance(method, ast.FunctionDef) or method.decorator_list:
        return None
    children = dict(module.named_children())
    reads = set()
    for node in ast.walk(method):
        if isinstance(node, _DECIDES):
            return None
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self":
            if not _does_something(children.get(node.attr)):
                return None
            reads.add(node.attr)
    if not _names(method) <= _KNOWN:
        return None
    text = source.splitlines()[method.body[0].lineno - 1 :]
    margin = len(text[0]) - len(text[0].lstrip())
    body = [" " * _INDENT + line[margin:] if line.strip() else "" for line in text]
    return Forward(argument_names(module), source=tuple(_shorter(body)), reads=frozenset(reads))


_DECIDES = (ast.If, ast.IfExp, ast.While, ast.Try, ast.With, ast.Lambda)
_KNOWN = {"self", "torch", "nn", "Tensor", "range", "len", "enumerate", "zip", "reversed"}


def _does_something(child: nn.Module | None) -> bool:
    return child is not None and not isinstance(child, nn.Identity | Zero)


def _names(method: ast.FunctionDef) -> set[str]:
    """Return the names that a method takes from outside."""
    named = [node for node in ast.walk(method) if isinstance(node, ast.Name)]
    own = {node.id for node in named if isinstance(node.ctx, ast.Store)}
    own |= {arg.arg for arg in method.args.args}
    return {node.id for node in named} - own


def _shorter(body: list[str]) -> list[str]:
    """Return the value of the last line but one where the last returns nothing but its name."""
    if len(body) < 2 or not body[-1].strip().startswith("return "):
        return body
    name = body[-1].strip().removeprefix("return ")
    for assigned in (f"{name}: Tensor = ", f"{name} = "):
        if name.isidentifier() and body[-2].strip().startswith(assigned):
            return [*body[:-2], body[-2].replace(assigned, "return ", 1)]
    return body


class _Tracer(fx.Tracer):
    """Traces, and keeps the local variables of ``forward`` as they are at its last operation.

    Attributes:
        variables: They, by name.
    """

    def __init__(self, module: nn.Module, inlined: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self.variables: dict[str, Any] = {}
        self._code = getattr(type(module).forward, "__code__", None)
        self._inlined = inlined

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not self._inlined(m)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:  # noqa: ANN401 - as torch's
        frame = inspect.currentframe()
        while frame is not None and frame.f_code is not self._code:
            frame = frame.f_back
        if frame is not None:
            self.variables.update(frame.f_locals)
        return super().create_node(*args, **kwargs)


class _Shapes(fx.Interpreter):
    """Notes the shape of every value."""

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401 - whatever it is
        found = super().run_node(n)
        n.meta["shape"] = tuple(found.shape) if isinstance(found, Tensor) else None
        return found


class _Nothing:
    """Zeros of the shape of something."""

    def __init__(self, like: Expr) -> None:
        self.like = like


def traced(
    module: nn.Module, inputs: Sequence[Tensor], inlined: Callable[[nn.Module], bool]
) -> Forward:
    """Return what a module's ``forward`` does.

    Args:
        module: The module.
        inputs: What it is called with; of them the shapes matter.
        inlined: Tells of a child whether its code becomes part of this one.

    Raises:
        NasError: It cannot be traced, or does what cannot be written down.
    """
    what = type(module).__qualname__
    try:
        tracer = _Tracer(module, inlined)
        graph = tracer.trace(module)
        code = fx.GraphModule(module, graph)
        graph.eliminate_dead_code()
        with torch.no_grad():
            _Shapes(code).run(*inputs)
    except Exception as error:  # noqa: BLE001 - whatever the module's code makes of the tracer
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NasError(
            f"{what}.forward cannot be written out as Python: torch.fx cannot trace it: {reason}"
        ) from None
    return _Writer(module, graph, _value_names(tracer.variables)).written()


def _value_names(variables: dict[str, Any]) -> dict[fx.Node, tuple[str, bool]]:
    """Return a name for each value that a variable or an entry of one holds, and whether it is one.

    ``nodes[3]`` is called ``node3``.
    """
    names: dict[fx.Node, tuple[str, bool]] = {}
    for name, value in variables.items():
        if isinstance(value, fx.Proxy):
            names.setdefault(value.node, (name, False))
        elif isinstance(value, dict | list | tuple):
            entries = value.items() if isinstance(value, dict) else enumerate(value)
            for key, entry in entries:
                if isinstance(entry, fx.Proxy):
                    names[entry.node] = f"{name.removesuffix('s')}{key}", isinstance(value, dict)
    return names


_SYMBOLS: dict[Any, str] = {
    operator.add: "+",
    operator.iadd: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.truediv: "/",
}
_ADDS = (operator.add, operator.iadd, torch.add)


class _Writer:
    """Writes a graph down."""

    def __init__(
        self, module: nn.Module, graph: fx.Graph, names: dict[fx.Node, tuple[str, bool]]
    ) -> None:
        self._module, self._graph, self._names = module, graph, names
        self._values: dict[fx.Node, Expr | _Nothing] = {}
        self._sums: set[fx.Node] = set()
        self._taken: set[str] = set()
        self._body: list[Statement] = []

    def written(self) -> Forward:
        args = []
        for node in self._graph.nodes:
            if node.op == "placeholder":
                args.append(node.target)
                self._values[node] = node.target
                self._taken.add(node.target)
            elif node.op == "output":
                self._body.append(Statement("return ", self._operand(node.args[0])))
            else:
                self._values[node] = self._named(node, self._value(node))
        body = _without_unread(self._body)
        text = " ".join(flat(each.expr) for each in body)
        return Forward(tuple(args), body=body, reads=frozenset(re.findall(r"self\.(\w+)", text)))

    def _named(self, node: fx.Node, value: Expr | _Nothing) -> Expr | _Nothing:
        """Give a value a variable if it is read more than once or has a place in the block."""
        if isinstance(value, _Nothing) or value in self._taken:
            return value
        name, is_place = self._names.get(node, ("y", False))
        readers = list(node.users)
        returned = [reader.op for reader in readers] == ["output"]
        if returned or (len(readers) == 1 and not is_place and len(flat(value)) < WIDTH - 30):
            return value
        unique, number = name, 1
        while unique in self._taken:
            unique, number = f"{name}{number}", number + 1
        self._taken.add(unique)
        self._body.append(Statement(f"{unique} = ", value))
        return unique

    def _value(self, node: fx.Node) -> Expr | _Nothing:
        if node.op == "call_module":
            return self._called(node)
        if node.op == "get_attr":
            return f"self.{node.target}"
        if node.op == "call_method":
            receiver, *rest = node.args
            return Bracket(
                Joined((self._operand(receiver), f".{node.target}")), self._arguments(node, rest)
            )
        if node.target in _ADDS and len(node.args) == 2:
            return self._sum(node)
        return self._function(node)

    def _function(self, node: fx.Node) -> Expr | _Nothing:
        target: Any = node.target
        if target is operator.getitem:
            return self._item(node)
        if target is getattr:
            return Joined((self._operand(node.args[0]), f".{node.args[1]}"))
        if target in _SYMBOLS:
            left, right = (self._factor(arg) for arg in node.args)
            self._sums.add(node)
            return Joined((left, f" {_SYMBOLS[target]} ", right))
        name = getattr(target, "__name__", "")
        for home, prefix in ((torch, "torch"), (nn.functional, "nn.functional")):
            if getattr(home, name, None) is target:
                return Bracket(f"{prefix}.{name}", self._arguments(node, node.args))
        raise NasError(
            f"{type(self._module).__qualname__}.forward cannot be written out as Python: it calls "
            f"{target}, which is no function of torch"
        )

    def _called(self, node: fx.Node) -> Expr | _Nothing:
        path = str(node.target)
        child = self._module.get_submodule(path)
        given = self._values.get(node.args[0]) if isinstance(node.args[0], fx.Node) else None
        if isinstance(child, Zero):
            return _Nothing(self._operand(node.args[0]))
        if isinstance(child, nn.Identity) and given is not None:
            if node.args[0] in self._sums:
                self._sums.add(node)
            return given
        if isinstance(given, _Nothing) and _keeps_zeros(child):
            return given
        return Bracket(reference(self._module, path), self._arguments(node, node.args))

    def _sum(self, node: fx.Node) -> Expr | _Nothing:
        left, right = node.args
        values = [self._values.get(x) if isinstance(x, fx.Node) else None for x in (left, right)]
        for value, other in ((values[0], values[1]), (values[1], values[0])):
            if isinstance(value, _Nothing) and other is not None:
                return other
        self._sums.add(node)
        return Joined((self._operand(left), " + ", self._factor(right)))

    def _item(self, node: fx.Node) -> Expr | _Nothing:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        shape = source.meta.get("shape")
        if shape is not None and shape == node.meta.get("shape"):
            return self._values[source]  # it cuts nothing
        index = node.args[1]
        parts = index if isinstance(index, tuple) else (index,)
        return Bracket(self._factor(source), tuple(Arg(self._index(p)) for p in parts), "[]")

    def _index(self, part: Any) -> Expr:  # noqa: ANN401 - whatever an index may be
        if not isinstance(part, slice):
            return self._operand(part)
        start, stop = ("" if end is None else self._operand(end) for end in (part.start, part.stop))
        step: Expr = "" if part.step is None else Joined((":", self._operand(part.step)))
        return Joined((start, ":", stop, step))

    def _arguments(self, node: fx.Node, values: Sequence[Any]) -> tuple[Arg, ...]:
        given = [Arg(self._operand(value)) for value in values]
        return (*given, *(Arg(self._operand(v), f"{k}=") for k, v in node.kwargs.items()))

    def _factor(self, value: Any) -> Expr:  # noqa: ANN401 - as _operand
        """Return an operand that may stand beside a sign."""
        shown = self._operand(value)
        known = isinstance(value, fx.Node) and value in self._sums and shown not in self._taken
        return call("", shown) if known else shown

    def _operand(self, value: Any) -> Expr:  # noqa: ANN401 - whatever an argument may be
        if isinstance(value, fx.Node):
            found = self._values[value]
            return call("torch.zeros_like", found.like) if isinstance(found, _Nothing) else found
        if isinstance(value, list | tuple):
            ends = "[]" if isinstance(value, list) else "()"
            return Bracket("", tuple(Arg(self._operand(each)) for each in value), ends)
        return _literal(value)


def _without_unread(body: Sequence[Statement]) -> tuple[Statement, ...]:
    """Return statements without variables that nothing reads any more."""
    kept: list[Statement] = []
    for statement in reversed(body):
        name = re.escape(statement.before.removesuffix(" = "))
        read = any(re.search(rf"(?<![\w.\"]){name}\b", flat(each.expr)) for each in kept)
        if read or statement.before == "return ":
            kept.insert(0, statement)
    return tuple(kept)


def _literal(value: Any) -> Expr:  # noqa: ANN401 - whatever an argument may be
    if isinstance(value, torch.dtype | torch.device) or value is None:
        return repr(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if type(value) is int:
        return Hole(value, "n")
    if isinstance(value, bool | float):
        return repr(value)
    raise NasError(f"cannot be written out as Python: the value {value!r} in a forward")


def _keeps_zeros(child: nn.Module) -> bool:
    return isinstance(child, nn.AvgPool2d | nn.MaxPool2d) or (
        not list(child.parameters())
        and [type(each) for each in child.children()] in ([nn.AvgPool2d], [nn.MaxPool2d])
    )


def reference(module: nn.Module, path: str) -> Expr:
    """Return how a descendant is called in the code of a module: ``self.node2["from0"]``."""
    found, here = "self", module
    for name in path.split("."):
        if here is module or (isinstance(here, nn.Sequential) and not name.isdecimal()):
            found += f".{name}"
        elif name.isdecimal():
            found += f"[{name}]"
        else:
            found += f'["{name}"]'
        here = here.get_submodule(name)
    return found
