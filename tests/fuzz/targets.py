"""What is fuzzed: functions that take any bytes, and may raise a NasError and nothing else.

A target is one entry of :data:`TARGETS`. Where a checksum would keep a fuzzer from what lies behind
it (gzip, zip, the published md5 of an archive), the bytes are packed here, or not compared.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from nas import space_file
from nas.benchmark import parse_column, read_table
from nas.benchmark.nats import NatsArchive
from nas.benchmark.unpickle import load_arrays, load_pickle
from nas.cli.console import split_proxies
from nas.design.expression import parse as parse_expression
from nas.design.formula import parse_formula
from nas.export.chosen import choose
from nas.export.models import FORMAT, read_config, read_weights
from nas.hardware.lookup import LookupLatency
from nas.limits import parse_bounds
from nas.networks.images import load_images
from nas.objectives import parse_objective
from nas.predictor.container import read as read_container
from nas.proxies import PROXIES, ProxySpec
from nas.quantities import QUANTITIES
from nas.recipe import Recipe, shipped_recipes
from nas.recipe.design import DESIGN
from nas.recipe.fit import FIT
from nas.recipe.kinds import Kind, parse_kind
from nas.recipe.search import SEARCH
from nas.recipe.train import TRAIN, TrainRecipe
from nas.runs.read import Run, read_run
from nas.space_file import parse_space
from nas.store import Store
from nas.training import archives
from nas.training.archives import ArchiveOptions
from nas.training.arrays import NpzOptions, load_npz
from nas.training.checkpoint import load as load_checkpoint
from nas.training.splits import read_split
from nas.verifying import best_of
from searchers import STRATEGIES
from spaces import SPACES, NasError, Space

KINDS: dict[str, Kind] = {"": SEARCH, "fit": FIT, "design": DESIGN, "train": TRAIN}
SPACE_LIST = list(SPACES.values())


@dataclass(frozen=True)
class Target:
    """Something that reads what others wrote.

    Attributes:
        run: Takes any bytes; raises a NasError at most.
        seeds: Inputs to begin with.
        words: Texts that inputs are made of.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    words: Callable[[], Iterable[str]] = lambda: ()


def _text(data: bytes) -> str:
    # as a shell hands words on, which need not be UTF-8
    return data.decode("utf-8", "surrogateescape")


@cache
def _folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="fuzz-")
    _KEPT.append(folder)  # goes with the process
    return Path(folder.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def _file(name: str, data: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path


def _refused(path: str, where: str) -> object:
    raise NasError(f"{where}: {path}: nothing is imported here")


@contextmanager
def _no_imports() -> Iterator[None]:
    """Import nothing that an input names: it would run, and is a user's own business."""
    with (
        mock.patch.object(space_file, "import_attribute", _refused),
        mock.patch("nas.own.import_module", side_effect=ImportError("nothing is imported here")),
    ):
        yield


def recipe(data: bytes) -> None:
    """Recipes of every command; the last lines that begin with ``!`` are overrides."""
    name = list(KINDS)[(data[0] if data else 0) % len(KINDS)]
    lines = _text(data[1:]).split("\n!")
    with _no_imports():
        model = parse_kind(KINDS[name], lines[0], "fuzz.yaml", lines[1:], name="fuzz")
        if isinstance(model, Recipe | TrainRecipe):
            again = parse_kind(KINDS[name], model.to_yaml(), "again.yaml", name="fuzz")
            assert again == model


def _recipe_seeds() -> Iterator[bytes]:
    for number, command in enumerate(KINDS):
        for path in shipped_recipes(command).values():
            yield bytes([number]) + path.read_bytes()
            yield bytes([number]) + path.read_bytes() + b"\n!seed=1\n!name=x"


def space(data: bytes) -> None:
    """Files of spaces of one's own; what is read is drawn from and written once."""
    with _no_imports():
        made = parse_space(_text(data), "fuzz.yaml")
    rng = np.random.default_rng(0)
    arch = made.sample(rng)
    assert made.from_str(made.to_str(arch)) == arch
    made.costs(np.asarray([made.canonical(arch)]))


SPACE_SEEDS = (
    b"name: a\ncell: {nodes: 3, operations: [none, skip, conv_3x3]}\nstages: [{width: 8}]\n",
    b"name: b\ncell:\n  edges: [[0, 1], [1, 2]]\n  operations: [{name: c, kind: conv, kernel: 9}]\n"
    b"stages:\n  - {width: [8, 12], cells: [1, 2]}\n",
    b"name: c\nstem: {width: 8, stride: 2}\nstages:\n"
    b"  - {width: [8, 12], depth: [1, 2], kernel: [3, 5], expansion: [1, 3]}\n"
    b"  - {width: 16, depth: [1, 3], stride: 2, kernel: 3}\nhead: 32\n",
)


def architecture(data: bytes) -> None:
    """Official strings of every space, and rows that name a member in columns."""
    chosen = SPACE_LIST[(data[0] if data else 0) % len(SPACE_LIST)]
    text = _text(data[1:])
    with suppress(NasError):
        arch = chosen.from_str(text)
        assert chosen.to_str(arch) == text
        form = chosen.canonical(arch)
        assert chosen.canonical(form) == form
    cells = text.split("\n")
    chosen.from_row({name: cells[i % len(cells)] for i, name in enumerate(chosen.row_columns)})


def _row_texts(chosen: Space, arch: tuple[int, ...]) -> str:
    if chosen.name == "nasbench101":
        return '[[0, 1], [0, 0]]\n["input", "output"]'
    return chosen.to_str(arch)


def _architecture_seeds() -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    for number, chosen in enumerate(SPACE_LIST):
        arch = chosen.sample(rng)
        for text in (chosen.to_str(arch), _row_texts(chosen, arch)):
            yield bytes([number]) + text.encode()


def words(data: bytes) -> None:
    """Short texts of recipes and command lines: proxies, limits, objectives, columns."""
    text = _text(data[1:])
    quantity = list(QUANTITIES)[(data[0] if data else 0) % len(QUANTITIES)]
    parse_column(text)
    for read in (
        lambda: parse_bounds(quantity, text),
        lambda: str(parse_objective(text)),
        lambda: split_proxies([text]),
    ):
        with suppress(NasError):
            read()
    spec = ProxySpec.parse(text)
    assert ProxySpec.parse(str(spec)) == spec


def _word_seeds() -> Iterator[bytes]:
    for name, proxy in PROXIES.items():
        yield b"\0" + name.encode()
        for key, value in ProxySpec.make(name).settings.items() if proxy.asks is None else ():
            yield f"\0{name}:{key}={value}".encode()
    yield from (b"\0<= 1.0e6", b"\1>= .5", b"\0-latency_ms", b"\0meco,sed:x=1")
    yield b"\0ensemble:members={meco: 1, 'meco_opt:hooks=relu': 0.5}"


def formula(data: bytes) -> None:
    """Formulas, alone and as a file."""
    text = _text(data)
    with suppress(NasError):
        node = parse_expression(text)
        assert parse_expression(str(node)) == node
    parse_formula(text, "fuzz.yaml")


def _formula_seeds() -> Iterator[bytes]:
    yield b"sum(min_eigenvalue[relu]) - max(log_gradient[layer])"
    yield b"formula: sum(rms[relu]) * 1e-3 / (2 + mean(rms[relu]))\nsummary: x\n"


def table(data: bytes) -> None:
    """Tables of every space, packed or not; every column is then read."""
    kind = data[0] if data else 0
    chosen = SPACE_LIST[kind % len(SPACE_LIST)]
    content = data[1:]
    if kind & 64:
        content = gzip.compress(content, 1)
    made = read_table(_file("table.csv", content), chosen)
    for name in made.columns:
        with suppress(NasError):
            made.truth(name)
    for view in (made.validation_view, made.test_view):
        with suppress(NasError):
            view()


def _table_seeds() -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    for number, chosen in enumerate(SPACE_LIST):
        if chosen.row_columns == ("arch",):
            rows = [f'"{chosen.to_str(chosen.sample(rng))}",{i},{90 + i}.5,' for i in range(3)]
            text = "\n".join(["arch,index,c10_val_200,c10_test_200", *rows]) + "\n"
            yield bytes([number]) + text.encode()
            yield bytes([number | 64]) + text.encode()
    matrix, names = '"[[0, 1], [0, 0]]"', '"[""input"", ""output""]"'
    place = [each.name for each in SPACE_LIST].index("nasbench101")
    yield bytes([place]) + f"matrix,ops,x\n{matrix},{names},1\n".encode()


def nats(data: bytes) -> None:
    """Pickles of official NATS-Bench archives, and what a record is asked for."""
    path = _file("record.pickle.pbz2", data)
    chosen = SPACES["nats_tss"]
    names = [chosen.to_str(chosen.at(0))]
    archive = NatsArchive("fuzz", "tss", names, [0], lambda index: load_pickle(path))  # type: ignore[arg-type,return-value]
    for epochs in archive.epochs:
        for ask in (
            archive.costs,
            archive.train_seconds,
            archive.seeds,
            archive.test_accuracy_percent,
            archive.validation_accuracy_percent,
        ):
            for dataset in ("cifar10", "cifar10-valid", "ImageNet16-120"):
                with suppress(NasError):
                    ask(chosen.at(0), dataset=dataset, epochs=epochs)


def _nats_seeds() -> Iterator[bytes]:
    chosen = SPACES["nats_tss"]
    run = {
        "name": "cifar10", "train_acc1es": {0: 99.0}, "train_acc5es": None,
        "train_losses": {0: 1.0},
        "train_times": {0: 1.0}, "params": 0.5, "flop": 1.5, "seed": 7, "epochs": 1,
        "latency": [0.5], "eval_names": ["ori-test"], "eval_acc1es": {"ori-test@0": 90.0},
        "eval_losses": {"ori-test@0": 1.0}, "eval_times": {"ori-test@0": 1.0},
        "net_state_dict": None,
    }  # fmt: skip
    record = {
        "12": {
            "arch_index": 0, "arch_str": chosen.to_str(chosen.at(0)),
            "all_results": {("cifar10", 7): run}, "dataset_seed": {"cifar10": [7]},
            "clear_net_done": True,
        }
    }  # fmt: skip
    for protocol in (0, 2, 4):
        yield pickle.dumps(record, protocol=protocol)


def images(data: bytes) -> None:
    """Archives of images: a tar file, or one file of the folder; md5s are not compared."""
    kind, content = data[:1], data[1:]
    root = _folder() / "images"
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    tiny = replace(
        archives.ARCHIVES["cifar10"],
        train={"data_batch_1": ""},
        n_train=1,
        n_test=1,
        splits=None,
    )
    tar = root / str(tiny.tar)
    tar.unlink(missing_ok=True)
    for name in tiny.files:
        (folder / name).write_bytes(content)
    if kind == b"t":
        (folder / "data_batch_1").unlink()
        tar.write_bytes(gzip.compress(content, 1))
    with (
        mock.patch.dict(archives.ARCHIVES, cifar10=tiny),
        mock.patch.object(archives, "check_md5", return_value=None),
    ):
        archives.load_archive("cifar10", ArchiveOptions(root=str(root)))


def _image_seeds() -> Iterator[bytes]:
    one = {"data": np.zeros((1, 3072), np.uint8), "labels": [3], "label_names": ["a"] * 10}
    for protocol in (2, 4):
        batch = pickle.dumps(one, protocol=protocol)
        load_arrays(batch, "a seed")
        yield b"f" + batch
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in ("data_batch_1", "test_batch", "batches.meta", "../../outside"):
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(batch)
            tar.addfile(member, io.BytesIO(batch))
    yield b"t" + stream.getvalue()


def arrays(data: bytes) -> None:
    """Files of arrays: the parts between four zeros and ``NEXT`` are the members of a zip file."""
    names = ("images", "labels", "header", "x_train", "y_train", "x_test", "y_test", "blob")
    parts = data[1:].split(b"\0\0\0\0NEXT")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        start = data[0] % len(names) if data else 0
        for place, part in enumerate(parts[: len(names)]):
            archive.writestr(f"{names[(start + place) % len(names)]}.npy", part)
    for content in (stream.getvalue(), data):
        path = _file("arrays.npz", content)
        for read in (
            lambda: load_npz(NpzOptions(file=str(path), train=1)),  # noqa: B023 - called at once
            lambda: load_images(str(path)),  # noqa: B023
            lambda: read_container(path),  # noqa: B023
            lambda: load_checkpoint(path, "key", "cpu"),  # noqa: B023
            lambda: read_split({"file": str(path)}, 4, 4),  # noqa: B023
            lambda: LookupLatency.load(path),  # noqa: B023
        ):
            load_images.cache_clear()
            with suppress(NasError):
                read()
    load_images(str(_file("array.npy", data)))


def _array_seeds() -> Iterator[bytes]:
    def packed(array: NDArray[Any]) -> bytes:
        stream = io.BytesIO()
        np.save(stream, array)
        return stream.getvalue()

    pictures, labels = np.zeros((2, 4, 4, 3), np.uint8), np.arange(2)
    yield b"\0" + packed(pictures) + b"\0\0\0\0NEXT" + packed(labels)
    yield b"\3" + b"\0\0\0\0NEXT".join(packed(each) for each in (pictures, labels) * 2)
    header = np.frombuffer(b'{"magic": "nas predictor", "format": 2}', np.uint8)
    yield b"\2" + packed(header)
    yield b'{"train": ["int", ["0", "1"]], "valid": ["int", ["2"]]}'
    yield packed(pictures)


def score_cache(data: bytes) -> None:
    """Files that should be a score cache."""
    path = _file("scores.sqlite", data)
    for rest in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + rest).unlink(missing_ok=True)
    store = Store(path)
    try:
        len(store)
        store.get_many(["a" * 64, "b" * 64])
        store.put_many({"b" * 64: 1.5, "c" * 64: "why"})
        assert store.get_many(["c" * 64]).keys() == {"c" * 64}
    finally:
        store.close()


def _cache_seeds() -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.sqlite"
        with Store(path) as store:
            store.put_many({"a" * 64: 0.5, "d" * 64: "it failed"})
        yield path.read_bytes()


def run(data: bytes) -> None:
    """Run folders and exports: a result or configuration, a table of trials, weights."""
    result, _, rest = data.partition(b"\0\0\0\0NEXT")
    trials, _, weights = rest.partition(b"\0\0\0\0NEXT")
    folder = _folder() / "run"
    folder.mkdir(exist_ok=True)
    for name, content in {
        "result.json": result,
        "config.json": result,
        "trials.csv": trials,
        "truth.csv": trials,
        "members.csv": trials,
        "best.safetensors": weights,
        "model.safetensors": weights,
    }.items():
        (folder / name).write_bytes(content)
    with _no_imports():
        for read in (
            lambda: choose(str(folder), space=None, rank=1),
            lambda: best_of(folder, 1),
            lambda: _ask(read_run(folder)),
            lambda: read_config(folder),
            lambda: read_weights(folder / "model.safetensors"),
        ):
            with suppress(NasError):
                read()


def _ask(found: Run) -> None:
    """Ask a run for what its page is made of."""
    assert found.name is not None
    assert isinstance(found.proxy, str)
    assert len(found.best_so_far) == len(found.truth_so_far) == len(found.trials)
    assert found.space.name


def _run_seeds() -> Iterator[bytes]:
    arch = "8:8:8:8:8"
    row = {"arch": arch, "score": 1.0, "params": 5, "flops": 6, "trial": 0}
    recipe = {
        "space": "nats_sss", "seed": 0, "direction": "maximise", "proxy": {"name": "params"},
        "conditions": {"num_classes": 10, "resolution": 32},
    }  # fmt: skip
    search = {
        "name": "x", "top": [row], "n_trials": 1, "objectives": None, "recipe": recipe,
    }  # fmt: skip
    training = {
        "name": "x", "best": 0, "recipe": {"space": "nats_sss", "archs": [{"arch": arch}]},
        "data": {"name": "digits", "classes": ["a"], "shape": [3, 8, 8], "test": 4},
        "archs": [{"number": 0, "arch": arch, "accuracy": 50.0, "validation": 40.0, "best_run": 0,
                   "runs": [{"accuracy": 50.0}]}],
    }  # fmt: skip
    config = {"format": FORMAT, "space": "nats_sss", "arch": arch, "num_classes": 1, "in_chans": 3}
    trials = f"number,arch,score,best,params,flops,seconds,cached,error\n0,{arch},1.0,1,5,6,0,,\n"
    weights = safetensors.numpy.save({"w": np.zeros(2, np.float32)})
    for value in (search, training, config):
        parts = (json.dumps(value).encode(), trials.encode(), weights)
        yield b"\0\0\0\0NEXT".join(parts)


def _recipe_words() -> Iterator[str]:
    for kind in KINDS.values():
        yield from kind.model.model_fields
        for section in kind.sections.values():
            yield from section.model_fields
    yield from (*SPACES, *PROXIES, *STRATEGIES, *QUANTITIES, "&a", "*a", "<<", "!!", "{", "- ")


TARGETS: dict[str, Target] = {
    "recipe": Target(recipe, _recipe_seeds, _recipe_words),
    "space": Target(space, lambda: SPACE_SEEDS, lambda: ("cell", "stages", "width", "module")),
    "architecture": Target(architecture, _architecture_seeds),
    "words": Target(words, _word_seeds, lambda: (*PROXIES, *QUANTITIES)),
    "formula": Target(formula, _formula_seeds, lambda: ("sum", "rms", "relu", "formula")),
    "table": Target(table, _table_seeds, lambda: ("arch", "matrix", "ops", "c10_test_200")),
    "nats": Target(nats, _nats_seeds, lambda: ("all_results", "dataset_seed", "cifar10")),
    "images": Target(images, _image_seeds, lambda: ("data", "labels", "label_names")),
    "arrays": Target(arrays, _array_seeds, lambda: ("descr", "fortran_order", "shape")),
    "run": Target(run, _run_seeds, lambda: ("top", "recipe", "archs", "best", "NaN", "null")),
    "score_cache": Target(score_cache, _cache_seeds, lambda: ("scores", "key", "value")),
}


def survives(target: Target, data: bytes) -> None:
    """Hand bytes to a target; whatever it raises beside a NasError is raised."""
    with suppress(NasError):
        target.run(data)
