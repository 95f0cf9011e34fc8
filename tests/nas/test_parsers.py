"""What every parser and space promises, on drawn input; a new entry of a table is drawn too."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import math
import typing
from contextlib import suppress
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas import plain_yaml
from nas.benchmark import read_table
from nas.cli.console import split_proxies
from nas.limits import parse_bounds
from nas.objectives import Objective, parse_objective
from nas.proxies import PROXIES, ProxySpec
from nas.quantities import QUANTITIES
from nas.recipe import parse_recipe, shipped_recipes
from nas.recipe.train import load_train_recipe
from nas.space_file import parse_space
from searchers import STRATEGIES
from spaces import SPACES, Arch, NasError, Space
from spaces.own_cell import OPERATIONS
from tests.spaces.examples import OWN

ALL: dict[str, Space] = {**SPACES, **OWN}
SPACE = st.sampled_from(list(ALL.values()))
SEED = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=25)


def member(space: Space, seed: int) -> Arch:
    return space.sample(np.random.default_rng(seed))


@given(SPACE, SEED)
def test_an_architecture_reads_back_from_its_text(space: Space, seed: int) -> None:
    arch = member(space, seed)
    assert space.from_str(space.to_str(arch)) == arch
    if len(space.row_columns) == 1:
        (column,) = space.row_columns
        assert space.from_row({column: space.to_str(arch), "other": "x"}) == arch


@FEW
@given(SPACE, SEED, st.integers(1, 8))
def test_descendants_stay_within_the_space(space: Space, seed: int, generations: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = space.sample(rng), space.sample(rng)
    for _ in range(generations):
        child = space.mutate(first, rng)
        assert space.validate(child) == child != first
        joined = space.crossover(child, second, rng)
        assert space.validate(joined) == joined
        assert all(c in (a, b) for a, b, c in zip(child, second, joined, strict=True))
        first, second = joined, child


@FEW
@given(SPACE, SEED)
def test_a_canonical_form_is_a_member_that_costs_no_more_and_stays(space: Space, seed: int) -> None:
    arch = member(space, seed)
    form = space.canonical(arch)
    assert space.validate(form) == form
    assert space.canonical(form) == form
    both = space.costs(np.asarray([arch, form], dtype=np.int64))
    assert both.params[1] <= both.params[0]
    assert both.flops[1] <= both.flops[0]


@given(SPACE, SEED)
def test_an_encoding_says_each_choice_once(space: Space, seed: int) -> None:
    arch = member(space, seed)
    code = space.encode(arch)
    assert code.shape == (sum(space.dimensions),)
    starts = np.cumsum([0, *space.dimensions[:-1]])
    assert np.flatnonzero(code).tolist() == [int(s) + c for s, c in zip(starts, arch, strict=True)]


def values(hint: Any, default: object) -> st.SearchStrategy[Any]:
    """Draw values of an option near its default; some are refused by what takes them."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return st.sampled_from(inside)
    if origin in (typing.Union, UnionType):
        return st.one_of(*(values(part, default) for part in inside))
    numbers = default if isinstance(default, int | float) else 1
    found: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(-2, 2 * int(numbers) + 4),
        float: st.floats(-1, 1e6, allow_nan=False) | st.sampled_from([1e-12, 1e300, 0.1]),
        NoneType: st.none(),
    }
    return found.get(hint, st.just(default))


@st.composite
def specs(draw: st.DrawFn) -> ProxySpec:
    """Draw a proxy with options that it takes."""
    name = draw(st.sampled_from(sorted(PROXIES)))
    kind = PROXIES[name].options
    hints, default = typing.get_type_hints(kind), kind()
    given: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if draw(st.booleans()):
            value = draw(values(hints[field.name], getattr(default, field.name)))
            with suppress(NasError):
                ProxySpec.make(name, {**given, field.name: value})
                given[field.name] = value
    return ProxySpec.make(name, given)


@FEW
@given(specs())
def test_a_proxy_reads_back_from_its_text(spec: ProxySpec) -> None:
    assert ProxySpec.parse(str(spec)) == spec


@FEW
@given(st.lists(specs(), min_size=1, max_size=4))
def test_proxies_joined_by_commas_come_apart(some: list[ProxySpec]) -> None:
    texts = [str(spec) for spec in some]
    assert list(map(ProxySpec.parse, split_proxies([",".join(texts)]))) == some
    assert list(map(ProxySpec.parse, split_proxies(texts))) == some


WORDS = st.lists(
    st.sampled_from([*PROXIES, *QUANTITIES, *STRATEGIES, "members", "1e400", "nan", "0x", "&a"])
    | st.sampled_from([*":,=-[{*\"' \0\ud800", "<=", "<<: "])
    | st.text(max_size=3),
    max_size=8,
).map("".join)


@FEW
@given(WORDS, st.sampled_from(QUANTITIES))
def test_any_words_are_read_or_refused(text: str, quantity: str) -> None:
    for read in (
        ProxySpec.parse,
        lambda text: split_proxies([text]),
        functools.partial(parse_bounds, quantity),
        parse_objective,
        lambda text: parse_space(text, "f"),
        lambda text: parse_recipe("space: nats_tss\nproxy: sed\n", "f", [text]),
        lambda text: parse_recipe(text, "f"),
    ):
        with suppress(NasError):
            read(text)


@given(
    st.sampled_from(QUANTITIES),
    st.lists(
        st.tuples(
            st.sampled_from(["<=", ">=", "<= ", ">=  "]),
            st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_nan=False),
        ),
        min_size=1,
    ),
)
def test_limits_say_what_was_written(quantity: str, given_: list[tuple[str, float]]) -> None:
    bounds = parse_bounds(quantity, [f"{sign}{value!r}" for sign, value in given_])
    assert [(bound.quantity, bound.sign, bound.value) for bound in bounds] == [
        (quantity, sign.strip(), value) for sign, value in given_
    ]
    (number,) = parse_bounds(quantity, given_[0][1])
    assert (number.sign, number.value) == ("<=", given_[0][1])
    inside = np.asarray([bounds[0].value, math.nan])
    assert bounds[0].excess(inside).tolist() == [0.0, math.inf]


@given(st.sampled_from([*QUANTITIES, *PROXIES, "score"]), st.sampled_from([1, -1]), WORDS)
def test_objectives_read_back(name: str, sign: int, noise: str) -> None:
    objective = Objective(name, sign)
    assert parse_objective(str(objective)) == objective
    with suppress(NasError):
        read = parse_objective(noise)
        assert parse_objective(str(read)).sign == read.sign


#: Of each quantity, or nothing.
LIMITS = st.dictionaries(
    st.sampled_from(["params", "flops", "memory_mb"]),
    st.floats(1, 1e12).map(lambda value: f"<= {value!r}"),
)


@FEW
@given(
    st.fixed_dictionaries(
        {
            "name": st.from_regex(r"\A[A-Za-z0-9_.-]{1,60}\Z"),
            "summary": st.text(st.characters(exclude_categories=("Cc", "Cs"))),
            "space": st.sampled_from(sorted(SPACES)),
            "proxy": specs()
            .filter(lambda spec: spec.name not in ("predicted", "formula"))
            .map(str),
            "strategy": st.sampled_from(sorted(set(STRATEGIES) - {"nsga2"})),
            "budget": st.integers(1, 10**8),
            "seed": st.integers(0, 2**63 - 1),
            "constraints": LIMITS,
            "conditions": st.fixed_dictionaries(
                {"num_classes": st.integers(1, 1000), "resolution": st.integers(8, 512)}
            ),
        }
    )
)
def test_a_recipe_reads_back_from_what_it_writes(written: dict[str, Any]) -> None:
    recipe = parse_recipe(plain_yaml.dump(written), "first.yaml")
    assert parse_recipe(recipe.to_yaml(), "second.yaml") == recipe
    assert recipe.summary == written["summary"]
    assert recipe.seed == written["seed"]


@pytest.mark.parametrize("name", shipped_recipes("train"))
def test_a_recipe_of_a_training_reads_back(name: str, tmp_path: Path) -> None:
    recipe = load_train_recipe(shipped_recipes("train")[name])
    path = tmp_path / "again.yaml"
    path.write_text(recipe.to_yaml())
    assert load_train_recipe(path) == recipe


SIZES = st.integers(0, 40) | st.lists(st.integers(0, 40), max_size=3)
STAGES = st.lists(
    st.fixed_dictionaries(
        {"width": SIZES},
        optional={
            "cells": SIZES,
            "depth": SIZES,
            "stride": st.integers(0, 3),
            "kernel": SIZES,
            "expansion": SIZES,
        },
    ),
    max_size=3,
)
CELLS = st.fixed_dictionaries(
    {"operations": st.lists(st.sampled_from([*OPERATIONS, "nothing"]), max_size=5)},
    optional={
        "nodes": st.integers(1, 5),
        "edges": st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=3), max_size=5),
    },
)


@FEW
@given(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["mine", "nats_tss", "../x", ""]), "stages": STAGES},
        optional={
            "cell": CELLS,
            "stem": st.fixed_dictionaries({"width": st.integers(0, 32)}),
            "head": st.integers(-1, 64),
        },
    ),
    SEED,
)
def test_a_description_is_a_space_or_a_reason(written: dict[str, Any], seed: int) -> None:
    try:
        space = parse_space(plain_yaml.dump(written), "f.yaml")
    except NasError as error:
        assert "f.yaml" in str(error)  # noqa: PT017 - a space is right as well
        return
    arch = member(space, seed)
    assert space.from_str(space.to_str(arch)) == arch
    assert space.canonical(space.canonical(arch)) == space.canonical(arch)
    assert (space.costs(np.asarray([arch])).params >= 0).all()


ONE_COLUMN = [space for space in ALL.values() if len(space.row_columns) == 1]


@FEW
@given(
    st.sampled_from(ONE_COLUMN),
    st.lists(
        st.tuples(SEED, st.floats(allow_nan=False, allow_infinity=False) | st.none()), min_size=1
    ),
)
def test_a_table_reads_back(
    tmp_path_factory: pytest.TempPathFactory, space: Space, rows: list[tuple[int, float | None]]
) -> None:
    known = {member(space, seed): value for seed, value in rows}
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["truth", *space.row_columns])
    writer.writerows(
        ["" if value is None else repr(value), space.to_str(arch)] for arch, value in known.items()
    )
    path = tmp_path_factory.mktemp("table") / "t.csv"
    path.write_text(stream.getvalue(), newline="")
    table = read_table(path, space)
    assert list(table.archs) == list(known)
    filled = {arch: value for arch, value in known.items() if value is not None}
    if filled:
        truth = table.truth("truth")
        assert dict(zip(truth.archs, truth.values.tolist(), strict=True)) == filled


@given(st.sampled_from(ONE_COLUMN), SEED, st.binary(max_size=30), st.integers(0, 200))
def test_a_table_with_foreign_bytes_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, space: Space, seed: int, noise: bytes, place: int
) -> None:
    row = f'"{space.to_str(member(space, seed))}",1.5\n'
    content = f"{space.row_columns[0]},x\n{row}".encode()
    path = tmp_path_factory.mktemp("table") / "t.csv"
    path.write_bytes(content[:place] + noise + content[place:])
    with suppress(NasError):
        read_table(path, space).truth("x")
