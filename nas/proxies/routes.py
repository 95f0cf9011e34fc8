"""The routes that run networks: who runs together, and who is told and asked what.

Proxies that are asked together share forward and backward passes: on the minibatch there is one
forward pass per network, however many listen to it or ask for gradients afterwards.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from nas.networks.batched import BatchedNetworks
from nas.networks.cells import CellNetworks
from nas.networks.darts import DartsNetworks
from nas.networks.events import Listener
from nas.networks.forward import ForwardError, ForwardPass
from nas.networks.images import Images, SeededImages
from nas.networks.macro import MacroNetworks
from nas.networks.module import ModuleNetwork
from nas.networks.sizes import SizeNetworks
from nas.networks.vertices import VertexNetworks
from nas.networks.weights import Kind
from nas.proxies.base import Conditions, Outcome, Proxy, ProxyError, ProxySpec, outcome
from nas.seeds import child_seed, seeded_torch
from nas.workers.threads import side_by_side
from spaces import Arch, CellSpace, NasError, Population, Space
from spaces.darts import Darts
from spaces.nasbench101 import NasBench101
from spaces.nats_sss import NatsSss
from spaces.transnas_macro import TransnasMacro

#: What a network that cannot be run raises. A TypeError or a NameError is a mistake of ours or of
#: whoever wrote the proxy, and ends the run.
_BROKEN = (RuntimeError, ValueError, ArithmeticError, IndexError)

_BUILDING = threading.Lock()

_T = TypeVar("_T")


class Networks(Protocol):
    """Some untrained networks that are run together."""

    @property
    def count(self) -> int:
        """How many."""

    @property
    def rows(self) -> int:
        """How many rows a listener adds up: ``count``, or more where maps are shared."""

    def feed(self, images: Tensor, listeners: Sequence[Listener], weights: Kind) -> list[Tensor]:
        """Run forwards; return each listener's scores, ``(count,)``."""

    def weights(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the weight of every layer, after the places of those who have it."""


class Subject:
    """Some networks and their inputs, as a gauge asks them.

    Attributes:
        networks: One network (with weights of its own) or many (that share them).
        conditions: Of one repeat.
        images: Where inputs come from.
    """

    def __init__(
        self,
        networks: ModuleNetwork | BatchedNetworks,
        conditions: Conditions,
        images: Images,
        *,
        listeners: Sequence[Listener] = (),
        twice: bool = False,
    ) -> None:
        self.networks = networks
        self.conditions = conditions
        self.images = images
        self._listeners = listeners
        self._twice = twice
        self._run: ForwardPass | None = None
        self._apart: dict[int, ForwardPass] = {}

    @property
    def count(self) -> int:
        """How many networks."""
        return self.networks.count

    def heard(self) -> bool:
        """Tell whether the pass over the first minibatch has been run."""
        return self._run is not None

    def minibatch(self) -> ForwardPass:
        """Return the run on the first minibatch; everybody who asks shares it."""
        if self._run is None:
            self._run = self._on(0, listeners=self._listeners, twice=self._twice)
        return self._run

    def other_minibatch(self, number: int) -> ForwardPass:
        """Return a run on a further minibatch, from 1 on; it is not kept, for the memory."""
        return self._on(number)

    def _on(
        self, number: int, *, listeners: Sequence[Listener] = (), twice: bool = False
    ) -> ForwardPass:
        images, labels = self.images.minibatch(number)
        return self.networks.run(
            place(images, self.conditions),
            None if labels is None else labels.to(self.conditions.device),
            listeners=listeners,
            twice=twice,
        )

    def apart(self, most: int) -> ForwardPass:
        """Return the run on the first images of the minibatch, each of them seen alone.

        Args:
            most: How many images, if the minibatch holds as many.
        """
        if most not in self._apart:
            images, labels = self.images.minibatch(0)
            self._apart[most] = self.networks.run(
                place(images[:most], self.conditions),
                None if labels is None else labels[:most].to(self.conditions.device),
                norm="image",
            )
        return self._apart[most]


def place(images: Tensor, conditions: Conditions) -> Tensor:
    """Return images in the conditions' format and place."""
    return images.to(conditions.device, getattr(torch, conditions.dtype))


@dataclass(frozen=True)
class Form:
    """How the networks of some spaces are run many at a time.

    The numbers of networks are large enough to spread the cost of a call and small enough for the
    memory. They are constants for each kind of device, for the last bits of a score may depend on
    them.

    Attributes:
        spaces: Whose networks.
        networks: ``(space, population (N, D), conditions of one repeat) -> N networks``.
        runs: Which proxies it can serve, of those that can be asked about many networks.
        least: Architectures that a question is cut into no smaller chunks than: few more would be
            scored in the time of one less.
        together: Networks per pass forwards, at one image each.
        with_gradients: The same with gradients, for which every map of the pass is kept.
        gain: How many networks are scored in the time of one run alone, forwards and at one image
            each; well below what is measured.
        gauges: Whether its networks can be asked for more than what an additive listener hears.
    """

    spaces: type[object]
    networks: Callable[[Space, Population, Conditions], BatchedNetworks | SizeNetworks]
    runs: Callable[[Proxy], bool]
    least: Mapping[str, int]
    together: Mapping[str, int]
    with_gradients: Mapping[str, int]
    gain: int
    gauges: bool = True


def _made(
    networks: Callable[[Any, Population, int, int, str], BatchedNetworks],
) -> Callable[[Space, Population, Conditions], BatchedNetworks]:
    """Return what makes networks of a class; of which spaces, its form says."""

    def made(space: Space, population: Population, conditions: Conditions) -> BatchedNetworks:
        return networks(
            space, population, conditions.seed, conditions.num_classes, conditions.device
        )

    return made


_FORMS = (
    Form(
        CellSpace,
        _made(CellNetworks),
        runs=lambda proxy: True,
        least={"cpu": 16, "cuda": 256},
        together={"cpu": 64, "cuda": 1024},  # the maps of one node stay near the processor
        with_gradients={"cpu": 4, "cuda": 256},
        gain=100,
    ),
    Form(
        NatsSss,
        lambda space, population, conditions: SizeNetworks(population, conditions.seed),
        runs=lambda proxy: proxy.listener is not None and proxy.additive,
        least={"cpu": 256, "cuda": 4096},
        together={"cpu": 4096, "cuda": 4096},  # those of one first width, of the whole space
        with_gradients={"cpu": 4096, "cuda": 4096},
        gain=100,
        gauges=False,
    ),
    Form(
        NasBench101,
        _made(VertexNetworks),
        runs=lambda proxy: not proxy.thin,  # there is no thin form
        least={"cpu": 8, "cuda": 128},
        together={"cpu": 32, "cuda": 256},
        with_gradients={"cpu": 4, "cuda": 64},
        gain=5,
    ),
    Form(
        TransnasMacro,
        _made(MacroNetworks),
        runs=lambda proxy: proxy.listener is not None and proxy.additive,
        least={"cpu": 32, "cuda": 512},
        together={"cpu": 256, "cuda": 2048},
        with_gradients={"cpu": 256, "cuda": 2048},
        gain=3,
        gauges=False,
    ),
    Form(
        Darts,
        _made(DartsNetworks),
        runs=lambda proxy: not proxy.thin,  # there is no thin form
        least={"cpu": 16, "cuda": 128},
        together={"cpu": 64, "cuda": 512},
        with_gradients={"cpu": 4, "cuda": 64},
        gain=3,
    ),
)


def form_of(space: Space) -> Form | None:
    """Return how the networks of a space are run many at a time; None if they are not."""
    if isinstance(space, CellSpace) and space.has_own_modules:
        return None
    return next((form for form in _FORMS if isinstance(space, form.spaces)), None)


def runs_batched(space: Space, spec: ProxySpec) -> bool:
    """Tell whether a proxy that runs networks is asked many at a time in a space."""
    form = form_of(space)
    return form is not None and spec.proxy.batched(spec.options) and form.runs(spec.proxy)


def judge(
    space: Space, specs: Sequence[ProxySpec], population: Population, conditions: Conditions
) -> list[list[Outcome]]:
    """Score a population by proxies that run networks, one list per proxy.

    Args:
        space: Where the architectures live.
        specs: Proxies with a listener or a gauge.
        population: Distinct members, ``(N, D)``.
        conditions: Everything else that a score depends on.
    """
    rows: list[list[Outcome]] = [[] for _ in specs]
    thin = [i for i, spec in enumerate(specs) if spec.proxy.thin]
    if thin and len(thin) < len(specs):
        for some in (thin, [i for i in range(len(specs)) if i not in thin]):
            judged = judge(space, [specs[i] for i in some], population, conditions)
            for i, row in zip(some, judged, strict=True):
                rows[i] = row
        return rows
    if thin:
        try:
            space = space.thin()
        except NasError as error:
            return [[ProxyError(f"{spec}: {error}")] * len(population) for spec in specs]
    for group, size in _groups(space, specs, conditions):
        chosen = [specs[i] for i in group]
        parts = [population[start : start + size] for start in range(0, len(population), size)]
        many = runs_batched(space, chosen[0])
        score = partial(_part, space, chosen, conditions, many)
        for results in in_parts(score, parts, conditions.device):
            for i, result in zip(group, results, strict=True):
                rows[i].extend(result)
    return rows


def _groups(
    space: Space, specs: Sequence[ProxySpec], conditions: Conditions
) -> Iterator[tuple[list[int], int]]:
    """Return who runs together, as places in ``specs``, and on how many networks at a time.

    Passes over one image need little memory, those over a minibatch with gradients much, so batched
    proxies are asked in rounds of different size. What must run one by one is one round; what could
    run batched on the same minibatch joins it, for there the pass is run anyway.
    """
    alone = [i for i, spec in enumerate(specs) if not runs_batched(space, spec)]
    if any(_on_minibatch(specs[i]) for i in alone):
        alone = [i for i, spec in enumerate(specs) if i in alone or _on_minibatch(spec)]
    rounds: dict[int, list[int]] = {}
    for i, spec in enumerate(specs):
        if i not in alone:
            rounds.setdefault(_together(space, spec, conditions), []).append(i)
    for size, group in sorted(rounds.items(), reverse=True):
        yield group, size
    if alone:
        yield alone, 1


def _on_minibatch(spec: ProxySpec) -> bool:
    if spec.proxy.gauge is not None:
        return spec.proxy.images_read is None
    return spec.proxy.sees == "minibatch"


def together(space: Space, spec: ProxySpec, conditions: Conditions) -> tuple[int, int]:
    """Return how many architectures a question to a proxy is cut into chunks of: least, most.

    So few, and it still takes little longer for each; so many run together at most.

    Args:
        space: Where the architectures live.
        spec: A proxy that runs networks, or asks others that do.
        conditions: What else a score depends on.
    """
    if spec.parts:
        running = [part for part in spec.parts if part.route(space) != "data-free"]
        sizes = [together(space, part, conditions) for part in running]
        return max(low for low, _ in sizes), max(high for _, high in sizes)
    if not runs_batched(space, spec):
        return 1, 1
    form = form_of(space)
    assert form is not None
    most = _together(space, spec, conditions)
    kind = torch.device(conditions.device).type
    return min(most, form.least.get(kind, form.least["cpu"])), most


def _together(space: Space, spec: ProxySpec, conditions: Conditions) -> int:
    """Return how many architectures are asked at a time, so that memory stays bounded."""
    form = form_of(space)
    assert form is not None
    asks = spec.proxy.gauge is not None and spec.proxy.images_read != 0  # else nothing is run
    asks = asks and not spec.proxy.forwards(spec.options)
    most = form.with_gradients if asks else form.together
    images = conditions.minibatch if _on_minibatch(spec) or spec.proxy.sees == "own" else 1
    if asks and spec.proxy.images_read is not None:
        images = max(1, spec.proxy.images_read)
    kind = torch.device(conditions.device).type
    return max(1, most.get(kind, most["cpu"]) // images)


def in_parts(
    score: Callable[[Population], _T], parts: Sequence[Population], device: str
) -> list[_T]:
    """Score parts of a population, as many at a time as torch has been given threads.

    The parts, and so the scores, do not depend on the number of threads.
    """
    threads = torch.get_num_threads()
    if threads < 2 or torch.device(device).type != "cpu":
        return [score(part) for part in parts]
    done = sorted(side_by_side(score, parts, threads), key=lambda pair: pair[0])
    return [result for _, result in done]


def _part(
    space: Space,
    specs: Sequence[ProxySpec],
    conditions: Conditions,
    many: bool,
    population: Population,
) -> list[list[Outcome]]:
    results = _batch(space, specs, population, conditions) if many else None
    if results is None:  # also where a batch broke: to find who breaks it
        results = judge_one_by_one(space, specs, population, conditions)
    return results


def _batch(
    space: Space, specs: Sequence[ProxySpec], population: Population, conditions: Conditions
) -> list[list[Outcome]] | None:
    """Score a batch in one round per repeat; ``None`` where it broke."""
    totals = torch.zeros((len(specs), len(population)), dtype=torch.float64)
    form = form_of(space)
    assert form is not None
    try:
        for repeat in range(conditions.repeats):
            now = one_repeat(conditions, repeat)
            networks = form.networks(space, population, now)
            results = ask(networks, specs, now, seeded(conditions, repeat))
            for i, result in enumerate(results):
                if isinstance(result, Exception):
                    raise result
                totals[i] += result
    except (*_BROKEN, ProxyError):
        return None
    means = (totals / conditions.repeats).tolist()
    return [[outcome(s, v) for v in row] for s, row in zip(specs, means, strict=True)]


def judge_one_by_one(
    space: Space, specs: Sequence[ProxySpec], population: Population, conditions: Conditions
) -> list[list[Outcome]]:
    """As :func:`judge`, a network at a time, with hooks on its modules."""
    singles = [_one(space, specs, _arch(row), conditions) for row in population]
    return [list(column) for column in zip(*singles, strict=True)]


def _arch(row: Population) -> Arch:
    return tuple(int(value) for value in row)


def _one(
    space: Space, specs: Sequence[ProxySpec], arch: Arch, conditions: Conditions
) -> list[Outcome]:
    """Build one network and score it by every proxy."""
    try:
        net = _built(space, arch, conditions)
    except _BROKEN as error:
        return [_failed(spec, error) for spec in specs]
    return ask_repeatedly(
        lambda now: ModuleNetwork(net, now.seed, seeded=True),
        specs,
        conditions,
        partial(seeded, conditions),
    )


def _built(space: Space, arch: Arch, conditions: Conditions) -> nn.Module:
    # One at a time: layers draw their first weights from a generator that all threads share.
    with _BUILDING, seeded_torch(conditions.seed, "build"):
        net = space.build(arch, num_classes=conditions.num_classes)
    return net.to(conditions.device, getattr(torch, conditions.dtype))


def network_of(space: Space, row: Population, conditions: Conditions) -> ModuleNetwork:
    """Return the network of a member ``(D,)``, to run alone; conditions are of one repeat."""
    return ModuleNetwork(_built(space, _arch(row), conditions), conditions.seed, seeded=True)


def ask_repeatedly(
    network: Callable[[Conditions], ModuleNetwork],
    specs: Sequence[ProxySpec],
    conditions: Conditions,
    images: Callable[[int], Images],
) -> list[Outcome]:
    """Return one answer per proxy about one network, the mean over repeats."""
    totals = [0.0] * len(specs)
    failures: dict[int, ProxyError] = {}
    for repeat in range(conditions.repeats):
        now = one_repeat(conditions, repeat)
        rest = [i for i in range(len(specs)) if i not in failures]
        answers = ask(network(now), [specs[i] for i in rest], now, images(repeat))
        for i, answer in zip(rest, answers, strict=True):
            if isinstance(answer, Exception):
                failures[i] = _failed(specs[i], answer)
            else:
                totals[i] += float(answer)
    return [
        failures[i] if i in failures else outcome(spec, totals[i] / conditions.repeats)
        for i, spec in enumerate(specs)
    ]


def _failed(spec: ProxySpec, error: Exception) -> ProxyError:
    if isinstance(error, ProxyError):
        return error
    known = isinstance(error, ForwardError)
    reason = str(error) if known else f"{type(error).__name__}: {error}"
    # Out of memory is the machine's fault, and another day's answer may be another.
    lasting = not isinstance(error, torch.OutOfMemoryError) and "alloc" not in str(error)
    return ProxyError(f"{spec}: {reason}", lasting=lasting)


def ask(
    networks: ModuleNetwork | BatchedNetworks | SizeNetworks,
    specs: Sequence[ProxySpec],
    conditions: Conditions,
    images: Images,
) -> list[Tensor | Exception]:
    """Ask every proxy about the networks, in one repeat: ``(count,)`` on the CPU, or an error."""
    answers: dict[int, Tensor | Exception] = {}
    listeners = _listeners(networks, specs, conditions)
    gauges = [i for i in range(len(specs)) if i not in listeners]
    shared = [i for i in listeners if specs[i].proxy.sees == "minibatch"]
    if gauges:
        assert not isinstance(networks, SizeNetworks)
        twice = any(specs[i].proxy.twice for i in gauges)
        hearing = [listeners[i] for i in shared]
        subject = Subject(networks, conditions, images, listeners=hearing, twice=twice)
        for i in gauges:
            answers[i] = _answer(specs[i], subject)
        if subject.heard():
            answers.update((i, listeners[i].scores().cpu()) for i in shared)
        else:  # they may have heard half of a pass that broke
            listeners = _listeners(networks, specs, conditions)
    for group in _same_input(specs, [i for i in listeners if i not in answers]):
        first = specs[group[0]]
        try:
            scores = networks.feed(
                place(_input(first, conditions, images), conditions),
                [listeners[i] for i in group],
                first.proxy.weights,
            )
        except _BROKEN as error:
            answers.update((i, error) for i in group)
        else:
            answers.update((i, score.cpu()) for i, score in zip(group, scores, strict=True))
    return [answers[i] for i in range(len(specs))]


def _listeners(
    networks: ModuleNetwork | BatchedNetworks | SizeNetworks,
    specs: Sequence[ProxySpec],
    conditions: Conditions,
) -> dict[int, Listener]:
    """Make a fresh listener for every proxy that has one, by its place."""
    return {
        i: spec.proxy.listener(networks, conditions, spec.options)
        for i, spec in enumerate(specs)
        if spec.proxy.listener is not None
    }


def _answer(spec: ProxySpec, subject: Subject) -> Tensor | Exception:
    assert spec.proxy.gauge is not None
    try:
        return spec.proxy.gauge(subject, spec.options).detach().cpu().double()
    except (*_BROKEN, ProxyError) as error:
        return error


def _same_input(specs: Sequence[ProxySpec], places: Sequence[int]) -> list[list[int]]:
    """Group listeners by the pass that they hear."""
    groups: dict[object, list[int]] = {}
    for i in places:
        proxy = specs[i].proxy
        groups.setdefault(str(specs[i]) if proxy.sees == "own" else proxy.sees, []).append(i)
    return list(groups.values())


def _input(spec: ProxySpec, conditions: Conditions, images: Images) -> Tensor:
    if spec.proxy.own is not None:
        return spec.proxy.own(images, conditions, spec.options)
    return images.first() if spec.proxy.sees == "image" else images.minibatch(0)[0]


def one_repeat(conditions: Conditions, repeat: int) -> Conditions:
    """Return the conditions of one repeat: a seed of its own, nothing left to average."""
    seed = child_seed(conditions.seed, "repeat", repeat)
    return dataclasses.replace(conditions, seed=seed, repeats=1)


def seeded(conditions: Conditions, repeat: int) -> SeededImages:
    """Return the inputs of one repeat."""
    return SeededImages(
        seed=conditions.seed,
        repeat=repeat,
        shape=(3, conditions.resolution, conditions.resolution),
        count=conditions.minibatch,
        classes=conditions.num_classes,
        path=conditions.images,
    )
