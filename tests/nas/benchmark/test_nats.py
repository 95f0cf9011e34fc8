"""The official archives: opened by content, asked in explicit words, imported as a table."""

from __future__ import annotations

import bz2
import csv
import gzip
import os
import pickle
import random
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats_bench
import numpy as np
import pytest

from nas.benchmark import (
    DATASETS,
    NatsArchive,
    NotMeasured,
    UnreadablePickle,
    UnsafePickle,
    import_archive,
    open_archive,
    read_table,
)
from nas.benchmark.nats import BadArchive
from spaces import SPACES, NasError

FOLDERS = {"tss": "NATS-tss-v1_0-3ffb9-simple", "sss": "NATS-sss-v1_0-50262-simple"}
PRESENT = (0, 11, 284)
# what each training was measured on, and how far that lies from the base of an invented record
SETS: dict[str, dict[str, float]] = {
    "cifar10-valid": {"x-valid": 0, "ori-test": -1},
    "cifar10": {"ori-test": 1},
    "cifar100": {"x-valid": -20, "x-test": -21, "ori-test": -20.5},
    "ImageNet16-120": {"x-valid": -40, "x-test": -41, "ori-test": -40.5},
}
# of the shared tables, what no record of these archives holds: an older release, and where the
# row comes from
UNDERIVABLE = {"c10_test_200_v1", "c100_test_200_v1", "in16_test_200_v1", "src"}


def training(index: int, name: str, epochs: int, base: float, seeds: list[int]) -> dict[str, Any]:
    """Return an invented record; with seed 777 it reaches ``base``, with the next one 1 less."""
    runs = {}
    for dataset, sets in SETS.items():
        for place, seed in enumerate(seeds):
            keys = {
                f"{a_set}@{epoch}": add for a_set, add in sets.items() for epoch in range(epochs)
            }
            runs[dataset, seed] = {
                "name": dataset,
                "train_acc1es": dict.fromkeys(range(epochs), 99.0),
                "train_acc5es": None,
                "train_losses": dict.fromkeys(range(epochs), 0.1),
                "train_times": OrderedDict((epoch, 10.0) for epoch in range(epochs)),
                "params": np.float64(0.25),
                "flop": 15.5,
                "seed": seed,
                "epochs": epochs,
                "latency": [np.float64(0.5)],
                "eval_names": list(sets),
                "eval_acc1es": {key: base + add - place for key, add in keys.items()},
                "eval_losses": dict.fromkeys(keys, 1.0),
                "eval_times": dict.fromkeys(keys, 2.0),
                "net_state_dict": None,
            }  # fmt: skip
    return {
        "arch_index": index,
        "arch_str": name,
        "all_results": runs,
        "dataset_seed": {dataset: sorted(seeds) for dataset, _ in runs},
        "clear_net_done": True,
    }


def names(benchmark: str) -> list[str]:
    space = SPACES[f"nats_{benchmark}"]
    return [space.to_str(tuple(arch)) for arch in space.all().tolist()]


def save(path: Path, content: object) -> Path:
    path.write_bytes(bz2.compress(pickle.dumps(content, protocol=4), 1))
    return path


@pytest.fixture(scope="session")
def invented() -> dict[str, Any]:
    """A whole archive of three size-space networks, as the single file holds it."""
    texts = names("sss")
    return {
        "meta_archs": texts,
        "total_archs": len(texts),
        "arch2infos": OrderedDict(
            (i, OrderedDict({
                "12": training(i, texts[i], 12, 70.0 + place, [777]),
                "90": training(i, texts[i], 90, 80.0 + place, [777, 888]),
            }))
            for place, i in enumerate((5, 0, 7))
        ),
        "evaluated_indexes": {5, 0, 7},
    }  # fmt: skip


@pytest.fixture(scope="session", params=["file", "folder"])
def archive(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    invented: dict[str, Any],
) -> NatsArchive:
    """The invented archive in both of the official forms, under names that say nothing."""
    folder = tmp_path_factory.mktemp("archive")
    if request.param == "file":
        return open_archive(save(folder / "download", invented))
    save(folder / "meta.pickle.pbz2", {**invented, "arch2infos": None, "evaluated_indexes": set()})
    for index, record in invented["arch2infos"].items():
        save(folder / f"{index:06d}.pickle.pbz2", record)
    return open_archive(folder)


def test_an_archive_says_what_it_is(archive: NatsArchive) -> None:
    assert (archive.benchmark, archive.space.name) == ("sss", "nats_sss")
    assert archive.indices == (0, 5, 7)
    assert archive.epochs == (12, 90)


def test_questions_name_data_set_split_epochs_and_seed(archive: NatsArchive) -> None:
    arch = archive.space.at(5)  # the first invented record: 80 with seed 777, 79 with 888
    test, validation = archive.test_accuracy_percent, archive.validation_accuracy_percent
    assert validation(arch, dataset="cifar10-valid", epochs=90) == 79.5
    assert validation(arch, dataset="cifar10-valid", epochs=90, seed=777) == 80.0
    assert validation(arch, dataset="cifar10-valid", epochs=12) == 70.0
    assert validation(arch, dataset="cifar100", epochs=90) == 59.5
    assert test(arch, dataset="cifar10", epochs=90) == 80.5
    assert test(arch, dataset="cifar10-valid", epochs=90) == 78.5
    assert test(arch, dataset="cifar100", epochs=90) == 58.5  # x-test, not validation + test
    assert test(arch, dataset="ImageNet16-120", epochs=90, seed=888) == 38.0
    assert archive.seeds(arch, dataset="cifar10", epochs=90) == (777, 888)
    assert archive.seeds(arch, dataset="cifar10", epochs=12) == (777,)
    costs = archive.costs(arch, dataset="cifar10", epochs=90)
    assert (costs.params_millions, costs.flops_millions, costs.latency_seconds) == (0.25, 15.5, 0.5)
    # 12 epochs of 10 s, each followed by a validation of 2 s
    assert archive.train_seconds(arch, dataset="cifar100", epochs=12) == 144.0


def test_what_the_archive_does_not_hold_is_said(archive: NatsArchive) -> None:
    arch = archive.space.at(5)
    with pytest.raises(NotMeasured, match="has no validation accuracy; use 'cifar10-valid'"):
        archive.validation_accuracy_percent(arch, dataset="cifar10", epochs=90)
    with pytest.raises(NotMeasured, match=r"5 \(.*\): no training of 200 epochs; it has 12, 90"):
        archive.test_accuracy_percent(arch, dataset="cifar10", epochs=200)
    with pytest.raises(NotMeasured, match=r"no training on cifar10 with seed 999; .*777, 888"):
        archive.test_accuracy_percent(arch, dataset="cifar10", epochs=90, seed=999)
    with pytest.raises(NotMeasured, match=r"no data set named 'cifar'"):
        archive.test_accuracy_percent(arch, dataset="cifar", epochs=90)
    with pytest.raises(NotMeasured, match=r"architecture 6 .* is not in this archive of 3"):
        archive.test_accuracy_percent(archive.space.at(6), dataset="cifar10", epochs=90)


def test_nats_bench_itself_takes_what_was_read(archive: NatsArchive) -> None:
    api = archive.api()
    info = api.get_more_info(5, "cifar10", hp="90", is_random=False)
    assert info["test-accuracy"] == 80.5
    assert sorted(api.evaluated_indexes) == [0, 5, 7]


def test_asking_prints_nothing_and_leaves_the_global_generator(
    archive: NatsArchive, capsys: pytest.CaptureFixture[str]
) -> None:
    state = random.getstate()
    archive.test_accuracy_percent(archive.space.at(5), dataset="cifar10", epochs=90)
    archive.api()
    assert random.getstate() == state
    assert capsys.readouterr() == ("", "")


def test_import_writes_a_table_that_reads_back(archive: NatsArchive, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    target = tmp_path / "table.csv.gz"
    done = import_archive(archive, target, progress=lambda *now: seen.append(now))
    assert (done.n_archs, done.space, done.seed, done.n_empty) == (3, "nats_sss", None, 0)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    table = read_table(target, archive.space)
    assert done.columns[:2] == ("index", "arch")
    np.testing.assert_array_equal(table.column("index"), [0, 5, 7])
    np.testing.assert_array_equal(table.column("c10_test_90"), [81.5, 80.5, 82.5])
    np.testing.assert_array_equal(table.column("c10valid_val_12"), [71, 70, 72])
    np.testing.assert_array_equal(table.column("params_c10"), [250_000] * 3)
    view = table.validation_view()
    arch = archive.space.at(5)
    assert view.validation_accuracy_percent(arch, dataset="cifar100", epochs=90) == 59.5
    assert target.read_bytes() == _again(archive, tmp_path).read_bytes()


def _again(archive: NatsArchive, tmp_path: Path) -> Path:
    import_archive(archive, tmp_path / "again.csv.gz")
    return tmp_path / "again.csv.gz"


def test_import_of_one_seed_says_so_in_its_columns(archive: NatsArchive, tmp_path: Path) -> None:
    done = import_archive(archive, tmp_path / "table.csv", seed=888)
    table = read_table(tmp_path / "table.csv", archive.space)
    np.testing.assert_array_equal(table.column("c10_test_90_seed888"), [81, 80, 82])
    # the 12-epoch trainings have seed 777 only: six columns of three empty cells
    assert done.n_empty == 18
    assert np.isnan(table.column("c10_test_12_seed888")).all()
    view = table.test_view()
    arch = archive.space.at(5)
    assert view.test_accuracy_percent(arch, dataset="cifar10", epochs=90, seed=888) == 80.0
    with pytest.raises(NotMeasured):
        view.test_accuracy_percent(arch, dataset="cifar10", epochs=90)


def test_an_interrupted_import_leaves_nothing(archive: NatsArchive, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    target = tmp_path / "out" / "table.csv.gz"
    target.parent.mkdir()
    target.write_bytes(b"the old one")
    with pytest.raises(KeyboardInterrupt):
        import_archive(archive, target, progress=stop)
    assert target.read_bytes() == b"the old one"
    assert list(target.parent.iterdir()) == [target]
    with pytest.raises(NasError, match="cannot be written"):
        import_archive(archive, tmp_path / "nowhere" / "table.csv.gz")


def test_what_is_no_archive_is_refused(tmp_path: Path, invented: dict[str, Any]) -> None:
    with pytest.raises(UnreadablePickle, match="no such file"):
        open_archive(tmp_path / "missing.pickle.pbz2")
    with pytest.raises(BadArchive, match="unpack it first"):
        open_archive(tmp_path / "NATS-tss-v1_0-3ffb9-simple.tar")
    with pytest.raises(BadArchive, match=r"no 'meta.pickle.pbz2' in this folder.$"):
        open_archive(tmp_path)
    inner = tmp_path / "NATS-sss-v1_0-50262-simple"
    inner.mkdir()
    save(inner / "meta.pickle.pbz2", invented)
    with pytest.raises(BadArchive, match=r"Did you mean '.*NATS-sss-v1_0-50262-simple'\?"):
        open_archive(tmp_path)
    with pytest.raises(BadArchive, match="no architecture in this folder"):
        open_archive(inner)
    path = tmp_path / "file"
    wrong = ["8:8:8:8:8", *invented["meta_archs"][:0:-1]]
    for content, message in [
        ([1, 2], "no NATS-Bench archive"),
        ({"meta_archs": [], "arch2infos": {}}, "lists 0 architectures; nats_sss has 32768"),
        ({"meta_archs": [1], "arch2infos": {}}, "no list of texts"),
        ({**invented, "meta_archs": wrong}, "index 1 is '64:64:64:64:64'; in nats_sss it is"),
        ({**invented, "arch2infos": {}}, "holds no architecture"),
        ({**invented, "arch2infos": {"0": {}}}, "'0' is no index"),
        ({**invented, "arch2infos": {40_000: {}}}, "40000 is no index"),
    ]:
        with pytest.raises(BadArchive, match=message):
            open_archive(save(path, content))
    with pytest.raises(UnreadablePickle, match="more than the allowed 1,000 bytes"):
        open_archive(save(path, invented), max_bytes=1_000)


def broken_records(name: str) -> Iterator[tuple[object, str]]:
    good = training(0, name, 12, 70.0, [777])
    yield None, "expected a dict of trainings"
    yield {}, "expected a dict of trainings"
    yield {12: good}, "12 is no training"
    yield {"12": None}, "'12' is no training"
    yield {"12": {}}, "12 epochs is incomplete"
    yield {"12": {**good, "all_results": {}}}, "12 epochs is incomplete"
    yield {"12": {**good, "dataset_seed": {"cifar10": 3}}}, "is incomplete"
    yield {"12": {**good, "arch_index": 1}}, "the record is of 1 .* expected '8:8:8:8:8'"
    runs = {**good["all_results"], ("cifar10", 777): {"epochs": 12, "eval_times": {}}}
    yield {"12": {**good, "all_results": runs}}, "the record is incomplete"
    yield {"12": {**good, "dataset_seed": {}}}, "no training on cifar10"


@pytest.mark.parametrize("case", range(10))
def test_a_broken_record_is_refused_with_its_place(
    tmp_path: Path, invented: dict[str, Any], case: int
) -> None:
    record, message = list(broken_records(invented["meta_archs"][0]))[case]
    path = save(tmp_path / "file", {**invented, "arch2infos": {0: record}})
    archive = open_archive(path)
    with pytest.raises(NasError, match=message) as info:
        archive.test_accuracy_percent(archive.space.at(0), dataset="cifar10", epochs=12)
    assert f"{path}: architecture 0" in str(info.value)


class Touch:
    """Pickles into a shell command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def test_hostile_archives_run_nothing(tmp_path: Path, invented: dict[str, Any]) -> None:
    marker = tmp_path / "was_here"
    hostile = {**invented, "arch2infos": {0: Touch(marker)}}
    with pytest.raises(UnsafePickle, match=r"refused the global '.*system'"):
        open_archive(save(tmp_path / "file", hostile))
    folder = tmp_path / "folder"
    folder.mkdir()
    save(folder / "000000.pickle.pbz2", {"12": Touch(marker)})
    save(folder / "meta.pickle.pbz2", {"meta_archs": Touch(marker)})
    with pytest.raises(UnsafePickle, match=r"meta.pickle.pbz2: refused"):
        open_archive(folder)
    save(folder / "meta.pickle.pbz2", invented)
    archive = open_archive(folder)
    with pytest.raises(UnsafePickle, match=r"000000.pickle.pbz2: refused"):
        import_archive(archive, tmp_path / "table.csv.gz")
    assert not marker.exists()
    assert not (tmp_path / "table.csv.gz").exists()


def test_importing_the_module_needs_no_torch() -> None:
    code = "import nas.benchmark, sys; sys.exit('torch' in sys.modules)"
    checkout = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=checkout)


@pytest.mark.parametrize("benchmark", ["tss", "sss"])
def test_every_derivable_cell_of_the_real_tables(
    shared_data: Path, tmp_path: Path, benchmark: str
) -> None:
    """Published records against published tables: all columns, architectures 0, 11 and 284."""
    archive = open_archive(shared_data / "nats_bench" / FOLDERS[benchmark])
    assert archive.benchmark == benchmark
    assert archive.indices == PRESENT
    import_archive(archive, tmp_path / "mean.csv.gz")
    import_archive(archive, tmp_path / "one.csv.gz", seed=777)
    mean = read_table(tmp_path / "mean.csv.gz", archive.space)
    one = read_table(tmp_path / "one.csv.gz", archive.space)
    with gzip.open(shared_data / f"nats_{benchmark}.csv.gz", "rt", encoding="utf-8") as stream:
        published = [row for row in csv.DictReader(stream) if int(row["index"]) in PRESENT]
    assert [archive.space.from_str(row["arch"]) for row in published] == list(mean.archs)
    checked = 0
    for column in published[0].keys() - UNDERIVABLE - {"arch"}:
        # the size-space table has its 12-epoch test accuracies from seed 777 alone
        single = benchmark == "sss" and column.endswith("_test_12")
        ours = one.column(f"{column}_seed777") if single else mean.column(column)
        theirs = [float(row[column]) for row in published]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=5.01e-7, err_msg=column)
        checked += len(theirs)
    assert checked == 3 * {"tss": 22, "sss": 16}[benchmark]


@pytest.mark.parametrize("benchmark", ["tss", "sss"])
def test_the_library_reads_the_real_archive_alike(shared_data: Path, benchmark: str) -> None:
    """What ``nats_bench`` says of its own files, by its own unpickling."""
    folder = shared_data / "nats_bench" / FOLDERS[benchmark]
    archive = open_archive(folder)
    api = nats_bench.create(str(folder), benchmark, fast_mode=True, verbose=False)
    for index in PRESENT:
        arch = archive.space.at(index)
        assert api.query_index_by_arch(archive.space.to_str(arch)) == index
        for epochs in archive.epochs:
            for dataset in DATASETS:
                for seed in (None, *archive.seeds(arch, dataset=dataset, epochs=epochs)):
                    info = api.get_more_info(
                        index,
                        dataset,
                        hp=f"{epochs:02d}",
                        is_random=False if seed is None else seed,
                    )
                    got = archive.test_accuracy_percent(
                        arch, dataset=dataset, epochs=epochs, seed=seed
                    )
                    assert got == info["test-accuracy"]
                    if dataset != "cifar10":
                        got = archive.validation_accuracy_percent(
                            arch, dataset=dataset, epochs=epochs, seed=seed
                        )
                        assert got == info["valid-accuracy"]
