"""Epochs of (seed, number) alone, and shards that make up the batch of one process."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nas.training.augment import Augment
from nas.training.images import DataError, Labelled
from nas.training.loader import Loader

MEAN, STD = (0.0,) * 3, (1.0,) * 3
FULL = Augment(MEAN, STD, crop=2, flip=True, cutout=2)


def labelled(n: int) -> Labelled:
    """Return n random images; the label is the place."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, 3, 6, 6), dtype=np.uint8)
    return Labelled(torch.from_numpy(images), torch.arange(n))


def all_of(loader: Loader, epoch: int) -> tuple[Tensor, Tensor]:
    batches = list(loader.epoch(epoch))
    assert len(batches) == len(loader)
    return torch.cat([images for images, _ in batches]), torch.cat(
        [labels for _, labels in batches]
    )


def test_every_image_comes_once_with_its_label() -> None:
    data = labelled(23)
    images, labels = all_of(Loader(data, 5, Augment(MEAN, STD), seed=0), 0)
    assert sorted(labels.tolist()) == list(range(23))
    assert labels.tolist() != list(range(23))
    torch.testing.assert_close(images, data.images[labels] / 255)


def test_without_shuffle_they_come_as_they_lie() -> None:
    data = labelled(23)
    loader = Loader(data, 5, Augment(MEAN, STD), seed=0, shuffle=False)
    for epoch in (0, 1):
        images, labels = all_of(loader, epoch)
        assert labels.tolist() == list(range(23))
        torch.testing.assert_close(images, data.images / 255)


def test_an_epoch_depends_on_seed_and_number_only() -> None:
    first = Loader(labelled(23), 5, FULL, seed=3)
    reference = [all_of(first, epoch) for epoch in range(3)]
    torch.rand(7)  # of the global generator
    fresh = Loader(labelled(23), 5, FULL, seed=3)
    next(first.epoch(1))  # half an epoch, as before a kill
    for epoch in (2, 0, 1):  # in any order
        for found, known in zip(all_of(fresh, epoch), reference[epoch], strict=True):
            assert torch.equal(found, known)
    assert not torch.equal(reference[0][1], reference[1][1])
    other = all_of(Loader(labelled(23), 5, FULL, seed=4), 0)
    assert not torch.equal(other[1], reference[0][1])


def test_the_same_image_is_augmented_anew_each_epoch() -> None:
    data = labelled(40)
    loader = Loader(data, 40, FULL, seed=0, shuffle=False)
    first, second = (all_of(loader, epoch)[0] for epoch in (0, 1))
    assert (first != second).flatten(1).any(dim=1).float().mean() > 0.9


def test_order_and_augmentation_are_drawn_apart() -> None:
    plain = all_of(Loader(labelled(23), 5, Augment(MEAN, STD), seed=3), 1)[1]
    assert torch.equal(plain, all_of(Loader(labelled(23), 5, FULL, seed=3), 1)[1])


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    all_of(Loader(labelled(23), 5, FULL, seed=3), 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_last_batch_can_be_left_out() -> None:
    kept = Loader(labelled(23), 5, FULL, seed=0)
    dropped = Loader(labelled(23), 5, FULL, seed=0, drop_last=True)
    assert (len(kept), kept.n_images) == (5, 23)
    assert (len(dropped), dropped.n_images) == (4, 20)
    assert [len(labels) for _, labels in kept.epoch(0)] == [5, 5, 5, 5, 3]
    assert [len(labels) for _, labels in dropped.epoch(0)] == [5, 5, 5, 5]
    assert torch.equal(all_of(dropped, 0)[0], all_of(kept, 0)[0][:20])


@given(
    n=st.integers(1, 40),
    batch=st.integers(1, 16),
    world=st.integers(1, 4),
    drop_last=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_shards_make_up_the_batch_of_one_process(
    n: int, batch: int, world: int, drop_last: bool, epoch: int
) -> None:
    data = labelled(n)
    smallest = batch if drop_last else n % batch or batch
    impossible = min(batch, smallest) < world or (drop_last and n < batch)
    if impossible:
        with pytest.raises(DataError, match="batch"):
            Loader(data, batch, FULL, seed=1, drop_last=drop_last, shard=(0, world))
        return
    alone = Loader(data, batch, FULL, seed=1, drop_last=drop_last)
    parts = [
        Loader(data, batch, FULL, seed=1, drop_last=drop_last, shard=(rank, world))
        for rank in range(world)
    ]
    for whole, *shards in zip(alone.epoch(epoch), *(p.epoch(epoch) for p in parts), strict=True):
        sizes = [len(labels) for _, labels in shards]
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) > 0
        images, labels = torch.empty_like(whole[0]), torch.empty_like(whole[1])
        for rank, shard in enumerate(shards):
            images[rank::world], labels[rank::world] = shard
        assert torch.equal(images, whole[0])
        assert torch.equal(labels, whole[1])


@pytest.mark.parametrize("shard", [(1, 1), (-1, 2), (2, 2)])
def test_a_rank_is_below_the_world(shard: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="rank below world"):
        Loader(labelled(8), 4, FULL, seed=0, shard=shard)


def test_a_batch_has_an_image_at_least() -> None:
    with pytest.raises(DataError, match="batch must be at least 1"):
        Loader(labelled(8), 0, FULL, seed=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_gives_the_same_batches() -> None:
    here = all_of(Loader(labelled(23), 5, FULL, seed=3), 0)
    there = all_of(Loader(labelled(23), 5, FULL, seed=3, device="cuda"), 0)
    assert there[0].is_cuda
    torch.testing.assert_close(there[0].cpu(), here[0])
    assert torch.equal(there[1].cpu(), here[1])
