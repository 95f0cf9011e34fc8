"""Fuzz what reads files and texts of others, with atheris (``pip install 'nas-search[fuzz]'``).

    python tests/fuzz/run.py --seconds 60                  every target, one after the other
    python tests/fuzz/run.py --seconds 3600 --target table
    python tests/fuzz/run.py --replay tests/fuzz/corpus    no fuzzing, nor atheris: known inputs

An input that raises anything but a NasError, takes more than 25 seconds or 2 GiB is a crash; it is
written to the folder of ``--crashes``. Put it into ``tests/fuzz/corpus/TARGET/`` once it is mended:
a test replays that folder.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))
CORPUS = HERE / "corpus"
WATCHED = ["nas", "spaces", "searchers", "yaml"]  # what coverage is looked at of


def main() -> None:
    """Fuzz the targets asked for and say how that went, one line of JSON each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--target", action="append", help="all when left out")
    parser.add_argument("--crashes", type=Path, default=Path("fuzz-crashes"))
    parser.add_argument("--found", type=Path, help="folder that keeps what was found, by target")
    parser.add_argument("--seed", type=int, default=0, help="0 draws one")
    parser.add_argument("--replay", type=Path, metavar="FOLDER")
    parser.add_argument("--inside", metavar="TARGET", help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args()
    if options.inside:
        fuzz(options.inside, rest)
        return
    if options.replay:
        sys.exit(replay(options.replay))
    names = options.target or target_names()
    done = [one(name, options) for name in names]
    sys.exit(any(entry["crashed"] for entry in done))


def target_names() -> list[str]:
    """Return what there is to fuzz."""
    from tests.fuzz.targets import TARGETS

    return list(TARGETS)


def one(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Fuzz one target in a process of its own, for libFuzzer ends the process."""
    crashes = options.crashes / name
    crashes.mkdir(parents=True, exist_ok=True)
    before = set(crashes.iterdir())
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found" if options.found is None else options.found / name
        found.mkdir(parents=True, exist_ok=True)
        known = [str(CORPUS / name)] if (CORPUS / name).is_dir() else []
        command = [
            *(sys.executable, str(Path(__file__)), "--inside", name),
            *(f"-max_total_time={options.seconds}", f"-artifact_prefix={crashes}/"),
            *("-timeout=25", "-rss_limit_mb=2048", f"-seed={options.seed}", "-max_len=65536"),
            *("-print_final_stats=1", str(found), *known),
        ]
        started = time.monotonic()
        ended = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        seconds = time.monotonic() - started
    stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", ended.stdout))
    new = sorted(str(path) for path in set(crashes.iterdir()) - before)
    entry = {
        "target": name,
        "seconds": round(seconds),
        "executions": int(stats.get("number_of_executed_units", 0)),
        "new_inputs": int(stats.get("new_units_added", 0)),
        "crashed": bool(new) or ended.returncode != 0,
        "crashes": new,
    }
    if entry["crashed"]:
        sys.stderr.write(ended.stdout[-4000:])
    sys.stdout.write(json.dumps(entry) + "\n")
    sys.stdout.flush()
    return entry


def fuzz(name: str, arguments: list[str]) -> None:
    """Fuzz a target in this process; never returns."""
    import atheris

    with atheris.instrument_imports(include=WATCHED):
        from tests.fuzz.targets import TARGETS, survives
    target = TARGETS[name]
    folder = Path(next(word for word in arguments if not word.startswith("-")))
    for number, seed in enumerate(target.seeds()):
        (folder / f"seed-{number}").write_bytes(seed)
    words = folder.with_name(f"{folder.name}.words")
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in dict.fromkeys(target.words())))
    if words.stat().st_size:
        arguments = [*arguments, f"-dict={words}"]
    atheris.Setup([sys.argv[0], *arguments], lambda data: survives(target, data))
    atheris.Fuzz()


def _escaped(word: str) -> str:
    return "".join(c if c.isalnum() else f"\\x{ord(c):02x}" for c in word)


def replay(folder: Path) -> int:
    """Hand every file of the folders of targets to its target; return how many raised."""
    from tests.fuzz.targets import TARGETS, survives

    failed = 0
    for name, target in TARGETS.items():
        for path in sorted((folder / name).glob("*")):
            try:
                survives(target, path.read_bytes())
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a crash
                failed += 1
                sys.stdout.write(f"{path}: {type(error).__name__}: {error}\n")
    return failed


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
