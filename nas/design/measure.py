"""Measures the atoms of untrained networks, run alone or many at a time.

Letters: N networks, K of them that share an event, U maps that they have between them, C channels,
H W size, S atoms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nas.design.atoms import GROUP, PASSES, ROLES, TINY, Atom
from nas.design.layers import Layers, join
from nas.networks.events import Event
from nas.networks.forward import Layer
from nas.networks.sizes import SizeNetworks
from nas.proxies.base import Conditions
from nas.proxies.decorrelation import FLOOR
from nas.proxies.norm_growth import root_mean_square
from nas.proxies.routes import form_of, in_parts, network_of, one_repeat, place, seeded
from nas.proxies.spectrum import correlation, smallest_correlation_eigenvalue
from spaces import Arch, Population, Space

if TYPE_CHECKING:
    from nas.networks.batched import BatchedNetworks
    from nas.networks.module import ModuleNetwork

#: Names of atoms by role.
Wanted = Mapping[str, Sequence[str]]


def _log_share(part: Tensor, whole: Tensor) -> Tensor:
    """Return ln(part / whole), at least ln TINY; that, too, where the whole is 0."""
    some = whole > 0
    share = torch.where(some, part / torch.where(some, whole, 1.0), 0.0)
    return share.clamp_min(TINY).log()


def _log(values: Tensor) -> Tensor:
    return values.clamp_min(TINY).log()


class Maps:
    """Maps ``(U, C, P)`` of one shape, and their statistics, each computed when it is asked for."""

    def __init__(self, maps: Tensor, entered: Tensor | None = None) -> None:
        """Take maps ``(U, C, H, W)`` and what entered the block that made them."""
        self.channels = maps.shape[1]
        self._maps = maps
        self._flat = maps.flatten(2)
        self.positions = self._flat.shape[2]
        self._entered = entered

    def filled(self, value: float) -> Tensor:
        return torch.full((len(self._flat),), value, dtype=torch.float64, device=self._flat.device)

    @cached_property
    def rms(self) -> Tensor:
        return root_mean_square(self._flat)

    @cached_property
    def mean(self) -> Tensor:
        return self._flat.mean(dim=(1, 2)).double()

    @cached_property
    def _central(self) -> tuple[Tensor, Tensor]:
        """Second and fourth moment about the mean, ``(U,)`` each."""
        flat = self._flat.flatten(1)
        squares = (flat - flat.mean(dim=1, keepdim=True)).square()
        return squares.mean(dim=1).double(), squares.square().mean(dim=1).double()

    @cached_property
    def std(self) -> Tensor:
        spread: Tensor = self._central[0].sqrt()
        return spread

    @cached_property
    def kurtosis(self) -> Tensor:
        second, fourth = self._central
        ratio: Tensor = fourth / second.square().clamp_min(TINY)
        return ratio

    @cached_property
    def _shares(self) -> Tensor:
        return (self._flat > 0).double().mean(dim=2)  # (U, C)

    @property
    def active(self) -> Tensor:
        return self._shares.mean(dim=1)

    @property
    def variety(self) -> Tensor:
        mean: Tensor = (4 * self._shares * (1 - self._shares)).mean(dim=1)
        return mean

    @property
    def min_eigenvalue(self) -> Tensor:
        return smallest_correlation_eigenvalue(self._maps)

    @cached_property
    def _matrix(self) -> Tensor:
        if self.positions < 2:  # nothing varies
            return self._flat.new_zeros((len(self._flat), self.channels, self.channels)).double()
        return correlation(self._maps)[0].double()

    @property
    def correlation(self) -> Tensor:
        pairs = max(1, self.channels * (self.channels - 1))
        diagonal = self._matrix.diagonal(dim1=1, dim2=2).abs().sum(dim=1)
        return (self._matrix.abs().sum(dim=(1, 2)) - diagonal) / pairs

    @property
    def rank(self) -> Tensor:
        trace: Tensor = self._matrix.diagonal(dim1=1, dim2=2).sum(dim=1)
        power = self._matrix.square().sum(dim=(1, 2))
        share: Tensor = trace.square() / power.clamp_min(TINY) / self.channels
        return share

    @cached_property
    def _eigenvalues(self) -> Tensor:
        """Of the correlation matrices of groups of channels, as for decorrelation: (U, G, n)."""
        size = min(GROUP, self.channels)
        groups = self.channels // size
        dealt = self._flat[:, : groups * size].unflatten(1, (size, groups)).transpose(1, 2)
        if self.positions < 2:
            nothing: Tensor = dealt.new_zeros(dealt.shape[:3]).double()
            return nothing
        matrices, _ = correlation(dealt.flatten(0, 1)[..., None])
        values = torch.linalg.eigvalsh(matrices.double()).clamp_min(0.0)
        apart: Tensor = values.view(len(self._flat), groups, size)
        return apart

    @property
    def group_minimum(self) -> Tensor:
        return self._eigenvalues[:, :, 0].mean(dim=1)

    @property
    def log_volume(self) -> Tensor:
        return self._eigenvalues.clamp_min(FLOOR).log().sum(dim=2).mean(dim=1)

    @property
    def entropy(self) -> Tensor:
        shares = self._eigenvalues / self._eigenvalues.sum(dim=2, keepdim=True).clamp_min(TINY)
        entropies: Tensor = -torch.special.xlogy(shares, shares).sum(dim=2)
        return entropies.mean(dim=1)

    @property
    def growth(self) -> Tensor:
        assert self._entered is not None
        return _log_share(self.rms, root_mean_square(self._entered))

    @property
    def gain(self) -> Tensor:
        assert self._entered is not None
        return _log_share(self.mean, self._entered.flatten(1).mean(dim=1).double())


class _Slope:
    """Gradients by what enters and leaves U blocks."""

    def __init__(self, entering: Tensor, leaving: Tensor) -> None:
        self._entering, self._leaving = entering, leaving

    def filled(self, value: float) -> Tensor:
        return torch.full((len(self._leaving),), value, dtype=torch.float64)

    @property
    def gain(self) -> Tensor:
        return _log_share(root_mean_square(self._entering), root_mean_square(self._leaving))


class _LayerGradient:
    """A layer's output in k networks, and the gradient by it."""

    def __init__(self, layer: Layer, gradient: Tensor) -> None:
        self._layer = layer
        self._rising = gradient
        self._output = layer.by_position(layer.output.detach())  # (k, M, C, P)
        self._gradient = layer.by_position(gradient)

    def filled(self, value: float) -> Tensor:
        return torch.full((len(self._output),), value, dtype=torch.float64)

    @property
    def log_output(self) -> Tensor:
        return _log(root_mean_square(self._output))

    @property
    def log_gradient(self) -> Tensor:
        return _log(root_mean_square(self._gradient))

    @property
    def log_weight_gradient(self) -> Tensor:
        return _log(root_mean_square(self._layer.by_image(self._rising)))

    @property
    def log_saliency(self) -> Tensor:
        return _log((self._output * self._gradient).abs().flatten(1).mean(dim=1).double())

    @property
    def alignment(self) -> Tensor:
        product = (self._output * self._gradient).flatten(1).mean(dim=1).double()
        sizes = root_mean_square(self._output) * root_mean_square(self._gradient)
        return product / sizes.clamp_min(TINY)


class _Weight:
    """A weight that k networks share."""

    def __init__(self, weight: Tensor, owners: int) -> None:
        self._weight = weight.detach()
        self._owners = owners

    def filled(self, value: float) -> Tensor:
        return torch.full((self._owners,), value, dtype=torch.float64)

    @property
    def log_count(self) -> Tensor:
        return self.filled(float(np.log(self._weight.numel())))

    @property
    def log_fan_in(self) -> Tensor:
        return self.filled(float(np.log(self._weight[0].numel())))

    @property
    def log_width(self) -> Tensor:
        return self.filled(float(np.log(len(self._weight))))

    @property
    def window(self) -> Tensor:
        return self.filled(float(self._weight[0, 0].numel() if self._weight.dim() > 1 else 1))

    @property
    def rms(self) -> Tensor:
        return root_mean_square(self._weight[None]).expand(self._owners)


class _Collected:
    """Statistics of one role, event by event."""

    def __init__(self, role: str, atoms: Sequence[str]) -> None:
        self._names = tuple(atoms)
        self._atoms: list[Atom] = [ROLES[role].atom(name) for name in atoms]
        self._values: list[Tensor] = []  # (S, K) each
        self._archs: list[Tensor] = []
        self._counts: list[Tensor] = []
        self._depths: list[int] = []

    def add(
        self,
        known: object,
        archs: Tensor,
        counts: Tensor | int = 1,
        each: Callable[[Tensor], Tensor] = lambda values: values,
        depth: int = 0,
    ) -> None:
        """Take the statistics of one event.

        Args:
            known: Where the atoms read from.
            archs: Whose they are, ``(K,)``.
            counts: How often each counts, ``(K,)``, or one number for all.
            each: From what is known of each map, ``(U,)``, to ``(K,)``.
            depth: Blocks before.
        """
        rows = [each(atom.of(known).double()) for atom in self._atoms]
        empty = torch.empty((0, len(archs)), dtype=torch.float64, device=archs.device)
        self._values.append(torch.stack(rows) if rows else empty)
        self._archs.append(archs)
        as_tensor = torch.as_tensor(counts, dtype=torch.float64, device=archs.device)
        self._counts.append(as_tensor.expand(len(archs)))
        self._depths.append(depth)

    def layers(self, count: int, blocks: int = 0, dead: Tensor | None = None) -> Layers:
        """Return what was collected of N networks that have so many blocks."""
        flags = None if dead is None else dead.cpu().numpy()
        if not self._values:
            none = np.zeros(count + 1, dtype=np.int64)
            return Layers(self._names, np.zeros((len(self._names), 0)), np.zeros(0), none, flags)
        values = torch.cat(self._values, dim=1).cpu().numpy()
        if "depth" in self._names:
            lengths = [len(archs) for archs in self._archs]
            depth = np.repeat(self._depths, lengths) / max(1, blocks)
            values[self._names.index("depth")] = depth
        archs = torch.cat(self._archs).cpu().numpy()
        order = np.argsort(archs, kind="stable")
        offsets = np.concatenate([[0], np.cumsum(np.bincount(archs, minlength=count))])
        counts = torch.cat(self._counts).cpu().numpy()[order]
        return Layers(self._names, values[:, order], counts, offsets.astype(np.int64), flags)


class _Recorder:
    """Hears the maps of one pass; a listener that keeps a statistic of each."""

    def __init__(self, wanted: Wanted, count: int, *, positive: bool = False) -> None:
        self.collected = {role: _Collected(role, atoms) for role, atoms in wanted.items()}
        self.roles = frozenset({"block", *(() if positive else wanted)})
        self.totals = torch.zeros(count, dtype=torch.float64)
        self.blocks = 0
        self.dead = torch.zeros(count, dtype=torch.bool)
        self._positive = positive

    def wants(self, channels: int, positions: int) -> bool:
        return True

    def hear(self, event: Event) -> None:
        (role,) = event.counts
        told = "flow" if self._positive else role
        depth = self.blocks
        if role == "block":
            self.blocks += 1
            self.dead = self.dead.to(event.archs.device)
            self.dead[event.archs] |= event.of_each(event.maps.flatten(1).abs().amax(dim=1) == 0)
        collected = self.collected.get(told)
        if collected is None:
            return
        if role == "block" and (event.entered is None or not event.keeps_resolution()):
            return
        maps = event.maps[:, 0]
        entered = None if event.entered is None else event.entered[:, 0]
        collected.add(Maps(maps, entered), event.archs, event.counts[role], event.of_each, depth)

    def scores(self) -> Tensor:
        return self.totals


def measure(
    networks: ModuleNetwork | BatchedNetworks, image: Tensor, wanted: Wanted
) -> dict[str, Layers]:
    """Return the statistics of some networks by role, in float64.

    Args:
        networks: Private ones, that run alone or together.
        image: ``(1, C, H, W)``, in the networks' format and place.
        wanted: Atoms by role; only the passes that they need are run.

    Raises:
        ForwardError: A layer's gradients cannot be taken apart.
    """
    passes: dict[str, Wanted] = {}
    for role, atoms in wanted.items():
        asked = ROLES[role].asked
        passes[asked] = {**passes.get(asked, {}), role: atoms}
    found: dict[str, Layers] = {}
    for passed, some in passes.items():
        found |= _PASSES[passed](networks, image, some)
    return {role: found[role] for role in wanted}


def measure_population(
    space: Space, archs: Sequence[Arch], conditions: Conditions, wanted: Wanted
) -> dict[str, Layers]:
    """Return the statistics of some members of a space by role, in the order given, in float64.

    As the proxy ``formula`` sees them in the first repeat. Spaces whose networks a batched form
    knows are run many at a time, all others one by one.

    Args:
        space: Where they live.
        archs: Canonical.
        conditions: Of networks and images.
        wanted: Atoms by role.
    """
    now = one_repeat(conditions, 0)
    image = place(seeded(conditions, 0).first(), conditions)
    population = np.asarray(archs, dtype=np.int64)
    form = form_of(space)
    found: dict[str, Layers] = {}
    for asked in PASSES:
        some = {role: atoms for role, atoms in wanted.items() if ROLES[role].asked == asked}
        if not some:
            continue
        if form is None or not form.gauges:
            size, score = 1, partial(_alone, space, now, image, some)
        else:
            kind = torch.device(conditions.device).type
            most = form.with_gradients if asked == "backward" else form.together
            size = most.get(kind, most["cpu"])
            score = partial(_batch, form.networks, space, now, image, some)
        parts = [population[start : start + size] for start in range(0, len(population), size)]
        results = in_parts(score, parts, conditions.device)
        found |= {role: join([result[role] for result in results]) for role in some}
    return {role: found[role] for role in wanted}


def _batch(
    networks: Callable[..., BatchedNetworks | SizeNetworks],
    space: Space,
    conditions: Conditions,
    image: Tensor,
    wanted: Wanted,
    population: Population,
) -> dict[str, Layers]:
    made = networks(space, population, conditions)
    assert not isinstance(made, SizeNetworks)  # whose form serves no gauges
    return measure(made, image, wanted)


def _alone(
    space: Space, conditions: Conditions, image: Tensor, wanted: Wanted, population: Population
) -> dict[str, Layers]:
    return measure(network_of(space, population[0], conditions), image, wanted)


def _image(
    networks: ModuleNetwork | BatchedNetworks, image: Tensor, wanted: Wanted
) -> dict[str, Layers]:
    recorder = _Recorder(wanted, networks.count)
    networks.feed(image, [recorder], "default")
    return _told(recorder, networks.count)


def _ones(
    networks: ModuleNetwork | BatchedNetworks, image: Tensor, wanted: Wanted
) -> dict[str, Layers]:
    recorder = _Recorder(wanted, networks.count, positive=True)
    ones = torch.ones_like(image)
    # float64: what arrives is a product over all layers
    networks.feed(ones, [recorder], "positive", norm="identity", dtype=torch.float64)
    return _told(recorder, networks.count)


def _told(recorder: _Recorder, count: int) -> dict[str, Layers]:
    return {
        role: collected.layers(count, recorder.blocks, recorder.dead)
        for role, collected in recorder.collected.items()
    }


def _backward(
    networks: ModuleNetwork | BatchedNetworks, image: Tensor, wanted: Wanted
) -> dict[str, Layers]:
    run = networks.run(image)
    collected = {role: _Collected(role, atoms) for role, atoms in wanted.items()}
    if "layer" in collected:
        for layer, gradient in run.output_gradients():
            known = _LayerGradient(layer, gradient.detach())
            collected["layer"].add(known, layer.archs)
    if "slope" in collected:
        everyone = torch.arange(run.count, device=run.images.device)
        for entering, leaving in _pairs(gradient for _, gradient in run.block_gradients()):
            if entering.shape == leaving.shape:
                collected["slope"].add(_Slope(entering, leaving), everyone)
    dead = torch.zeros(run.count, dtype=torch.bool, device=run.images.device)
    for block in run.blocks:
        dead |= block.detach().reshape(run.count, -1).abs().amax(dim=1) == 0
    return {role: some.layers(networks.count, dead=dead) for role, some in collected.items()}


def _pairs(values: Iterator[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    before = None
    for value in values:
        if before is not None:
            yield before, value
        before = value


def _weights(
    networks: ModuleNetwork | BatchedNetworks, image: Tensor, wanted: Wanted
) -> dict[str, Layers]:
    collected = {role: _Collected(role, atoms) for role, atoms in wanted.items()}
    for archs, weight in networks.weights():
        for some in collected.values():
            some.add(_Weight(weight, len(archs)), archs)
    return {role: some.layers(networks.count) for role, some in collected.items()}


_PASSES: dict[str, Callable[..., dict[str, Layers]]] = {
    "image": _image,
    "ones": _ones,
    "backward": _backward,
    "weights": _weights,
}

__all__ = ["Maps", "Wanted", "measure"]
