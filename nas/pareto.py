"""Fronts of trade-offs: what is not beaten in every objective, and how much a front is worth.

Letters: N points, M objectives; higher is better in each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def front_of(points: ArrayLike) -> NDArray[np.int64]:
    """Return the places of the points that no other one dominates, by the first objective.

    A point dominates another if it is nowhere worse and somewhere better. Of equal points the
    first is kept. The best in the first objective comes first.

    Args:
        points: ``(N, M)``, finite.
    """
    values = np.asarray(points, dtype=np.float64)
    if len(values) == 0:
        return np.empty(0, dtype=np.int64)
    # The best first, by the first objective, then the second ...: nobody later dominates.
    order = np.lexsort([np.arange(len(values)), *(-values.T[::-1])])
    kept: list[int] = []
    best = np.empty((0, values.shape[1]))
    for place in order.tolist():
        point = values[place]
        if not (best >= point).all(axis=1).any():
            kept.append(place)
            best = np.vstack([best, point])
    return np.asarray(kept, dtype=np.int64)


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Return the volume that is dominated by some point and dominates the reference.

    Exact, by slices along the last objective (While et al. 2006, HSO): fast for two objectives,
    usable for a few more.

    Args:
        points: ``(N, M)``; those that are nowhere above the reference add nothing.
        reference: ``(M,)``.
    """
    lowest = np.asarray(reference, dtype=np.float64)
    values = np.asarray(points, dtype=np.float64).reshape(-1, len(lowest)) - lowest
    values = values[(values > 0).all(axis=1)]
    return _volume(values) if len(values) else 0.0


def _volume(values: Floats) -> float:
    if values.shape[1] == 1:
        return float(values.max())
    values = values[front_of(values)]
    if values.shape[1] == 2:  # the first objective falls along a front, the second rises
        steps = np.diff(values[:, 1], prepend=0.0)
        return float(values[:, 0] @ steps)
    order = np.argsort(-values[:, -1], kind="stable")
    heights = np.append(values[order, -1], 0.0)
    slices = heights[:-1] - heights[1:]
    return sum(
        float(thick) * _volume(values[order[: number + 1], :-1])
        for number, thick in enumerate(slices)
        if thick > 0
    )
