"""Trees as plain arrays predict what scikit-learn's own do, and broken ones are refused."""

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

from nas.predictor.trees import Trees
from spaces.errors import NasError


def some(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(count, 5)).round(1)  # ties at the thresholds
    return inputs, inputs[:, 0] ** 2 + np.sin(inputs[:, 1]) + 0.1 * rng.normal(size=count)


@pytest.mark.parametrize("kind", [RandomForestRegressor, ExtraTreesRegressor])
def test_the_same_as_scikit_learn(kind: type) -> None:
    fitted = kind(7, random_state=0).fit(*some(200))
    trees = Trees.of(fitted.estimators_, weight=1 / 7)
    new, _ = some(3000, seed=1)
    np.testing.assert_allclose(trees.predict(new), fitted.predict(new), rtol=1e-12)
    again = Trees.from_arrays(trees.arrays(), 5)
    np.testing.assert_array_equal(again.predict(new), trees.predict(new))
    assert trees.predict(new[:0]).shape == (0,)


def test_by_hand() -> None:
    # x0 <= 1: 10; else x1 <= 0: 20, else 30. A second tree is a leaf of 1. It starts from 5.
    trees = Trees(
        roots=np.asarray([0, 5], np.int32),
        feature=np.asarray([0, -1, 1, -1, -1, -1], np.int32),
        threshold=np.asarray([1.0, 0, 0, 0, 0, 0]),
        left=np.asarray([1, -1, 3, -1, -1, -1], np.int32),
        right=np.asarray([2, -1, 4, -1, -1, -1], np.int32),
        value=np.asarray([0, 10, 0, 20, 30, 1.0]),
        start=5.0,
    )
    inputs = np.asarray([[1.0, 9], [1.1, 0], [1.1, 0.1]])
    assert trees.predict(inputs).tolist() == [16, 26, 36]
    assert Trees.from_arrays(trees.arrays(), 2).predict(inputs).tolist() == [16, 26, 36]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("feature", np.asarray([7, -1, -1], np.int32)),  # there is no such input
        ("left", np.asarray([0, -1, -1], np.int32)),  # round in circles
        ("right", np.asarray([9, -1, -1], np.int32)),  # out of the arrays
        ("roots", np.asarray([3], np.int32)),
        ("value", np.zeros(2)),
        ("threshold", np.asarray(["a", "b", "c"])),
        ("other", np.zeros(3)),
    ],
)
def test_nodes_that_lead_astray_are_refused(name: str, value: np.ndarray) -> None:
    sound = Trees(
        roots=np.asarray([0], np.int32),
        feature=np.asarray([0, -1, -1], np.int32),
        threshold=np.zeros(3),
        left=np.asarray([1, -1, -1], np.int32),
        right=np.asarray([2, -1, -1], np.int32),
        value=np.zeros(3),
        start=0.0,
    ).arrays()
    Trees.from_arrays(sound, 1)
    with pytest.raises(NasError, match="no model of trees"):
        Trees.from_arrays({**sound, name: value}, 1)
    with pytest.raises(NasError, match="no model of trees"):
        Trees.from_arrays({k: v for k, v in sound.items() if k != "feature"}, 1)
