"""Augmentation of a batch, against one image at a time worked out slowly by hand."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nas.seeds import torch_generator
from nas.training.augment import Augment, Draws, holes, normalise, shifted

MEAN, STD = (0.5, 0.25, 0.125), (0.25, 0.5, 0.125)


def some_images(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (n, 3, height, width), dtype=np.uint8))


def the_draws(
    shift: list[list[int]], flip: list[bool], hole: list[list[int]] | None = None
) -> Draws:
    return Draws(
        torch.tensor(shift), torch.tensor(flip), torch.tensor(hole or [[0, 0]] * len(flip))
    )


def slowly(images: Tensor, augment: Augment, draws: Draws) -> Tensor:
    """Return what NATS-Bench's transforms do, pixel by pixel: pad, crop, flip, scale, cut out."""
    n, channels, height, width = images.shape
    out = torch.empty(images.shape, dtype=torch.float64)
    for i in range(n):
        (dy, dx), (cy, cx) = draws.shift[i].tolist(), draws.hole[i].tolist()
        for y in range(height):
            for x in range(width):
                across = width - 1 - x if draws.flip[i] else x
                row, column = y + dy, across + dx
                inside = 0 <= row < height and 0 <= column < width
                half = augment.cutout // 2
                cut = (
                    cy - half <= y < cy - half + augment.cutout
                    and cx - half <= x < cx - half + augment.cutout
                )
                for c in range(channels):
                    value = float(images[i, c, row, column]) / 255 if inside else 0.0
                    value = (value - augment.mean[c]) / augment.std[c]
                    out[i, c, y, x] = 0.0 if cut else value
    return out


def test_a_crop_by_hand() -> None:
    # one row of 1 2 3, moved by one to the left and by one to the right
    row = torch.tensor([1, 2, 3], dtype=torch.uint8).expand(2, 3, 1, 3)
    moved = shifted(row, 1, the_draws([[0, 1], [0, -1]], [False, False]))
    assert moved[:, 0, 0].tolist() == [[2, 3, 0], [0, 1, 2]]
    mirrored = shifted(row, 1, the_draws([[0, 1], [0, -1]], [True, True]))
    assert mirrored[:, 0, 0].tolist() == [[0, 3, 2], [2, 1, 0]]
    down = shifted(row, 1, the_draws([[1, 0], [-1, 0]], [False, False]))
    assert down[:, 0, 0].tolist() == [[0, 0, 0], [0, 0, 0]]


def test_padding_is_black_before_normalising() -> None:
    white = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    augment = Augment(MEAN, STD, crop=1)
    out = augment(white, the_draws([[1, 1]], [False]))
    # white comes out as one less mean, over std; black as minus mean over std
    assert out[0, :, 0, 0].tolist() == [2.0, 1.5, 7.0]
    assert out[0, :, 1, 1].tolist() == [-2.0, -0.5, -1.0]


def test_normalise_by_hand() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    out = normalise(images, MEAN, STD)
    np.testing.assert_allclose(out.flatten(), [-2.0, (0.2 - 0.25) / 0.5, 7.0], rtol=1e-6)


@given(st.data())
def test_a_batch_is_as_its_images_one_by_one(data: Any) -> None:
    n, height, width = (data.draw(st.integers(1, 5)) for _ in range(3))
    augment = Augment(
        MEAN, STD, crop=data.draw(st.integers(0, 4)), flip=data.draw(st.booleans()),
        cutout=data.draw(st.integers(0, 6)), dtype=torch.float64,
        channels_last=data.draw(st.booleans()),
    )  # fmt: skip
    images = some_images(n, height, width, seed=n)
    draws = augment.draw(n, (height, width), torch_generator(data.draw(st.integers(0, 99)), "x"))
    torch.testing.assert_close(augment(images, draws), slowly(images, augment, draws))


def test_draws_are_in_their_ranges_and_reach_all_of_them() -> None:
    augment = Augment(MEAN, STD, crop=2, flip=True, cutout=3)
    draws = augment.draw(5000, (4, 6), torch_generator(0, "x"))
    for column in range(2):
        shift = torch.bincount(draws.shift[:, column] + 2)
        # 1,000 of each expected, deviation 28
        assert len(shift) == 5
        assert bool(((shift - 1000).abs() < 140).all())
    assert abs(int(draws.flip.sum()) - 2500) < 180
    assert set(draws.hole[:, 0].tolist()) == set(range(4))
    assert set(draws.hole[:, 1].tolist()) == set(range(6))
    assert len(torch.unique(draws.shift, dim=0)) == 25


def test_what_is_off_is_off() -> None:
    images = some_images(3, 5, 5)
    plain = Augment(MEAN, STD)
    assert not plain.draws
    draws = plain.draw(3, (5, 5), torch_generator(0, "x"))
    assert torch.equal(plain(images, draws), normalise(images, MEAN, STD))
    busy = Augment(MEAN, STD, crop=2, flip=True, cutout=2)
    assert busy.draws
    assert torch.equal(busy(images), normalise(images, MEAN, STD))  # without draws: as for a test


def test_images_stay_as_they_were() -> None:
    images = some_images(4, 6, 6)
    before = images.clone()
    augment = Augment(MEAN, STD, crop=2, flip=True, cutout=3)
    augment(images, augment.draw(4, (6, 6), torch_generator(0, "x")))
    assert torch.equal(images, before)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("crop", [0, 2])
def test_layout_and_precision_are_as_asked(
    channels_last: bool, dtype: torch.dtype, crop: int
) -> None:
    images = some_images(4, 6, 5)
    augment = Augment(MEAN, STD, crop=crop, dtype=dtype, channels_last=channels_last)
    draws = augment.draw(4, (6, 5), torch_generator(0, "x"))
    out = augment(images, draws)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert out.is_contiguous(memory_format=layout)
    assert out.dtype == dtype
    exact = slowly(images, augment, draws)
    # rounded once, from float32 or better
    expected = exact.float().to(dtype) if dtype != torch.float64 else exact
    torch.testing.assert_close(out, expected, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize(("side", "inside"), [(1, 1), (2, 4), (3, 9), (4, 16)])
def test_a_hole_has_its_side(side: int, inside: int) -> None:
    mask = holes(torch.tensor([[5, 5]]), side, (11, 11))
    assert mask.shape == (1, 1, 11, 11)
    assert int(mask.sum()) == inside
    # at a corner, what is left of it: rows and columns from 0 to side - side // 2 - 1
    corner = holes(torch.tensor([[0, 0]]), side, (11, 11))
    assert int(corner.sum()) == (side - side // 2) ** 2


def test_a_hole_is_the_mean() -> None:
    images = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    augment = Augment(MEAN, STD, cutout=2)
    out = augment(images, the_draws([[0, 0]], [False], [[2, 2]]))
    assert (out[0, 0] == 0).nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]


def test_draws_can_be_taken_apart() -> None:
    augment = Augment(MEAN, STD, crop=2, flip=True, cutout=3)
    images = some_images(6, 5, 5)
    draws = augment.draw(6, (5, 5), torch_generator(0, "x"))
    whole = augment(images, draws)
    for places in (slice(1, 6, 2), torch.tensor([4, 0])):
        assert torch.equal(augment(images[places], draws.take(places)), whole[places])
    moved = draws.to("cpu")
    assert all(
        torch.equal(getattr(moved, field.name), getattr(draws, field.name))
        for field in fields(draws)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": -1}, "crop must be at least 0, got -1"),
        ({"cutout": -2}, "cutout must be at least 0, got -2"),
        ({"std": (0.1, 0.0, 0.1)}, "std must be positive"),
        ({"std": (0.1, 0.1)}, "std must be positive, one of each channel"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augment(**({"mean": MEAN, "std": STD} | change))
