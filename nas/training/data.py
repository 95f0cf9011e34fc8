"""The table of data sets: where labelled images come from.

Each has a name, a frozen dataclass of options and a function that reads them into an
:class:`~nas.training.images.ImageData`, which :func:`nas.training.splits.split` then parts. Nothing
here loads torch before images are read, and nothing is ever downloaded
(:mod:`nas.training.fetch` does that when asked).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from nas.training.archives import ArchiveOptions, load_archive
from nas.training.arrays import DigitsOptions, NpzOptions, load_digits, load_npz
from nas.training.images import (
    DataError,
    ImageData,
)
from nas.training.pictures import DatasetOptions, FolderOptions, load_dataset, load_folder
from spaces.errors import look_up

Options = TypeVar("Options")


@dataclass(frozen=True)
class DataSource(Generic[Options]):
    """One way to get labelled images.

    Attributes:
        name: Key in the table.
        summary: One line for a person.
        options: Frozen dataclass of its settings.
        load: Reads the images.
    """

    name: str
    summary: str
    options: type[Options]
    load: Callable[[Options], ImageData]


_ARCHIVES = {
    "cifar10": "60,000 images of 32x32 in 10 classes",
    "cifar100": "60,000 images of 32x32 in 100 classes",
    "imagenet16_120": "157,700 images of 16x16, the first 120 classes of ImageNet",
}
_SOURCES: tuple[DataSource[Any], ...] = (
    DataSource("digits", "1,797 digits of 8x8, from scikit-learn", DigitsOptions, load_digits),
    *(
        DataSource(name, summary, ArchiveOptions, partial(load_archive, name))
        for name, summary in _ARCHIVES.items()
    ),
    DataSource("folder", "pictures in train/CLASS and test/CLASS", FolderOptions, load_folder),
    DataSource("npz", "arrays or packed pictures in an .npz file", NpzOptions, load_npz),
    DataSource("dataset", "a torch Dataset of yours, by import path", DatasetOptions, load_dataset),
)
DATA = {source.name: source for source in _SOURCES}


def load_data(name: str, options: Mapping[str, Any] | None = None) -> ImageData:
    """Read a data set.

    Args:
        name: Key of :data:`DATA`.
        options: Settings of that source; those left out are at their defaults.

    Raises:
        DataError: It is not there, or not what it should be; the text names the file.
        UnknownName: There is no such source.
    """
    source = look_up(DATA, name, kind="data set")
    try:
        chosen = source.options(**(options or {}))
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: {error}") from None
    return source.load(chosen)


# ---------------------------------------------------------------------- for those who read files
