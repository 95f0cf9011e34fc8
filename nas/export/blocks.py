"""A tree of modules as classes: blocks of the same code are one class, what differs is an argument.

Every module that is not torch's own is a block. Blocks whose code is the same but for numbers are
one class; a number that differs between them becomes an argument of the class, or follows from one
(``c_out // 2``). Modules that only wrap another one, and have no weights, are left out; those that
are called with something else than tensors become part of the block around them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nas.export.layout import (
    Arg,
    Bracket,
    Expr,
    Hole,
    Joined,
    call,
    filled,
    flat,
    holes,
    lines,
    skeleton,
)
from nas.export.tracing import Forward, Statement, as_written, traced
from spaces.cell_net import Zero
from spaces.errors import NasError

_ROLES = {
    "in_channels": "c_in",
    "in_features": "c_in",
    "groups": "c_in",
    "out_channels": "c_out",
    "out_features": "c_out",
    "num_features": "c_out",
    "kernel_size": "kernel",
    "normalized_shape": "c_out",
}
_DEFAULTS = {"stride": 1, "dilation": 1}  # of arguments of a block
_FACTORS = range(2, 13)
_FEW = 2  # a number that follows from another one and is used more often is an argument as well


@dataclass
class Instance:
    """One module that is written as a class.

    Attributes:
        module: It.
        inputs: What it was called with.
        c_out: Channels of what it returned.
        root: Whether it is the whole network.
        init: Its children: a name, and the expression that makes one.
        code: Its ``forward``; None of a ``Sequential``.
    """

    module: nn.Module
    inputs: tuple[Tensor, ...]
    c_out: int
    root: bool = False
    init: list[tuple[str, Expr]] = field(default_factory=list)
    code: Forward | None = None

    def expressions(self) -> Iterator[Expr]:
        """Yield everything in it that holds numbers."""
        for _, expr in self.init:
            yield expr
        if self.code is not None:
            for statement in self.code.body:
                yield statement.expr

    def numbers(self) -> list[Hole]:
        """Return its numbers, in the order of its code."""
        return [hole for expr in self.expressions() for hole in holes(expr)]

    def key(self) -> object:
        """Return what two blocks of one class have in common."""
        module = type(self.module)
        title = "" if self.root else getattr(self.module, "title", "")
        body: tuple[object, ...] = ()
        if self.code is not None:
            told = [(each.before, skeleton(each.expr)) for each in self.code.body]
            body = (self.code.args, tuple(told), self.code.source)
        return module, title, tuple((n, skeleton(e)) for n, e in self.init), body


@dataclass
class Parameter:
    """An argument of a class.

    Attributes:
        name: Of it.
        values: One for each instance.
        default: What it is when left out.
    """

    name: str
    values: tuple[int, ...]
    default: int | None = None

    @property
    def prefix(self) -> str:
        """What stands before it in a call: channels and kernels are given by their place."""
        return "" if _kind(self.name.rstrip("0123456789")) in ("c", "kernel") else f"{self.name}="

    @property
    def declared(self) -> str:
        """What stands in the signature."""
        return f"{self.name}: int" + ("" if self.default is None else f" = {self.default}")


@dataclass
class Block:
    """A class.

    Attributes:
        name: Of it.
        instances: The modules that it makes.
        parameters: Its arguments.
        like: A class that differs in few of its children only.
    """

    name: str
    instances: list[Instance]
    parameters: list[Parameter] = field(default_factory=list)
    like: Block | None = None

    def made(self, place: int) -> Bracket:
        """Return the call that makes an instance."""
        return Bracket(
            self.name,
            tuple(
                Arg(
                    Hole(parameter.values[place], parameter.name.rstrip("0123456789")),
                    parameter.prefix,
                    parameter.default,
                )
                for parameter in self.parameters
            ),
        )


class Blocks:
    """The classes of a network, the smallest first, the network itself last.

    Attributes:
        all: They.
    """

    def __init__(
        self, networks: Sequence[nn.Module], images: Sequence[Tensor], arguments: dict[str, Any]
    ) -> None:
        """Find the classes.

        Args:
            networks: The same network for several settings, such as numbers of classes.
            images: What each is run on.
            arguments: What differs, by name: a value for each network.

        Raises:
            NasError: The network cannot be written as code.
        """
        self._arguments = arguments
        self._called: dict[int, tuple[tuple[Any, ...], Any]] = {}
        self._wrapped: dict[int, nn.Module] = {}
        self._made: dict[int, tuple[Block, int]] = {}
        self.all: list[Block] = []
        for network, batch in zip(networks, images, strict=True):
            self._run(network, batch)
        levels: dict[int, list[nn.Module]] = {}
        for network in networks:
            for module in network.modules():
                if self._is_block(module) and module is not network:
                    levels.setdefault(self._height(module), []).append(module)
        for height in sorted(levels):
            self._add(levels[height])
        self._add(list(networks), root=True)

    def _run(self, network: nn.Module, batch: Tensor) -> None:
        def note(module: nn.Module, args: tuple[Any, ...], kwargs: Any, result: Any) -> None:  # noqa: ANN401
            self._called.setdefault(id(module), ((*args, *kwargs.values()), result))

        hooks = [each.register_forward_hook(note, with_kwargs=True) for each in network.modules()]
        try:
            with torch.no_grad():
                network(batch)
        finally:
            for hook in hooks:
                hook.remove()

    def _is_inlined(self, module: nn.Module) -> bool:
        """Tell whether a module's code becomes part of the block around it."""
        if module.__module__.startswith("torch.nn") or isinstance(module, Zero):
            return False
        args, result = self._called.get(id(module), ((), None))
        return not all(isinstance(value, Tensor) for value in (*args, result))

    def _is_block(self, module: nn.Module) -> bool:
        if module.__module__.startswith("torch.nn") or isinstance(module, Zero):
            return False
        return id(module) in self._called and not self._is_inlined(module)

    def _height(self, module: nn.Module) -> int:
        below = [self._height(m) for m in module.modules() if m is not module and self._is_block(m)]
        return 1 + max(below, default=0)

    def _add(self, modules: Sequence[nn.Module], *, root: bool = False) -> None:
        groups: dict[object, list[Instance]] = {}
        for module in modules:
            instance = self._instance(module, root)
            if instance is not None:
                groups.setdefault(instance.key(), []).append(instance)
        for instances in groups.values():
            block = Block(self._name(instances[0]), instances)
            _parametrise(block, self._arguments if root else {})
            if not root:
                block.like = next((x for x in self.all if _are_alike(x, block)), None)
            self.all.append(block)
            for place, instance in enumerate(instances):
                self._made[id(instance.module)] = block, place

    def _name(self, instance: Instance) -> str:
        if instance.root:
            return "Network"
        name = getattr(instance.module, "title", "") or type(instance.module).__name__
        taken = {block.name for block in self.all} | {"Network", "Tensor", "OrderedDict"}
        number = 1
        unique = name
        while unique in taken:
            number += 1
            unique = f"{name}{number}"
        return unique

    def _instance(self, module: nn.Module, root: bool) -> Instance | None:
        """Return a module as code; None if it only wraps another one."""
        inputs, result = self._called[id(module)]
        found = Instance(module, inputs, result.shape[1], root)
        if type(module).forward is nn.Sequential.forward and isinstance(module, nn.Sequential):
            found.init = [(name, self._made_by(child)) for name, child in module.named_children()]
            return found
        found.code = as_written(module) or traced(module, inputs, self._is_inlined)
        read = found.code.reads
        children = dict(module.named_children())
        if not module.state_dict() and len(children) == 1 and _passes_on(found.code):
            self._wrapped[id(module)] = next(iter(children.values()))
            return None
        for name, value in (
            *module.named_parameters(recurse=False),
            *module.named_buffers(recurse=False),
        ):
            if name in module.state_dict():
                found.init.append((name, _tensor(value, name)))
        for name, child in children.items():
            if name in read or child.state_dict():
                found.init.append((name, self._made_by(child)))
        return found

    def _made_by(self, module: nn.Module) -> Expr:
        """Return the expression that makes a module."""
        if id(module) in self._wrapped:
            return self._made_by(self._wrapped[id(module)])
        if id(module) in self._made:
            block, place = self._made[id(module)]
            return block.made(place)
        if isinstance(module, nn.Sequential):
            return self._sequence(module)
        children = list(module.named_children())
        if isinstance(module, nn.ModuleList):
            return call("nn.ModuleList", Bracket("", self._items(children, ""), "[]"))
        if type(module) in (nn.Module, nn.ModuleDict) or self._is_inlined(module):
            held = [(name, child) for name, child in children if self._is_something(child)]
            return call("nn.ModuleDict", Bracket("", self._items(held, '"{}": '), "{}"))
        return _layer(module)

    def _is_something(self, child: nn.Module) -> bool:
        return not isinstance(child, nn.Identity | Zero)

    def _items(self, children: Sequence[tuple[str, nn.Module]], prefix: str) -> tuple[Arg, ...]:
        return tuple(Arg(self._made_by(child), prefix.format(name)) for name, child in children)

    def _sequence(self, module: nn.Sequential) -> Expr:
        children = list(module.named_children())
        if [name for name, _ in children] != [str(i) for i in range(len(children))]:
            if all(name.isidentifier() for name, _ in children):
                return call("nn.Sequential", Bracket("OrderedDict", self._items(children, "{}=")))
            entries = Bracket("", self._items(children, '"{}": '), "{}")
            return call("nn.Sequential", call("OrderedDict", entries))
        made = [self._made_by(child) for _, child in children]
        if len(made) > 1 and len(set(made)) == 1:
            times = Joined((" for _ in range(", str(len(made)), ")"))
            return call("nn.Sequential", Joined(("*(", made[0], times, ")")))
        return call("nn.Sequential", *made)


def _passes_on(code: Forward) -> bool:
    """Tell whether a method does nothing but hand its argument to its only child."""
    (name,) = code.reads if len(code.reads) == 1 else ("",)
    if len(code.args) != 1 or not name:
        return False
    told = [f"{each.before}{flat(each.expr)}" for each in code.body] or list(code.source)
    return [line.strip() for line in told] == [f"return self.{name}({code.args[0]})"]


def _tensor(value: Tensor, name: str) -> Expr:
    """Return what makes a parameter or buffer that a module holds itself."""
    shape = Bracket("", tuple(Arg(Hole(size, "c_out")) for size in value.shape), "()")
    if value.ndim == 1:
        shape = Bracket("", (*shape.args, Arg("")), "()")
    made: Expr = call("torch.zeros", shape)
    if not value.dtype.is_floating_point:
        made = Bracket("torch.zeros", (Arg(shape), Arg(repr(value.dtype), "dtype=")))
    return call("nn.Parameter", made) if isinstance(value, nn.Parameter) else made


def _layer(module: nn.Module) -> Expr:
    """Return the call that makes one of torch's own layers, of what it remembers of its making."""
    kind = type(module)
    args: list[Arg] = []
    for name, told in list(inspect.signature(kind.__init__).parameters.items())[1:]:
        if name in ("device", "dtype") or told.kind in (told.VAR_POSITIONAL, told.VAR_KEYWORD):
            continue
        value = getattr(module, name, told.default)
        if name == "bias":
            value = value is not None and value is not False
        if value is told.empty:
            raise NasError(f"nn.{kind.__name__} cannot be written out as Python: no {name} in it")
        if name == "stride" and told.default is None and value == module.kernel_size:
            value = None
        if isinstance(value, tuple) and len(set(value)) == 1 and len(value) > 1:
            value = value[0]
        prefix = "" if told.default is told.empty else f"{name}="
        if name == "groups" and value == 1:
            continue
        if type(value) is int:
            default = told.default if type(told.default) is int else None
            args.append(Arg(Hole(value, _ROLES.get(name, name)), prefix, default))
        elif value != told.default:
            args.append(Arg(_plain(value, kind), prefix))
    return Bracket(f"nn.{kind.__name__}", tuple(args))


def _plain(value: object, kind: type) -> Expr:
    if isinstance(value, tuple) and all(type(each) is int for each in value):
        return Bracket("", tuple(Arg(str(each)) for each in value), "()")
    if isinstance(value, bool | float | None):
        return repr(value)
    if isinstance(value, str):
        return f'"{value}"'
    raise NasError(f"nn.{kind.__name__} cannot be written out as Python: {value!r} in it")


def _parametrise(block: Block, arguments: dict[str, Any]) -> None:
    """Find the arguments of a class, and write its code with them."""
    columns = list(zip(*(instance.numbers() for instance in block.instances), strict=True))
    found = [_Column(column[0].role, tuple(hole.value for hole in column)) for column in columns]
    known = _Known(block, arguments, found)
    texts = iter([known.text(column) for column in found])
    first = block.instances[0]
    first.init = [(name, filled(expr, lambda _: next(texts))) for name, expr in first.init]
    if first.code is not None:
        body = [Statement(x.before, filled(x.expr, lambda _: next(texts))) for x in first.code.body]
        first.code = replace(first.code, body=tuple(body))
    if not arguments:
        block.parameters = known.parameters()


class _Column(NamedTuple):
    """The same number of the code, in every instance of it."""

    role: str
    values: tuple[int, ...]

    @property
    def is_constant(self) -> bool:
        return len(set(self.values)) == 1


class _Known:
    """What the numbers of a class are called.

    Channels are never written as numbers inside a block, so that it can be made of another width.
    """

    def __init__(self, block: Block, arguments: dict[str, Any], columns: Sequence[_Column]) -> None:
        self._is_root = bool(arguments)
        self._names: dict[str, dict[tuple[int, ...], str]] = {}  # kind, values: name
        here = self._of("c")
        for name, values in _at_the_ends(block, arguments):
            if self._is_root or any(x.values == values and _kind(x.role) == "c" for x in columns):
                here.setdefault(values, name)
        asked = [x for x in columns if self._is_named(x)]
        for column in sorted(asked, key=lambda x: _kind(x.role) not in ("c", "kernel")):
            alike = [
                x for x in asked if (_kind(x.role), x.values) == (_kind(column.role), column.values)
            ]
            often = len(alike) > _FEW
            if self._known(column) is None or (often and not self._is_exact(column)):
                names = self._of(_kind(column.role))
                names[column.values] = self._new_name(column.role)

    def _of(self, kind: str) -> dict[tuple[int, ...], str]:
        return self._names.setdefault(kind, {})

    def _is_named(self, column: _Column) -> bool:
        if column.is_constant:
            return _kind(column.role) == "c" and column.role != "n" and not self._is_root
        return True

    def _is_exact(self, column: _Column) -> bool:
        return column.values in self._of(_kind(column.role))

    def _known(self, column: _Column) -> str | None:
        """Return a number in terms of those that have a name."""
        kind = _kind(column.role)
        if column.values in self._of(kind):
            return self._of(kind)[column.values]
        bases = self._of("kernel" if kind == "padding" else kind)
        for factor in _FACTORS:
            for values, name in bases.items():
                if self._is_root or kind not in ("c", "padding"):
                    continue
                if tuple(each // factor for each in values) == column.values:
                    return f"{name} // {factor}"
                if tuple(factor * each for each in values) == column.values:
                    return f"{factor} * {name}"
                if kind == "padding" and tuple(each - 1 for each in values) == column.values:
                    return f"{name} - 1"  # of a dilation of 2
        return None

    def _new_name(self, role: str) -> str:
        taken = {name for names in self._names.values() for name in names.values()}
        name = role
        if _kind(role) == "c":
            name = "hidden" if taken & {"c", "c_in", "c_out"} else "c"
        if name not in taken:
            return name
        return next(f"{name}{i}" for i in range(2, 1000) if f"{name}{i}" not in taken)

    def text(self, column: _Column) -> str:
        """Return how a number is written."""
        return (self._known(column) if self._is_named(column) else None) or str(column.values[0])

    def parameters(self) -> list[Parameter]:
        """Return the arguments: channels first, those that may be left out last."""
        found = [
            Parameter(name, values, _DEFAULTS.get(name))
            for kind in sorted(self._names, key=lambda kind: kind not in ("c", "kernel"))
            for values, name in self._names[kind].items()
        ]
        return sorted(found, key=lambda parameter: parameter.default is not None)


def _kind(role: str) -> str:
    return "c" if role in ("c_in", "c_out", "c", "hidden", "n") or role.startswith("c_") else role


def _at_the_ends(block: Block, arguments: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield what comes and goes, in channels: the arguments that a reader expects first."""
    if arguments:
        yield from ((name, tuple(values)) for name, values in arguments.items())
        return
    first = block.instances[0]
    going = tuple(instance.c_out for instance in block.instances)
    names = ["c_in"] if first.code is None else [f"c_{arg}" for arg in first.code.args]
    for number in range(len(first.inputs)):
        coming = tuple(instance.inputs[number].shape[1] for instance in block.instances)
        if len(first.inputs) > 1:
            yield names[number], coming
        else:
            yield "c" if coming == going else "c_in", coming
    yield "c_out", going


def _are_alike(first: Block, second: Block) -> bool:
    """Tell whether two classes differ in no more than a third of their children."""
    one, other = (block.instances[0] for block in (first, second))
    same_form = (
        first.like is None
        and type(one.module) is type(other.module)
        and one.code is not None
        and one.code == other.code
        and [p.declared for p in first.parameters] == [p.declared for p in second.parameters]
        and [name for name, _ in one.init] == [name for name, _ in other.init]
    )
    return same_form and 0 < 3 * len(_differing(first, second)) <= len(one.init)


def _differing(first: Block, second: Block) -> list[tuple[str, Expr]]:
    """Return the children of the second class that the first has not."""
    known = first.instances[0].init
    return [child for child in second.instances[0].init if child not in known]


def class_lines(block: Block, signature: Sequence[str] = ()) -> list[str]:
    """Return the code of a class.

    Args:
        block: The class.
        signature: Arguments of its constructor, where they are not those of the block.
    """
    first = block.instances[0]
    sequential = first.code is None
    base = f"nn.{'Sequential' if sequential else 'Module'}"
    found = [f"class {block.name}({block.like.name if block.like else base}):"]
    about = inspect.getdoc(type(first.module)) or f"One {block.name}."
    about = about.split("\n\n")[0].replace("\\", "\\\\")
    found += [*(f"    {line}".rstrip() for line in f'"""{about}"""'.splitlines()), ""]
    given = signature or [parameter.declared for parameter in block.parameters]
    head = Bracket("def __init__", tuple(map(Arg, ("self", *given))))
    found += lines(head, 4, after=" -> None:")
    if sequential:
        children = [expr for _, expr in first.init]
        return found + lines(call("super().__init__", *children), 8)
    if block.like is not None:
        passed = [p.prefix + p.name for p in block.parameters]
        found += lines(call("super().__init__", *passed), 8)
        return found + _init_lines(first, _differing(block.like, block))
    found += ["        super().__init__()", *_init_lines(first, first.init)]
    assert first.code is not None
    typed = [Arg(f"{arg}: Tensor") for arg in first.code.args]
    found += ["", *lines(Bracket("def forward", (Arg("self"), *typed)), 4, after=" -> Tensor:")]
    found += first.code.source
    for statement in first.code.body:
        found += lines(statement.expr, 8, statement.before)
    return found


def _init_lines(instance: Instance, children: Sequence[tuple[str, Expr]]) -> list[str]:
    buffers = dict(instance.module.named_buffers(recurse=False))
    found: list[str] = []
    for name, expr in children:
        if name in buffers:
            found += lines(call("self.register_buffer", f'"{name}"', expr), 8)
        else:
            found += lines(_head(expr), 8, f"self.{name} = ")
    return found


def _head(expr: Expr) -> Expr:
    """Return a classifier that may be left out."""
    if flat(expr).startswith("nn.Linear(") and "num_classes" in flat(expr):
        return Joined((expr, " if num_classes else nn.Identity()"))
    return expr
