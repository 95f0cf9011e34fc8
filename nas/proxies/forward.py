"""The forward route: run networks, and let the listeners hear their feature maps."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from nas.proxies.base import Conditions, Outcome, ProxyError, ProxySpec, outcome
from nas.proxies.cell_batch import feed_cells
from nas.proxies.events import Listener
from nas.proxies.hooks import feed_module
from nas.proxies.size_batch import feed_sizes
from nas.proxies.weights import draw_images, seed_weights
from nas.seeds import child_seed, seeded_torch
from spaces import Arch, CellSpace, Population, Space
from spaces.nats_sss import NatsSss

#: What a network that cannot be run raises. A TypeError or a NameError is a mistake of ours or of
#: whoever wrote the proxy, and ends the run.
_BROKEN = (RuntimeError, ValueError, ArithmeticError, IndexError)


#: Architectures per pass of the batched feeder: large enough to spread the cost of a call, small
#: enough that the maps of one node stay near the processor. A constant, for the last bits of a
#: score may depend on it.
BATCH = 64

#: Networks per pass over the size space: those of one first width, when the whole space is asked.
SIZES_BATCH = 4096

Feeder = Callable[[Population, Tensor, int, Callable[[int], Sequence[Listener]]], list[Tensor]]

_BUILDING = threading.Lock()


def listen(
    space: Space, specs: Sequence[ProxySpec], population: Population, conditions: Conditions
) -> list[list[Outcome]]:
    """Score a population by proxies that hear feature maps, one list per proxy.

    Args:
        space: Where the architectures live.
        specs: Proxies with a listener.
        population: Distinct members, ``(N, D)``.
        conditions: Everything else that a score depends on.
    """
    rows: list[list[Outcome]] = [[] for _ in specs]
    found = _feeder(space)
    for batched in (True, False):
        group = [
            i
            for i, spec in enumerate(specs)
            if (found is not None and spec.proxy.batched(spec.options)) is batched
        ]
        if not group:
            continue
        chosen = [specs[i] for i in group]
        size = found[0] if found is not None and batched else 1
        parts = [population[start : start + size] for start in range(0, len(population), size)]
        score = partial(_part, space, chosen, conditions, batched)
        for results in _side_by_side(score, parts, conditions.device):
            for i, result in zip(group, results, strict=True):
                rows[i].extend(result)
    return rows


def _side_by_side(
    score: Callable[[Population], list[list[Outcome]]], parts: list[Population], device: str
) -> list[list[list[Outcome]]]:
    """Score parts of a population, as many at a time as torch has been given threads.

    Each worker keeps to one thread. Splitting every operation over the threads instead makes them
    wait for each other hundreds of times per part, which costs a factor of ten as soon as anything
    else runs on the machine. The parts, and so the scores, do not depend on the number of workers.
    """
    threads = torch.get_num_threads()
    workers = min(len(parts), threads)
    if threads < 2 or torch.device(device).type != "cpu":
        return [score(part) for part in parts]
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(score, parts))
    finally:
        torch.set_num_threads(threads)  # part of the setting is the process's, not the worker's


def _part(
    space: Space,
    specs: Sequence[ProxySpec],
    conditions: Conditions,
    batched: bool,
    population: Population,
) -> list[list[Outcome]]:
    results = _batch(space, specs, population, conditions) if batched else None
    if results is None:  # also where a batch broke: to find who breaks it
        results = listen_one_by_one(space, specs, population, conditions)
    return results


def listen_one_by_one(
    space: Space, specs: Sequence[ProxySpec], population: Population, conditions: Conditions
) -> list[list[Outcome]]:
    """As :func:`listen`, a network at a time, with hooks on its modules."""
    singles = [_one(space, specs, _arch(row), conditions) for row in population]
    return [list(column) for column in zip(*singles, strict=True)]


def _arch(row: Population) -> Arch:
    return tuple(int(value) for value in row)


def _feeder(space: Space) -> tuple[int, Feeder] | None:
    """Return the feeder that runs many networks of a space at once, and how many; if it has one."""
    if isinstance(space, CellSpace):
        return BATCH, partial(feed_cells, space)
    if isinstance(space, NatsSss):
        return SIZES_BATCH, feed_sizes
    return None


def _batch(
    space: Space, specs: Sequence[ProxySpec], population: Population, conditions: Conditions
) -> list[list[Outcome]] | None:
    """Score a batch in one pass per repeat; ``None`` where the pass broke."""
    found = _feeder(space)
    assert found is not None
    _, feed = found
    totals = torch.zeros((len(specs), len(population)), dtype=torch.float64)
    try:
        for repeat in range(conditions.repeats):
            now = one_repeat(conditions, repeat)
            image = input_image(conditions, repeat)
            make = partial(_listeners, specs, conditions=now)
            totals += torch.stack([row.cpu() for row in feed(population, image, now.seed, make)])
    except _BROKEN:
        return None
    means = (totals / conditions.repeats).tolist()
    return [[outcome(s, v) for v in row] for s, row in zip(specs, means, strict=True)]


def _listeners(specs: Sequence[ProxySpec], n: int, *, conditions: Conditions) -> list[Listener]:
    makers = [(spec.proxy.listener, spec.options) for spec in specs]
    return [make(n, conditions, options) for make, options in makers if make is not None]


def one_repeat(conditions: Conditions, repeat: int) -> Conditions:
    """Return the conditions of one repeat: a seed of its own, nothing left to average."""
    seed = child_seed(conditions.seed, "repeat", repeat)
    return dataclasses.replace(conditions, seed=seed, repeats=1)


def input_image(conditions: Conditions, repeat: int) -> Tensor:
    """Return the image of one repeat, ``(1, 3, R, R)``, in the conditions' format and place."""
    image = draw_images(conditions.seed, repeat, conditions.resolution, conditions.images)
    return image.to(conditions.device, getattr(torch, conditions.dtype))


def _one(
    space: Space, specs: Sequence[ProxySpec], arch: Arch, conditions: Conditions
) -> list[Outcome]:
    """Build one network and score it by every proxy."""
    totals = torch.zeros(len(specs), dtype=torch.float64)
    try:
        # One at a time: layers draw their first weights from a generator that all threads share.
        with _BUILDING, seeded_torch(conditions.seed, "build"):
            net = space.build(arch, num_classes=conditions.num_classes)
        net = net.to(conditions.device, getattr(torch, conditions.dtype)).train()
        for repeat in range(conditions.repeats):
            now = one_repeat(conditions, repeat)
            seed_weights(net, now.seed)
            listeners = _listeners(specs, 1, conditions=now)
            feed_module(net, input_image(conditions, repeat), listeners)
            totals += torch.cat([each.scores().cpu() for each in listeners])
    except _BROKEN as error:
        reason = f"{type(error).__name__}: {error}"
        # Out of memory is the machine's fault, and another day's answer may be another.
        lasting = not isinstance(error, torch.OutOfMemoryError) and "alloc" not in str(error)
        return [ProxyError(f"{spec}: {reason}", lasting=lasting) for spec in specs]
    means = (totals / conditions.repeats).tolist()
    return [outcome(spec, value) for spec, value in zip(specs, means, strict=True)]
