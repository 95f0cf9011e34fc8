"""A fitted predictor: architectures in, accuracies with intervals out; saved as plain numbers.

    predictor = Predictor.load("tss.npz")
    predictor.predict(["|nor_conv_3x3~0|+..."])    # 93.9 [93.5, 94.2]
    Searcher(space="nats_tss", oracle=predictor, strategy="evolution", budget=500).run()

A predictor answers for the space that it was fitted on and for nothing else. Its inputs are always
computed under the conditions of its training, whatever a search is run under.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from nas.plugins import look_up_or_load
from nas.predictor.container import BadPredictor, read, write
from nas.predictor.inputs import Inputs, Scorer
from nas.predictor.intervals import Intervals
from nas.predictor.models import REGRESSORS, Model, Unsure
from nas.predictor.shipped import resolve
from nas.proxies.base import Conditions, Outcome
from spaces import SPACES, Arch, Space
from spaces.errors import InvalidArch, NasError, look_up

Floats = NDArray[np.float64]


class Predicted(NamedTuple):
    """What a predictor says of one architecture.

    Attributes:
        value: Predicted accuracy, in the unit of the table it was fitted on.
        low: Lower end of the 90 % interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True, eq=False)
class Predictor:
    """A model, what it reads, and what is known of it.

    Attributes:
        space: Where it holds.
        inputs: What it reads.
        model: What was fitted.
        intervals: How far it is off; None where the model says so itself.
        fill: What stands for an input that an architecture has not (a proxy failed), ``(F,)``.
        about: How it was fitted: regressor, truth, training rows, versions, held-out figures.
        checksum: Of the file that it came from; empty before it is saved.
    """

    space: Space
    inputs: Inputs
    model: Model
    intervals: Intervals | None
    fill: Floats
    about: Mapping[str, Any]
    checksum: str = ""

    #: One prediction serves all architectures that compute one function.
    of_function = True

    @cached_property
    def name(self) -> str:
        """What a search and a score cache know it by."""
        return f"predictor {self.about.get('name', '?')} {self.checksum[:12]}".rstrip()

    @property
    def revision(self) -> int | None:
        """Of its scores: a saved one is told from any other by its name."""
        return 1 if self.checksum else None

    def predict(self, archs: Sequence[Arch | str], score: Scorer | None = None) -> list[Predicted]:
        """Return what is predicted of each architecture.

        Args:
            archs: Members of the space, as tuples or official strings.
            score: Asks the proxies among the inputs; by default nothing is kept.

        Raises:
            InvalidArch: One of them is no member of the space: nothing is guessed.
        """
        if not archs:
            return []
        members = [self.space.from_str(x) if isinstance(x, str) else x for x in archs]
        _, table = self.inputs.table(self.space, members, score)
        value, low, high = self.of_inputs(np.where(np.isfinite(table), table, self.fill))
        rows = zip(value.tolist(), low.tolist(), high.tolist(), strict=True)
        return [Predicted(*row) for row in rows]

    def of_inputs(self, inputs: Floats) -> tuple[Floats, Floats, Floats]:
        """Return predictions and both ends of their intervals, ``(N, F)`` to ``(N,)`` each."""
        if self.intervals is None:
            assert isinstance(self.model, Unsure)
            return self.model.predict_with_interval(inputs)
        value = self.model.predict(inputs)
        return (value, *self.intervals.around(value))

    def __call__(
        self, space: Space, archs: Sequence[Arch], conditions: Conditions | None = None
    ) -> Sequence[Outcome]:
        """Answer as a proxy (:class:`nas.chunks.OwnProxy`); ``conditions`` are not looked at."""
        if space.name != self.space.name or space.revision != self.space.revision:
            raise NasError(
                f"{self.name}: it was fitted on {self.space.name}, it cannot judge {space.name}"
            )
        return [predicted.value for predicted in self.predict(archs)]

    def gain(self, space: Space) -> int:
        """Return how many architectures are judged in the time of one network run alone."""
        return min((spec.gain(space) for spec in self.inputs.proxies()), default=10_000)

    def save(self, path: str | Path) -> Self:
        """Write a file; return the predictor as it will be read from there."""
        header = {
            "space": self.space.name,
            "space_revision": self.space.revision,
            "inputs": self.inputs.to_json(),
            "regressor": self.about["regressor"],
            "about": dict(self.about),
        }
        arrays: dict[str, NDArray[np.generic]] = {"fill": self.fill}
        arrays |= {f"model.{key}": value for key, value in self.model.arrays().items()}
        if self.intervals is not None:
            known = self.intervals.arrays()
            arrays |= {f"intervals.{key}": value for key, value in known.items()}
        write(Path(path), header, arrays)
        return type(self).load(path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file, or a predictor that comes with the package, by its name.

        Raises:
            BadPredictor: It is no predictor, was changed, or is of another version of its space.
        """
        return cls._read(resolve(str(path)))

    @classmethod
    def _read(cls, path: Path) -> Self:
        header, arrays, checksum = read(path)
        try:
            # a plugin's, too, but no file and no import path: this file may be anybody's
            space = look_up_or_load(SPACES, str(header["space"]), kind="space", expected=Space)
            if space.revision != header["space_revision"]:
                raise BadPredictor(
                    f"{path}: fitted on revision {header['space_revision']} of {space.name}, this "
                    f"is revision {space.revision}; fit it again"
                )
            fill = np.asarray(arrays["fill"], dtype=np.float64)
            intervals = _part(arrays, "intervals.")
            regressor = look_up(REGRESSORS, header["regressor"]["name"], kind="regressor")
            return cls(
                space=space,
                inputs=Inputs.from_json(header["inputs"]),
                model=regressor.load(_part(arrays, "model."), len(fill)),
                intervals=Intervals.from_arrays(intervals) if intervals else None,
                fill=fill,
                about=header["about"],
                checksum=checksum,
            )
        except BadPredictor:
            raise
        except (NasError, KeyError, TypeError, ValueError) as error:
            raise BadPredictor(f"{path}: no predictor of this version: {error}") from None


def _part(arrays: Mapping[str, NDArray[np.generic]], prefix: str) -> dict[str, NDArray[np.generic]]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


@lru_cache(maxsize=4)
def remembered(path: str) -> Predictor:
    """Return a predictor, read once in a process."""
    return Predictor.load(path)


__all__ = ["InvalidArch", "Predicted", "Predictor", "remembered"]
