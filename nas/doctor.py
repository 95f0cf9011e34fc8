"""What ``nas doctor`` looks at: one entry of :data:`CHECKS` each, and what to do about a fault.

A check yields findings and changes nothing but a temporary file. ``ok`` and ``note`` need nobody;
``broken`` keeps something from working.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import multiprocessing
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nas.environment import cpu_name
from nas.reading import size_text
from spaces.errors import NasError

if TYPE_CHECKING:
    import torch

DISTRIBUTION = "nas-search"
LITTLE_BYTES, SCARCE_BYTES = 64 * 2**20, 2**30
ENGINE_SECONDS = 60.0

Status: TypeAlias = Literal["ok", "note", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: Which check found it.
        status: ``ok``, ``note`` (worth knowing), or ``broken``.
        text: What it is.
        advice: What to do about it; empty where nothing is to be done.
    """

    check: str
    status: Status
    text: str
    advice: str = ""


@dataclass(frozen=True)
class Where:
    """Where to look.

    Attributes:
        runs: The folder of run folders.
        data: The folder of images.
        paths: Further run folders or score caches.
    """

    runs: Path = Path("runs")
    data: str = "data"
    paths: tuple[Path, ...] = ()


Told = tuple[Status, str, str]
Check = Callable[[Where], Iterator[Told]]


def examine(where: Where) -> Iterator[Finding]:
    """Yield what every check of :data:`CHECKS` finds, in order."""
    for name, check in CHECKS.items():
        try:
            for status, text, advice in check(where):
                yield Finding(name, status, text, advice)
        except (ImportError, OSError, RuntimeError, NasError) as error:
            what = f"{type(error).__name__}: {' '.join(str(error).split())}"
            ours = isinstance(error, ImportError) or name == "package"
            again = "install again: pip install --force-reinstall nas-search"
            yield Finding(name, "broken", what, again if ours else "mend what it names")


def _versions(where: Where) -> Iterator[Told]:
    """This package, Python, and every package that it needs."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    yield "ok", f"Python {platform.python_version()}, {platform.platform()}", ""
    try:
        found = importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        yield (
            "note",
            f"{DISTRIBUTION} is not installed, it runs from its folder",
            "pip install -e .",
        )
        return
    yield "ok", f"{DISTRIBUTION} {found['Version']}", ""
    allowed = found["Requires-Python"] or ""
    if not SpecifierSet(allowed).contains(platform.python_version(), prereleases=True):
        yield "broken", f"Python must be {allowed}", "make an environment with such a Python"
    for text in importlib.metadata.requires(DISTRIBUTION) or ():
        need = Requirement(text)
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            yield _package(need, missing="broken")


def _package(need: Any, missing: Status) -> Told:  # noqa: ANN401 - a packaging.Requirement
    advice = f"pip install '{need.name}{need.specifier}'"
    try:
        version = importlib.metadata.version(need.name)
    except importlib.metadata.PackageNotFoundError:
        return missing, f"{need.name} is not installed", advice
    if not need.specifier.contains(version, prereleases=True):
        return "broken", f"{need.name} {version}, expected {need.specifier}", advice
    return "ok", f"{need.name} {version}", ""


def _extras(where: Where) -> Iterator[Told]:
    """What can be installed in addition."""
    from packaging.requirements import Requirement

    try:
        found = importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return
    needs = [Requirement(text) for text in importlib.metadata.requires(DISTRIBUTION) or ()]
    for extra in found.get_all("Provides-Extra") or ():
        own = [
            need
            for need in needs
            if need.marker is not None
            and need.marker.evaluate({"extra": extra})
            and not need.marker.evaluate({"extra": ""})
            and need.name != DISTRIBUTION
        ]
        faults = [
            (s, text) for s, text, _ in (_package(n, missing="note") for n in own) if s != "ok"
        ]
        if faults:
            status: Status = "broken" if any(s == "broken" for s, _ in faults) else "note"
            told = ", ".join(text for _, text in faults)
            yield status, f"[{extra}]: {told}", f"if wanted: pip install '{DISTRIBUTION}[{extra}]'"
        else:
            yield "ok", f"[{extra}] is installed", ""


def _package_files(where: Where) -> Iterator[Told]:
    """The recipes, predictors and formulas that come along."""
    from nas.design.formula import read_formula, shipped_formulas
    from nas.predictor.container import read
    from nas.predictor.shipped import shipped_predictors
    from nas.recipe import shipped_recipes

    counts = {"recipes": len(shipped_recipes())}
    for path in shipped_predictors().values():
        read(path)
    for path in shipped_formulas().values():
        read_formula(path)
    counts |= {"predictors": len(shipped_predictors()), "formulas": len(shipped_formulas())}
    lacking = [name for name, count in counts.items() if not count]
    if lacking:
        yield (
            "broken",
            f"no {', no '.join(lacking)}",
            f"pip install --force-reinstall {DISTRIBUTION}",
        )
    else:
        yield "ok", ", ".join(f"{count} {name}" for name, count in counts.items()), ""


def _devices(where: Where) -> Iterator[Told]:
    """Every device that torch finds, and whether it computes."""
    import torch

    names = {"cpu": cpu_name()}
    for number in range(torch.cuda.device_count()):
        names[f"cuda:{number}"] = torch.cuda.get_device_name(number)
    if torch.backends.mps.is_available():
        names["mps"] = "Apple GPU"
    expected = _convolved("cpu").double()
    for device, name in names.items():
        try:
            found = _convolved(device).cpu().double()
        except RuntimeError as error:
            what = str(error).splitlines()[0]
            yield "broken", f"{device}: {name}: {what}", "is the driver as new as torch expects?"
            continue
        if torch.allclose(found, expected, rtol=1e-2, atol=1e-2):
            yield "ok", f"{device}: {name}, computes", ""
        else:
            worst = float((found - expected).abs().max())
            text = f"{device}: {name}: a small convolution is off by {worst:.3g}"
            yield (
                "broken",
                text,
                f"do not use this device; torch {torch.__version__} may not fit it",
            )
    if len(names) == 1 and torch.version.cuda is not None:
        yield (
            "note",
            f"torch is built for CUDA {torch.version.cuda}, but finds no such device",
            "if there is one: does nvidia-smi see it, and is CUDA_VISIBLE_DEVICES empty?",
        )


def _convolved(device: str) -> torch.Tensor:
    """Return the gradient of a small convolution."""
    import torch

    weight = torch.linspace(-1, 1, 8 * 3 * 9).reshape(8, 3, 3, 3).to(device).requires_grad_()
    image = torch.linspace(0, 1, 3 * 64).reshape(1, 3, 8, 8).to(device)
    torch.nn.functional.conv2d(image, weight, padding=1).relu().square().mean().backward()
    assert weight.grad is not None
    return weight.grad


def _threads(where: Where) -> Iterator[Told]:
    """Cores that may be used, and threads that torch starts."""
    import torch

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores, threads = allowed or 1, torch.get_num_threads()
    text = f"{cores} of {os.cpu_count()} cores may be used, torch takes {threads} threads"
    if threads > cores:
        yield (
            "note",
            text,
            f"set OMP_NUM_THREADS={cores}: more threads than cores wait for each other",
        )
    else:
        yield "ok", text, ""


def _disk(where: Where) -> Iterator[Told]:
    """Whether there is room, and whether one may write."""
    places = {"runs": where.runs, "temporary files": Path(tempfile.gettempdir())}
    for what, wanted in places.items():
        place = wanted.absolute()
        while not place.exists() and place != place.parent:
            place = place.parent
        if not place.is_dir():
            yield "broken", f"{what}: {place} is no folder", "move it away, or name another folder"
            continue
        try:
            with tempfile.NamedTemporaryFile(dir=place, prefix=".nas-doctor-") as file:
                file.write(bytes(4096))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            advice = "make the folder writable, free some space, or name another folder"
            yield "broken", f"{what}: {place}: cannot write: {error.strerror}", advice
            continue
        free = shutil.disk_usage(place).free
        status: Status = (
            "broken" if free < LITTLE_BYTES else "note" if free < SCARCE_BYTES else "ok"
        )
        advice = "" if status == "ok" else "free some space, or name another folder"
        yield status, f"{what}: {place}: writable, {size_text(free)} free", advice


def _caches(where: Where) -> Iterator[Told]:
    """Score caches of the run folders, and those that were named."""
    from nas.runs.folder import RECIPE, RESULT
    from nas.runs.search import CACHE
    from nas.store import Store

    folders = sorted(path.parent for path in where.runs.glob(f"*/{RECIPE}"))
    named = [path / CACHE if path.is_dir() else path for path in where.paths]
    found = [path for folder in folders if (path := folder / CACHE).exists()]
    for path in dict.fromkeys([*named, *found]):
        if not path.is_file():
            yield "broken", f"{path}: no such file", "name a run folder, or its scores.sqlite"
            continue
        try:
            with Store(path) as store:
                rows, failed = store.check()
        except NasError as error:
            yield "broken", str(error), "move the file away; the scores are computed again"
        else:
            yield "ok", f"{path}: {rows:,} rows, {failed:,} of them failures; sound", ""
    open_ones = [folder for folder in folders if not (folder / RESULT).exists()]
    for folder in open_ones:
        yield "note", f"{folder}: not finished", f"nas-search --resume {folder}"
    if not named and not folders:
        yield "ok", f"{where.runs}: no run yet", ""


def _data(where: Where) -> Iterator[Told]:
    """Archives of images: there, and the published ones."""
    from nas.training.archives import ARCHIVES, check_md5, find, md5_of

    for archive in ARCHIVES.values():
        place = find(archive, where.data)
        if place is None:
            fetch = f"nas data {archive.name} --root {where.data}"
            advice = f"to train on it: {fetch if archive.urls else archive.home}"
            yield "note", f"{archive.name}: not found in {where.data}", advice
            continue
        files = {place / name: md5 for name, md5 in archive.files.items()}
        if place.name == archive.tar:
            files = {place: archive.tar_md5}
        try:
            for path, md5 in files.items():
                check_md5(str(path), md5_of(path), md5)
        except (OSError, NasError) as error:
            advice = f"delete it, then: nas data {archive.name} --root {where.data}"
            yield "broken", f"{archive.name}: {error}", advice
        else:
            yield "ok", f"{archive.name}: {place}, as published", ""


def _plugins(where: Where) -> Iterator[Told]:
    """What installed packages announce, and whether it loads."""
    from nas.plugins import GROUPS, look_up_or_load, plugin_values
    from nas.proxies import PROXIES
    from nas.proxies.base import Proxy
    from searchers import STRATEGIES, StrategyInfo
    from spaces import SPACES, Space

    built_in: dict[str, tuple[Any, type[Any]]] = {
        "space": (SPACES, Space),
        "proxy": (PROXIES, Proxy),
        "strategy": (STRATEGIES, StrategyInfo),
    }
    names = [(kind, name) for kind in GROUPS for name in plugin_values(kind)]
    for kind, name in names:
        table, expected = built_in[kind]
        if name in table:
            text = f"{kind} {name!r} of a plugin has the name of a built-in one, which is used"
            yield "note", text, "rename the plugin's entry point"
            continue
        try:
            look_up_or_load({}, name, kind=kind, expected=expected)
        except Exception as error:  # noqa: BLE001 - code of others may raise anything
            known = isinstance(error, NasError)
            what = " ".join(str(error).split())
            text = what if known else f"{kind} {name!r}: {type(error).__name__}: {what}"
            yield "broken", text, "mend or uninstall the package that brings it"
        else:
            yield "ok", f"{kind} {name!r} loads", ""
    if not names:
        yield "ok", "no plugin is installed", ""


def _processes() -> Told:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        pool.submit(os.getpid).result(timeout=ENGINE_SECONDS)
    return "ok", f"processes: another one of {sys.executable} answers", ""


def _ray() -> Told:
    if importlib.util.find_spec("ray") is None:
        return "note", "ray: not installed", f"for a cluster: pip install '{DISTRIBUTION}[ray]'"
    address = os.environ.get("RAY_ADDRESS", "none; a local one would be started")
    return "ok", f"ray {importlib.metadata.version('ray')}; RAY_ADDRESS: {address}", ""


#: What architectures may be scored by, beside this process.
ENGINES: dict[str, Callable[[], Told]] = {"processes": _processes, "ray": _ray}


def _engines(where: Where) -> Iterator[Told]:
    """Whether what scores architectures elsewhere can be reached."""
    for name, reach in ENGINES.items():
        try:
            yield reach()
        except (OSError, RuntimeError, ImportError, TimeoutError) as error:
            what = f"{name}: {type(error).__name__}: {' '.join(str(error).split())}"
            yield "broken", what, "may this user start processes, and is /dev/shm writable?"


CHECKS: dict[str, Check] = {
    "versions": _versions,
    "extras": _extras,
    "package": _package_files,
    "device": _devices,
    "threads": _threads,
    "disk": _disk,
    "cache": _caches,
    "data": _data,
    "plugins": _plugins,
    "engine": _engines,
}
