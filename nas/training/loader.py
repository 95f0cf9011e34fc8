"""Batches of images that lie on the device, in an order and augmentation of (seed, epoch) alone.

A job that is killed needs no state of its loader: epoch n of a loader made again is epoch n.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nas.seeds import torch_generator
from nas.training.augment import Augment, Draws
from nas.training.images import DataError, Labelled


class Loader:
    """Hands out batches of augmented images with their labels.

    All images stay on the device as uint8. Order and augmentation are drawn on the CPU for a whole
    epoch, so they are the same on every device, and moved once.

    With ``shard=(rank, world)`` it hands out one process's part of every batch: images ``rank``,
    ``rank + world``, ... of it. All parts together are the batch of a single process.
    """

    def __init__(
        self,
        labelled: Labelled,
        batch: int,
        augment: Augment,
        *,
        seed: int,
        device: str | torch.device = "cpu",
        shuffle: bool = True,
        drop_last: bool = False,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Move the images to the device.

        Args:
            labelled: Images and labels.
            batch: Images of a batch, of all processes together.
            augment: What is done to them.
            seed: Of the training; order and augmentation follow from it and the epoch.
            device: Where the images are kept and handed out.
            shuffle: Whether they come in an order drawn anew each epoch, or as they lie.
            drop_last: Whether a last batch that is not full is left out.
            shard: Number of this process, from 0, and of all processes.

        Raises:
            DataError: A batch would leave a process without an image, or there is no batch.
        """
        rank, world = shard
        if batch < 1 or not 0 <= rank < world:
            raise DataError(f"batch must be at least 1 and rank below world, got {batch}, {shard}")
        last = batch if drop_last else len(labelled) % batch or batch
        if min(batch, last) < world:
            raise DataError(
                f"shard: {world} processes cannot share a batch of {min(batch, last)} images; "
                "take a larger batch"
            )
        if drop_last and len(labelled) < batch:
            raise DataError(f"batch must be at most {len(labelled)}, all images, got {batch}")
        self._labelled = labelled.to(device)
        self._batch = batch
        self._augment = augment
        self._seed = seed
        self._shuffle = shuffle
        self._drop_last = drop_last
        self._shard = shard

    def __len__(self) -> int:
        """Batches of an epoch."""
        n = len(self._labelled)
        return n // self._batch if self._drop_last else -(-n // self._batch)

    @property
    def n_images(self) -> int:
        """Images of an epoch, of all processes together."""
        return min(len(self._labelled), len(self) * self._batch)

    def epoch(self, n: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images ``(N, C, H, W)`` and labels ``(N,)`` of each batch of epoch n, from 0."""
        labelled = self._labelled
        order, draws = self._drawn(n)
        rank, world = self._shard
        for start in range(0, self.n_images, self._batch):
            part = slice(start + rank, min(start + self._batch, self.n_images), world)
            places = order[part]
            images = labelled.images[places]
            its = None if draws is None else draws.take(part)
            yield self._augment(images, its), labelled.labels[places]

    def _drawn(self, n: int) -> tuple[Tensor, Draws | None]:
        """Return the order of an epoch, and the draws in that order; on the device."""
        count = len(self._labelled)
        device = self._labelled.images.device
        order = torch.arange(count)
        if self._shuffle:
            order = torch.randperm(count, generator=torch_generator(self._seed, "order", n))
        if not self._augment.draws:
            return order.to(device), None
        height, width = self._labelled.images.shape[2:]
        rng = torch_generator(self._seed, "augmentation", n)
        return order.to(device), self._augment.draw(count, (height, width), rng).to(device)
