"""NATS-Bench's splits: those made here, and those read from its files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.training.data import load_data
from nas.training.images import TEST, TRAIN, VALIDATION, DataError
from nas.training.splits import cifar10_splits, read_split, split
from tests.nas.training.sources import SOURCES


def official_text(first: tuple[str, list[int]], second: tuple[str, list[int]]) -> str:
    """Return a split file as the benchmark's own are written, to the blank."""

    def line(name: str, places: list[int]) -> str:
        listed = ", ".join(f'"{place}"' for place in places)
        return f'  "{name}"{" " * (19 - len(name))}: ["int"   , [{listed}]]'

    return "{\n" + line(*first) + ",\n" + line(*second) + "\n}"


def halves() -> tuple[list[int], list[int]]:
    train = cifar10_splits()["nats_valid"].train
    return np.flatnonzero(train == TRAIN).tolist(), np.flatnonzero(train == VALIDATION).tolist()


def test_cifar10_is_halved_as_in_the_benchmark() -> None:
    first, second = halves()
    assert (len(first), len(second)) == (25_000, 25_000)
    # places that exps/NATS-Bench/main-tss.py of AutoDL-Projects asserts
    assert (first[0], first[10], first[111]) == (0, 26, 203)
    assert (second[0], second[10], second[111]) == (1, 18, 242)
    # read off configs/nas-benchmark/cifar-split.txt there: the end of both lists
    assert first[-12:] == [49974, 49977, 49980, 49981, 49983, 49984, 49987, 49988, 49989, 49990,
                           49992, 49994]  # fmt: skip
    assert second[-12:] == [49976, 49978, 49979, 49982, 49985, 49986, 49991, 49993, 49995, 49996,
                            49997, 49998, 49999][-12:]  # fmt: skip


def test_cifar10s_halves_make_the_published_file() -> None:
    """To the character: 438,970 of them, and pages of it compared where they begin."""
    first, second = halves()
    text = official_text(("train", first), ("valid", second))
    assert len(text) == 438_970
    assert text[204_000:].startswith('02", "46504", "46506", "46509", "46513", "46514"')
    assert text[423_970:].startswith('3", "46725", "46726", "46729", "46734", "46735"')
    assert text[:220_000].endswith('"145", "146", "149", "150", "153", "154", "15')
    # of the text above, so that no Python to come can shuffle in another order unnoticed
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "986da6174822048d4c5a25ee8ebdb7e754cd5372b51c633ffd4898ace8db9e32"


def test_the_test_images_of_cifar10_are_never_chosen_by() -> None:
    for each in cifar10_splits().values():
        assert len(each.test) == 10_000
        assert (each.test == TEST).all()
    assert (cifar10_splits()["nats_test"].train == TRAIN).all()


def test_a_file_that_halves_the_training_images(tmp_path: Path) -> None:
    file = tmp_path / "split.txt"
    file.write_text(official_text(("train", [0, 3]), ("valid", [1])))
    read = read_split({"file": str(file)}, 5, 2)
    assert read.train.tolist() == [0, 1, 3, 0, 3]
    assert read.test.tolist() == [2, 2]


def test_a_file_that_halves_the_test_images(tmp_path: Path) -> None:
    file = tmp_path / "split.txt"
    file.write_text(official_text(("xvalid", [1, 2]), ("xtest", [0, 3])))
    read = read_split({"file": str(file)}, 3, 4)
    assert read.train.tolist() == [0, 0, 0]
    assert read.test.tolist() == [2, 1, 1, 2]


def test_the_file_of_cifar10_gives_the_split_made_here(tmp_path: Path) -> None:
    first, second = halves()
    file = tmp_path / "cifar-split.txt"
    file.write_text(official_text(("train", first), ("valid", second)))
    read = read_split({"file": str(file)}, 50_000, 10_000)
    made = cifar10_splits()["nats_valid"]
    assert np.array_equal(read.train, made.train)
    assert np.array_equal(read.test, made.test)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a split file of NATS-Bench"),
        ("__import__('os').system('true')", "not a split file of NATS-Bench"),
        ("[1, 2]", "expected the lists 'train' and 'valid', or 'xvalid' and 'xtest'"),
        ('{"train": ["int", []]}', "expected the lists 'train' and 'valid'"),
        ('{"train": ["int", ["1"]], "xtest": ["int", ["2"]]}', "expected the lists"),
        ('{"train": ["1"], "valid": ["int", ["2"]]}', r'train: expected \["int", \[places\]\]'),
        ('{"train": ["str", ["1"]], "valid": ["int", ["2"]]}', r"train: expected"),
        ('{"train": ["int", [1]], "valid": ["int", ["2"]]}', "train: expected places as texts"),
        ('{"train": ["int", ["-1"]], "valid": ["int", ["2"]]}', "train: expected places as texts"),
        ('{"train": ["int", ["1"]], "valid": ["int", ["1"]]}', "valid: an image is named twice"),
        ('{"train": ["int", ["1", "1"]], "valid": ["int", []]}', "train: an image is named twice"),
        ('{"train": ["int", ["5"]], "valid": ["int", ["1"]]}', "train: it names image 5, .* are 5"),
        ('{"train": ["int", []], "valid": ["int", ["1"]]}', "leaves no image to train on"),
        ("[" * 100_000, "not a split file of NATS-Bench"),
    ],
)
def test_what_is_no_split_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "split.txt"
    file.write_text(text)
    with pytest.raises(DataError, match=f"^split: .*{message}"):
        read_split({"file": str(file)}, 5, 5)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: not a split file .*: No such file"):
        read_split({"file": str(tmp_path / "none.txt")}, 5, 5)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"bytes: not a split file"):
        read_split({"file": str(tmp_path / "bytes")}, 5, 5)
    with pytest.raises(DataError, match=r"split: expected a mapping with the key 'file'"):
        read_split({"path": json.dumps("x")}, 5, 5)


@pytest.mark.parametrize("name", ["cifar100", "imagenet16_120"])
@pytest.mark.parametrize("how", ["nats_test", "nats_valid"])
def test_what_was_published_as_a_file_says_which(
    tmp_path: Path, tiny_archives: None, name: str, how: str
) -> None:
    data = load_data(name, SOURCES[name](tmp_path))
    file = {"cifar100": "cifar100-test-split.txt"}.get(name, "imagenet-16-120-test-split.txt")
    with pytest.raises(DataError, match=rf"^split: '{how}' of {name} .*: fetch {file} from https:"):
        split(data, how)
    halves_of_test = list(range(0, len(data.test), 2)), list(range(1, len(data.test), 2))
    (tmp_path / file).write_text(
        official_text(("xvalid", halves_of_test[0]), ("xtest", halves_of_test[1]))
    )
    parts = split(data, {"file": str(tmp_path / file)})
    assert len(parts.train) == len(data.train)
    assert parts.validation is not None
    assert torch.equal(parts.validation.images, data.test.images[::2])
    assert torch.equal(parts.test.labels, data.test.labels[1::2])
