"""YAML without surprises: plain values, the line each came from, and every fault at once.

Scalars follow the YAML 1.2 core schema, which is what people expect of ``yes`` (a word), ``1e-3``
(a number), ``010`` (ten) and ``12:30`` (a word); PyYAML alone follows YAML 1.1 and reads these as
``True``, a word, eight and 750. Tags are refused, duplicate keys are refused, and size, depth and
the number of values are bounded, so that no text can exhaust the machine.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Protocol, TypeAlias

import yaml

from nas.reading import UnreadableFile, read_text
from spaces.errors import NasError

Path: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the top of a document to one of its values."""

MAX_CHARACTERS = 65_536
MAX_DEPTH = 20
MAX_VALUES = 5_000  # counted after aliases are followed: ten lines of aliases can mean a billion


@dataclass(frozen=True)
class Problem:
    """One fault: where it is, in which value, and what is wrong.

    Attributes:
        where: ``recipe.yaml:7`` or ``<command line>``.
        path: The value, as dotted keys; empty for the whole document.
        text: What came and what is allowed.
    """

    where: str
    path: str
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.path, self.text) if part)


class YamlError(NasError, ValueError):
    """A text that cannot be read; the message has one line per fault."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, problems)))


@dataclass
class Document:
    """A YAML text as plain values.

    Attributes:
        value: Mappings, lists, texts, numbers, booleans and ``None``.
        places: Where each value stands, by its path: ``recipe.yaml:7``.
        problems: Faults that left a readable document: duplicate keys, tags.
    """

    value: Any
    places: dict[Path, str]
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: Path) -> str:
        """Return where ``path`` stands, or where its nearest enclosing value does."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places[path]


def dotted(path: Path) -> str:
    """Return ``a.b.0`` for ``("a", "b", 0)``."""
    return ".".join(map(str, path))


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the YAML 1.2 core schema for unquoted scalars."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


def _integer(text: str) -> int:
    body = text.lstrip("+-")
    base = {"0x": 16, "0o": 8}.get(body[:2], 10)
    return int(text, base)


def _float(text: str) -> float:
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_TAG = "tag:yaml.org,2002:"
# name: (pattern, first characters, conversion); tried in this order
_SCALARS: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "null": (r"~|null|Null|NULL|", "~nN", lambda text: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF", lambda text: text.lower() == "true"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789", _integer),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
        "-+.0123456789",
        _float,
    ),
    "merge": (r"<<", "<", str),
    "str": (r"", "", str),
}
for _name, (_pattern, _first, _) in _SCALARS.items():
    if _name != "str":
        _firsts = [*_first, ""] if _name == "null" else list(_first)
        _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _firsts)


def read(path: PathLike[str]) -> str:
    """Return the text of a file, at most as much as :func:`parse` takes.

    Raises:
        YamlError: There is none, it is no regular file, too large, or no UTF-8 text.
    """
    try:
        return read_text(path, 4 * MAX_CHARACTERS)  # a character has at most four bytes
    except FileNotFoundError as error:
        raise YamlError([Problem(str(path), "", f"cannot read: {error.strerror}")]) from None
    except UnreadableFile as error:
        raise YamlError([Problem(str(path), "", str(error))]) from None


def parse(text: str, source: str, *, numbered: bool = True) -> Document:
    """Read one YAML document.

    Args:
        text: The document.
        source: Its name in messages.
        numbered: Whether a place is ``source:line`` or just ``source``.

    Raises:
        YamlError: The text is no YAML, or exceeds a limit. Duplicate keys and tags do not raise:
            they are in the document's ``problems``, so that a caller can report them with others.
    """
    reader = _Reader(source, numbered)
    if len(text) > MAX_CHARACTERS:
        raise YamlError(
            [Problem(source, "", f"at most {MAX_CHARACTERS} characters, got {len(text)}")]
        )
    try:
        reader.check_depth(text)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise YamlError([Problem(reader.at(mark), "", f"not valid YAML: {what}")]) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML lets chr() complain about escapes such as "\UFFFFFFFF" by itself
        what = " ".join(str(error).split())
        raise YamlError([Problem(source, "", f"not valid YAML: {what}")]) from None
    if node is None:
        return Document(None, {(): source})
    value = reader.read(node, ())
    return Document(value, reader.places, reader.problems)


class _Mark(Protocol):
    """What PyYAML's two kinds of mark have in common."""

    line: int


class _Reader:
    """Turns PyYAML's nodes into values and notes where each stands."""

    def __init__(self, source: str, numbered: bool) -> None:
        self.source = source
        self.numbered = numbered
        self.places: dict[Path, str] = {(): source}
        self.problems: list[Problem] = []
        self._n_values = 0

    def at(self, mark: _Mark | None) -> str:
        return (
            self.source if mark is None or not self.numbered else f"{self.source}:{mark.line + 1}"
        )

    def check_depth(self, text: str) -> None:
        """Refuse deep nesting before PyYAML's composer recurses into it."""
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise self._too_much(event.start_mark, f"more than {MAX_DEPTH} levels of nesting")

    def read(self, node: yaml.Node, path: Path) -> Any:  # noqa: ANN401 - any YAML value
        self._n_values += 1
        if self._n_values > MAX_VALUES:
            raise self._too_much(node.start_mark, f"more than {MAX_VALUES} values")
        if len(path) > MAX_DEPTH:  # an anchor that contains itself has no end
            raise self._too_much(node.start_mark, f"more than {MAX_DEPTH} levels of nesting")
        self.places.setdefault(path, self.at(node.start_mark))
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.read(item, (*path, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag.removeprefix(_TAG) in _SCALARS:
            return self._scalar(node, path)
        self._problem(node, path, f"the tag {_short(node.tag)} is not allowed; write plain values")
        return None

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:  # noqa: ANN401 - any YAML scalar
        text: str = node.value
        bad = next((c for c in text if unicodedata.category(c) in ("Cc", "Cs")
                    and c not in "\n\t"), None)  # fmt: skip
        if bad is not None:
            self._problem(node, path, f"the control character U+{ord(bad):04X} is not allowed")
            return ""
        try:
            return _SCALARS[node.tag.removeprefix(_TAG)][2](text)
        except ValueError:  # "!!int many", or more digits than Python converts
            kind = node.tag.removeprefix(_TAG)
            self._problem(node, path, f"expected a valid {kind}, got {_short(text)}")
            return None

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        first_line: dict[str, str] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                merged |= self._merge(value_node, path)
                continue
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TAG + "str":
                self._problem(key_node, path, f"a key must be a word, got {_short(str(key))}")
            elif key in first_line:
                self._problem(
                    key_node, (*path, key), f"duplicate key, first given at {first_line[key]}"
                )
            else:
                first_line[key] = self.at(key_node.start_mark)
                self._forget((*path, key))  # a key of its own wins over a merged one
                values[key] = self.read(value_node, (*path, key))
        return merged | values

    def _merge(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for source in reversed(nodes):  # the first of several wins
            if isinstance(source, yaml.MappingNode):
                for key in merged:
                    self._forget((*path, key))
                merged |= self.read(source, path)
            else:
                self._problem(node, path, "'<<' merges mappings, got something else")
        return merged

    def _forget(self, path: Path) -> None:
        for known in [known for known in self.places if known[: len(path)] == path]:
            del self.places[known]

    def _problem(self, node: yaml.Node, path: Path, text: str) -> None:
        self.problems.append(Problem(self.at(node.start_mark), dotted(path), text))

    def _too_much(self, mark: _Mark | None, text: str) -> YamlError:
        return YamlError([Problem(self.at(mark), "", text)])


def _short(text: str) -> str:
    """Return the quoted text, cut to a length that fits a message."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would read as something else."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [
            *yaml.SafeDumper.yaml_implicit_resolvers.get(first, []),
            *_Loader.yaml_implicit_resolvers.get(first, []),
        ]
        for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
    }

    def ignore_aliases(self, data: object) -> bool:
        return True


def dump(value: dict[str, Any]) -> str:
    """Return ``value`` as block YAML that :func:`parse` reads back."""
    return yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False
    )
