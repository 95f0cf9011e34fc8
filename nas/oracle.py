"""The oracle: architectures in, a score or a failure for each out, and no score computed twice.

It turns an architecture into the form that its proxy judges, looks that form up in the cache,
scores what is new in batches, and tells a number from a failure. It is also the one place that
knows which of two equal scores is better.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, cast, get_args

import numpy as np

from nas.chunks import Finding, OwnProxy, Question, answer, finding_of
from nas.proxies import PROXIES
from nas.proxies.base import Conditions, Proxy, ProxyError, ProxySpec
from nas.workers import Here, Workers
from searchers.recent import Recent
from spaces.base import Arch, Costs, Population, Space
from spaces.errors import InvalidArch, NasError, did_you_mean

if TYPE_CHECKING:
    from nas.predictor.predictor import Predictor
    from nas.proxies.ensemble import Joined, Reference

Direction = Literal["maximise", "minimise"]

#: A proxy as a user may give it: by name, by its record, with settings, or as a function.
AnyProxy: TypeAlias = str | Proxy | ProxySpec | OwnProxy


@dataclass(frozen=True, slots=True)
class Score:
    """A finite number.

    Attributes:
        value: The proxy's own value, whatever the direction of the search.
        cached: It was known and not computed for this question.
    """

    value: float
    cached: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """No number, and why.

    Attributes:
        reason: For a person.
        cached: It was known and not found out for this question.
    """

    reason: str
    cached: bool


Verdict: TypeAlias = Score | Failure


class DirectionWarning(UserWarning):
    """The search goes in the direction in which its proxy is known to mislead."""


class Cache(Protocol):
    """Where verdicts are kept: a ``float`` is a score, a ``str`` the reason of a failure."""

    def get_many(self, keys: Sequence[str]) -> dict[str, float | str]:
        """Return what is known about the keys."""

    def put_many(self, verdicts: Mapping[str, float | str]) -> dict[str, float | str]:
        """Add verdicts, all or none, and return what the cache now holds for their keys."""


class MemoryCache:
    """A cache that lives as long as the process, and keeps the last half million verdicts."""

    def __init__(self) -> None:
        self._known: Recent[str, float | str] = Recent()

    def __len__(self) -> int:
        return len(self._known)

    def get_many(self, keys: Sequence[str]) -> dict[str, float | str]:
        known = self._known
        return {key: known[key] for key in keys if key in known}

    def put_many(self, verdicts: Mapping[str, float | str]) -> dict[str, float | str]:
        held = self.get_many(list(verdicts))  # the first to say something is right
        for key, verdict in verdicts.items():
            if key not in held:
                held[key] = self._known[key] = verdict
        return held


@dataclass(frozen=True)
class _Judge:
    """A built-in proxy or the user's own, in one shape.

    Attributes:
        name: As a person writes it, options included.
        identity: What goes into the key of a score.
        durable: The identity tells this proxy from another version of itself.
        of_function: One score serves all functionally identical architectures.
        direction: +1 where higher is better on this space, else -1.
        advice: What to tell a person who searches the other way; may be empty.
        spec: A built-in proxy; None for the user's own.
        own: The user's own; None for a built-in one.
    """

    name: str
    identity: Mapping[str, object]
    durable: bool
    of_function: bool
    direction: int
    advice: str
    spec: ProxySpec | None = None
    own: OwnProxy | None = None


class Oracle:
    """Judges batches of architectures by one proxy.

    A score is cached under the sha256 of everything that it depends on: space and its revision,
    the architecture's text in the form that was scored, proxy with options and its revision,
    conditions (image files by their content), torch version and type of device. Scores and
    lasting failures are cached; a failure that may be the machine's (out of memory) is not. Of an
    ensemble, what its members say is cached too, as if each had been asked alone.

    Attributes:
        space: Where the architectures live.
        proxy: The proxy as a person writes it, options included.
        conditions: Everything else that a score depends on.
        direction: Whether the search wants high or low values of the proxy.
        sign: +1 when it maximises, -1 when it minimises; ``sign * value`` is higher-is-better.
        cache: Where verdicts are kept.
        batch_size: Architectures per call of the proxy and per transaction of the cache; None
            follows from the proxy and from how many are asked about.
        workers: Who calls it.
        n_evaluations: Architectures given to the proxy so far.
        n_cached: Answers so far that were known.
        n_failures: Answers so far that were failures.
    """

    def __init__(
        self,
        space: Space,
        proxy: AnyProxy,
        *,
        conditions: Conditions | None = None,
        tie_break: AnyProxy | None = None,
        direction: Direction = "maximise",
        cache: Cache | None = None,
        batch_size: int | None = None,
        workers: Workers | None = None,
    ) -> None:
        """Resolve the proxy; nothing is scored yet.

        Args:
            space: Where the architectures live.
            proxy: ``"meco"``, ``"meco:hooks=reference"``, a specification, or an
                :class:`OwnProxy`.
            conditions: Everything else that a score depends on; by default ``Conditions()``.
            tie_break: A second proxy, asked only about equal scores that matter. Of two equal
                scores the one that is better by it goes first, then the one with fewer
                parameters, then the one whose text is first in the alphabet.
            direction: ``"maximise"`` or ``"minimise"`` the proxy's value.
            cache: Where verdicts are kept; by default in memory.
            batch_size: Architectures per call of the proxy. It bounds the memory that a call
                needs and the work that a killed process loses, and changes a score in its last
                bits at most. By default what runs well, see :mod:`nas.chunks`.
            workers: Who calls it; by default this process.

        Raises:
            NasError: An unknown name, direction or option, a resolution that no network of the
                space takes, or a proxy without name and revision together with a cache that
                outlives this process.
        """
        if direction not in get_args(Direction):
            hint = did_you_mean(str(direction), list(get_args(Direction)))
            raise NasError(
                f"direction: expected 'maximise' or 'minimise', got {direction!r}.{hint}"
            )
        if batch_size is not None and batch_size < 1:
            raise NasError(f"batch_size: expected at least 1, got {batch_size}")
        self.space = space
        self.conditions = Conditions() if conditions is None else conditions
        space.check_resolution(self.conditions.resolution)
        self.direction = direction
        self.sign = 1 if direction == "maximise" else -1
        self.cache: Cache = MemoryCache() if cache is None else cache
        self.batch_size = batch_size
        self.workers: Workers = Here() if workers is None else workers
        self.n_evaluations = 0
        self.n_cached = 0
        self.n_failures = 0
        self._judge = _judge(proxy, space)
        self.proxy = self._judge.name
        self._question = Question(
            space,
            () if self._judge.spec is None else (self._judge.spec,),
            self.conditions,
            self._judge.own,
            self.proxy,
        )
        # A memo, for a printed architecture is needed for its key and again for its trial.
        self.text: Callable[[Arch], str] = lru_cache(maxsize=4096)(space.to_str)
        self._context = hashlib.sha256(_context(space, self._judge, self.conditions).encode())
        self._dimensions = np.asarray(space.dimensions)
        self._reference: Reference | None = None
        self._second: Oracle | None = None
        if tie_break is not None:
            self._second = Oracle(
                space,
                tie_break,
                conditions=self.conditions,
                direction="maximise" if _judge(tie_break, space).direction > 0 else "minimise",
                cache=self.cache,
                batch_size=batch_size,
                workers=self.workers,
            )
        if not isinstance(self.cache, MemoryCache):
            self.check_lasting()

    def __repr__(self) -> str:
        return f"<oracle: {self.direction} {self.proxy} on {self.space.name}>"

    @property
    def spec(self) -> ProxySpec | None:
        """The proxy, if it is a built-in one."""
        return self._judge.spec

    @property
    def predictor(self) -> Predictor | None:
        """The fitted predictor that judges, if one does."""
        spec = self.spec
        if spec is not None and spec.name != "predicted":
            return None
        from nas.predictor.predictor import Predictor, remembered  # late: it takes a second

        if spec is not None:
            return remembered(spec.options.file)
        return self._judge.own if isinstance(self._judge.own, Predictor) else None

    @property
    def tie_break(self) -> str | None:
        """The second proxy as a person writes it."""
        return None if self._second is None else self._second.proxy

    def warning(self) -> str | None:
        """Return what to tell a person when the direction is against the proxy's declared one."""
        if self.sign == self._judge.direction:
            return None
        better = "minimise" if self.sign > 0 else "maximise"
        message = (
            f"{self.proxy} on {self.space.name}: this search will {self.direction} a proxy whose "
            f"{'lower' if self.sign > 0 else 'higher'} values are the better ones there; "
            f"use direction={better!r}"
        )
        return f"{message}. {self._judge.advice}".rstrip(". ") + "."

    def check_lasting(self) -> None:
        """Raise NasError when the scores cannot be told from those of another version."""
        if not self._judge.durable:
            raise NasError(
                f"proxy {self.proxy}: a lasting cache needs the attributes `name` and `revision` "
                "on the proxy, so that scores of another version are never taken for its own"
            )
        if self._second is not None:
            self._second.check_lasting()

    def key(self, arch: Arch) -> str:
        """Return the cache key of an architecture in the form that is scored."""
        digest = self._context.copy()
        digest.update(self.text(arch).encode())
        return digest.hexdigest()

    def chunk_size(self, asked: int) -> int:
        """Return how many architectures are scored together where so many are asked about."""
        return self.batch_size or self._question.chunk_size(asked)

    def score(self, archs: Sequence[Arch]) -> list[Verdict]:
        """Judge architectures: one verdict for each, in their order.

        Raises:
            InvalidArch: A member of ``archs`` is no architecture of the space.
        """
        return self.begin(archs)()

    def begin(
        self, archs: Sequence[Arch], population: Population | None = None
    ) -> Callable[[], list[Verdict]]:
        """Have workers begin to judge architectures; what is returned waits for the verdicts.

        Args:
            archs: Whom.
            population: The same as :meth:`population` returned them.

        Raises:
            InvalidArch: A member of ``archs`` is no architecture of the space.
        """
        if not archs:
            return list
        judged = self._as_scored(archs, population)
        keys = [self.key(arch) for arch in judged]
        by_key = dict(zip(keys, judged, strict=True))  # in the order of asking, no key twice
        known = self.cache.get_many(list(by_key))
        new = {key: arch for key, arch in by_key.items() if key not in known}
        found = self._score_new(new, len(archs))

        def finish() -> list[Verdict]:
            for some in found:
                known.update(some)
            return self._verdicts(keys, known, set(new))

        return finish

    def _verdicts(
        self, keys: Sequence[str], known: Mapping[str, float | str], missing: set[str]
    ) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for key in keys:
            cached = key not in missing
            missing.discard(key)  # a repeat in the batch is answered from memory
            found = known[key]
            self.n_cached += cached
            if isinstance(found, str):
                self.n_failures += 1
                verdicts.append(Failure(found, cached))
            else:
                verdicts.append(Score(found, cached))
        return verdicts

    def rank(self, scored: Sequence[tuple[Arch, float]], k: int | None = None) -> list[int]:
        """Return the positions of the best ``k`` in ``scored``, best first.

        By value in the direction of the search; equal values by the tie-break proxy (asked only
        about ties that reach into the best ``k``; what fails it goes last), then fewer
        parameters, then text.

        Args:
            scored: Architectures with the proxy's own value.
            k: How many; by default all.
        """
        k = len(scored) if k is None else k
        signed = [self.sign * value for _, value in scored]
        if any(math.isnan(value) for value in signed):
            raise NasError("rank: a score is NaN; a failure has no place in a ranking")
        order = sorted(range(len(scored)), key=signed.__getitem__, reverse=True)
        best: list[int] = []
        for _, ties in groupby(order, key=signed.__getitem__):
            if len(best) >= k:
                break
            best.extend(self._untie(list(ties), scored))
        return best[:k]

    def join_members(self, archs: Sequence[Arch]) -> Joined:
        """Return what the members of an ensemble say of architectures, in their order.

        Raises:
            NasError: The proxy is no ensemble.
        """
        spec = self.spec
        if spec is None or not spec.members:
            raise NasError(f"proxy {self.proxy} is no ensemble; it has no members")
        return self._joined(spec, self._as_scored(archs))

    def _joined(self, spec: ProxySpec, forms: Sequence[Arch]) -> Joined:
        return self._reference_of(spec).join(self._score_members(spec.parts, forms))

    def _reference_of(self, spec: ProxySpec) -> Reference:
        from nas.proxies.ensemble import make_reference  # late: few searches need it

        if self._reference is None:
            self._reference = make_reference(self.space, spec, self.conditions, self._score_members)
        return self._reference

    def _score_members(
        self, specs: Sequence[ProxySpec], archs: Sequence[Arch]
    ) -> list[list[float | ProxyError]]:
        return score_together(
            self.space,
            specs,
            archs,
            self.conditions,
            self.cache,
            batch_size=self.batch_size,
            workers=self.workers,
        )

    def costs(self, archs: Sequence[Arch] | Population) -> Costs:
        """Count parameters and multiply-accumulates at the classes and resolution of the search."""
        return self.space.costs(
            archs if isinstance(archs, np.ndarray) else self.population(archs),
            num_classes=self.conditions.num_classes,
            resolution=self.conditions.resolution,
        )

    def _untie(self, ties: list[int], scored: Sequence[tuple[Arch, float]]) -> list[int]:
        if len(ties) == 1:
            return ties
        archs = [scored[i][0] for i in ties]
        second = [0.0] * len(ties)
        if self._second is not None:
            sign = self._second.sign
            second = [
                -sign * verdict.value if isinstance(verdict, Score) else math.inf
                for verdict in self._second.score(archs)
            ]
        params = self.costs(archs).params.tolist()
        texts = [self.text(arch) for arch in archs]
        return [i for _, _, _, i in sorted(zip(second, params, texts, ties, strict=True))]

    def population(self, archs: Sequence[Arch]) -> Population:
        """Return ``archs`` as an array ``(N, D)``; refuse what is no architecture."""
        try:
            population = np.array(archs, dtype=np.int64)
            fits = population.shape == (len(archs), len(self._dimensions)) and bool(
                ((population >= 0) & (population < self._dimensions)).all()
            )
        except (ValueError, OverflowError):  # rows of unequal length, or no integers
            fits = False
        if not fits:
            for arch in archs:
                self.space.validate(arch)  # finds the culprit and words the message
            raise InvalidArch(f"{self.space.name}: expected tuples of integers, got {archs!r}")
        return population

    def _as_scored(
        self, archs: Sequence[Arch], population: Population | None = None
    ) -> Sequence[Arch]:
        checked = self.population(archs) if population is None else population
        if not self._judge.of_function:
            return [tuple(row) for row in checked.tolist()]
        canonical = self.space.canonicalise(checked)
        if population is not None and np.array_equal(canonical, population):
            return archs  # as a strategy asks
        return [tuple(row) for row in canonical.tolist()]

    def _score_new(self, new: Mapping[str, Arch], asked: int) -> Iterator[dict[str, float | str]]:
        """Begin to score, and return what is known now, chunk by chunk, remembered by the cache."""
        spec = self.spec
        if not new:
            return iter(())
        if spec is not None and spec.members:
            return self._join_new(spec, new)
        question = self._question
        keys = list(new)
        if question.own is None:  # neighbours in this order share more of their networks
            keys.sort(key=new.__getitem__)
        late: dict[str, float | str] = {}
        found = answer(
            question,
            [new[key] for key in keys],
            self.chunk_size(asked),
            self.workers,
            _looking(self.cache, lambda places: [keys[i] for i in places], late),
        )

        def remembered() -> Iterator[dict[str, float | str]]:
            for places, (findings,) in found:
                yield self._remember([keys[i] for i in places], findings)
            yield late

        return remembered()

    def _join_new(
        self, spec: ProxySpec, new: Mapping[str, Arch]
    ) -> Iterator[dict[str, float | str]]:
        totals = self._joined(spec, list(new.values())).totals
        yield self._remember(list(new), [finding_of(self.proxy, total) for total in totals])

    def _remember(self, keys: Sequence[str], findings: Sequence[Finding]) -> dict[str, float | str]:
        self.n_evaluations += len(keys)
        return _put(self.cache, dict(zip(keys, findings, strict=True)))


def _looking(
    cache: Cache, keys_of: Callable[[list[int]], list[str]], late: dict[str, float | str]
) -> Callable[[list[int]], bool] | None:
    """Return what tells whether another process has answered; its answers go into ``late``."""
    if isinstance(cache, MemoryCache):  # nobody else's
        return None

    def look(places: list[int]) -> bool:
        keys = keys_of(places)
        found = cache.get_many(keys)
        if len(found) < len(keys):
            return False
        late.update(found)
        return True

    return look


def _put(cache: Cache, found: Mapping[str, Finding]) -> dict[str, float | str]:
    """Remember what lasts, and return what is known now: the cache may have known better."""
    known = {key: finding.verdict for key, finding in found.items()}
    lasting = {key: finding.verdict for key, finding in found.items() if finding.lasting}
    return known | cache.put_many(lasting)


def score_together(
    space: Space,
    specs: Sequence[ProxySpec],
    archs: Sequence[Arch],
    conditions: Conditions,
    cache: Cache,
    *,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: Workers | None = None,
) -> list[list[float | ProxyError]]:
    """Score by several proxies in shared passes, with the cache of each proxy alone.

    What was scored before is not scored again, whoever asked for it; what is new is kept chunk by
    chunk, so that a killed process loses those at most that were being worked on.

    Args:
        space: Where the architectures live.
        specs: Proxies.
        archs: In the form that is to be scored; repeats are scored once.
        conditions: What else a score depends on.
        cache: Where verdicts are kept.
        batch_size: Architectures per pass and transaction; None follows from the proxies.
        progress: Called after each chunk with (architectures done, all that were not known).
        workers: Who scores; by default this process.

    Returns:
        One list per proxy.
    """
    oracles = [Oracle(space, spec, conditions=conditions, cache=cache) for spec in specs]
    keys = [[oracle.key(arch) for arch in archs] for oracle in oracles]
    known = cache.get_many(list(chain.from_iterable(keys)))
    places = {arch: i for i, arch in enumerate(archs) if any(row[i] not in known for row in keys)}
    missing = sorted(places)
    question = Question(space, tuple(specs), conditions)
    size = batch_size or (question.chunk_size(len(archs)) if missing else 1)
    done = 0
    look = _looking(
        cache, lambda some: [row[places[missing[i]]] for row in keys for i in some], known
    )
    for some, table in answer(question, missing, size, workers or Here(), look):
        new = {
            row[places[missing[i]]]: finding
            for row, findings in zip(keys, table, strict=True)
            for i, finding in zip(some, findings, strict=True)
        }
        known.update(_put(cache, new))
        done += len(some)
        if progress is not None:
            progress(done, len(missing))
    found = [[known[key] for key in row] for row in keys]
    return [[ProxyError(x) if isinstance(x, str) else x for x in row] for row in found]


def as_spec(proxy: AnyProxy) -> ProxySpec | OwnProxy:
    """Return a proxy with its settings, at their defaults where only the record is given.

    Raises:
        NasError: Neither a proxy's name, nor its record, nor something to call.
    """
    if isinstance(proxy, str):
        return ProxySpec.parse(proxy)
    if isinstance(proxy, Proxy):
        if PROXIES.get(proxy.name, proxy) is not proxy:  # their scores would meet in one cache
            raise NasError(
                f"proxy: a built-in one is named {proxy.name!r}; give yours another name"
            )
        return ProxySpec(proxy, proxy.options())
    if not isinstance(proxy, ProxySpec) and not callable(proxy):
        raise NasError(
            "proxy: expected a name such as 'meco', a Proxy, a ProxySpec or a callable, got "
            f"{type(proxy).__name__}"
        )
    return proxy


def _judge(proxy: AnyProxy, space: Space) -> _Judge:
    spec = as_spec(proxy)
    return _built_in(spec, space) if isinstance(spec, ProxySpec) else _own(spec, space)


def _built_in(spec: ProxySpec, space: Space) -> _Judge:
    proxy = spec.proxy
    return _Judge(
        name=str(spec),
        # every option, not str(spec): a default that changes must change the key
        identity=_identity(spec),
        durable=True,
        of_function=spec.of_function,
        direction=proxy.direction(space),
        advice=proxy.advice.get(space.name, ""),
        spec=spec,
    )


def _identity(spec: ProxySpec) -> dict[str, object]:
    identity = {"proxy": spec.name, "options": spec.settings, "revision": spec.proxy.revision}
    if spec.members:
        identity["members"] = [_identity(member) for member, _ in spec.members]
    if spec.proxy.content is not None:  # not where the file lies, but what is in it
        identity["options"] = spec.proxy.content(spec.options)
    return identity


def _own(proxy: OwnProxy, space: Space) -> _Judge:
    kind = type(proxy)
    fallback = getattr(proxy, "__qualname__", kind.__qualname__)
    name = str(getattr(proxy, "name", fallback))
    revision = getattr(proxy, "revision", None)
    directions = cast(Mapping[str, int], getattr(proxy, "directions", {}))
    advice = cast(Mapping[str, str], getattr(proxy, "advice", {}))
    return _Judge(
        name=name,
        identity={"own proxy": name, "revision": revision},  # never taken for a built-in one
        durable=revision is not None and hasattr(proxy, "name"),
        of_function=bool(getattr(proxy, "of_function", False)),
        direction=directions.get(space.name, 1),
        advice=advice.get(space.name, ""),
        own=proxy,
    )


def _context(space: Space, judge: _Judge, conditions: Conditions) -> str:
    """Return, as canonical JSON, all that a score depends on except the architecture."""
    given = asdict(conditions)
    given["device"] = str(conditions.device).split(":")[0]  # cuda:1 computes what cuda:0 does
    if conditions.images is not None:
        given["images"] = _content(conditions.images)
    context = {
        "space": space.name,
        "space revision": space.revision,
        "judge": judge.identity,
        "conditions": given,
        # from the metadata: torch itself is not needed to look up a score
        "torch": importlib.metadata.version("torch"),
    }
    return json.dumps(context, sort_keys=True, separators=(",", ":")) + "\n"


def _content(images: str) -> str:
    """Return the sha256 of an image file, or of all files in a folder; else the text itself."""
    path = Path(images)
    files = [path] if path.is_file() else sorted(path.rglob("*")) if path.is_dir() else []
    files = [file for file in files if file.is_file()]
    if not files:
        return f"not a file: {images}"  # a name that the proxies know, or their error to report
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            part = hashlib.file_digest(stream, "sha256").hexdigest()
        place = file.relative_to(path).as_posix() if file != path else ""
        digest.update(f"{place}\0{part}\n".encode())
    return digest.hexdigest()
