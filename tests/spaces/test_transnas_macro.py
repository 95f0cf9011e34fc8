"""The TransNAS macro space: its members, counted another way, and parameters by hand."""

import itertools

import numpy as np
import pytest

from nas.proxies import Conditions, ProxyError, ProxySpec, score_batch
from spaces import TRANSNAS_MACRO, InvalidArch


def test_the_official_count_by_bits() -> None:
    """Which modules halve, and which double, are two independent sets of bits."""
    total = 0
    for modules in (4, 5, 6):
        bits = list(itertools.product((0, 1), repeat=modules))
        halves = sum(1 <= sum(row) <= 4 for row in bits)
        total += halves * sum(1 <= sum(row) <= 3 for row in bits)
    assert total == len(TRANSNAS_MACRO) == 3256


def test_the_texts_are_the_benchmarks() -> None:
    assert TRANSNAS_MACRO.from_str("64-1234-basic") == (0, 1, 2, 3, 4, 4)
    texts = [TRANSNAS_MACRO.to_str(tuple(row)) for row in TRANSNAS_MACRO.all().tolist()]
    assert texts == sorted(texts, key=lambda text: (len(text), text))
    assert texts[0] == "64-1114-basic"
    for wrong in ("64-1111-basic", "64-4444-basic", "64-123-basic", "32-1234-basic", "64-1234"):
        with pytest.raises(InvalidArch, match="transnas_macro: cannot read"):
            TRANSNAS_MACRO.from_str(wrong)
    with pytest.raises(InvalidArch, match="none behind an absent one"):
        TRANSNAS_MACRO.validate((0, 1, 2, 3, 4, 0))


def test_parameters_by_hand() -> None:
    arch = TRANSNAS_MACRO.from_str("64-1114-basic")
    stem = 3 * 32 * 9 + 64 + 32 * 64 * 9 + 128
    normal = 4 * (64 * 64 * 9 + 128)
    last = 64 * 128 * 9 + 3 * 128 * 128 * 9 + 64 * 128 + 5 * 256
    costs = TRANSNAS_MACRO.costs(np.asarray([arch]), resolution=32)
    assert costs.params[0] == stem + 3 * normal + last + 129 * 10
    flops = (3 * 32 * 9 + 32 * 64 * 9 + 12 * 64 * 64 * 9) * 1024
    flops += (64 * 128 * 9 + 3 * 128 * 128 * 9 + 64 * 128) * 256
    assert costs.flops[0] == flops + 129 * 10


def test_what_a_batch_norm_refuses_fails_alone() -> None:
    archs = [TRANSNAS_MACRO.from_str(f"64-{kinds}-basic") for kinds in ("1114", "334311", "4333")]
    (row,) = score_batch(
        TRANSNAS_MACRO, [ProxySpec.parse("meco_opt")], archs, Conditions(resolution=16)
    )
    assert isinstance(row[0], float)
    assert isinstance(row[1], ProxyError)
    assert isinstance(row[2], ProxyError)
