"""What a formula is worth on a sample: its rank correlations, with everything kept that recurs.

A generation asks about formulas that share most of their parts with earlier ones, so the value of
every sub-expression is kept as long as it is in use. Formulas that order the sample alike are one:
they are told apart by their ranks, and a rank order is judged once.

Letters: N architectures of a sample, n rows of a panel.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.design.agreement import Agreement, dense_ranks
from nas.design.expression import BINARY, UNARY, Node
from nas.design.layers import REDUCTIONS, Numbers, Sample
from spaces.errors import NasError

#: Bytes of kept sub-expressions of one sample; twice that while an old half is being replaced.
KEPT_BYTES = 200 * 2**20


class Values:
    """Values of formulas on one sample, whose sub-expressions are kept."""

    def __init__(self, sample: Sample, kept_bytes: int = KEPT_BYTES) -> None:
        self._sample = sample
        self._most = kept_bytes
        some = next(iter(sample.values()))
        self.count = len(some)
        self._dtype = some.values.dtype
        self._new: dict[Node, Numbers] = {}
        self._old: dict[Node, Numbers] = {}
        self._bytes = 0

    def of(self, node: Node) -> Numbers:
        """Return the value of a formula for every network, ``(N,)``; not finite where it has none.

        As :func:`nas.design.expression.evaluate`, to the bit.
        """
        with np.errstate(all="ignore"):
            return self._value(node)

    def _value(self, node: Node) -> Numbers:
        if node.op == "atom":
            return self._sample[node.kind].atom(node.name)
        if node.op == "constant":
            return np.asarray(node.value, dtype=self._dtype)
        known = self._new.get(node)
        if known is not None:
            return known
        known = self._old.get(node)
        if known is None:
            known = self._computed(node)
        self._keep(node, known)
        return known

    def _computed(self, node: Node) -> Numbers:
        if node.op in REDUCTIONS:
            (part,) = node.parts
            return REDUCTIONS[node.op](self._sample[part.kind], self._value(part))
        if len(node.parts) == 1:
            return UNARY[node.op](self._value(node.parts[0]))
        left, right = node.parts
        return BINARY[node.op](self._value(left), self._value(right))

    def _keep(self, node: Node, value: Numbers) -> None:
        if self._bytes > self._most:  # what was not used since the last time is given up
            self._old, self._new, self._bytes = self._new, {}, 0
        self._new[node] = value
        self._bytes += value.nbytes


@dataclass(frozen=True, eq=False)
class Panel:
    """Rows of a sample, and one truth of theirs.

    Attributes:
        task: Which table and column, such as ``nats_tss c10_test_200``: fitness is the worst of
            them.
        kind: ``random`` or ``stratified``; a task is worth the mean over its panels.
        sample: Name of the sample that the rows are of.
        rows: Places in it, ``(n,)``.
        truth: ``(n,)``.
    """

    task: str
    kind: str
    sample: str
    rows: NDArray[np.int64]
    truth: NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """How a formula ranks.

    Attributes:
        worth: The mean over panels of the worst task; -1 where it fails on an architecture.
        taus: Kendall's tau by panel, a tie of the scores counted as no agreement
            (:meth:`nas.design.agreement.Agreement.decided_of_ranks`).
        key: Of the order that it puts the samples in.
    """

    worth: float
    taus: tuple[float, ...]
    key: str


FAILED = Verdict(-1.0, (), "failed")


class Judge:
    """Judges formulas on samples of some spaces."""

    def __init__(self, samples: Mapping[str, Sample], panels: Sequence[Panel]) -> None:
        """Sort the panels.

        Args:
            samples: By name: one for each space and draw.
            panels: On them.
        """
        if not panels:
            raise NasError("a judge needs one panel at least")
        self.panels = tuple(panels)
        self.values = {name: Values(sample) for name, sample in samples.items()}
        self._together: dict[tuple[str, bytes], list[int]] = {}
        for place, panel in enumerate(panels):  # those on the same rows share their ranks
            key = panel.sample, panel.rows.tobytes()
            self._together.setdefault(key, []).append(place)
        self._agreements = {
            key: Agreement([panels[i].truth for i in places])
            for key, places in self._together.items()
        }
        tasks = list(dict.fromkeys(panel.task for panel in panels))
        self._of_task = [
            [i for i, panel in enumerate(panels) if panel.task == task] for task in tasks
        ]
        self._known: dict[str, Verdict] = {}
        self.judged = 0
        self.asked = 0

    def judge(self, nodes: Sequence[Node]) -> list[Verdict]:
        """Return what each formula is worth."""
        self.asked += len(nodes)
        scores: dict[str, list[Numbers]] = {name: [] for name in self.values}
        keys = []
        for node in nodes:
            found = {name: self._scores(values, node) for name, values in self.values.items()}
            if any(score is None for score in found.values()):
                keys.append("failed")
                continue
            for name, score in found.items():
                assert score is not None
                scores[name].append(score)
            keys.append("")
        ranks = {name: dense_ranks(np.stack(some)) for name, some in scores.items() if some}
        self._name(keys, ranks)
        self._judge_new(keys, ranks)
        return [FAILED if key == "failed" else self._known[key] for key in keys]

    @staticmethod
    def _scores(values: Values, node: Node) -> Numbers | None:
        """Return finite scores ``(N,)``, or None."""
        score = values.of(node)
        return score if score.shape and np.isfinite(score).all() else None

    @staticmethod
    def _name(keys: list[str], ranks: Mapping[str, NDArray[np.int16]]) -> None:
        """Give every formula that did not fail the key of its order."""
        row = 0
        for place, key in enumerate(keys):
            if key == "failed":
                continue
            digest = hashlib.blake2b(digest_size=12)
            for name in sorted(ranks):
                digest.update(ranks[name][row].tobytes())
            keys[place] = digest.hexdigest()
            row += 1

    def _judge_new(self, keys: Sequence[str], ranks: Mapping[str, NDArray[np.int16]]) -> None:
        given = [key for key in keys if key != "failed"]
        new = {key: row for row, key in enumerate(given) if key not in self._known}
        if not new:
            return
        rows = np.asarray(list(new.values()))
        taus = np.empty((len(rows), len(self.panels)))
        for (name, at), places in self._together.items():
            on = np.frombuffer(at, dtype=np.int64)
            some = ranks[name][rows][:, on]
            taus[:, places] = self._agreements[name, at].decided_of_ranks(some)
        worth = np.min([taus[:, places].mean(axis=1) for places in self._of_task], axis=0)
        self.judged += len(rows)
        for key, value, row in zip(new, worth.tolist(), taus.tolist(), strict=True):
            self._known[key] = Verdict(value, tuple(row), key)

    def spread(self, node: Node) -> float:
        """Return the standard deviation of a formula on the first sample; NaN where it fails."""
        with np.errstate(all="ignore"):
            found = next(iter(self.values.values())).of(node)
            value = float(np.std(found))
        return value if math.isfinite(value) else math.nan
