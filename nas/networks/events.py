"""What a feature-map proxy hears: one event per map, whoever runs the network.

Feeders make events: hooks on any ``nn.Module`` (:mod:`nas.networks.module`), networks that run a
whole batch of cells at once (:mod:`nas.networks.cells`, :mod:`nas.networks.vertices`,
:mod:`nas.networks.darts`), and trees of widths or modules (:mod:`nas.networks.sizes`,
:mod:`nas.networks.macro`). A proxy is written once, as a listener, and cannot tell them apart.

Letters: K architectures that share an event, U maps that they have between them, M images per
architecture, C channels, H W size, N architectures in the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: What the module that emits a map is: ``other`` covers containers and whatever has no own name.
MODULES = frozenset({"relu", "conv", "norm", "pool", "skip", "linear", "other"})

#: What a map is besides: ``normalised`` enters a normalisation, ``block`` leaves a building block,
#: ``last`` is the last map before global pooling.
PLACES = frozenset({"normalised", "block", "last"})

ROLES = MODULES | PLACES


@dataclass(frozen=True)
class Event:
    """One feature map of some architectures of the batch.

    Attributes:
        maps: The different ones, ``(U, M, C, H, W)``.
        archs: Places of the K architectures in the batch, ``(K,)``.
        counts: For each role, how many modules emit this map: ``(K,)``, or one number for all.
        map_id: Equal for two events of one feed that carry the same values.
        affine_id: Equal for two events whose values differ by a positive affine map per channel
            (a batch-norm and its input), so that correlations agree.
        rows: Which of the maps each architecture has, ``(K,)``; None if each has its own, in order.
        entered: For the role ``block``, what entered the block where it made each of the maps,
            ``(U, M, C', H', W')``; None if that is not known.
    """

    maps: Tensor
    archs: Tensor
    counts: Mapping[str, Tensor | int]
    map_id: int
    affine_id: int
    rows: Tensor | None = None
    entered: Tensor | None = None

    @cached_property
    def features(self) -> Tensor:
        """The map of each architecture, ``(K, M, C, H, W)``."""
        return self.of_each(self.maps)

    def of_each(self, values: Tensor) -> Tensor:
        """Return ``(K, ...)`` from what is known of each map, ``(U, ...)``."""
        return values if self.rows is None else values.index_select(0, self.rows)

    def keeps_resolution(self) -> bool:
        """Tell whether a block's maps have the size of what entered it; True if that is unknown."""
        return self.entered is None or self.entered.shape[3:] == self.maps.shape[3:]

    def count(self, roles: frozenset[str]) -> Tensor | int:
        """Add up the counts of the roles: ``(K,)``, or one number for all."""
        total: Tensor | int = 0
        for role, number in self.counts.items():
            if role in roles:
                total = total + number
        return total


class Listener(Protocol):
    """Turns events into one number per architecture.

    A feeder may leave out any event whose roles the listener does not want. It may also number
    maps by what shares them instead of by architecture, as long as the listener is additive
    (:attr:`nas.proxies.base.Proxy.additive`); it then adds the totals up along each architecture.

    Attributes:
        roles: What it wants to hear.
        totals: What is added up over events, ``(N, ...)``.
    """

    roles: frozenset[str]
    totals: Tensor

    def wants(self, channels: int, positions: int) -> bool:
        """Tell whether a map of C channels and H*W positions can change the score at all."""

    def hear(self, event: Event) -> None:
        """Take one event; keep no reference to its features."""

    def scores(self) -> torch.Tensor:
        """Return the score of every row of ``totals``, ``(N,)`` in float64, higher is better."""
