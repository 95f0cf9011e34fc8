"""The official archives: tiny ones in the same format, and every way in which one can be wrong."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.training import archives
from nas.training.archives import ARCHIVES, Archive, find, places
from nas.training.data import load_data
from nas.training.images import Bytes, DataError, ImageData
from tests.nas.training import official

CIFAR = ("cifar10", "cifar100")


def load(
    monkeypatch: pytest.MonkeyPatch, root: Path, archive: Archive, limit: int | None = None
) -> ImageData:
    """Read what lies in ``root``, taking ``archive`` for the published record."""
    monkeypatch.setitem(archives.ARCHIVES, archive.name, archive)
    return load_data(archive.name, {"root": str(root), "limit": limit})


def trusted(
    files: Mapping[str, bytes], names: Mapping[str, str], key: str
) -> tuple[Bytes, list[int]]:
    """Return images and labels as Python's own unpickler reads them."""
    entries = [pickle.loads(files[name], encoding="bytes") for name in names]  # noqa: S301 - ours
    return (
        np.concatenate([entry[b"data"] for entry in entries]),
        [label for entry in entries for label in entry[key.encode()]],
    )


@pytest.mark.parametrize("name", CIFAR)
@pytest.mark.parametrize("form", ["tar", "folder"])
def test_images_and_labels_come_through_exactly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, form: str
) -> None:
    archive, files, tar = official.tiny(name)
    assert archive.tar is not None
    if form == "tar":
        (tmp_path / archive.tar).write_bytes(tar)
    else:
        official.unpacked(tmp_path / archive.folder, files)
    data = load(monkeypatch, tmp_path, archive)
    for part, listed in ((data.train, archive.train), (data.test, archive.test)):
        images, labels = trusted(files, listed, archive.label_key)
        assert np.array_equal(part.images.flatten(1).numpy(), images)
        assert part.labels.tolist() == labels
    assert data.classes == tuple(f"class {i}" for i in range(len(data.classes)))


def test_a_row_is_red_then_green_then_blue_line_by_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # https://www.cs.toronto.edu/~kriz/cifar.html: "The first 1024 entries contain the red channel
    # values ... the first 32 entries are the red channel values of the first row"
    archive, files, _ = official.tiny("cifar10")
    row = (np.arange(3072) // 1024 * 80 + np.arange(3072) % 1024 // 32).astype(np.uint8)
    (name,) = archive.test
    data = official.array(np.stack([row] * 20))
    files[name] = official.entry({"data": data, "labels": official.numbers([0] * 20)})
    official.unpacked(tmp_path, files)
    image = load(monkeypatch, tmp_path, official.registered(archive, files)).test.images[0]
    for channel in range(3):
        for line in range(32):
            assert bool((image[channel, line] == 80 * channel + line).all())


def test_imagenet_keeps_the_first_120_classes_counted_from_0(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive, files, _ = official.tiny("imagenet16_120")
    official.unpacked(tmp_path / "ImageNet16", files)
    data = load(monkeypatch, tmp_path, archive)
    images, labels = trusted(files, archive.train, "labels")
    kept = [place for place, label in enumerate(labels) if label <= 120]
    assert len(kept) == len(labels) - 10
    assert data.train.labels.tolist() == [labels[place] - 1 for place in kept]
    assert np.array_equal(data.train.images.flatten(1).numpy(), images[kept])
    assert len(data.classes) == 120


@pytest.mark.parametrize("name", list(ARCHIVES))
def test_every_usual_place_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    archive, files, tar = official.tiny(name)
    prints = set()
    for number, place in enumerate(places(archive, "here")):
        root = tmp_path / str(number)
        lies = root / place.relative_to("here")
        if place.name == archive.tar:
            lies.parent.mkdir(parents=True)
            lies.write_bytes(tar)
        else:
            official.unpacked(lies, files)
        assert find(archive, str(root)) == lies
        prints.add(load(monkeypatch, root, archive).fingerprint)
    assert len(prints) == 1


def test_what_lies_above_is_not_looked_for(tmp_path: Path) -> None:
    archive, files, _ = official.tiny("cifar10")
    official.unpacked(tmp_path / archive.folder, files)
    (tmp_path / "below").mkdir()
    assert find(archive, str(tmp_path / "below")) is None


def test_an_incomplete_folder_gives_way_to_a_tar_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive, files, tar = official.tiny("cifar10")
    folder = official.unpacked(tmp_path / archive.folder, files)
    (folder / "data_batch_3").unlink()
    with pytest.raises(DataError, match=r"not found in .* lacks data_batch_3\)\. Fetch it with"):
        load(monkeypatch, tmp_path, archive)
    assert archive.tar is not None
    (tmp_path / archive.tar).write_bytes(tar)
    assert len(load(monkeypatch, tmp_path, archive).train) == 100


@pytest.mark.parametrize("name", list(ARCHIVES))
def test_one_message_says_what_to_fetch_and_where_to_put_it(name: str, tmp_path: Path) -> None:
    archive = ARCHIVES[name]
    with pytest.raises(DataError) as info:
        load_data(name, {"root": str(tmp_path)})
    told = str(info.value)
    assert f"nas data {name} --root {tmp_path}" in told
    if archive.tar is None:
        for word in ("train_data_batch_1", "val_data", str(tmp_path / archive.folder)):
            assert word in told
    else:
        for word in (archive.tar, archive.tar_md5, archive.urls[0], archive.folder):
            assert word in told
        assert "throttled since June 2026" in told
        assert "NAS_DATA_URL" in told


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_tar_file_that_is_cut_off_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, share: float
) -> None:
    archive, _, tar = official.tiny("cifar10")
    assert archive.tar is not None
    cut = tar[: int(share * len(tar))]
    (tmp_path / archive.tar).write_bytes(cut)
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: not the published file: its"):
        load(monkeypatch, tmp_path, archive)
    # and even if that were the published md5
    with pytest.raises(DataError, match=r"tar\.gz: (not a readable|.*no such member)"):
        load(monkeypatch, tmp_path, replace(archive, tar_md5=official.md5(cut)))


def test_a_changed_member_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    archive, files, _ = official.tiny("cifar10")
    files["data_batch_2"] = files["data_batch_1"]
    tar = official.packed(archive, files)
    assert archive.tar is not None
    (tmp_path / archive.tar).write_bytes(tar)
    with pytest.raises(DataError, match=r"tar\.gz: cifar-10-batches-py/data_batch_2: not the publ"):
        load(monkeypatch, tmp_path, replace(archive, tar_md5=official.md5(tar)))
    folder = official.unpacked(tmp_path / "unpacked" / archive.folder, files)
    with pytest.raises(DataError, match=f"^{folder / 'data_batch_2'}: not the published file"):
        load(monkeypatch, tmp_path / "unpacked", archive)


def test_a_tar_file_writes_nothing_wherever_its_members_point(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive, files, _ = official.tiny("cifar10")
    evil = {
        "../escaped": b"x",
        str(tmp_path / "absolute"): b"x",
        f"{archive.folder}/../../up": b"x",
        "data_batch_1": b"not in its folder",
        f"other/{archive.folder}/data_batch_1": b"in another folder",
    }
    tar = official.packed(archive, files, evil)
    assert archive.tar is not None
    root = tmp_path / "root"
    root.mkdir()
    (root / archive.tar).write_bytes(tar)
    data = load(monkeypatch, root, replace(archive, tar_md5=official.md5(tar)))
    assert len(data.train) == 100
    assert [path.name for path in tmp_path.rglob("*")] == ["root", archive.tar]


class Calls:
    """Unpickles into a call."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, (self.text,)


@pytest.mark.parametrize("form", ["tar", "folder"])
def test_a_hostile_pickle_runs_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str
) -> None:
    archive, files, _ = official.tiny("cifar10")
    marker = tmp_path / "was_here"
    files["data_batch_4"] = pickle.dumps({"data": Calls(f"touch {marker}")}, protocol=2)
    tar = official.packed(archive, files)
    known = official.registered(archive, files, tar)
    assert known.tar is not None
    if form == "tar":
        (tmp_path / known.tar).write_bytes(tar)
    else:
        official.unpacked(tmp_path / known.folder, files)
    with pytest.raises(DataError, match=r"data_batch_4: refused the global '(posix|nt)\.system'"):
        load(monkeypatch, tmp_path, known)
    assert not marker.exists()
    pickle.loads(files["data_batch_4"])  # noqa: S301 - it is a real attack, and harmless
    assert marker.exists()


IMAGES = np.zeros((20, 3072), np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels": official.numbers([0] * 20)}, "data: expected uint8 .*3072.*, got NoneType"),
        (
            {"data": official.array(IMAGES[:, :3071]), "labels": official.numbers([0] * 20)},
            r"data: expected uint8 of shape \(N, 3072\), got uint8 \(20, 3071\)",
        ),
        ({"data": official.array(IMAGES)}, "labels: expected a list of 20 whole numbers"),
        (
            {"data": official.array(IMAGES), "labels": official.numbers([0] * 19)},
            "labels: expected a list of 20 whole numbers",
        ),
        (
            {"data": official.array(IMAGES), "labels": official.names(["a"] * 20)},
            "labels: expected a list of 20 whole numbers",
        ),
        (
            {"data": official.array(IMAGES[:5]), "labels": official.numbers([0] * 5)},
            "expected 100 images, got 85",
        ),
        (
            {"data": official.array(IMAGES), "labels": official.numbers([10] * 20)},
            "labels must be 0 to 9, got 0 to 10",
        ),
    ],
)
def test_a_file_of_another_content_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: dict[str, bytes], message: str
) -> None:
    archive, files, _ = official.tiny("cifar10")
    files["data_batch_5"] = official.entry(content)
    official.unpacked(tmp_path, files)
    with pytest.raises(DataError, match=message) as info:
        load(monkeypatch, tmp_path, official.registered(archive, files))
    assert "cifar10" in str(info.value) or str(tmp_path) in str(info.value)


@pytest.mark.parametrize("content", [b"", b"nonsense", official.numbers([1]) + b"."])
def test_what_is_no_dict_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    archive, files, _ = official.tiny("cifar100")
    files["meta"] = content
    official.unpacked(tmp_path, files)
    with pytest.raises(DataError, match=r"cifar100: meta: (not a readable pickle|expected a dict)"):
        load(monkeypatch, tmp_path, official.registered(archive, files))
    files["meta"] = official.entry({"other": official.names(["a"])})
    official.unpacked(tmp_path, files)
    with pytest.raises(DataError, match=r"meta: fine_label_names: expected a list of names"):
        load(monkeypatch, tmp_path, official.registered(archive, files))


def test_means_are_those_of_the_benchmark() -> None:
    # https://github.com/D-X-Y/AutoDL-Projects, xautodl/datasets/get_dataset_with_transform.py
    assert ARCHIVES["cifar10"].mean_255 == (125.3, 123.0, 113.9)
    assert ARCHIVES["imagenet16_120"].std_255 == (63.22, 61.26, 65.09)


def test_statistics_do_not_hang_on_a_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    archive, files, _ = official.tiny("cifar10")
    official.unpacked(tmp_path, files)
    whole = load(monkeypatch, tmp_path, archive)
    cut = load(monkeypatch, tmp_path, archive, limit=1)
    assert len(cut.train) == 10
    assert (cut.mean, cut.std) == (whole.mean, whole.std)
    assert cut.mean[0] == pytest.approx(125.3 / 255)
    assert torch.equal(cut.train.images[0], whole.train.images[0])
