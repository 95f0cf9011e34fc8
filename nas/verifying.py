"""Whether a search's ranking held: its best beside random architectures of the same size, trained.

Random ones come from the search's own space, and are judged by its own proxy: what the proxy calls
broken (no path from image to logits) is no comparison worth winning. Each stands beside one of the
best: drawn uniformly among the sampled architectures whose parameters are within a tenth of it, or
the nearest in size where there is none.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np

from nas.oracle import Oracle, Score
from nas.proxies.base import Conditions, ProxySpec
from nas.reading import read_json
from nas.recipe.train import Candidate
from nas.runs.folder import RESULT
from nas.runs.read import read_result, space_of
from nas.runs.training import BEST
from nas.seeds import generator
from nas.space_file import find_space
from spaces import Arch, Space
from spaces.errors import NasError

SAMPLED = 20_000
SAME_SIZE = 0.1  # of the parameters


def best_of(run: Path, top: int) -> tuple[str, list[Candidate]]:
    """Return the space of a search and its best architectures, with scores, higher being better.

    Args:
        run: The search's folder.
        top: How many; fewer where the search found fewer.

    Raises:
        NasError: There is no finished search, or ``report.top`` of it is smaller.
    """
    return _best_of(run, _read(run), top)


def _best_of(run: Path, result: dict[str, Any], top: int) -> tuple[str, list[Candidate]]:
    rows = result["top"]
    if top > len(rows) and result["n_trials"] > len(rows):
        raise NasError(
            f"{run}: its result lists {len(rows)} architectures; for more of them run: "
            f"nas-search --resume {run} report.top={top}"
        )
    space = space_of(run, result["recipe"]["space"])
    sign = _sign(result["recipe"])
    found = [
        Candidate(arch=row["arch"], score=sign * row["score"], group="top") for row in rows[:top]
    ]
    return space, found if len(found) > 1 else [x.model_copy(update={"group": ""}) for x in found]


def candidates(run: Path, top: int, random: int, seed: int) -> tuple[str, list[Candidate]]:
    """Return what to train in order to check a search: its best, and random ones of their size.

    Args:
        run: The search's folder.
        top: How many of the best.
        random: How many random ones.
        seed: Of their draw.

    Raises:
        NasError: As :func:`best_of`, or the space has too few architectures.
    """
    result = _read(run)
    name, best = _best_of(run, result, top)
    recipe = result["recipe"]
    space = find_space(name)
    taken = {space.canonical(space.from_str(each.arch)) for each in best}
    count = functools.partial(_params, space, recipe["conditions"])
    sizes = count([space.from_str(each.arch) for each in best])
    rng = generator(seed, "verify", "random")
    drawn = np.unique(space.canonicalise(space.sample_many(SAMPLED, rng)), axis=0)
    pool = [arch for arch in map(tuple, drawn.tolist()) if arch not in taken]
    params = count(pool)
    oracle, sign = _oracle(space, recipe), _sign(recipe)
    found: list[Candidate] = []
    for number in range(random):
        size = sizes[number % len(sizes)]
        while True:
            if not pool:
                raise NasError(f"{name}: there are not {random} other architectures that work")
            place = _of_size(params, size, rng)
            arch = pool.pop(place)
            params = np.delete(params, place)
            (verdict,) = oracle.score([arch])
            if isinstance(verdict, Score):
                break
        text = space.to_str(arch)
        found.append(Candidate(arch=text, score=sign * verdict.value, group="random"))
    return name, [*best, *found]


def _of_size(params: np.ndarray, size: float, rng: np.random.Generator) -> int:
    """Return the place of one of about this size, at random."""
    gap = np.abs(params - size)
    near = np.flatnonzero(gap <= SAME_SIZE * size)
    if not len(near):
        return int(gap.argmin())
    return int(near[rng.integers(len(near))])


def _params(space: Space, conditions: dict[str, Any], archs: list[Arch]) -> np.ndarray:
    settings = {key: conditions[key] for key in ("num_classes", "resolution")}
    counts: np.ndarray = space.costs(np.asarray(archs), **settings).params.astype(np.float64)
    return counts


def _oracle(space: Space, recipe: dict[str, Any]) -> Oracle:
    """Return what judged a search."""
    proxy = {key: value for key, value in recipe["proxy"].items() if key != "name"}
    return Oracle(
        space,
        ProxySpec.make(recipe["proxy"]["name"], proxy),
        conditions=Conditions(seed=recipe["seed"], **recipe["conditions"]),
        direction=recipe["direction"],
    )


def _sign(recipe: dict[str, Any]) -> int:
    """Return what makes a higher score the better one."""
    return -1 if recipe["direction"] == "minimise" else 1


def hand_over(run: Path, training: Path) -> bool:
    """Give a search's folder the weights of its best architecture, where a training has made them.

    Args:
        run: The search's folder, whose ``best.py`` loads them.
        training: The training's folder.

    Returns:
        Whether it did: the training's best is the search's, with as many classes.
    """
    from nas.training import checkpoint  # late: it loads torch

    search = _read(run)
    trained = read_json(training / RESULT)
    row = trained["archs"][trained["best"]]
    classes = search["recipe"]["conditions"]["num_classes"]
    if row["arch"] != search["top"][0]["arch"] or len(trained["data"]["classes"]) != classes:
        return False
    checkpoint.copy(training / BEST, run / BEST)
    return True


def _read(run: Path) -> dict[str, Any]:
    result = read_result(run)
    if not result["top"] or not math.isfinite(result["top"][0]["score"]):
        raise NasError(f"{run}: the search found nothing to train")
    return result
