"""Workers: the same results wherever chunks are worked on, and one end costs one chunk."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from nas.workers import EXECUTORS, WorkerLost, Workers, make_workers
from spaces.errors import NasError
from tests.nas.workers import work

CHECKOUT = Path(__file__).resolve().parents[3]


def _each() -> Iterator[Any]:
    yield pytest.param((0, "processes"), id="here")
    yield pytest.param((2, "processes"), id="processes")
    missing = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="no Ray here")
    yield pytest.param((2, "ray"), id="ray", marks=[missing, pytest.mark.slow])


@pytest.fixture(scope="module", params=_each())
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    count, executor = request.param
    with make_workers(count, executor) as made:
        yield made


def test_every_chunk_comes_back_under_its_number(workers: Workers) -> None:
    numbers = list(range(12))
    found = dict(workers.start(work.square, numbers, threads=2))
    assert found == {i: i * i for i in numbers}
    assert dict(workers.start(work.square, [], threads=2)) == {}


def test_what_the_work_raises_is_raised_here(workers: Workers) -> None:
    with pytest.raises(ZeroDivisionError, match="thirteen"):
        list(workers.start(work.square, [1, 13, 2]))
    # and the workers go on
    assert dict(workers.start(work.square, [3])) == {0: 9}


def test_functions_of_the_callers_own_are_sent_whole(workers: Workers) -> None:
    factor = 7
    assert dict(workers.start(lambda x: factor * x, [1, 2])) == {0: 7, 1: 14}


@pytest.fixture(scope="module")
def processes() -> Iterator[Workers]:
    with make_workers(2) as made:
        yield made


def test_there_are_as_many_processes_as_asked_for_each_on_one_thread(processes: Workers) -> None:
    found = [each for _, each in processes.start(work.who, range(20))]
    told = [each for each in found if not isinstance(each, WorkerLost)]
    assert len(told) == 20
    assert len({process for process, _ in told} - {os.getpid()}) == 2
    assert {threads for _, threads in told} == {"1"}


def test_workers_tell_how_far_they_are(processes: Workers) -> None:
    told: list[int] = []
    list(processes.start(work.square, [1, 2, 3], tell=told.append))
    end = time.monotonic() + 10
    while len(told) < 3 and time.monotonic() < end:  # news may come after the result
        time.sleep(0.01)
    assert sorted(told) == [1, 2, 3]


@pytest.mark.parametrize(
    ("do", "options", "reason"),
    [
        (work.crash, {}, "its worker ended: killed by SIGKILL"),
        (work.hang, {"chunk_seconds": 1.0}, "its worker was ended: longer than chunk_seconds = 1"),
    ],
    ids=["crash", "hang"],
)
def test_the_end_of_a_worker_is_the_end_of_one_chunk(
    do: Callable[[int], int], options: dict[str, float], reason: str
) -> None:
    with make_workers(2, "processes", options) as workers:
        found = dict(workers.start(do, range(10)))
    lost = {number: str(each) for number, each in found.items() if isinstance(each, WorkerLost)}
    assert lost == {5 if do is work.crash else 3: reason}
    assert len(found) == 10


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of Linux")
def test_memory_is_refused_beyond_its_limit() -> None:
    with make_workers(1, "processes", {"memory_mb": 500}) as workers:
        assert dict(workers.start(work.hoard, [100])) == {0: 100_000_000}
        with pytest.raises(MemoryError):
            list(workers.start(work.hoard, [1000]))


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    """Without one, a spawned process that ran the script again would start workers of its own."""
    script = tmp_path / "script.py"
    script.write_text(
        "from nas.workers import make_workers\n"
        "def double(x): return 2 * x\n"
        "with make_workers(1) as workers: print(dict(workers.start(double, [21])))\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=100, cwd=CHECKOUT
    )
    assert (done.stdout, done.stderr) == ("{0: 42}\n", "")


def test_closed_workers_leave_no_process() -> None:
    before = set(psutil.Process().children(recursive=True))
    with make_workers(2) as workers:
        begun = workers.start(work.forget, [0, 1])
        assert len(set(psutil.Process().children(recursive=True)) - before) >= 2
    del begun
    left = set(psutil.Process().children(recursive=True)) - before
    assert [each for each in left if "resource_tracker" not in " ".join(each.cmdline())] == []


def test_workers_end_when_the_coordinator_is_killed(tmp_path: Path) -> None:
    coordinator = subprocess.Popen(
        [sys.executable, "-m", "tests.nas.workers.work", tmp_path], cwd=CHECKOUT
    )
    end = time.monotonic() + 60
    while len(marks := list(tmp_path.iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    coordinator.send_signal(signal.SIGKILL)
    coordinator.wait()
    numbers = [int(mark.name) for mark in marks]
    assert len(numbers) == 2
    while any(map(psutil.pid_exists, numbers)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, numbers))


class Unsendable:
    """What no process can be sent."""

    def __call__(self, x: int) -> int:
        return x

    def __reduce__(self) -> str:
        raise TypeError("not me")


def test_what_cannot_be_sent_is_told() -> None:
    with make_workers(1) as workers, pytest.raises(NasError, match=r"cannot be sent.*not me"):
        workers.start(Unsendable(), [1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": -1}, "workers: expected an integer of at least 0, got -1"),
        ({"count": 1.5}, "got 1.5"),
        ({"count": 1, "executor": "dask"}, "no executor named 'dask'.*Known: processes, ray"),
        (
            {"count": 1, "options": {"chunk_second": 1}},
            "no option of executor processes named 'chunk_second'. Did you mean 'chunk_seconds'",
        ),
        ({"count": 1, "options": {"chunk_seconds": 0}}, "chunk_seconds: expected more than 0"),
        ({"count": 1, "options": {"memory_mb": 0}}, "memory_mb: expected at least 1"),
        ({"count": 0, "options": {"memory_mb": 9}}, "0 is this process, which keeps to no memory"),
        ({"count": 0, "executor": "ray", "options": {"gpus": -1.0}}, "gpus: expected at least 0"),
        ({"count": 0, "executor": "ray", "options": {"retries": -1}}, "retries: expected at"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(NasError, match=message):
        make_workers(**settings)


def test_every_executor_has_defaults_and_a_summary() -> None:
    for name, info in EXECUTORS.items():
        assert info.name == name
        assert info.summary
        info.options()
