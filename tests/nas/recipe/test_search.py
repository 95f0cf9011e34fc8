"""Recipes: what they accept, and what they say about what they do not."""

import contextlib
import dataclasses
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from nas import recipe as recipes
from nas.proxies import Conditions
from nas.recipe import Recipe, RecipeError, load_recipe, parse_recipe, resolve_recipe_path
from nas.recipe.schema import recipe_schema
from searchers import STRATEGIES
from spaces import SPACES
from spaces.errors import NasError

MINIMAL = "space: nats_tss\nproxy: params\n"


def messages(text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as error:
        parse_recipe(text, "r.yaml", overrides)
    return str(error.value).splitlines()


def test_a_recipe_needs_a_space_and_a_proxy_and_nothing_else() -> None:
    made = parse_recipe(MINIMAL, "r.yaml", name="mine")
    assert (made.name, made.space, made.proxy, made.budget) == ("mine", "nats_tss", "params", 500)
    assert made.strategy.name == "evolution"
    assert messages("") == [
        "r.yaml: space: required, but missing",
        "r.yaml: proxy: required, but missing",
    ]


def test_options_of_a_strategy_left_out_are_at_their_defaults() -> None:
    made = parse_recipe(f"{MINIMAL}strategy: {{name: evolution, population: 7}}\n", "r.yaml")
    defaults = dataclasses.asdict(STRATEGIES["evolution"].options())
    assert made.strategy.options == defaults | {"population": 7}


def test_a_proxy_is_a_text_or_a_mapping() -> None:
    text = parse_recipe("space: nats_tss\nproxy: meco:hooks=reference\n", "r.yaml")
    mapping = parse_recipe("space: nats_tss\nproxy: {name: meco, hooks: reference}\n", "r.yaml")
    assert text == mapping
    assert text.proxy == "meco:hooks=reference"


def test_every_fault_is_told_at_once_with_its_line() -> None:
    text = """\
# a comment
space: nats_ts
proxy: {name: meco, hoks: reference}
strategy:
  name: evolution
  population: many
  tornament: 3
budgte: 3
budget: yes
seed: 1.0
direction: max
conditions: {resolution: 2, device: gpu}
benchmark: x.csv
report: 3
budget: 4
tie_break: parms
batch: true
name: a/b
"""
    told = messages(text)
    for line, start in [
        (2, "space: no space named 'nats_ts'. Did you mean 'nats_tss'? Known: "),
        (3, "proxy.hoks: unknown key; did you mean 'hooks'? Known: name, hooks"),
        (6, "strategy.population: expected int, got 'many'"),
        (
            7,
            "strategy.tornament: unknown key; did you mean 'tournament'? Known: name, population, ",
        ),
        (8, "budgte: unknown key; did you mean 'budget'? Known: name, summary, space, "),
        (9, "budget: expected int, got 'yes'"),
        (10, "seed: expected int, got 1.0; write 1"),
        (11, "direction: expected 'maximise' or 'minimise', got 'max'; did you mean 'maximise'?"),
        (12, "conditions.resolution: must be at least 8, got 2"),
        (12, "conditions.device: expected 'cpu', 'cuda', 'cuda:N' or 'mps', got 'gpu'"),
        (13, "benchmark: expected FILE:COLUMN such as 'table.csv.gz:c10_test_200', got 'x.csv'"),
        (14, "report: expected a mapping of keys to values, got 3"),
        (15, "budget: duplicate key, first given at r.yaml:9"),
        (16, "tie_break: no proxy named 'parms'. Did you mean 'params'? Known: "),
        (17, "batch: expected int, got true"),
        (18, "name: expected 1 to 60 letters, digits, '-', '_' or '.', for a folder's name, "),
    ]:
        assert told.pop(0).startswith(f"r.yaml:{line}: {start}"), start
    assert not told


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget=many", "budget: expected int, got 'many'"),
        ("budget=", "budget: expected int, got nothing"),
        ("budget=0", "budget: must be at least 1, got 0"),
        ("budget=1e3", "budget: expected int, got 1000.0; write 1000"),
        ("budget", "expected dotted.key=value such as budget=100, got 'budget'"),
        ("=3", "expected dotted.key=value such as budget=100, got '=3'"),
        ("budget.x=3", "budget.x: budget is 9, which has no keys"),
        ("report.tap=3", "report.tap: unknown key; did you mean 'top'? Known: top, folder"),
        ("report.top=[1", "report.top: not valid YAML: while parsing a flow sequence, "),
        ("seed=!!int x", "seed: expected a valid int, got 'x'"),
        ("strategy={population: 3}", "strategy: expected a mapping with the key 'name'"),
        ("strategy.population=1", "strategy.population: population must be at least 2, got 1"),
        ("strategy=3", "strategy: expected a strategy's name, or a "),
        ("strategy=evolutoin", "strategy: no strategy named 'evolutoin'. Did you"),
        ("proxy.hooks=all", "proxy.hooks: expected 'relu', 'conv', "),
        ("conditions.images=no.npz", "conditions.images: no such file: 'no.npz'; looked in "),
    ],
)
def test_a_faulty_override_is_told_with_its_path(override: str, message: str) -> None:
    text = "space: nats_tss\nproxy: meco\nstrategy: evolution\nbudget: 9\nseed: 1\n"
    (told,) = messages(text, override)
    assert told.startswith(f"<command line>: {message}")


def test_overrides_are_applied_in_order_and_spell_names_out() -> None:
    made = parse_recipe(
        "space: nats_tss\nproxy: meco_opt:channels=4\n",
        "r.yaml",
        ["budget=7", "strategy.population=5", "proxy.hooks=unique", "report.top=3", "budget=8"],
    )
    assert made.budget == 8
    assert made.strategy.options["population"] == 5
    assert made.proxy == "meco_opt:hooks=unique,channels=4"
    assert made.report.top == 3
    replaced = parse_recipe(
        f"{MINIMAL}strategy: {{name: evolution, population: 5}}\n", "r.yaml", ["strategy=random"]
    )
    assert replaced.strategy.name == "random"


def test_anchors_work() -> None:
    made = parse_recipe("space: nats_tss\nproxy: &p params\ntie_break: *p\n", "r.yaml")
    assert made.tie_break == "params"


def test_paths_are_looked_up_here_first_and_then_beside_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    (there / "r.yaml").write_text(f"{MINIMAL}benchmark: t.csv:acc\ncache: c.sqlite\n")
    with pytest.raises(RecipeError, match=r"r\.yaml:3: benchmark: no such file: 't\.csv'; looked"):
        load_recipe(there / "r.yaml")
    (there / "t.csv").write_text("")
    assert load_recipe(there / "r.yaml").benchmark == f"{there / 't.csv'}:acc"
    (here / "t.csv").write_text("")
    made = load_recipe(there / "r.yaml")
    assert made.benchmark == f"{here / 't.csv'}:acc"
    assert made.cache == str(here / "c.sqlite"), "what is written is written here"
    assert made.name == "r"


def test_a_resolved_recipe_reads_back_equal() -> None:
    made = parse_recipe(
        "space: nats_sss\nproxy: {name: meco_opt, channels: 4}\nsummary: 'yes'\n",
        "r.yaml",
        ["strategy.population=5", "conditions.repeats=3"],
    )
    again = parse_recipe(made.to_yaml(), "again.yaml")
    assert again == made
    assert again.to_yaml() == made.to_yaml()
    every = set(Recipe.model_fields) - {"oracle"}  # which has become a proxy
    assert set(made.resolved()) == every, "every key is there"
    assert set(made.resolved()["proxy"]) == {"name", "hooks", "channels"}, "and every option"


def test_a_recipe_makes_its_searcher(tmp_path: Path) -> None:
    made = parse_recipe(f"{MINIMAL}budget: 9\nbatch: 4\nconditions: {{repeats: 2}}\n", "r.yaml")
    settings = made.searcher(cache=tmp_path / "scores.sqlite").settings
    assert settings["budget"] == 9
    assert settings["batch"] == 4
    assert settings["strategy"] == "evolution"
    assert settings["conditions"]["repeats"] == 2


def test_unreadable_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nothing\.yaml: cannot read: No such file"):
        load_recipe(tmp_path / "nothing.yaml")
    with pytest.raises(RecipeError, match=r"cannot read: Is a directory"):
        load_recipe(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"space: \xff")
    with pytest.raises(RecipeError, match=r"b\.yaml: expected UTF-8 text, byte 7 is not"):
        load_recipe(tmp_path / "b.yaml")
    assert messages("- 1") == ["r.yaml: a recipe is a mapping of keys to values, got [1]"]


def test_a_recipe_is_a_file_or_a_shipped_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_recipe_path("smoke") == recipes.shipped_folder() / "smoke.yaml"
    (tmp_path / "smoke").write_text(MINIMAL)
    assert resolve_recipe_path("smoke") == Path("smoke"), "a file wins"
    with pytest.raises(NasError, match=r"Did you mean the recipe 'cifar10_meco'\?"):
        resolve_recipe_path("recipes/cifar10_mecco.yaml")
    with pytest.raises(NasError, match="no such file"):
        resolve_recipe_path("x" * 5000)


def test_the_schema_knows_the_names() -> None:
    schema = recipe_schema()
    assert schema["properties"]["space"]["anyOf"][0]["enum"] == sorted(SPACES)
    assert "evolution" in json.dumps(schema["$defs"]["Strategy"])
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (MINIMAL, True),
        ("space: nats_tss\n", False),
        ("space: nats_tss\noracle: {predictor: tss_cifar10}\n", True),
        (f"{MINIMAL}oracle: {{predictor: tss_cifar10}}\n", False),
        (f"{MINIMAL}constraints: {{params: <= 1.0e6, flops: 3}}\n", True),
        (f"{MINIMAL}executor: ray\n", True),
        (f"{MINIMAL}executor: ray://host:10001\n", True),
        (f"{MINIMAL}executor: {{name: ray, gpus: 0.5}}\n", True),
        (f"{MINIMAL}executor: rays\n", False),
        (f"{MINIMAL}strategy: {{name: evolution, popluation: 7}}\n", False),
    ],
)
def test_the_schema_takes_what_the_reader_takes(text: str, good: bool) -> None:
    if good:
        parse_recipe(text, "r.yaml")
    else:
        messages(text)
    faults = Draft202012Validator(recipe_schema()).iter_errors(yaml.safe_load(text))
    assert (not list(faults)) == good


def test_an_option_is_overridden_where_the_recipe_names_no_one() -> None:
    made = parse_recipe(MINIMAL, "r.yaml", ["executor.memory_mb=3"])
    assert made.executor.options["memory_mb"] == 3
    ray = parse_recipe(f"{MINIMAL}executor: ray://host:1\n", "r.yaml", ["executor.gpus=0.5"])
    assert ray.executor.name == "ray"
    assert (ray.executor.options["address"], ray.executor.options["gpus"]) == ("ray://host:1", 0.5)
    told = messages(MINIMAL, "executor.memry_mb=3")
    assert told == [
        "<command line>: executor.memry_mb: unknown key; did you mean 'memory_mb'? "
        "Known: name, chunk_seconds, memory_mb"
    ]
    assert messages(f"{MINIMAL}executor: {{name: ray://host:1, gpu: 1}}\n") == [
        "r.yaml:3: executor.gpu: unknown key; did you mean 'gpus'? "
        "Known: name, chunk_seconds, memory_mb, address, gpus, retries"
    ]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.text())
@example("space: nats_tss\nproxy: 'meco:hooks=2020-99-99'\n")
@example("space: nats_tss\nproxy: 'meco:hooks=&a [*a]'\n")
@example("space: nats_tss\nproxy: {name: meco, hooks: [[]]}\n")
@example("space: nats_tss\nproxy: {name: [meco]}\n")
@example(f"space: nats_tss\nproxy: 'meco:hooks={'[' * 5000}'\n")
@example("strategy: {name: evolution, name2: {}}\nconditions: {images: ~, device: ':'}\n")
@example("benchmark: '~nobody/x:y'\nconditions: {images: '~nobody'}\n")
@example("proxy: ''\nspace: ''\nbenchmark: ':'\n")
@example(f"seed: {'9' * 30}\nbudget: .inf\nbatch: .nan\n")
def test_no_text_causes_anything_but_a_recipe_or_a_recipe_error(text: str) -> None:
    with contextlib.suppress(RecipeError):
        parse_recipe(text, "r.yaml")


keys = st.sampled_from([*Recipe.model_fields, "conditions.device", "proxy.hooks", "strategy.x"])


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(keys, st.text(max_size=12)), max_size=3))
def test_no_override_causes_anything_but_a_recipe_or_a_recipe_error(
    pairs: list[tuple[str, str]],
) -> None:
    with contextlib.suppress(RecipeError):
        parse_recipe(MINIMAL, "r.yaml", [f"{key}={value}" for key, value in pairs])


def test_the_minibatch_reaches_the_conditions() -> None:
    made = parse_recipe(f"{MINIMAL}conditions: {{minibatch: 12}}\n", "r.yaml")
    assert made.searcher(cache=None).conditions.minibatch == 12
    assert parse_recipe(MINIMAL, "r.yaml").conditions.minibatch == Conditions().minibatch
    with pytest.raises(RecipeError, match=r"conditions\.minibatch: must be at least 2, got 1"):
        parse_recipe(MINIMAL, "r.yaml", ["conditions.minibatch=1"])
