"""The Gaussian process: its numbers against the textbook's, its intervals, its file."""

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize

from nas.predictor import gaussian
from nas.predictor.gaussian import Encoding, GaussianOptions, GaussianProcess, fit_gaussian
from spaces.errors import NasError

IS_GRAPH = np.asarray([True, True, True, False, False])


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = np.concatenate([rng.integers(0, 4, (count, 3)), rng.normal(size=(count, 2))], axis=1)
    value = 94 - np.exp(
        1.5 - 0.5 * inputs[:, 0] + 0.4 * inputs[:, 3] + 0.2 * rng.normal(size=count)
    )
    return inputs, value


def fitted(count: int = 200, seed: int = 0, **options: float) -> GaussianProcess:
    inputs, truth = drawn(count, seed)
    unlabelled, _ = drawn(2000, 99)
    rng = np.random.default_rng(seed)
    return fit_gaussian(inputs, truth, unlabelled, IS_GRAPH, rng, GaussianOptions(**options))  # type: ignore[arg-type]


def test_it_predicts_by_the_formula() -> None:
    process = fitted(60)
    new, _ = drawn(20, 5)

    def kernel(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        r = np.empty((len(a[0]), len(b[0])))
        for i in range(len(a[0])):
            for j in range(len(b[0])):
                d = sum(
                    np.exp(2 * process.theta[k]) * ((a[k][i] - b[k][j]) ** 2).sum() for k in (0, 1)
                )
                r[i, j] = np.sqrt(3 * d)
        return np.asarray(np.exp(process.theta[2]) * (1 + r) * np.exp(-r))

    rows = (process.graph, process.proxies)
    noise = np.exp(process.theta[3]) / process.counts + np.exp(process.theta[4]) + 1e-6
    alpha = np.linalg.solve(kernel(rows, rows) + np.diag(noise), process.z)
    z = kernel(process.encoding.blocks(new), rows) @ alpha
    top, mean, std = process.scale
    np.testing.assert_allclose(process.predict(new), top - np.exp(-(z * std + mean)), rtol=1e-6)


def test_the_gradient_of_the_likelihood(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def checked(loss: object, start: np.ndarray, **settings: object) -> object:
        assert callable(loss)
        at = start + 0.3
        seen.append(check_grad(lambda t: loss(t)[0], lambda t: loss(t)[1], at) / loss(at)[0])
        return minimize(loss, start, **settings)

    monkeypatch.setattr(gaussian, "minimize", checked)
    fitted(40)
    assert abs(seen[0]) < 1e-5


def test_cells_with_equal_inputs_are_averaged() -> None:
    inputs, truth = drawn(50, 0)
    unlabelled, _ = drawn(500, 1)
    twice = np.concatenate([inputs, inputs[:10]])
    other = np.concatenate([truth, truth[:10] - 1])
    rng = np.random.default_rng(0)
    process = fit_gaussian(twice, other, unlabelled, IS_GRAPH, rng, GaussianOptions())
    assert len(process.z) == 50
    assert sorted(process.counts.tolist()) == [1.0] * 40 + [2.0] * 10


def test_its_intervals_hold() -> None:
    shares = []
    for seed in range(8):
        process = fitted(250, seed)
        inputs, truth = drawn(3000, 50 + seed)
        value, low, high = process.predict_with_interval(inputs)
        assert (low <= value).all()
        assert (value <= high).all()
        shares.append(((low <= truth) & (truth <= high)).mean())
    assert 0.86 <= np.mean(shares) <= 0.95
    half = fitted(250, 0, level=0.5)
    inputs, truth = drawn(3000, 50)
    _, low, high = half.predict_with_interval(inputs)
    assert 0.4 <= ((low <= truth) & (truth <= high)).mean() <= 0.65


def test_it_survives_being_stored() -> None:
    process = fitted(80)
    new, _ = drawn(100, 3)
    again = GaussianProcess.from_arrays(process.arrays(), 5)
    for first, second in zip(
        process.predict_with_interval(new), again.predict_with_interval(new), strict=True
    ):
        np.testing.assert_array_equal(first, second)
    assert process.predict(new[:0]).shape == (0,)
    arrays = process.arrays()
    for name, value in (
        ("z", np.zeros(3)),
        ("encoding.graph", np.asarray([7])),
        ("x", np.zeros(1)),
    ):
        with pytest.raises(NasError, match="no Gaussian process"):
            GaussianProcess.from_arrays({**arrays, name: value}, 5)


def test_places_among_all_cells() -> None:
    column = np.repeat([1.0, 2.0, 4.0], [100, 50, 50])[:, None]
    encoding = Encoding.of(column, np.asarray([False]))
    new = np.asarray([[0.0], [1.0], [2.0], [3.0], [4.0], [9.0]])
    scores = encoding.blocks(new)[1][:, 0]
    assert scores[0] == scores[1], "below all that is known"
    assert (np.diff(scores)[1:4] > 0).all()
    assert scores[1] == pytest.approx(-0.67, abs=0.02), "the middle of the lower half"
    assert np.isfinite(scores).all()
    constant = Encoding.of(np.ones((50, 2)), np.asarray([True, False]))
    assert constant.blocks(np.ones((3, 2)))[0].shape == (3, 0), "what never varies says nothing"
    assert constant.blocks(np.ones((3, 2)))[1].tolist() == [[0.0]] * 3


@pytest.mark.parametrize(("name", "value"), [("subset", 3), ("level", 1.0), ("level", 0.2)])
def test_options_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        GaussianOptions(**{name: value})  # type: ignore[arg-type]
