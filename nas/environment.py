"""Where and with what something was computed, to stand beside every number that is reported."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from spaces.errors import NasError

PACKAGES = ("torch", "numpy", "scipy", "optuna", "nats_bench")


def environment(*, device: str = "cpu", seed: int | None = None) -> dict[str, Any]:
    """Return versions, machine, device, seed, commit and command line, ready for JSON."""
    found: dict[str, Any] = {
        "nas-search": version("nas-search"),
        "commit": commit(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "device": device,
        "device_name": device_name(device),
        "cpu": cpu_name(),
    }
    torch = sys.modules.get("torch")  # loaded by whatever needed it; nothing here is worth loading
    if torch is not None:
        found["threads"] = torch.get_num_threads()
    if seed is not None:
        found["seed"] = seed
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return {**found, "command": command, "started": started}


def version(package: str) -> str | None:
    """Return the version of an installed package, ``None`` if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def device_name(device: str) -> str:
    """Return what a person calls the processor or accelerator."""
    if device.startswith("cuda"):
        import torch  # late: only here is it certain to be loaded anyway

        if torch.cuda.is_available():
            return torch.cuda.get_device_name(device)
    return cpu_name()


def cpu_name() -> str:
    """Return what a person calls the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def check_device(device: str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        NasError: It is none that torch finds here.
    """
    if device == "cpu":
        return
    import torch  # late: the common case does not need it

    available = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        available.append("mps")
    if device not in available and not (device == "cuda" and "cuda:0" in available):
        raise NasError(
            f"device: {device!r} is not available here; available: {', '.join(available)}"
        )


def commit() -> str | None:
    """Return the commit that this code was taken from, ``+`` at the end if it was changed since.

    ``None`` where the code is no checkout of this project: an installed copy may well lie inside
    the checkout of another.
    """
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return None
    try:
        head = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):  # no git, or a checkout of another user
        return None
    return head + ("+" if changed else "")


def _git(folder: Path, *words: str) -> str:
    # --no-optional-locks: "git status" must not get into the way of a person's own git command
    command = ["git", "--no-optional-locks", "-C", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
