"""Seeds: named children that do not move when another consumer is added."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nas.seeds import child_seed, generator, torch_generator

CHECKOUT = Path(__file__).resolve().parents[2]


def test_a_child_is_the_first_63_bits_of_a_sha256() -> None:
    # printf '[0, "search"]' | sha256sum  ->  5d683f3aa48aa9fe...
    assert child_seed(0, "search") == int("5d683f3aa48aa9fe", 16) >> 1
    assert 0 <= child_seed(2**70, "search") < 2**63
    assert child_seed(-1, "search") != child_seed(1, "search")


def test_names_are_kept_apart() -> None:
    children = [("a", "b"), ("ab",), ("b", "a"), ("a",), (), ("a", 1), ("a", "1"), ("a", "b", "c")]
    assert len({child_seed(0, *names) for names in children}) == len(children)
    assert len({child_seed(seed, "a") for seed in range(1000)}) == 1000


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_children_are_the_same_in_every_process(hash_seed: str) -> None:
    code = "from nas.seeds import child_seed; print(child_seed(5, 'weights', 3))"
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(told.stdout) == child_seed(5, "weights", 3)


def test_generators_draw_the_same_twice_and_apart_from_each_other() -> None:
    first = generator(7, "search").random(100)
    assert np.array_equal(first, generator(7, "search").random(100))
    for other in (generator(8, "search"), generator(7, "batch"), generator(7, "search", "x")):
        assert not np.array_equal(first, other.random(100))


def test_torch_generators_leave_the_global_one_alone() -> None:
    torch = pytest.importorskip("torch")
    before = torch.random.get_rng_state()
    draws = [torch.randn(50, generator=torch_generator(7, "weights")) for _ in range(2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], torch.randn(50, generator=torch_generator(7, "images")))
    assert torch.equal(before, torch.random.get_rng_state())
