"""The table of strategies, their options, and what a misspelt name says."""

import dataclasses
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import searchers
from searchers import STRATEGIES, InvalidOption, Strategy, StrategyInfo, make_strategy
from spaces import NasError, UnknownName

from .toy import Toy

CHECKOUT = Path(__file__).resolve().parents[2]


def test_every_strategy_in_the_folder_is_in_the_table() -> None:
    records = [
        value
        for module in pkgutil.iter_modules(searchers.__path__)
        for value in vars(importlib.import_module(f"searchers.{module.name}")).values()
        if isinstance(value, StrategyInfo)
    ]
    assert len({record.name for record in records}) == len(records)
    assert {record.name: record for record in records} == STRATEGIES
    written = {cls for cls in Strategy.__subclasses__() if cls.__module__.startswith("searchers.")}
    assert {info.strategy for info in STRATEGIES.values()} == written


@pytest.mark.parametrize("info", STRATEGIES.values(), ids=lambda info: info.name)
def test_a_record_is_complete(info: StrategyInfo) -> None:
    assert "\n" not in info.summary
    assert 10 < len(info.summary) < 80
    assert info.paper == "" or info.paper.startswith("https://")
    assert info.strategy.__doc__
    assert dataclasses.is_dataclass(info.options)
    settings = inspect.signature(info.strategy).parameters
    assert {name: settings[name].default for name in list(settings)[2:]} == vars(info.options())
    assert dataclasses.fields(info.options()) is not None  # every field has a default
    for field in dataclasses.fields(info.options):
        assert f"{field.name}: " in (info.options.__doc__ or ""), "an option is not described"
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(info.options(), field.name, 1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("evolution", {"tournament": 0}, "tournament must be at least 1, got 0"),
        ("evolution", {"population": 1}, "population must be at least 2, got 1"),
        ("evolution", {"population": "many"}, "population: expected int, got 'many'"),
        ("evolution", {"population": True}, "population: expected int, got True"),
        ("evolution", {"population": 10.0}, "population: expected int, got 10.0"),
        ("tpe", {"startup": 0}, "startup must be at least 1, got 0"),
        ("tpe", {"draws": -1}, "draws must be at least 1, got -1"),
        ("local_search", {"starts": 0}, "starts must be at least 1, got 0"),
        (
            "local_search",
            {"first_improvement": 1},
            "first_improvement: expected true or false, got 1",
        ),
        ("random", {"populaton": 3}, "random has no options, got 'populaton'"),
    ],
)
def test_options_out_of_range(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidOption, match=f"^{re.escape(message)}$") as caught:
        make_strategy(name, Toy(), 0, **options)
    assert isinstance(caught.value, NasError)
    assert isinstance(caught.value, ValueError)


def test_a_misspelt_option() -> None:
    message = (
        "no option of evolution named 'populaton'. Did you mean 'population'? "
        "Known: population, tournament"
    )
    with pytest.raises(UnknownName, match=f"^{re.escape(message)}$"):
        make_strategy("evolution", Toy(), 0, populaton=3)


def test_a_misspelt_strategy() -> None:
    message = "no strategy named 'evolutoin'. Did you mean 'evolution'? Known: "
    with pytest.raises(UnknownName, match=re.escape(message)):
        make_strategy("evolutoin", Toy(), 0)


def test_options_reach_the_strategy() -> None:
    strategy = make_strategy("evolution", Toy((5, 5, 5)), 0, population=7)
    assert vars(strategy)["_population"] == 7


@pytest.mark.parametrize("package", ["spaces", "searchers"])
def test_importing_loads_no_torch(package: str) -> None:
    code = f"import sys, {package}; print(sorted({{'torch', 'optuna'}} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_searching_loads_no_torch() -> None:
    code = (
        "import sys, searchers, spaces\n"
        "for name in searchers.STRATEGIES:\n"
        "    strategy = searchers.make_strategy(name, spaces.SPACES['nats_tss'], 0)\n"
        "    for _ in range(3):\n"
        "        strategy.tell([(c.id, float(sum(c.arch))) for c in strategy.ask(15)])\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
