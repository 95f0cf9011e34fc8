"""Several processes, one score cache: every answer once, but for the chunks in flight."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nas.oracle import Oracle, Score
from nas.proxies.base import Conditions
from nas.store import Store
from spaces.base import Arch, Space
from tests.nas.toys import TOY

CHECKOUT = Path(__file__).resolve().parents[3]
CHUNK, PROCESSES, COUNT = 8, 3, 400


class Logged:
    """A proxy that takes its time and writes down whom it was asked about."""

    name = "logged"
    revision = 1

    def __init__(self, log: Path) -> None:
        self.log = log

    def __call__(self, space: Space, archs: Sequence[Arch], conditions: Conditions) -> list[float]:
        with self.log.open("a", encoding="utf-8") as file:
            file.writelines(f"{space.to_str(arch)}\n" for arch in archs)
        time.sleep(0.05)
        return [float(sum(arch)) for arch in archs]


def archs() -> list[Arch]:
    forms = sorted({tuple(row) for row in TOY.canonicalise(TOY.all()).tolist()})
    return forms[:COUNT]


def main(folder: Path, number: str) -> None:
    """Be one of the processes: say when the cache is open, and begin when told to."""
    with Store(folder / "scores.sqlite") as store:
        oracle = Oracle(TOY, Logged(folder / f"log-{number}"), cache=store, batch_size=CHUNK)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        verdicts = oracle.score(archs())
    assert [each.value for each in verdicts if isinstance(each, Score)] == [
        float(sum(arch)) for arch in archs()
    ]


def test_processes_that_ask_the_same_share_the_work(tmp_path: Path) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.nas.workers.test_shared", tmp_path, str(number)],
            cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(PROCESSES)
    ]  # fmt: skip
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        process.communicate(timeout=120)
        assert process.returncode == 0
    logs = [(tmp_path / f"log-{number}") for number in range(PROCESSES)]
    asked = [log.read_text().splitlines() if log.exists() else [] for log in logs]
    everyone = [arch for each in asked for arch in each]
    assert len(set(everyone)) == COUNT
    # each process may have a chunk in flight that another one had just finished, a few times over
    told = [len(each) for each in asked]
    assert len(everyone) - COUNT <= COUNT // 4, told
    assert all(len(each) < 0.7 * COUNT for each in asked)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
