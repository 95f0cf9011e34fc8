"""What a proxy is, how it is named in text, and how a batch of architectures is scored.

A proxy is a frozen record in :data:`nas.proxies.PROXIES`. It is of one of four kinds:

``population``
    Data-free: a function of the architectures alone, for a whole population at once.
``listener``
    Forward only: it hears the feature maps of one pass, and adds something up over them.
``gauge``
    It asks the networks: for logits, gradients by the images, by the maps, by the weights.
``members``
    It joins other proxies (:mod:`nas.proxies.ensemble`).

Listeners and gauges run networks that a batched form knows many at a time and any other one by one;
the numbers agree. Whoever needs a gradient for every single weight runs one by one.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from nas import plain_yaml
from nas.plugins import look_up_or_load
from spaces import Arch, NasError, Population, Space
from spaces.errors import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas.networks.events import Listener
    from nas.networks.images import Images
    from nas.networks.weights import Kind
    from nas.proxies.routes import Networks, Subject


class ProxyError(NasError):
    """A proxy has no number for an architecture; the text says why.

    Attributes:
        lasting: The same question would fail again, so the failure may be remembered.
    """

    def __init__(self, message: str, *, lasting: bool = True) -> None:
        super().__init__(message)
        self.lasting = lasting


class ProxyOptionError(NasError, ValueError):
    """An option of a proxy that it does not have, or a value that it does not take."""


@dataclass(frozen=True)
class Conditions:
    """Everything besides architecture and proxy that a score depends on.

    Attributes:
        num_classes: Width of the classifier.
        resolution: Height and width of the input image in pixels.
        seed: Seed of weights, images and any draw of a proxy.
        repeats: Scores are the mean over this many draws of weights and images.
        images: ``None`` for standard normal noise with random labels, else a file of images
            (:func:`nas.networks.images.load_images`).
        minibatch: Images per minibatch, for proxies that read more than one.
        dtype: Number format of the networks.
        device: Where they run, as torch writes it: ``cpu``, ``cuda``, ``cuda:1``.
    """

    num_classes: int = 10
    resolution: int = 32
    seed: int = 0
    repeats: int = 1
    images: str | None = None
    minibatch: int = 64
    dtype: Literal["float32", "float64"] = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        lowest = {"num_classes": 1, "resolution": 8, "repeats": 1, "seed": 0, "minibatch": 2}
        for name, low in lowest.items():
            if getattr(self, name) < low:
                raise NasError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if self.dtype not in ("float32", "float64"):
            raise NasError(f"dtype must be float32 or float64, got {self.dtype!r}")


@dataclass(frozen=True)
class NoOptions:
    """The options of a proxy that has none."""


#: How a proxy runs: without networks, on many at a time, or on one after the other.
Route = Literal["data-free", "batched", "one by one"]
ROUTES: tuple[Route, ...] = get_args(Route)  # the fastest first


@dataclass(frozen=True)
class Proxy:
    """One way to judge an untrained architecture; higher is better, as its paper has it.

    Attributes:
        name: Key in the table.
        summary: One line for a person.
        paper: Where it comes from.
        reads: What it looks at besides architecture and weights: ``images``, ``labels``,
            ``gradients``; ``noise`` if it draws inputs of its own.
        reads_by: The same, where it depends on the options.
        options: Frozen dataclass of its settings, all with defaults.
        population: Data-free: ``(space, population (N, D), conditions, options) -> (N,)``.
        listener: Forward only: ``(networks, conditions of one repeat, options) -> Listener``.
        gauge: Asking logits and gradients: ``(subject of N networks, options) -> (N,)`` in float64.
        module: For a data-free proxy that is also defined on a network: ``(net, image) -> float``;
            the network is a private copy.
        sees: What a listener's pass runs on: one ``image``, the shared ``minibatch``, or its
            ``own`` input.
        own: A listener's own input: ``(images, conditions, options) -> (M, C, H, W)``.
        thin: It runs on a thin form of the networks (:meth:`spaces.Space.thin`).
        weights: How the weights of a listener's pass are drawn.
        batched: Whether, under these options, many networks may be asked at a time.
        additive: Whether a listener only adds up over maps, so that maps may be shared.
        images_read: Images that a gauge runs on, where that is not the minibatch; 0 is none.
        forwards: Whether, under these options, a gauge never goes backwards, so that as many
            networks run together as for a listener.
        members: For an ensemble: ``options -> {proxy as a person writes it: weight}``.
        twice: It differentiates gradients by the weights again.
        of_function: Whether, under these options, the score depends only on the function that an
            architecture computes, so that its canonical form may be scored in its place.
        undefined: Why there may be no finite number, for the message of a failure.
        content: Of options that name a file: what tells it from another one of that name.
        shorthand: The option whose value may be written without its name, as in ``formula:FILE``.
        asks: Other proxies that a population function asks, under conditions of its own.
        directions: Spaces where the score is known to fall as accuracy rises (-1); absent is +1.
        advice: What to tell a user who maximises it in such a space.
        revision: Raised when the number changes, so that cached scores go stale.
    """

    name: str
    summary: str
    paper: str
    reads: frozenset[str] = frozenset()
    reads_by: Callable[[Any], frozenset[str]] | None = None
    options: type[Any] = NoOptions
    population: Callable[[Space, Population, Conditions, Any], NDArray[np.float64]] | None = None
    listener: Callable[[Networks, Conditions, Any], Listener] | None = None
    gauge: Callable[[Subject, Any], Tensor] | None = None
    module: Callable[[nn.Module, Tensor], float] | None = None
    sees: Literal["image", "minibatch", "own"] = "image"
    own: Callable[[Images, Conditions, Any], Tensor] | None = None
    thin: bool = False
    weights: Kind = "default"
    batched: Callable[[Any], bool] = lambda options: True
    additive: bool = False
    images_read: int | None = None
    forwards: Callable[[Any], bool] = lambda options: False
    members: Callable[[Any], Mapping[str, float]] | None = None
    twice: bool = False
    of_function: Callable[[Any], bool] = lambda options: True
    undefined: str = "not a finite number"
    content: Callable[[Any], str] | None = None
    shorthand: str | None = None
    asks: Callable[[Any], Sequence[ProxySpec]] | None = None
    directions: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    advice: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    revision: int = 1

    def __post_init__(self) -> None:
        kinds = ("population", "listener", "gauge", "members")
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(given) != 1:
            raise NasError(
                f"proxy {self.name!r}: expected one of {', '.join(kinds)}, got "
                f"{' and '.join(given) or 'none'}"
            )

    def direction(self, space: Space) -> int:
        """Return +1 where a higher score means a better network, -1 where a lower one does."""
        return self.directions.get(space.name, 1)


@dataclass(frozen=True)
class ProxySpec:
    """A proxy and its settings; ``str()`` prints what :meth:`parse` reads.

    Attributes:
        proxy: The record.
        options: Its settings, an instance of ``proxy.options``.
    """

    proxy: Proxy
    options: Any

    @classmethod
    def make(cls, name: str, options: Mapping[str, Any] | None = None) -> ProxySpec:
        """Look a proxy up and check its options.

        Raises:
            UnknownName: No proxy has this name.
            ProxyOptionError: It has no such option, or not this value.
        """
        proxy = _find(name)
        given = dict(options or {})
        known = [entry.name for entry in dataclasses.fields(proxy.options)]
        for key in given:
            if key not in known:
                allowed = f"Known: {', '.join(known)}" if known else "It has none"
                raise ProxyOptionError(
                    f"proxy {name!r} has no option {key!r}.{did_you_mean(key, known)} {allowed}"
                )
        try:
            # As JSON: strict about numbers, but a mapping may stand for the dataclass.
            text = json.dumps(given, default=str)
            checked = TypeAdapter(proxy.options).validate_json(text, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            message = f"{name}.{where}: {first['msg']}, got {first['input']!r}"
            raise ProxyOptionError(message) from None
        return cls(proxy, checked)

    @classmethod
    def parse(cls, text: str) -> ProxySpec:
        """Read ``name`` or ``name:option=value,option=value``.

        The first value may stand alone where the proxy has a ``shorthand``.

        Raises:
            UnknownName: No proxy has this name.
            ProxyOptionError: Not this form, no such option, or not this value.
        """
        name, colon, rest = text.partition(":")
        options: dict[str, Any] = {}
        proxy = _find(name.strip())
        for number, part in enumerate(split_outside(rest) if colon else ()):
            key, equals, value = part.partition("=")
            if number == 0 and not equals and key.strip() and proxy.shorthand:
                options[proxy.shorthand] = key.strip()
                continue
            if not equals or not key.strip():
                raise ProxyOptionError(
                    f"cannot read {part!r} in proxy {text!r}; expected name:option=value,..."
                )
            try:
                options[key.strip()] = plain_yaml.parse(value, text, numbered=False).value
            except plain_yaml.YamlError as error:
                raise ProxyOptionError(str(error)) from None
        return cls.make(name.strip(), options)

    def __reduce__(self) -> tuple[Any, ...]:
        """Be sent to another process by name, as far as the name says all."""
        from nas.proxies import PROXIES  # late: the table's entries import this module

        if PROXIES.get(self.proxy.name) is self.proxy:
            return _by_name, (self.proxy.name, self.options)
        return type(self), (self.proxy, self.options)

    @property
    def name(self) -> str:
        """Name of the proxy, without its options."""
        return self.proxy.name

    @property
    def settings(self) -> dict[str, Any]:
        """Every option and its value."""
        return dataclasses.asdict(self.options)

    @property
    def reads(self) -> frozenset[str]:
        """What the proxy looks at besides architecture and weights; of an ensemble, its members."""
        own = self.proxy.reads
        if self.proxy.reads_by is not None:
            own = self.proxy.reads_by(self.options)
        return own.union(*(member.reads for member, _ in self.members))

    @property
    def of_function(self) -> bool:
        """Whether the canonical form of an architecture may be scored in its place."""
        return self.proxy.of_function(self.options)

    @cached_property
    def members(self) -> tuple[tuple[ProxySpec, float], ...]:
        """Of an ensemble, its members and their weights; of any other proxy, nothing."""
        named = self.proxy.members(self.options) if self.proxy.members is not None else {}
        return tuple((ProxySpec.parse(text), weight) for text, weight in named.items())

    @cached_property
    def parts(self) -> tuple[ProxySpec, ...]:
        """The proxies that this one asks; nothing, if it looks for itself."""
        if self.proxy.asks is not None:
            return tuple(self.proxy.asks(self.options))
        return tuple(member for member, _ in self.members)

    def route(self, space: Space) -> Route:
        """Return how the proxy runs when it is asked alone about members of a space.

        What asks others runs as the slowest of them.
        """
        if self.parts:
            return max((part.route(space) for part in self.parts), key=ROUTES.index)
        if self.proxy.population is not None:
            return "data-free"
        from nas.proxies.routes import runs_batched  # late: it needs torch

        return "batched" if runs_batched(space, self) else "one by one"

    def gain(self, space: Space) -> int:
        """Return how many architectures are scored in the time of one network run alone.

        A constant for each form of networks, well below what benchmarks/speed.py measures, so that
        what is decided by it is the same on every machine. A minibatch fills the processor by
        itself: there, running many networks at a time gains little.
        """
        if self.parts:
            return min(part.gain(space) for part in self.parts)
        if self.proxy.population is not None:
            return 10_000
        gauges = self.proxy.gauge is not None and self.proxy.forwards(self.options)
        if not gauges and (self.proxy.listener is None or self.proxy.sees != "image"):
            return 1
        from nas.proxies.routes import form_of, runs_batched  # late: it needs torch

        form = form_of(space)
        return form.gain if form is not None and runs_batched(space, self) else 1

    def __str__(self) -> str:
        default = dataclasses.asdict(self.proxy.options())
        changed = [f"{k}={_text(v)}" for k, v in self.settings.items() if v != default[k]]
        return f"{self.name}:{','.join(changed)}" if changed else self.name


def _by_name(name: str, options: Any) -> ProxySpec:  # noqa: ANN401 - of the proxy
    from nas.proxies import PROXIES  # late, as in ProxySpec.make

    return ProxySpec(PROXIES[name], options)


def split_outside(text: str) -> list[str]:
    """Split a text at the commas that stand outside of brackets and quotes."""
    parts, depth, quoted = [""], 0, False
    for character in text:
        quoted ^= character == '"'
        depth += 0 if quoted else (character in "[{") - (character in "]}")
        if character == "," and depth <= 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _text(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return json.dumps(value) if isinstance(value, dict | list | tuple) else str(value)


Outcome = float | ProxyError


def score_batch(
    space: Space,
    specs: Sequence[ProxySpec],
    archs: Sequence[Arch],
    conditions: Conditions,
) -> list[list[Outcome]]:
    """Score every architecture by every proxy; those that can share a forward pass do.

    A score depends on (space, proxy and options, architecture, conditions) and on nothing else:
    not on the other members of the batch beyond the rounding of the arithmetic.

    Args:
        space: Where the architectures live.
        specs: The proxies.
        archs: Members of the space; repeats are scored once.
        conditions: Everything else that a score depends on.

    Returns:
        One list per proxy with one entry per architecture: a finite number, or why there is none.

    Raises:
        NasError: No network of the space takes images of the resolution.
    """
    space.check_resolution(conditions.resolution)
    table: list[list[Outcome]] = [[] for _ in specs]
    if not archs:
        return table
    written = np.asarray([space.validate(arch) for arch in archs], dtype=np.int64)
    for as_function in (True, False):
        group = [i for i, spec in enumerate(specs) if spec.of_function is as_function]
        if not group:
            continue
        members = space.canonicalise(written) if as_function else written
        distinct, place = np.unique(members, axis=0, return_inverse=True)
        scored = _score_distinct(space, [specs[i] for i in group], distinct, conditions)
        for i, row in zip(group, scored, strict=True):
            table[i] = [row[p] for p in place.reshape(-1)]
    return table


def _score_distinct(
    space: Space, specs: Sequence[ProxySpec], population: Population, conditions: Conditions
) -> list[list[Outcome]]:
    """Score by proxies and by the members of ensembles, each once; then join the members."""
    single = {str(spec): spec for spec in specs if not spec.members}
    single |= {str(member): member for spec in specs for member, _ in spec.members}
    scored = _score_singly(space, list(single.values()), population, conditions)
    rows = dict(zip(single, scored, strict=True))
    for spec in specs:
        if spec.members:
            from nas.proxies.ensemble import reference_of  # late: it imports this module

            parts = [rows[str(member)] for member, _ in spec.members]
            try:
                made = reference_of(space, spec, conditions)
            except ProxyError as error:
                rows[str(spec)] = [error] * len(population)
            else:
                rows[str(spec)] = made.join(parts).totals
    return [rows[str(spec)] for spec in specs]


def _score_singly(
    space: Space, specs: Sequence[ProxySpec], population: Population, conditions: Conditions
) -> list[list[Outcome]]:
    rows: list[list[Outcome]] = [[] for _ in specs]
    heard: list[int] = []
    for i, spec in enumerate(specs):
        if spec.proxy.population is None:
            heard.append(i)
            continue
        try:
            values = spec.proxy.population(space, population, conditions, spec.options)
        except ProxyError as error:
            rows[i] = [error] * len(population)
        else:
            rows[i] = [outcome(spec, value) for value in values.tolist()]
    if heard:
        from nas.proxies.routes import judge  # late: it needs torch

        judged = judge(space, [specs[i] for i in heard], population, conditions)
        for i, row in zip(heard, judged, strict=True):
            rows[i] = row
    return rows


def _find(name: str) -> Proxy:
    """Return the proxy of a name, built in or of a plugin."""
    from nas.proxies import PROXIES  # late: the table's entries import this module

    return look_up_or_load(PROXIES, name, kind="proxy", expected=Proxy)


def outcome(spec: ProxySpec, value: float) -> Outcome:
    """Return a finite number as it is, anything else as the reason of a failure."""
    if math.isfinite(value):
        return float(value)
    return ProxyError(f"{spec}: {spec.proxy.undefined} (the score would be {value})")


def table_of(proxies: Iterable[Proxy]) -> dict[str, Proxy]:
    """Return the proxies by name; two of one name are a mistake of ours."""
    table: dict[str, Proxy] = {}
    for proxy in proxies:
        assert proxy.name not in table, proxy.name
        table[proxy.name] = proxy
    return table
