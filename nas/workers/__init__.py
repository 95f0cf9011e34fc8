"""Who works: this process, processes of this machine, or a cluster.

``workers`` is how many, ``executor`` is who. See :class:`nas.workers.base.Workers` for the one seam
that everything goes through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from nas.workers.base import Here, WorkerLost, Workers
from nas.workers.cluster import RayOptions, RayWorkers
from nas.workers.processes import Processes, ProcessOptions
from spaces.errors import NasError, look_up

__all__ = ["EXECUTORS", "ExecutorInfo", "Here", "WorkerLost", "Workers", "make_workers"]

DEFAULT_EXECUTOR = "processes"
RAY_ADDRESS = "ray://"  # what the address of a Ray cluster begins with


@dataclass(frozen=True)
class ExecutorInfo:
    """One entry of the table of executors.

    Attributes:
        name: The key in :data:`EXECUTORS`.
        summary: One line for a person.
        make: ``(count, options, threads=..., device=...) -> Workers``.
        options: The frozen dataclass of its settings, every one with a default.
    """

    name: str
    summary: str
    make: Callable[..., Workers]
    options: type[Any]


EXECUTORS: Mapping[str, ExecutorInfo] = MappingProxyType(
    {
        info.name: info
        for info in (
            ExecutorInfo("processes", "processes of this machine", Processes, ProcessOptions),
            ExecutorInfo("ray", "a Ray cluster, or Ray on this machine", RayWorkers, RayOptions),
        )
    }
)


def make_workers(
    count: int,
    executor: str = DEFAULT_EXECUTOR,
    options: Mapping[str, Any] | None = None,
    *,
    threads: int = 1,
    device: str = "cpu",
) -> Workers:
    """Return workers; none is started before the first chunk comes.

    Args:
        count: How many; 0 is this process.
        executor: A name of :data:`EXECUTORS`, or ``ray://HOST:PORT``.
        options: Settings of the executor; what is left out keeps its default.
        threads: Of torch, in each worker.
        device: Where they compute; with ``cuda`` and several of them, each takes the next.

    Raises:
        NasError: No such executor or option, a value that cannot be, or Ray is not installed.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise NasError(f"workers: expected an integer of at least 0, got {count!r}")
    given = dict(options or {})
    if executor.startswith(RAY_ADDRESS):
        executor, given["address"] = "ray", executor
    info = look_up(EXECUTORS, executor, kind="executor")
    known = {field.name: field for field in fields(info.options)}
    for name in given:
        look_up(known, name, kind=f"option of executor {info.name}")
    made = info.options(**given)
    if count == 0:
        if made != info.options():
            raise NasError(
                f"workers: 0 is this process, which keeps to no {', '.join(given)}; take 1 or more"
            )
        return Here()
    return info.make(count, made, threads=threads, device=device)
