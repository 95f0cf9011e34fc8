"""How to propose the next architectures: strategies that are asked and told; no torch, no files."""

from searchers.base import (
    Candidate,
    InvalidAnswer,
    InvalidOption,
    Limits,
    NoOptions,
    Strategy,
    StrategyInfo,
    Unsatisfiable,
)
from searchers.evolution import EVOLUTION, Evolution, EvolutionOptions
from searchers.exhaustive import EXHAUSTIVE, Exhaustive
from searchers.local_search import LOCAL_SEARCH, LocalSearch, LocalSearchOptions
from searchers.nsga2 import NSGA2, Nsga2, Nsga2Options
from searchers.random_search import RANDOM, RandomSearch
from searchers.tpe import TPE, Tpe, TpeOptions
from spaces import Space, look_up

STRATEGIES: dict[str, StrategyInfo] = {
    info.name: info for info in (RANDOM, EVOLUTION, TPE, NSGA2, LOCAL_SEARCH, EXHAUSTIVE)
}


def make_strategy(name: str, space: Space, seed: int, /, **options: object) -> Strategy:
    """Build a strategy by name.

    Args:
        name: A key of :data:`STRATEGIES`.
        space: What is searched.
        seed: Of all its draws, at least 0.
        **options: Its settings; what is left out keeps its default.

    Raises:
        UnknownName: No such strategy, or it has no such option.
        InvalidOption: The seed or an option has the wrong type or is out of range.
    """
    return look_up(STRATEGIES, name, kind="strategy").make(space, seed=seed, **options)


__all__ = [
    "STRATEGIES",
    "Candidate",
    "Evolution",
    "EvolutionOptions",
    "Exhaustive",
    "InvalidAnswer",
    "InvalidOption",
    "Limits",
    "LocalSearch",
    "LocalSearchOptions",
    "NoOptions",
    "Nsga2",
    "Nsga2Options",
    "RandomSearch",
    "Strategy",
    "StrategyInfo",
    "Tpe",
    "TpeOptions",
    "Unsatisfiable",
    "make_strategy",
]
