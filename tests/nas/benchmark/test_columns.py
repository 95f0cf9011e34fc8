"""Names of columns say data set, split, epochs and seeds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.benchmark.columns import Measure, NotMeasured, check_dataset, parse_column


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        ("c10_test_200", Measure("cifar10", "test", 200)),
        ("c10_val_200", Measure("cifar10-valid", "validation", 200)),
        ("c10valid_val_90", Measure("cifar10-valid", "validation", 90)),
        ("c10valid_test_200", Measure("cifar10-valid", "test", 200)),
        ("c100_test_12", Measure("cifar100", "test", 12)),
        ("in16_val_12", Measure("ImageNet16-120", "validation", 12)),
        ("c10_test_200_v1", Measure("cifar10", "test", 200, release="v1")),
        ("c100_val_200_seed777", Measure("cifar100", "validation", 200, seed=777)),
    ],
)
def test_known_names(name: str, measure: Measure) -> None:
    assert parse_column(name) == measure


@pytest.mark.parametrize(
    "name",
    ["", "index", "c10", "c10_test", "c10_test_", "c10_test_0200", "c10_train_200", "c10_test_200 ",
     "params_M_c10", "c10_cost12_s", "c10_edgegpu_latency", "nbsz_c10_params", "class_object",
     "C10_test_200", "c10_test_200_seed", "c10_test_٢٠٠"],
)  # fmt: skip
def test_other_names_are_no_accuracy(name: str) -> None:
    assert parse_column(name) is None


def test_a_measure_says_what_it_is() -> None:
    assert str(parse_column("c10_val_200")) == (
        "cifar10-valid validation accuracy, 200 epochs, mean over seeds"
    )
    assert str(parse_column("c100_test_12_seed777")) == (
        "cifar100 test accuracy, 12 epochs, seed 777"
    )


@given(st.text(max_size=30))
def test_any_text_is_a_measure_or_none(name: str) -> None:
    measure = parse_column(name)
    assert measure is None or measure.epochs > 0


def test_data_sets_are_checked() -> None:
    assert check_dataset("cifar100", "validation") == "cifar100"
    with pytest.raises(NotMeasured, match=r"no data set named 'cifar-10'. Did you mean 'cifar10'"):
        check_dataset("cifar-10", "test")
    with pytest.raises(NotMeasured, match=r"'cifar10' was trained on .* use 'cifar10-valid'"):
        check_dataset("cifar10", "validation")
