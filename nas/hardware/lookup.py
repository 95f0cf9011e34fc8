"""Latency from a look-up table per operation, fitted once on a device.

    latency = c + sum over choices i of  T[i, a_i]  +  f * flops  +  p * params

T has an entry for each operation (width, depth, edge) that may stand at each place. All of it is
fitted to measured latencies of n whole networks by ridge regression, which keeps the entries that n
networks cannot tell apart small and equal; flops and params carry what products of widths cost, and
sums of entries cannot. No answer is below the fastest network that was fitted to. The strength of
the ridge is the one with the least leave-one-out error. The table is then compared with whole
networks that it was not fitted on, and says how far it was off.

Additive look-up tables are those of ProxylessNAS (Cai et al. 2019,
https://arxiv.org/abs/1812.00332); there the entries are timed one by one, here they are read off
whole networks, which counts what networks do between their operations, too.

Letters: N networks, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas import plain_yaml
from nas.environment import device_name, version
from nas.hardware.latency import MeasureOptions
from nas.hardware.measured import MeasuredLatency
from nas.proxies.base import Conditions
from nas.seeds import generator
from nas.statistics import spearman
from nas.writing import write_whole
from spaces import NasError, Population, Space

FORMAT = "nas-search latency look-up, version 1"
_RIDGES = tuple(10.0**power for power in range(-4, 4))


@dataclass(frozen=True)
class Check:
    """How far a look-up table is off on networks that it was not fitted on.

    Attributes:
        networks: How many.
        median_percent: Median of the absolute relative error.
        worst_percent: The largest one.
        spearman: Rank correlation of the two.
    """

    networks: int
    median_percent: float
    worst_percent: float
    spearman: float


@dataclass(frozen=True)
class LookupLatency:
    """A fitted table.

    Attributes:
        space: Name of the space that it holds for.
        revision: Of that space; another text of a space's file is another revision.
        device: What it was fitted on, for a person.
        measure: How the networks were timed.
        num_classes: Of the networks.
        resolution: Of their images.
        fitted_on: Networks that it was fitted to.
        error: On other networks.
        fastest: Of the networks that were fitted to, milliseconds.
        constant: c, milliseconds.
        entries: T, milliseconds, one row for each choice.
        flops: f, milliseconds for 10^6 multiply-accumulates.
        params: p, milliseconds for 10^6 parameters.
        torch: Its version.
    """

    space: str
    revision: int
    device: str
    measure: MeasureOptions
    num_classes: int
    resolution: int
    fitted_on: int
    error: Check
    fastest: float
    constant: float
    entries: tuple[tuple[float, ...], ...]
    flops: float
    params: float
    torch: str | None

    effort = 4096

    @property
    def name(self) -> str:
        """Device, batch size and error."""
        return (
            f"look-up fitted on {self.device}, batch of {self.measure.batch_size}; off by "
            f"{self.error.median_percent:.1f} % (median of {self.error.networks} networks)"
        )

    def __call__(
        self, space: Space, population: Population, conditions: Conditions
    ) -> NDArray[np.float64]:
        if space.name == self.space and space.revision != self.revision:
            raise NasError(
                f"latency: the look-up table was fitted to another version of {self.space}; fit it "
                "again: nas latency --fit"
            )
        asked = (space.name, conditions.num_classes, conditions.resolution)
        if asked != (self.space, self.num_classes, self.resolution):
            raise NasError(
                f"latency: the look-up table holds for {self.space}, {self.num_classes} classes, "
                f"resolution {self.resolution}; asked about {asked[0]}, {asked[1]}, {asked[2]}"
            )
        return self._predict(space, space.canonicalise(population))

    def _predict(self, space: Space, population: Population) -> NDArray[np.float64]:
        costs = _costs(space, population, self.num_classes, self.resolution)
        total = self.constant + costs @ np.asarray([self.flops, self.params])
        for place, row in enumerate(self.entries):
            total = total + np.asarray(row)[population[:, place]]
        return np.asarray(np.maximum(total, self.fastest), dtype=np.float64)

    def save(self, path: Path) -> None:
        """Write the table as YAML."""
        values = asdict(self)
        values["entries"] = [list(row) for row in self.entries]
        write_whole(path, plain_yaml.dump({"format": FORMAT, **values}))

    @classmethod
    def load(cls, path: Path) -> LookupLatency:
        """Read a table that :meth:`save` wrote.

        Raises:
            NasError: It is none.
        """
        value = plain_yaml.parse(plain_yaml.read(path), str(path)).value
        if not isinstance(value, dict) or value.pop("format", None) != FORMAT:
            raise NasError(f"{path}: no look-up table of latencies; `nas latency --fit` makes one")
        try:
            return _from_values(value)
        except (TypeError, KeyError, ValueError) as error:
            raise NasError(f"{path}: damaged look-up table: {error}") from None


def _from_values(value: dict[str, Any]) -> LookupLatency:
    return LookupLatency(
        **{
            **value,
            "measure": MeasureOptions(**value["measure"]),
            "error": Check(**value["error"]),
            "entries": tuple(tuple(float(x) for x in row) for row in value["entries"]),
        }
    )


def fit_lookup(
    space: Space,
    conditions: Conditions,
    options: MeasureOptions | None = None,
    *,
    fit_on: int = 64,
    check_on: int = 16,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> LookupLatency:
    """Measure random networks of a space and fit a look-up table to them.

    Args:
        space: Any space.
        conditions: Classes and resolution of the networks.
        options: How they are timed.
        fit_on: Networks to fit to.
        check_on: Further networks to compare with.
        seed: Which networks.
        progress: Called with (networks timed, all).
    """
    space.check_resolution(conditions.resolution)
    measured = MeasuredLatency(options)
    drawn = _distinct(space, fit_on + check_on, seed)
    times = np.empty(len(drawn))
    for place in range(len(drawn)):
        times[place] = measured(space, drawn[place : place + 1], conditions)[0]
        if progress is not None:
            progress(place + 1, len(drawn))
    return fit_to(space, drawn, times, conditions, measured.options, check_on=check_on)


def fit_to(
    space: Space,
    population: Population,
    times: NDArray[np.floating[Any]],
    conditions: Conditions,
    options: MeasureOptions,
    *,
    check_on: int,
) -> LookupLatency:
    """Fit a look-up table to latencies that are known.

    Args:
        space: Where the architectures live.
        population: Canonical forms, ``(N, D)``; the last ``check_on`` are compared with only.
        times: Milliseconds, ``(N,)``.
        conditions: Classes and resolution of the networks.
        options: How they were timed.
        check_on: At least 2.

    Raises:
        NasError: Fewer than four networks to fit to, or than two to compare with.
    """
    n = len(population) - check_on
    if n < 4 or check_on < 2:
        raise NasError(
            f"a look-up table needs 4 networks to fit and 2 to check, got {n}, {check_on}"
        )
    classes, resolution = conditions.num_classes, conditions.resolution
    features = np.concatenate(
        [_codes(space, population), _costs(space, population, classes, resolution)], axis=1
    )
    constant, weights = _ridge(features[:n], np.asarray(times[:n], dtype=np.float64))
    ends = np.cumsum(space.dimensions).tolist()
    starts = [0, *ends[:-1]]
    entries = tuple(tuple(weights[a:b].tolist()) for a, b in zip(starts, ends, strict=True))
    fastest = float(times[:n].min())
    guessed = np.maximum(constant + features[n:] @ weights, fastest)
    off = 100 * np.abs(guessed / times[n:] - 1)
    return LookupLatency(
        space=space.name,
        revision=space.revision,
        device=device_name(options.device),
        measure=options,
        num_classes=classes,
        resolution=resolution,
        fitted_on=n,
        error=Check(
            networks=check_on,
            median_percent=float(np.median(off)),
            worst_percent=float(off.max()),
            spearman=float(spearman(guessed, times[n:])),
        ),
        fastest=fastest,
        constant=constant,
        entries=entries,
        flops=float(weights[-2]),
        params=float(weights[-1]),
        torch=version("torch"),
    )


def _distinct(space: Space, n: int, seed: int) -> Population:
    """Draw ``n`` canonical forms that differ, or as many as a few rounds of draws find."""
    rng = generator(seed, "latency")
    found: dict[tuple[int, ...], None] = {}
    for _ in range(20):
        rows = space.canonicalise(space.sample_many(n, rng))
        found |= dict.fromkeys(map(tuple, rows.tolist()))
        if len(found) >= n:
            break
    return np.asarray(list(found)[:n], dtype=np.int64)


def _codes(space: Space, population: Population) -> NDArray[np.float64]:
    rows: Sequence[NDArray[np.float64]] = [space.encode(tuple(row)) for row in population.tolist()]
    return np.asarray(rows)


def _costs(
    space: Space, population: Population, num_classes: int, resolution: int
) -> NDArray[np.float64]:
    """Return 10^6 multiply-accumulates and 10^6 parameters, ``(N, 2)``."""
    costs = space.costs(population, num_classes=num_classes, resolution=resolution)
    return np.stack([costs.flops, costs.params], axis=1) / 1e6


def _ridge(
    features: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Return constant and weights of the ridge with the least leave-one-out error.

    Args:
        features: ``(N, F)``.
        values: ``(N,)``.
    """
    means, scales = features.mean(axis=0), features.std(axis=0)
    scales[scales < 1e-12] = 1.0
    centred, middle = (features - means) / scales, values.mean()
    gram = centred @ centred.T  # (N, N)
    best: tuple[float, NDArray[np.float64]] = (np.inf, np.zeros(features.shape[1]))
    for ridge in _RIDGES:
        inverse = np.linalg.inv(gram + ridge * len(values) * np.eye(len(values)))
        dual = inverse @ (values - middle)
        # The error of leaving one out, without fitting again: a_i / (K + r)^-1_ii.
        error = float(np.square(dual / np.diag(inverse)).mean())
        if error < best[0]:
            best = error, centred.T @ dual
    weights = best[1] / scales
    return float(middle - means @ weights), weights
