"""Folders of pictures, and Datasets by import path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from nas.training import images as module
from nas.training.data import load_data
from nas.training.images import DataError
from nas.training.pictures import decoded
from spaces.errors import NasError
from tests.nas.training.sources import TinyDataset, TinyTest, pictures, random_images


def test_classes_and_pictures_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, shade in (("train/b/2.png", 3), ("train/b/1.png", 2), ("train/a/9.png", 1),
                        ("test/b/1.png", 4)):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (shade, shade, shade)).save(tmp_path / name)
    (tmp_path / "train/b/.hidden").write_text("passed over")
    data = load_data("folder", {"root": str(tmp_path), "resolution": 8})
    assert data.classes == ("a", "b")
    assert data.train.images[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert data.train.labels.tolist() == [0, 1, 1]
    assert (data.test.images[:, 0, 0, 0].tolist(), data.test.labels.tolist()) == ([4], [1])


def test_the_middle_square_is_taken_and_shrunk(tmp_path: Path) -> None:
    # 48 x 16: red, green, blue; the middle square is green
    wide = np.zeros((16, 48, 3), np.uint8)
    for third in range(3):
        wide[:, 16 * third : 16 * (third + 1), third] = 200
    Image.fromarray(wide).save(tmp_path / "a.png")
    square = decoded(tmp_path / "a.png", "a.png", 8)
    assert square.shape == (8, 8, 3)
    assert (square[:, 1:-1] == (0, 200, 0)).all()
    # the filter, two pixels of the original to each side, reaches over the border
    assert (square[:, [0, -1], 1] > 150).all()


def test_pictures_are_brought_to_one_size(tmp_path: Path) -> None:
    options = pictures(tmp_path)
    Image.fromarray(random_images(1, size=64)[0, :50]).save(tmp_path / "train/class_0/zz.png")
    assert load_data("folder", options).shape == (3, 16, 16)
    assert load_data("folder", options | {"resolution": 32}).shape == (3, 32, 32)


def test_the_folders_may_have_other_names(tmp_path: Path) -> None:
    options = pictures(tmp_path)
    (tmp_path / "test").rename(tmp_path / "val")
    assert len(load_data("folder", options | {"test": "val"}).test) == 12


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    options = pictures(tmp_path)
    odd = tmp_path / "train/class_1/notes.txt"
    odd.write_text("not a picture")
    with pytest.raises(DataError, match=r"notes\.txt: expected a picture; allowed endings: \.png"):
        load_data("folder", options)
    odd.rename(tmp_path / "train/class_1/notes.png")
    with pytest.raises(DataError, match=r"notes\.png: not a readable picture"):
        load_data("folder", options)
    (tmp_path / "train/class_1/notes.png").unlink()
    (tmp_path / "test/class_9").mkdir()
    with pytest.raises(DataError, match=r"'class_9' is no class of .*: class_0, class_1, class_2"):
        load_data("folder", options)
    with pytest.raises(DataError, match=r"expected a folder of pictures per class"):
        load_data("folder", {"root": str(tmp_path / "train"), "train": "class_0"})
    with pytest.raises(DataError, match=r"nothing: cannot read the folder: No such file"):
        load_data("folder", options | {"train": "nothing"})


def test_a_truncated_picture_is_refused(tmp_path: Path) -> None:
    options = pictures(tmp_path)
    file = tmp_path / "train/class_0/00.png"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"00\.png: not a readable picture"):
        load_data("folder", options)


def test_more_than_memory_takes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = pictures(tmp_path)
    monkeypatch.setattr(module, "MOST_BYTES", 12 * 3 * 16 * 16 - 1)
    with pytest.raises(DataError, match=r"train: 12 images of 16x16 take .* GiB; .* at most"):
        load_data("folder", options)
    assert len(load_data("folder", options | {"limit": 3}).train) == 9
    names = {"train": "tests.nas.training.sources:TinyDataset", "test": "builtins:list"}
    monkeypatch.setattr(module, "MOST_BYTES", 12 * 3 * 12 * 12 - 1)
    with pytest.raises(DataError, match=r"train: .*: 12 images of 12x12 take"):
        load_data("dataset", names)


def test_a_dataset_is_read_as_it_is() -> None:
    data = load_data("dataset", {
        "train": "tests.nas.training.sources:TinyDataset",
        "test": "tests.nas.training.sources:TinyTest",
    })  # fmt: skip
    for part, dataset in ((data.train, TinyDataset()), (data.test, TinyTest())):
        for place in range(12):
            image, label = dataset[place]
            assert np.array_equal(part.images[place].permute(1, 2, 0).numpy(), np.asarray(image))
            assert int(part.labels[place]) == label


IMAGES = torch.from_numpy(random_images(4).transpose(0, 3, 1, 2).copy())
LABELS = torch.tensor([0, 1, 0, 1])


def whole() -> TensorDataset:
    return TensorDataset(IMAGES, LABELS)


def floats() -> TensorDataset:
    return TensorDataset(IMAGES / 255, LABELS)


def normalised() -> TensorDataset:
    return TensorDataset((IMAGES / 255 - 0.5) / 0.2, LABELS)


def stream() -> object:
    return iter([(IMAGES[0], 0)])


def triples() -> TensorDataset:
    return TensorDataset(IMAGES, LABELS, LABELS)


def soft() -> TensorDataset:
    return TensorDataset(IMAGES, LABELS.float())


def several() -> list[tuple[torch.Tensor, int]]:
    return [(IMAGES[0], 0), (IMAGES[1, :, :8], 1)]


def needs(path: str) -> str:
    return path


def empty() -> list[Any]:
    return []


def named(**names: str) -> dict[str, str]:
    return {part: f"{__name__}:{name}" for part, name in names.items()}


def test_floats_from_0_to_1_are_the_same_as_bytes() -> None:
    first = load_data("dataset", named(train="whole", test="floats"))
    assert torch.equal(first.train.images, IMAGES)
    assert torch.equal(first.test.images, IMAGES)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("normalised", "item 0: a float image has to be .* normalising is done here"),
        ("stream", "expected a Dataset with a length and items"),
        ("triples", r"item 0: expected \(image, label\), got tuple"),
        ("soft", "item 0: expected a class number of 0 or more as label, got 0.0"),
        ("several", "item 1: images must be of one shape"),
        ("empty", "it holds no image"),
    ],
)
def test_a_dataset_of_another_kind_is_refused(name: str, message: str) -> None:
    with pytest.raises(DataError, match=f"^train: .*:{name}: .*{message}"):
        load_data("dataset", named(train=name, test="whole"))


def test_an_import_path_that_leads_nowhere_is_an_error() -> None:
    with pytest.raises(NasError, match=r"train: cannot import 'no_such_module'"):
        load_data("dataset", {"train": "no_such_module:x", "test": "x:y"})
    with pytest.raises(NasError, match=r"test: .*has no 'whol'. Did you mean 'whole'"):
        load_data("dataset", named(train="whole", test="whol"))
    with pytest.raises(NasError, match=r"train: .* is called without arguments"):
        load_data("dataset", named(train="needs", test="whole"))
