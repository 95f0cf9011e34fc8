"""Regularised evolution of Archai on the cells of ``nats_tss``, for ``benchmarks/others.py``.

Archai, https://github.com/microsoft/archai, has to be installed. Its own space of these cells reads
the benchmark's files and builds a network for every candidate, so that here it is given one of
tuples. The classes stand in a module of their own because its decorator ``overrides`` finds the
base of a class by its name in the module.
"""

from __future__ import annotations

import contextlib
import io
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from archai.discrete_search.algos.regularized_evolution import RegularizedEvolutionSearch
from archai.discrete_search.api.archai_model import ArchaiModel
from archai.discrete_search.api.model_evaluator import ModelEvaluator
from archai.discrete_search.api.search_objectives import SearchObjectives
from archai.discrete_search.api.search_space import EvolutionarySearchSpace
from overrides import overrides

from benchmarks.overhead import Free
from nas.proxies import Conditions
from searchers.evolution import EvolutionOptions
from spaces import SPACES, Arch

SPACE = SPACES["nats_tss"]


def _model(arch: Arch) -> Any:  # noqa: ANN401 - Archai has no types here
    return ArchaiModel(arch, "".join(map(str, arch)), {"operations": arch})


class Cells(EvolutionarySearchSpace):  # type: ignore[misc]
    """The cells as tuples of operations, without networks."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    @overrides  # type: ignore[untyped-decorator]
    def random_sample(self) -> Any:  # noqa: ANN401
        return _model(tuple(self._rng.randrange(n) for n in SPACE.dimensions))

    @overrides  # type: ignore[untyped-decorator]
    def mutate(self, arch: Any) -> Any:  # noqa: ANN401
        operations = list(arch.metadata["operations"])
        edge = self._rng.randrange(len(operations))
        kinds = SPACE.dimensions[edge]
        operations[edge] = (operations[edge] + self._rng.randrange(1, kinds)) % kinds
        return _model(tuple(operations))

    @overrides  # type: ignore[untyped-decorator]
    def crossover(self, arch_list: list[Any]) -> Any:  # noqa: ANN401
        raise NotImplementedError("regularised evolution does not ask for it")

    @overrides  # type: ignore[untyped-decorator]
    def save_arch(self, model: Any, file_path: str) -> None:  # noqa: ANN401
        Path(file_path).write_text(model.archid)

    @overrides  # type: ignore[untyped-decorator]
    def load_arch(self, file_path: str) -> Any:  # noqa: ANN401
        return _model(tuple(map(int, Path(file_path).read_text())))

    @overrides  # type: ignore[untyped-decorator]
    def save_model_weights(self, model: Any, file_path: str) -> None:  # noqa: ANN401
        """Do nothing: there are none."""

    @overrides  # type: ignore[untyped-decorator]
    def load_model_weights(self, model: Any, file_path: str) -> None:  # noqa: ANN401
        """Do nothing: there are none."""


class Evaluator(ModelEvaluator):  # type: ignore[misc]
    """The objective that costs next to nothing."""

    @overrides  # type: ignore[untyped-decorator]
    def evaluate(self, arch: Any, budget: float | None = None) -> float:  # noqa: ANN401
        return Free()(SPACE, [arch.metadata["operations"]], Conditions())[0]


def run(budget: int, seed: int) -> tuple[float, int]:
    """Return the seconds of one search, and how many candidates it evaluated.

    It evaluates its initial population at once and then one candidate per iteration; after each
    iteration it writes what it knows to files, as is its default.

    Args:
        budget: Candidates, more than the population; it evaluates fewer if it finds no new ones.
        seed: Of the search and of the space's draws.
    """
    options = EvolutionOptions()  # ours, for both
    objectives = SearchObjectives()
    objectives.add_objective("free", Evaluator(), higher_is_better=True)
    with tempfile.TemporaryDirectory() as folder:
        search = RegularizedEvolutionSearch(
            Cells(seed),
            objectives,
            folder,
            num_iters=budget - options.population + 1,
            init_num_models=options.population,
            pareto_sample_size=options.tournament,
            history_size=options.population,
            seed=seed,
        )
        with contextlib.redirect_stderr(io.StringIO()):  # bars of progress
            began = time.perf_counter()
            search.search()
            seconds = time.perf_counter() - began
    return seconds, len(search.search_state.all_evaluated_objs["free"])
