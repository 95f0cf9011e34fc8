"""Images that are decoded one by one: a folder of pictures, and a torch ``Dataset``.

Letters: N images, C channels, H W size.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nas.own import own_object
from nas.reading import expanded
from nas.training.images import (
    ROOT,
    Bytes,
    DataError,
    Found,
    ImageData,
    Raw,
    at_least,
    check_memory,
    image_data,
    three_channels,
)

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".gif", ".tif", ".tiff")

T = TypeVar("T")


@dataclass(frozen=True)
class FolderOptions:
    """Settings of ``folder``.

    Attributes:
        root: Folder with ``TRAIN/CLASS/PICTURE`` and ``TEST/CLASS/PICTURE``.
        resolution: Height and width that pictures are brought to, pixels: the largest square in
            the middle, made smaller or larger.
        train: Name of the folder of training images.
        test: Name of the folder of test images.
        limit: At most so many images of a class, the first ones by name, in each of both.
    """

    root: str = ROOT
    resolution: int = 32
    train: str = "train"
    test: str = "test"
    limit: int | None = None

    def __post_init__(self) -> None:
        at_least("resolution", self.resolution, 8)
        at_least("limit", self.limit, 1)


@dataclass(frozen=True)
class DatasetOptions:
    """Settings of ``dataset``.

    Attributes:
        train: ``package.module:callable`` that returns a ``torch.utils.data.Dataset``, or is one,
            of ``(image, label)``. An image is a picture of Pillow, uint8 ``(H, W)``, ``(H, W, C)``
            or ``(C, H, W)``, or a float tensor ``(C, H, W)`` from 0 to 1, as ``ToTensor`` makes it.
        test: The same for the test images.
        limit: At most so many images of a class, the first ones, in each of train and test.
    """

    train: str
    test: str
    limit: int | None = None

    def __post_init__(self) -> None:
        at_least("limit", self.limit, 1)


def decoded(content: bytes | Path, where: str, resolution: int | None = None) -> Bytes:
    """Return a picture as ``(H, W, 3)``.

    Args:
        content: The bytes of a file, or where it lies.
        where: The same for messages.
        resolution: Height and width to bring it to; None to leave it as it is.

    Raises:
        DataError: It is no picture, or is cut off.
    """
    from PIL import Image  # comes with matplotlib

    source = io.BytesIO(content) if isinstance(content, bytes) else content
    try:
        with Image.open(source) as picture:
            return np.asarray(_fitted(picture.convert("RGB"), resolution))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{where}: not a readable picture: {error}") from None


def _fitted(picture: Image, resolution: int | None) -> Image:
    if resolution is None or picture.size == (resolution, resolution):
        return picture
    from PIL import Image, ImageOps

    return ImageOps.fit(picture, (resolution, resolution), Image.Resampling.BILINEAR)


def in_threads(function: Callable[[T], Bytes], items: Iterable[T]) -> list[Bytes]:
    """Return what a function makes of each item; Pillow decodes without Python's lock."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(function, items))


def stacked(pictures: Sequence[Bytes], where: str) -> Bytes:
    """Return pictures ``(H, W, 3)`` of one size as ``(N, 3, H, W)``."""
    shapes = {picture.shape for picture in pictures}
    if len(shapes) != 1:
        raise DataError(f"{where}: pictures must be of one size, got {sorted(shapes)}")
    return np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2))


def load_folder(options: FolderOptions) -> ImageData:
    """Read pictures as :class:`~nas.training.data.FolderOptions` describes them.

    Classes are the folders of the training images, in the order of their names, and so are the
    pictures of a class. Hidden files are passed over.

    Raises:
        DataError: A folder is missing or empty, a file is no picture, or a class of the test
            images has no training image.
    """
    root = expanded(options.root)
    names = [path.name for path in _entries(root / options.train) if path.is_dir()]
    if not names:
        raise DataError(f"{root / options.train}: expected a folder of pictures per class")
    strangers = [path.name for path in _entries(root / options.test) if path.name not in names]
    if strangers:
        raise DataError(
            f"{root / options.test}: {strangers[0]!r} is no class of {root / options.train}: "
            f"{', '.join(names)}"
        )
    parts = []
    for part in (options.train, options.test):
        files, labels = _files(root / part, names, options.limit)
        check_memory(str(root / part), len(files), options.resolution)
        pictures = in_threads(lambda path: decoded(path, str(path), options.resolution), files)
        if not pictures:
            raise DataError(f"{root / part}: it holds no picture")
        parts.append(Raw(stacked(pictures, str(root / part)), np.asarray(labels, np.int64)))
    return image_data(Found("folder", str(root), parts[0], parts[1], tuple(names)))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot read the folder: {error.strerror}") from None


def _files(folder: Path, names: Sequence[str], limit: int | None) -> tuple[list[Path], list[int]]:
    """Return pictures and their classes."""
    files, labels = [], []
    for label, name in enumerate(names):
        inside = _entries(folder / name) if (folder / name).is_dir() else []
        odd = [path for path in inside if path.suffix.lower() not in ENDINGS]
        if odd:
            raise DataError(f"{odd[0]}: expected a picture; allowed endings: {', '.join(ENDINGS)}")
        files += inside[:limit]
        labels += [label] * len(inside[:limit])
    return files, labels


def load_dataset(options: DatasetOptions) -> ImageData:
    """Read Datasets as :class:`~nas.training.data.DatasetOptions` describes them.

    Each is read once, from the first image to the last, and held in memory as uint8; so what the
    Dataset does to an image at random is done once, not every epoch.

    Raises:
        DataError: An image or label of another kind, images of several sizes, or too many.
        NasError: An import path leads nowhere.
    """
    parts = [
        _read(own_object(text, name, seed=0), f"{name}: {text}", options.limit)
        for name, text in (("train", options.train), ("test", options.test))
    ]
    return image_data(Found("dataset", options.train, parts[0], parts[1]), options.limit)


def _read(dataset: Any, where: str, limit: int | None) -> Raw:  # noqa: ANN401 - the user's own
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise DataError(
            f"{where}: expected a Dataset with a length and items (map-style), got "
            f"{type(dataset).__name__}"
        )
    images: list[Bytes] = []
    labels: list[int] = []
    seen: dict[int, int] = {}
    for place in range(len(dataset)):
        item = dataset[place]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise DataError(f"{where}: item {place}: expected (image, label), got {_kind(item)}")
        label = _label(item[1], f"{where}: item {place}")
        seen[label] = seen.get(label, 0) + 1
        if limit is not None and seen[label] > limit:
            continue
        image = _image(item[0], f"{where}: item {place}")
        if not images:
            known = len(dataset) if limit is None else min(len(dataset), 1000 * limit)
            check_memory(where, known, max(image.shape[1:]))
        elif image.shape != images[0].shape:
            raise DataError(
                f"{where}: item {place}: images must be of one shape, got {image.shape} after "
                f"{images[0].shape}; resize them in the Dataset"
            )
        images.append(image)
        labels.append(label)
    if not images:
        raise DataError(f"{where}: it holds no image")
    return Raw(np.stack(images), np.asarray(labels, dtype=np.int64))


def _kind(value: object) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ + (f" of shape {tuple(shape)}" if shape is not None else "")


def _label(value: Any, where: str) -> int:  # noqa: ANN401 - an int, or an array or tensor of one
    if getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DataError(f"{where}: expected a class number of 0 or more as label, got {value!r}")
    return value


def _image(value: Any, where: str) -> Bytes:  # noqa: ANN401 - a picture, an array or a tensor
    """Return an image ``(3, H, W)``."""
    from PIL import Image

    if isinstance(value, Image.Image):
        picture: Bytes = np.asarray(value.convert("RGB"))
        return picture.transpose(2, 0, 1)
    array = np.asarray(value)
    if array.dtype.kind == "f":
        if array.ndim != 3 or not (array.min() >= 0 and array.max() <= 1):
            raise DataError(
                f"{where}: a float image has to be (C, H, W) from 0 to 1, got {array.shape} from "
                f"{array.min():.3g} to {array.max():.3g}; normalising is done here, so leave it "
                "out of the Dataset"
            )
        array = np.rint(array * 255).astype(np.uint8)
    image: Bytes = three_channels(array[None], where)[0]
    return image
