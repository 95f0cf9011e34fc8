"""Fitted trees as plain arrays: what scikit-learn grows, kept and asked without it.

A model of trees is a file of numbers that means the same in every version of scikit-learn, and
running it runs nothing from a file.

Letters: N cells, F features, T trees, V nodes in all trees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spaces.errors import NasError

if TYPE_CHECKING:
    from sklearn.tree import DecisionTreeRegressor

LEAF = -1
_CHUNK = 2048  # cells at a time: bounds the memory of the walk


@dataclass(frozen=True, eq=False)
class Trees:
    """Regression trees whose values are added up.

    Attributes:
        roots: First node of each tree, ``(T,)``.
        feature: What a node asks about, ``(V,)``; -1 in a leaf.
        threshold: Cells at most as high go left, ``(V,)``.
        left: Where they go, ``(V,)``.
        right: Where the others go.
        value: What a leaf adds, ``(V,)``.
        start: What the sum starts from.
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float64]
    start: float

    @classmethod
    def of(
        cls, trees: Sequence[DecisionTreeRegressor], *, weight: float, start: float = 0.0
    ) -> Trees:
        """Take over trees that scikit-learn has grown, each times a weight."""
        sizes = [tree.tree_.node_count for tree in trees]
        roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)

        def joined(name: str) -> NDArray[np.float64]:
            return np.concatenate([getattr(tree.tree_, name).reshape(-1) for tree in trees])

        shift = np.repeat(roots, sizes)
        feature = joined("feature").astype(np.int32)
        return cls(
            roots=roots,
            feature=np.where(feature < 0, LEAF, feature).astype(np.int32),
            threshold=joined("threshold"),
            left=(joined("children_left") + shift).astype(np.int32),
            right=(joined("children_right") + shift).astype(np.int32),
            value=weight * joined("value"),
            start=start,
        )

    def predict(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sums, ``(N, F)`` to ``(N,)``."""
        parts = [
            self._sums(inputs[row : row + _CHUNK].astype(np.float32))  # as scikit-learn compares
            for row in range(0, len(inputs), _CHUNK)
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _sums(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        nodes = np.broadcast_to(self.roots, (len(inputs), len(self.roots))).copy()
        rows = np.arange(len(inputs))[:, None]
        while True:
            feature = self.feature[nodes]
            inner = feature != LEAF
            if not inner.any():
                break
            goes_left = inputs[rows, np.where(inner, feature, 0)] <= self.threshold[nodes]
            after = np.where(goes_left, self.left[nodes], self.right[nodes])
            nodes = np.where(inner, after, nodes)
        sums: NDArray[np.float64] = self.start + self.value[nodes].sum(axis=1)
        return sums

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the fields, for :meth:`from_arrays`."""
        return {**vars(self), "start": np.asarray(self.start)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], n_features: int) -> Trees:
        """Make the trees of arrays that came from a file.

        Raises:
            NasError: They are no trees over so many features: walking them could go astray.
        """
        try:
            made = cls(**{**arrays, "start": float(arrays["start"])})  # type: ignore[arg-type]
        except (TypeError, KeyError, ValueError) as error:
            raise NasError(f"no model of trees: {error}") from None
        size = len(made.feature)
        inner = np.flatnonzero(made.feature != LEAF)
        kinds = {"feature": "i", "left": "i", "right": "i", "threshold": "f", "value": "f"}
        sound = all(
            getattr(made, name).shape == (size,) and getattr(made, name).dtype.kind == kind
            for name, kind in kinds.items()
        ) and bool(
            (made.feature < n_features).all()
            and (made.roots < size).all()
            and (made.left[inner] > inner).all()  # forwards only: every walk ends
            and (made.right[inner] > inner).all()
            and (made.right[inner] < size).all()
            and (made.left[inner] < size).all()
        )
        if not sound:
            raise NasError("no model of trees: its nodes lead astray")
        return made
