"""Searches by several workers: the result of one process, whatever becomes of the workers."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from nas.chunks import DATA_FREE, Question
from nas.engine import Searcher
from nas.oracle import Failure, Oracle, Score, score_together
from nas.proxies.base import Conditions, ProxySpec
from nas.store import Store
from nas.workers import make_workers
from spaces import SPACES
from tests.nas.toys import SOME, TOY
from tests.nas.workers.work import Dangerous

RAY = importlib.util.find_spec("ray") is not None


def test_the_toy_search_is_the_same_with_workers() -> None:
    settings: dict[str, Any] = {
        "space": TOY, "proxy": Dangerous("fail", 6), "strategy": "evolution", "budget": 200,
        "batch": 48,
    }  # fmt: skip
    alone = Searcher(**settings).run()
    assert Searcher(workers=2, **settings).run() == alone
    assert sum(alone.failures.values()) > 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"space": "nats_tss", "proxy": "meco", "strategy": "evolution", "budget": 128},
        {"space": "nats_tss", "proxy": "zero_shot", "strategy": "evolution", "budget": 64},
        {"space": "nasbench101", "proxy": "meco", "strategy": "tpe", "budget": 48},
        {"space": "transnas_macro", "proxy": "meco", "strategy": "random", "budget": 96},
        {
            "space": "nats_tss", "proxy": "meco", "strategy": "nsga2", "budget": 96,
            "objectives": ["score", "sed", "-params"],
        },
    ],
    ids=lambda settings: "-".join(str(settings[key]) for key in ("space", "proxy", "strategy")),
)  # fmt: skip
def test_every_number_of_workers_gives_the_same_bits(settings: dict[str, Any]) -> None:
    alone = Searcher(**settings).run()
    others = [(2, "processes")]
    if settings["proxy"] == "zero_shot":  # it takes every route at once
        others = [(1, "processes"), *others, (4, "processes"), *[(2, "ray")] * RAY]
    for count, executor in others:
        found = Searcher(workers=count, executor=executor, **settings).run()
        assert found == alone, (count, executor)
    assert not all(trial.error for trial in alone.trials)


@pytest.mark.parametrize("ahead", [1, 3])
def test_batches_asked_ahead_are_told_in_order(ahead: int) -> None:
    settings: dict[str, Any] = {
        "space": TOY, "proxy": Dangerous("fail", 6), "budget": 150, "batch": 16,
    }  # fmt: skip
    alone = Searcher(strategy="evolution", ahead=ahead, **settings).run()
    assert [trial.number for trial in alone.trials] == list(range(150))
    assert alone != Searcher(strategy="evolution", **settings).run()  # it is part of the search
    # but not of one that learns nothing
    assert (
        Searcher(strategy="random", ahead=ahead, **settings).run().trials
        == Searcher(strategy="random", **settings).run().trials
    )


HARM: dict[str, tuple[dict[str, Any], str]] = {
    "segfault": ({}, "its worker ended: killed by SIGSEGV"),
    "hang": ({"chunk_seconds": 1.0}, "its worker was ended: longer than chunk_seconds = 1"),
    "hoard": ({"memory_mb": 2000}, "MemoryError"),
    "nan": ({}, "the score is not finite: nan"),
    "fail": ({}, "not this one"),
}


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(how, marks=[pytest.mark.slow] if how in ("hang", "hoard") else [])
        for how in HARM
    ],
)
def test_an_architecture_harms_itself_alone(how: str) -> None:
    if how == "hoard" and sys.platform != "linux":
        pytest.skip("a limit of Linux")
    options, reason = HARM[how]
    fatal = sum(SOME[3])
    guilty = [sum(arch) == fatal for arch in SOME]
    assert 0 < sum(guilty) < 8
    proxy = Dangerous(how, fatal)
    with make_workers(2, "processes", options) as workers:
        verdicts = Oracle(TOY, proxy, workers=workers).score(SOME)
    expected = [
        Failure(reason, False) if bad else Score(float(sum(arch)), False)
        for arch, bad in zip(SOME, guilty, strict=True)
    ]
    assert verdicts == expected


def test_what_ended_a_worker_is_tried_again_another_day(tmp_path: Path) -> None:
    with (
        Store(tmp_path / "scores.sqlite") as store,
        make_workers(1) as workers,
    ):
        proxy = Dangerous("segfault", sum(SOME[0]))
        Oracle(TOY, proxy, workers=workers, cache=store).score(SOME[:4])
        proxy.how = "nothing"
        verdicts = Oracle(TOY, proxy, cache=store).score(SOME[:4])
    assert verdicts[0] == Score(float(sum(SOME[0])), cached=False)
    assert verdicts[1].cached


@pytest.mark.slow
def test_several_proxies_share_workers() -> None:
    space = SPACES["nats_tss"]
    specs = [ProxySpec.parse(name) for name in ("meco", "sed", "nwot")]
    archs = [tuple(row) for row in space.canonicalise(space.all()[::2600]).tolist()]
    conditions = Conditions(resolution=16, minibatch=4)
    alone = score_together(space, specs, archs, conditions, _Forgetful())
    with make_workers(2) as workers:
        assert (
            score_together(space, specs, archs, conditions, _Forgetful(), workers=workers) == alone
        )


class _Forgetful:
    def get_many(self, keys: object) -> dict[str, float | str]:
        return {}

    def put_many(self, verdicts: object) -> dict[str, float | str]:
        return {}


@pytest.mark.parametrize(
    ("space", "proxy", "asked", "size"),
    [
        ("nats_tss", "meco", 32, 16),  # two chunks of an ordinary batch
        ("nats_tss", "meco", 256, 32),
        ("nats_tss", "meco", 15_625, 64),  # as many as run together
        ("nats_tss", "synflow", 32, 4),  # gradients need memory
        ("nats_tss", "grasp", 32, 1),  # one by one
        ("nats_tss", "params", 10**6, DATA_FREE),
        ("nats_tss", "zero_shot", 32, 16),
        ("nasbench101", "meco", 32, 8),
    ],
)
def test_chunks_follow_from_what_is_asked(space: str, proxy: str, asked: int, size: int) -> None:
    question = Question(SPACES[space], (ProxySpec.parse(proxy),), Conditions())
    assert question.chunk_size(asked) == size
