"""Workers on a Ray cluster, or on a Ray of this machine: ``pip install nas-search[ray]``.

Ray places chunks, starts workers, and tries a chunk again whose machine has died.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from nas.workers import inside
from nas.workers.base import WorkerLost
from nas.workers.remote import RemoteWorkers
from spaces.errors import NasError

C = TypeVar("C")
R = TypeVar("R")


@dataclass(frozen=True)
class RayOptions(inside.Limits):
    """Settings of :class:`RayWorkers`, beside the limits.

    Attributes:
        address: Of a cluster: ``ray://HOST:10001``, ``auto`` for one that runs on this machine;
            None starts a Ray of its own here.
        gpus: How many for each worker; 0.5 lets two share one. None: one, if they compute on CUDA.
        retries: How often a chunk is tried again whose worker or machine has died.
    """

    address: str | None = None
    gpus: float | None = None
    retries: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gpus is not None and self.gpus < 0:
            raise NasError(f"gpus: expected at least 0, got {self.gpus}")
        if self.retries < 0:
            raise NasError(f"retries: expected at least 0, got {self.retries}")


class RayWorkers(RemoteWorkers):
    """As many chunks at a time, on whatever machines Ray has."""

    def __init__(
        self,
        count: int,
        options: RayOptions | None = None,
        *,
        threads: int = 1,
        device: str = "cpu",
    ) -> None:
        """Connect to nothing yet.

        Args:
            count: How many chunks are worked on at a time.
            options: Where, and on what.
            threads: Of torch, for each.
            device: Where they compute; on ``cuda``, each takes a whole one unless ``gpus`` says
                otherwise.

        Raises:
            NasError: Ray is not installed.
        """
        super().__init__(count)
        try:
            import ray
        except ImportError:
            raise NasError(
                "executor: ray is not installed: pip install 'nas-search[ray]'"
            ) from None
        self._ray: Any = ray
        self._options = options or RayOptions()
        self._threads = threads
        self._gpus = self._options.gpus
        if self._gpus is None:
            self._gpus = 1.0 if device.startswith("cuda") else 0.0
        self._task: Any = None
        self._ours = False

    def close(self) -> None:
        if self._ours:
            self._ray.shutdown()
        self._task, self._ours = None, False
        self._packed.clear()

    def _pack(self, function: Callable[[C], R]) -> Any:  # noqa: ANN401 - Ray's own reference
        self._started()
        return self._ray.put(super()._pack(function))  # once to each machine, not once a chunk

    def _started(self) -> Any:  # noqa: ANN401 - a function of Ray's
        if self._task is None:
            options = self._options
            if not self._ray.is_initialized():
                settings: dict[str, Any] = {"num_cpus": self.count * self._threads}
                if options.address is not None:
                    settings = {"address": options.address}
                try:
                    self._ray.init(
                        log_to_driver=False, configure_logging=False,
                        include_dashboard=False, **settings,
                    )  # fmt: skip
                except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                    where = options.address or "this machine"
                    raise NasError(f"executor: no Ray at {where}: {error}") from None
                self._ours = True
            self._task = self._ray.remote(inside.work).options(
                num_cpus=self._threads,
                num_gpus=self._gpus,
                max_retries=options.retries,
                runtime_env={"env_vars": {"OMP_NUM_THREADS": str(self._threads)}},
            )
        return self._task

    def _send(self, packed: Any, chunk: object) -> Future[Any]:  # noqa: ANN401
        future: Future[Any] = self._started().remote(packed, self._options, chunk).future()
        return future

    def _lost(self, error: BaseException) -> WorkerLost | None:
        errors = self._ray.exceptions
        if isinstance(error, errors.RayTaskError):
            cause = getattr(error, "cause", None)
            if isinstance(cause, BaseException):
                raise cause from None
            return None
        if isinstance(error, errors.WorkerCrashedError | errors.OutOfMemoryError):
            return WorkerLost(
                f"its worker ended, {1 + self._options.retries} times: {_line(error)}"
            )
        if isinstance(error, errors.RayError):
            raise NasError(f"executor: ray: {_line(error)}") from None
        return None


def _line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
