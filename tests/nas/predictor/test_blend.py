"""Process and trees together: their average, its intervals, its file."""

import numpy as np
import pytest

from nas.predictor.blend import Blend, BlendOptions, fit_blend
from nas.predictor.gaussian import accuracy
from spaces.errors import NasError
from tests.nas.predictor.test_gaussian import BLOCKS, drawn


def fitted(count: int = 200, seed: int = 0) -> Blend:
    inputs, truth = drawn(count, seed)
    unlabelled, _ = drawn(2000, 99)
    return fit_blend(inputs, truth, unlabelled, BLOCKS, seed, BlendOptions(trees=20))


def test_it_is_the_weighted_mean_of_both() -> None:
    blend = fitted()
    new, _ = drawn(50, 5)
    smooth = blend.process.latent(new)[0]
    stepped = blend.trees.predict(blend.process.encoding.encode(new))
    assert np.corrcoef(smooth, stepped)[0, 1] > 0.9, "both predict z"
    z = 2 / 3 * smooth + 1 / 3 * stepped
    np.testing.assert_allclose(blend.predict(new), accuracy(z, blend.process.scale))
    assert blend.predict(new[:0]).shape == (0,)


def test_its_intervals_hold() -> None:
    shares = []
    for seed in range(4):
        blend = fitted(250, seed)
        inputs, truth = drawn(3000, 50 + seed)
        value, low, high = blend.predict_with_interval(inputs)
        np.testing.assert_array_equal(value, blend.predict(inputs))
        assert (low <= value).all()
        assert (value <= high).all()
        shares.append(((low <= truth) & (truth <= high)).mean())
    assert 0.86 <= np.mean(shares) <= 0.95


def test_it_survives_being_stored() -> None:
    blend = fitted(80)
    new, _ = drawn(100, 3)
    again = Blend.from_arrays(blend.arrays(), 5)
    for first, second in zip(
        blend.predict_with_interval(new), again.predict_with_interval(new), strict=True
    ):
        np.testing.assert_array_equal(first, second)
    arrays = blend.arrays()
    for name, value in (
        ("bands", np.zeros(3)),
        ("share", np.zeros(2)),
        ("process.z", np.zeros(3)),
        ("trees.feature", np.full_like(arrays["trees.feature"], 99)),
    ):
        with pytest.raises(NasError, match=r"no (blend|Gaussian process|model of trees)"):
            Blend.from_arrays({**arrays, name: value}, 5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("trees", 0), ("min_leaf", 0), ("share", 1), ("max_features", 0), ("subset", 2)],
)
def test_options_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        BlendOptions(**{name: value})  # type: ignore[arg-type]
