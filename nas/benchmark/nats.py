"""The official NATS-Bench archives: one file, or the folder of its fast mode.

Dong et al. 2021, https://arxiv.org/abs/2009.00437; files ``NATS-tss-v1_0-3ffb9.pickle.pbz2`` and
``NATS-sss-v1_0-50262.pickle.pbz2``, folders of the same names with ``-simple``. Every byte is read
by the restricted unpickler of :mod:`nas.benchmark.unpickle`; what comes out is handed to
``nats_bench`` as plain dicts (it would call ``pickle.load`` on a path). Averages and single seeds
are asked for by name; the library's random choice of a seed, which draws from the global generator,
is never used.

Units: accuracies in percent; parameters and FLOPs in millions (FLOPs are multiply-accumulates, the
benchmark's own cost model); times in seconds on the benchmark's GPU.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

import nats_bench

from nas.benchmark.columns import NotMeasured, Split, check_dataset
from nas.benchmark.unpickle import MAX_ARCHIVE_BYTES, MAX_RECORD_BYTES, load_pickle
from nas.writing import partial_of
from spaces import SPACES, Arch, NasError, Space

Benchmark: TypeAlias = Literal["tss", "sss"]
Progress: TypeAlias = Callable[[int, int], None]
Record: TypeAlias = Mapping[str, Any]  # epochs ("12", "200") -> state of an ArchResults

_SPACES: dict[Benchmark, str] = {"tss": "nats_tss", "sss": "nats_sss"}
_RECORD_NAME = re.compile(r"([0-9]{1,6})\.pickle\.pbz2", re.ASCII)
# how nats_bench names the images: validation and test halves, or the original test set
_SETS = {
    ("cifar10", "test"): "ori-test",
    ("cifar10-valid", "validation"): "x-valid",
    ("cifar10-valid", "test"): "ori-test",
    ("cifar100", "validation"): "x-valid",
    ("cifar100", "test"): "x-test",
    ("ImageNet16-120", "validation"): "x-valid",
    ("ImageNet16-120", "test"): "x-test",
}


class BadArchive(NasError, ValueError):
    """A file or folder that is no official archive."""


@dataclass(frozen=True)
class Costs:
    """What one architecture costs on one data set.

    Attributes:
        params_millions: Trainable weights.
        flops_millions: Multiply-accumulates for one image.
        latency_seconds: One batch of 256 images on the benchmark's GPU; None when not measured.
    """

    params_millions: float
    flops_millions: float
    latency_seconds: float | None


class NatsArchive:
    """An opened archive; made by :func:`open_archive`. Records are read when they are asked for.

    Attributes:
        source: File or folder, as it was given.
        benchmark: ``tss`` (topology) or ``sss`` (size), by what the archive holds.
        space: The space whose official indices the archive uses.
        indices: Official indices of the architectures that are there, ascending.
    """

    def __init__(
        self,
        source: str,
        benchmark: Benchmark,
        names: Sequence[str],
        indices: Sequence[int],
        read: Callable[[int], Record],
    ) -> None:
        self.source = source
        self.benchmark = benchmark
        self.space: Space = SPACES[_SPACES[benchmark]]
        self.indices = tuple(sorted(indices))
        self._names = names
        self._read = read
        self._present = frozenset(indices)
        self._last: tuple[int, Mapping[str, nats_bench.ArchResults]] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"<archive {self.source}: {self.benchmark}, {len(self)} of {len(self.space)}>"

    @property
    def epochs(self) -> tuple[int, ...]:
        """Lengths of the trainings that the first architecture has: 12 and 200, or 1, 12 and 90."""
        return tuple(sorted(int(text) for text in self._results(self.indices[0])))

    def seeds(self, arch: Arch, *, dataset: str, epochs: int) -> tuple[int, ...]:
        """Return the seeds with which the benchmark trained an architecture."""
        results, where = self._training(arch, epochs)
        return self._seeds(results, check_dataset(dataset, "test"), where)

    def validation_accuracy_percent(
        self, arch: Arch, *, dataset: str, epochs: int, seed: int | None = None
    ) -> float:
        """Return the accuracy on validation images after the last epoch, in percent.

        Args:
            arch: A member of the space.
            dataset: ``cifar10-valid``, ``cifar100`` or ``ImageNet16-120``.
            epochs: Length of the whole training.
            seed: One training, or None for the mean over the seeds that this architecture has.

        Raises:
            NotMeasured: The archive does not know it.
        """
        return self._accuracy(arch, dataset, "validation", epochs, seed)

    def test_accuracy_percent(
        self, arch: Arch, *, dataset: str, epochs: int, seed: int | None = None
    ) -> float:
        """Return the accuracy on test images after the last epoch, in percent.

        Args:
            arch: A member of the space.
            dataset: ``cifar10`` (trained on training and validation images), ``cifar10-valid``
                (on the training half), ``cifar100`` or ``ImageNet16-120``.
            epochs: Length of the whole training.
            seed: One training, or None for the mean over the seeds that this architecture has.

        Raises:
            NotMeasured: The archive does not know it.
        """
        return self._accuracy(arch, dataset, "test", epochs, seed)

    def costs(self, arch: Arch, *, dataset: str, epochs: int) -> Costs:
        """Return what the benchmark notes as the costs of an architecture."""
        results, where = self._training(arch, epochs)
        known = check_dataset(dataset, "test")
        self._seeds(results, known, where)
        with _reading(where):
            found = results.get_compute_costs(known)
            latency = found["latency"]
            return Costs(
                params_millions=float(found["params"]),
                flops_millions=float(found["flops"]),
                latency_seconds=None if latency is None else float(latency),
            )

    def train_seconds(self, arch: Arch, *, dataset: str, epochs: int) -> float:
        """Return the seconds of a whole training, validated after every epoch; mean over the seeds.

        Args:
            arch: A member of the space.
            dataset: ``cifar10-valid``, ``cifar100`` or ``ImageNet16-120``.
            epochs: Length of the whole training.
        """
        results, where = self._training(arch, epochs)
        known = check_dataset(dataset, "validation")
        self._seeds(results, known, where)
        with _reading(where):
            training = results.get_metrics(known, "train")
            validation = results.get_metrics(known, "x-valid")
            return float(training["all_time"]) + float(validation["all_time"])

    def api(self) -> Any:  # noqa: ANN401 - nats_bench has no types
        """Return the library's own object, filled with every record that is there.

        It copies what it is given, so a full archive needs its memory twice.
        """
        records = {index: self._read(index) for index in self.indices}
        whole = {
            "meta_archs": list(self._names),
            "arch2infos": records,
            "evaluated_indexes": list(self.indices),
        }
        return nats_bench.create(whole, self.benchmark, fast_mode=False, verbose=False)

    def _accuracy(
        self, arch: Arch, dataset: str, split: Split, epochs: int, seed: int | None
    ) -> float:
        results, where = self._training(arch, epochs)
        known = check_dataset(dataset, split)
        seeds = self._seeds(results, known, where)
        if seed is not None and seed not in seeds:
            raise NotMeasured(f"{where}: no training on {known} with seed {seed}; seeds: {seeds}")
        with _reading(where):
            # False: the mean over the seeds; an integer: that seed; True would draw one
            choice = False if seed is None else int(seed)
            found = results.get_metrics(known, _SETS[known, split], is_random=choice)
            return float(found["accuracy"])

    def _training(self, arch: Arch, epochs: int) -> tuple[nats_bench.ArchResults, str]:
        """Return all trainings of one length, and the words for an error message."""
        index = self.space.index(arch)
        where = f"{self.source}: architecture {index} ({self.space.to_str(arch)})"
        if index not in self._present:
            raise NotMeasured(f"{where} is not in this archive of {len(self)}")
        results = self._results(index)
        key = f"{epochs:02d}"  # "01", "12", "90", "200"
        if key not in results:
            known = ", ".join(str(int(name)) for name in results)
            raise NotMeasured(f"{where}: no training of {epochs} epochs; it has {known}")
        return results[key], where

    def _seeds(self, results: nats_bench.ArchResults, dataset: str, where: str) -> tuple[int, ...]:
        with _reading(where):
            if dataset not in results.dataset_seed:
                known = ", ".join(results.dataset_seed)
                raise NotMeasured(f"{where}: no training on {dataset}; it has {known}")
            return tuple(int(seed) for seed in results.dataset_seed[dataset])

    def _results(self, index: int) -> Mapping[str, nats_bench.ArchResults]:
        if self._last is None or self._last[0] != index:  # columns of one row are asked in a row
            where = f"{self.source}: architecture {index}"
            record = _check_record(self._read(index), index, self._names[index], where)
            made = {
                epochs: nats_bench.ArchResults.create_from_state_dict(state)
                for epochs, state in record.items()
            }
            self._last = (index, made)
        return self._last[1]


def open_archive(path: str | Path, *, max_bytes: int = MAX_ARCHIVE_BYTES) -> NatsArchive:
    """Open an official archive: the single file, or the folder of the fast mode.

    A single file is read at once, which takes minutes and gigabytes; of a folder, only the list of
    names.

    Args:
        path: ``NATS-...pickle.pbz2`` or ``NATS-...-simple/``; its content says which.
        max_bytes: Largest size of a decompressed single file.

    Raises:
        BadArchive: It is neither; the message says what was found.
        UnsafePickle: It holds a pickle that asks for a name outside the allow-list.
    """
    source = str(path)
    place = Path(path)
    if place.is_dir():
        return _open_folder(place, source)
    if place.suffix in (".tar", ".tgz", ".zip") or place.name.endswith(".tar.gz"):
        raise BadArchive(f"{source}: unpack it first and give the folder that comes out")
    content = load_pickle(place, max_bytes=max_bytes)
    if not isinstance(content, dict) or not {"meta_archs", "arch2infos"} <= content.keys():
        raise BadArchive(f"{source}: no NATS-Bench archive: 'meta_archs' and 'arch2infos' expected")
    benchmark, names = _check_names(content["meta_archs"], source)
    records = content["arch2infos"]
    if not isinstance(records, dict) or not records:
        raise BadArchive(
            f"{source}: holds no architecture (of a fast-mode folder, give the folder)"
        )
    for index in records:
        if not isinstance(index, int) or not 0 <= index < len(names):
            raise BadArchive(f"{source}: {index!r} is no index of an architecture")
    return NatsArchive(source, benchmark, names, list(records), records.__getitem__)


def _open_folder(folder: Path, source: str) -> NatsArchive:
    meta = folder / "meta.pickle.pbz2"
    if not meta.is_file():
        inner = sorted(p.parent.name for p in folder.glob("*/meta.pickle.pbz2"))
        hint = f" Did you mean {str(folder / inner[0])!r}?" if inner else ""
        raise BadArchive(f"{source}: no 'meta.pickle.pbz2' in this folder.{hint}")
    content = load_pickle(meta, max_bytes=MAX_RECORD_BYTES)
    if not isinstance(content, dict) or "meta_archs" not in content:
        raise BadArchive(f"{meta}: no list of architectures ('meta_archs') in it")
    benchmark, names = _check_names(content["meta_archs"], source)
    files: dict[int, Path] = {}
    for file in folder.iterdir():
        match = _RECORD_NAME.fullmatch(file.name)
        if match is not None and int(match[1]) < len(names):
            files[int(match[1])] = file
    if not files:
        raise BadArchive(f"{source}: no architecture in this folder ('000000.pickle.pbz2' ...)")

    def read(index: int) -> Record:
        record = load_pickle(files[index], max_bytes=MAX_RECORD_BYTES)
        if not isinstance(record, dict):
            raise BadArchive(f"{files[index]}: expected a dict of trainings")
        return record

    return NatsArchive(source, benchmark, names, list(files), read)


def _check_names(names: object, source: str) -> tuple[Benchmark, list[str]]:
    """Say which benchmark a list of names belongs to, and that it is the official list."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadArchive(f"{source}: 'meta_archs' is no list of texts")
    benchmark: Benchmark = "tss" if names and "|" in names[0] else "sss"
    space = SPACES[_SPACES[benchmark]]
    if len(names) != len(space):
        raise BadArchive(
            f"{source}: lists {len(names)} architectures; {space.name} has {len(space)}"
        )
    for index, (name, arch) in enumerate(zip(names, space.all().tolist(), strict=True)):
        official = space.to_str(tuple(arch))
        if name != official:
            raise BadArchive(
                f"{source}: index {index} is {name!r}; in {space.name} it is {official!r}"
            )
    return benchmark, names


def _check_record(record: object, index: int, name: str, where: str) -> Record:
    """Check that a record has the shape which nats_bench takes for granted."""
    if not isinstance(record, dict) or not record:
        raise BadArchive(f"{where}: expected a dict of trainings")
    with _reading(where):
        for epochs, state in record.items():
            _check_training(epochs, state, index, name, where)
    return record


def _check_training(epochs: object, state: object, index: int, name: str, where: str) -> None:
    if (
        not isinstance(epochs, str)
        or not (epochs.isascii() and epochs.isdigit())
        or not isinstance(state, dict)
    ):
        raise BadArchive(f"{where}: {epochs!r} is no training")
    runs, seeds = state.get("all_results"), state.get("dataset_seed")
    if not (
        isinstance(runs, dict)
        and all(isinstance(run, dict) for run in runs.values())
        and isinstance(seeds, dict)
        and all((data, seed) in runs for data, of_data in seeds.items() for seed in of_data)
    ):
        raise BadArchive(f"{where}: the training of {epochs} epochs is incomplete")
    if (state.get("arch_index"), state.get("arch_str")) != (index, name):
        raise BadArchive(
            f"{where}: the record is of {state.get('arch_index')} ({state.get('arch_str')!r}), "
            f"expected {name!r}"
        )


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Turn what nats_bench raises on a record that lacks something into an error with a place."""
    try:
        yield
    except NasError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise BadArchive(f"{where}: the record is incomplete: {error}") from error


@dataclass(frozen=True)
class ImportedTable:
    """What :func:`import_archive` wrote.

    Attributes:
        path: The table.
        space: Name of the space.
        n_archs: Rows.
        columns: All columns, in order.
        seed: The one training, or None for means over seeds.
        n_empty: Cells left empty because that architecture has no such training.
    """

    path: Path
    space: str
    n_archs: int
    columns: tuple[str, ...]
    seed: int | None
    n_empty: int


@dataclass(frozen=True)
class _Column:
    name: str
    read: Callable[[NatsArchive, Arch], float | int]
    digits: int | None = None  # after the point; None: an integer


def import_archive(
    archive: NatsArchive | str | Path,
    destination: str | Path,
    *,
    seed: int | None = None,
    progress: Progress | None = None,
) -> ImportedTable:
    """Write every architecture of an archive as a row of a table, ``.csv`` or ``.csv.gz``.

    Columns: ``index, arch``, then accuracies, named as :mod:`nas.benchmark.columns` explains; for
    the topology space ``*_cost12_s`` (seconds of a 12-epoch training, validated after every epoch),
    ``params_M_*`` and ``flops_M_*`` (millions), for the size space ``params_*`` and ``flops_*``
    (ones). A cell is empty where the archive has no such training. The file appears whole or not at
    all: it is written beside its destination and then renamed.

    Args:
        archive: An opened archive, or its path.
        destination: ``table.csv.gz`` or ``table.csv``.
        seed: One training, which the columns then carry in their names (``c10_test_200_seed777``),
            or None for the mean over the seeds that an architecture has.
        progress: Called after each row with (rows written, rows in all).

    Raises:
        BadArchive: A record is incomplete.
        NasError: The destination cannot be written.
    """
    opened = archive if isinstance(archive, NatsArchive) else open_archive(archive)
    columns = _columns(opened.benchmark, seed)
    names = ("index", "arch", *(column.name for column in columns))
    path = Path(destination)
    n_empty = 0
    with _replacing(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(names)
        for done, index in enumerate(opened.indices, start=1):
            arch = opened.space.at(index)
            cells = [_cell(column, opened, arch) for column in columns]
            n_empty += cells.count("")
            writer.writerow([index, opened.space.to_str(arch), *cells])
            if progress is not None:
                progress(done, len(opened))
    return ImportedTable(path, opened.space.name, len(opened), names, seed, n_empty)


def _cell(column: _Column, archive: NatsArchive, arch: Arch) -> str:
    try:
        value = column.read(archive, arch)
    except NotMeasured:
        return ""
    return str(value) if column.digits is None else f"{value:.{column.digits}f}"


def _columns(benchmark: Benchmark, seed: int | None) -> list[_Column]:
    """Return the columns of one benchmark's table, in order."""
    long = 200 if benchmark == "tss" else 90
    half = "c10" if benchmark == "tss" else "c10valid"
    parts: list[tuple[str, str, Split]] = [
        ("c10", "cifar10", "test"),
        ("c100", "cifar100", "test"),
        ("in16", "ImageNet16-120", "test"),
        (half, "cifar10-valid", "validation"),
        ("c100", "cifar100", "validation"),
        ("in16", "ImageNet16-120", "validation"),
    ]
    suffix = "" if seed is None else f"_seed{seed}"
    columns = [
        _Column(
            f"{short}_{'test' if split == 'test' else 'val'}_{epochs}{suffix}",
            _accuracy_reader(dataset, split, epochs, seed),
            6,
        )
        for epochs in (long, 12)
        for short, dataset, split in parts
    ]
    names = (("c10", "cifar10"), ("c100", "cifar100"), ("in16", "ImageNet16-120"))
    if benchmark == "tss":
        for short, dataset in names:
            trained = "cifar10-valid" if dataset == "cifar10" else dataset
            columns.append(_Column(f"{short}_cost12_s", _seconds_reader(trained), 6))
        for short, dataset in names:
            columns.append(_Column(f"params_M_{short}", _cost_reader(dataset, "params", 1), 6))
            columns.append(_Column(f"flops_M_{short}", _cost_reader(dataset, "flops", 1), 6))
    else:
        for short, dataset in names:
            columns.append(_Column(f"params_{short}", _cost_reader(dataset, "params", 10**6)))
            columns.append(_Column(f"flops_{short}", _cost_reader(dataset, "flops", 10**6)))
    return columns


def _accuracy_reader(
    dataset: str, split: Split, epochs: int, seed: int | None
) -> Callable[[NatsArchive, Arch], float]:
    def read(archive: NatsArchive, arch: Arch) -> float:
        if split == "test":
            return archive.test_accuracy_percent(arch, dataset=dataset, epochs=epochs, seed=seed)
        return archive.validation_accuracy_percent(arch, dataset=dataset, epochs=epochs, seed=seed)

    return read


def _seconds_reader(dataset: str) -> Callable[[NatsArchive, Arch], float]:
    return lambda archive, arch: archive.train_seconds(arch, dataset=dataset, epochs=12)


def _cost_reader(
    dataset: str, what: Literal["params", "flops"], unit: int
) -> Callable[[NatsArchive, Arch], float | int]:
    def read(archive: NatsArchive, arch: Arch) -> float | int:
        costs = archive.costs(arch, dataset=dataset, epochs=12)
        millions = costs.params_millions if what == "params" else costs.flops_millions
        return millions if unit == 1 else round(millions * unit)

    return read


@contextmanager
def _replacing(path: Path) -> Iterator[IO[str]]:
    """Yield a text stream whose content becomes ``path`` when the block ends without an error."""
    part = partial_of(path)
    try:
        with part.open("wb") as raw:
            if path.suffix == ".gz":
                # no time, no name: the same archive gives the same bytes
                with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed, _as_text(packed) as stream:
                    yield stream
            else:
                with _as_text(raw) as stream:
                    yield stream
        part.replace(path)
    except OSError as error:
        raise NasError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)


def _as_text(stream: gzip.GzipFile | IO[bytes]) -> io.TextIOWrapper:
    return io.TextIOWrapper(stream, encoding="utf-8", newline="")
