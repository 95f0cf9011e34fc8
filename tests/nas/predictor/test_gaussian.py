"""The Gaussian process: its numbers against the textbook's, its intervals, its file."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize

from nas.predictor import gaussian
from nas.predictor.gaussian import Encoding, GaussianOptions, GaussianProcess, fit_gaussian
from spaces.errors import NasError

BLOCKS = ("count", "path", "count", "proxy", "proxy")


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
    return fit_gaussian(inputs, truth, unlabelled, BLOCKS, rng, GaussianOptions(**options))  # type: ignore[arg-type]


def test_it_predicts_by_the_formula() -> None:
    process = fitted(60)
    new, _ = drawn(20, 5)

    def column(i: int, values: np.ndarray) -> np.ndarray:
        return np.asarray(process.encoding.encode(values)[:, i])

    # Blocks in alphabetical order: count, path, proxy.
    length = [process.theta[number] for number in (0, 1, 0, 2, 2)]

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        r = np.empty((len(a), len(b)))
        for i, j in np.ndindex(*r.shape):
            d = sum(np.exp(2 * length[e]) * (a[i, e] - b[j, e]) ** 2 for e in range(5))
            r[i, j] = np.sqrt(3 * d)
        return np.asarray(np.exp(process.theta[3]) * (1 + r) * np.exp(-r))

    unlabelled, _ = drawn(2000, 99)
    np.testing.assert_allclose(
        column(1, new), (new[:, 1] - unlabelled[:, 1].mean()) / unlabelled[:, 1].std()
    )
    rows = process.rows
    noise = np.exp(process.theta[4]) / process.counts + np.exp(process.theta[5]) + 1e-6
    alpha = np.linalg.solve(kernel(rows, rows) + np.diag(noise), process.z)
    z = kernel(process.encoding.encode(new), rows) @ alpha
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
    process = fit_gaussian(twice, other, unlabelled, BLOCKS, rng, GaussianOptions())
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
        ("encoding.columns", np.asarray([7])),
        ("encoding.block", np.asarray([0, 1, 0, 2, 9])),
        ("x", np.zeros(1)),
    ):
        with pytest.raises(NasError, match="no Gaussian process"):
            GaussianProcess.from_arrays({**arrays, name: value}, 5)


def test_leaving_one_row_out_is_what_a_fit_without_it_predicts() -> None:
    process = fitted(40)
    mean, std = process.left_out()
    for left in (0, 17, 39):
        rest = np.arange(40) != left
        fewer = dataclasses.replace(
            process, rows=process.rows[rest], z=process.z[rest], counts=process.counts[rest]
        )
        encoding, row = process.encoding, process.rows[left : left + 1]
        near = gaussian.kernel(process.theta, encoding.block, row, fewer.rows)[0]
        whole = gaussian.kernel(process.theta, encoding.block, fewer.rows, fewer.rows)
        whole += np.diag(np.exp(process.theta[4]) + np.exp(process.theta[5]) + np.full(39, 1e-6))
        assert mean[left] == pytest.approx(near @ np.linalg.solve(whole, fewer.z), rel=1e-6)
        variance = np.exp(process.theta[3:]).sum() - near @ np.linalg.solve(whole, near)
        assert std[left] == pytest.approx(np.sqrt(variance), rel=1e-4)


def test_places_among_all_cells() -> None:
    column = np.repeat([1.0, 2.0, 4.0], [100, 50, 50])[:, None]
    encoding = Encoding.of(column, ["proxy"])
    new = np.asarray([[0.0], [1.0], [2.0], [3.0], [4.0], [9.0]])
    scores = encoding.encode(new)[:, 0]
    assert scores[0] == scores[1], "below all that is known"
    assert (np.diff(scores)[1:4] > 0).all()
    assert scores[1] == pytest.approx(-0.67, abs=0.02), "the middle of the lower half"
    assert np.isfinite(scores).all()
    constant = Encoding.of(np.ones((50, 2)), ["count", "proxy"])
    assert constant.columns.tolist() == [1], "what never varies says nothing"
    assert constant.encode(np.ones((3, 2))).tolist() == [[0.0]] * 3
    bare = Encoding.of(column, ["path"])
    assert bare.encode(column).std() == pytest.approx(1)


def test_options_out_of_range() -> None:
    with pytest.raises(ValueError, match="subset"):
        GaussianOptions(subset=3)
