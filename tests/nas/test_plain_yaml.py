"""YAML as people expect it, and nothing that can hurt."""

import contextlib
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nas import plain_yaml
from nas.plain_yaml import YamlError, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("1e-3", 0.001),
        ("1E5", 1e5),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("-7", -7),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2025-01-31", "2025-01-31"),
        ("~", None),
        ("", None),
        ("null", None),
        ("'12'", "12"),
        ("[1, {a: b}]", [1, {"a": "b"}]),
        ("1.2.3", "1.2.3"),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: &x {b: 1, d: 2}\nc: {<<: *x, d: 3}", {"a": {"b": 1, "d": 2}, "c": {"b": 1, "d": 3}}),
    ],
)
def test_reads_scalars_as_yaml_1_2_does(text: str, value: object) -> None:
    assert parse(text, "f").value == value


def test_notes_the_line_of_every_value() -> None:
    document = parse("# comment\na: 1\nb:\n  c:\n    - 2\n    - 3\n", "f")
    assert document.place(("a",)) == "f:2"
    assert document.place(("b", "c", 1)) == "f:6"
    assert document.place(("b", "missing", "deep")) == "f:4", "the nearest enclosing value"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "f:3: a: duplicate key, first given at f:1"),
        ("a: {b: 1, b: 2}", "f:1: a.b: duplicate key, first given at f:1"),
        ("1: x", "f:1: a key must be a word, got '1'"),
        ("a: !!python/object:os.system x", "f:1: a: the tag 'tag:yaml.org,2002:python/object:os.system' is not allowed; write plain values"),  # noqa: E501
        ("a: !!int many", "f:1: a: expected a valid int, got 'many'"),
        ('a: "\\x01"', "f:1: a: the control character U+0001 is not allowed"),
        ('a: "\\ud800"', "f:1: a: the control character U+D800 is not allowed"),
    ],
)  # fmt: skip
def test_collects_what_a_document_must_not_hold(text: str, message: str) -> None:
    assert [str(problem) for problem in parse(text, "f").problems] == [message]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "f:1: not valid YAML: while parsing a flow sequence, expected ',' or ']'"),
        ("a\n\tb: 1", "f:2: not valid YAML: "),
        ("a: 1\n---\nb: 2", "f:2: not valid YAML: expected a single document"),
        ("a: *nowhere", "f:1: not valid YAML: found undefined alias 'nowhere'"),
        ("[" * 100, "f:1: more than 20 levels of nesting"),
        ("&a [*a]", "f:1: more than 20 levels of nesting"),
        ("x" * 70_000, "f: at most 65536 characters, got 70000"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcde", "bcdef")),  # noqa: B905
            "more than 5000 values",
        ),
        ('a: "\\UFFFFFFFF"', "f: not valid YAML: "),
    ],
)  # fmt: skip
def test_refuses_with_a_place(text: str, message: str) -> None:
    with pytest.raises(YamlError) as error:
        parse(text, "f")
    assert message in str(error.value)


@given(st.text())
def test_no_text_gets_through_as_anything_but_values_or_a_yaml_error(text: str) -> None:
    with contextlib.suppress(YamlError):
        parse(text, "f")


words = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(words, values, max_size=4))
def test_what_is_dumped_reads_back(value: dict[str, object]) -> None:
    text = plain_yaml.dump(value)
    document = parse(text, "f")
    assert document.value == value
    assert not document.problems
    assert yaml.safe_load(text) == value, "other YAML 1.1 programs read it too"
