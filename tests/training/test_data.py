"""Holding images out, and drawing patches of the others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from vsr_plugin.errors import UsageError
from vsr_plugin.images import Image, crop_to_multiple, rgb_to_luma, shrink
from vsr_plugin.training.data import Patches, split

if TYPE_CHECKING:
    from numpy.typing import NDArray


def image(seed: int, height: int = 30, width: int = 36) -> Image:
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image(f"{seed}.png", rgb_to_luma(rgb), rgb)


def test_held_out_images_never_train() -> None:
    images = [image(seed) for seed in range(40)]
    kept, held_out = split(images, 8)
    assert len(held_out) == 4  # a tenth at most
    assert sorted(p.name for p in kept + held_out) == sorted(p.name for p in images)
    assert [p.name for p in split(images, 2)[1]] == ["10.png", "30.png"]
    assert split(images[:9], 8) == (images[:9], [])


@pytest.mark.parametrize(("scales", "divisors"), [((2,), ()), ((3,), ()), ((4,), (2,)), ((2, 3), ())])
@pytest.mark.parametrize("channels", [1, 3])
def test_patches_are_corresponding_parts_of_whole_images(
    scales: tuple[int, ...], divisors: tuple[int, ...], channels: int
) -> None:
    images = [image(seed) for seed in range(3)]
    patches = Patches([images[:1], images[1:]], channels, dict.fromkeys(scales, 3), divisors)
    for scale in scales:
        small, targets = patches.draw(40, scale, torch.Generator().manual_seed(0), (*divisors, 1))
        sides = [3, *(3 * scale // divisor for divisor in (*divisors, 1))]
        drawn = [part.permute(0, 2, 3, 1).numpy() for part in (small, *targets)]
        assert [part.shape for part in drawn] == [(40, side, side, channels) for side in sides]
        seen = set()
        for parts in zip(*drawn, strict=True):
            found = [
                (index, orientation)
                for index, p in enumerate(images)
                for orientation in range(8)
                if _holds(p.samples(channels), math.lcm(*scales), scale, [_turned(part, orientation) for part in parts])
            ]
            assert len(found) == 1
            seen.add(found[0])
        assert {index for index, _ in seen} == {0, 1, 2}
        assert {orientation for _, orientation in seen} == set(range(8))


def _turned(patch: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    patch = np.rot90(patch, orientation % 4)
    return patch.swapaxes(0, 1) if orientation >= 4 else patch


def _holds(samples: NDArray[np.uint8], unit: int, scale: int, parts: list[NDArray[np.float32]]) -> bool:
    """Whether small, middle and large patches lie at one place of the image."""
    samples, large = crop_to_multiple(samples, unit), parts[-1]
    windows = np.lib.stride_tricks.sliding_window_view(samples, large.shape)[::scale, ::scale, 0]
    places = np.argwhere((windows == np.rint(large * 255)).all((2, 3, 4)))
    for y, x in places:
        for part in parts[:-1]:
            divisor = large.shape[0] // part.shape[0]
            whole = shrink(samples, divisor).permute(1, 2, 0).numpy()
            top, left = y * scale // divisor, x * scale // divisor
            side = part.shape[0]
            if not np.allclose(whole[top : top + side, left : left + side], part, atol=1e-6):
                return False
    return len(places) == 1


def test_every_folder_is_drawn_from_equally_often() -> None:
    bright, dark = np.full((30, 30), 255, np.uint8), np.zeros((120, 120), np.uint8)
    patches = Patches([[Image("a", bright)], [Image("b", dark)] * 3], 1, {2: 4})
    small, _ = patches.draw(2000, 2, torch.Generator().manual_seed(0))
    assert 0.45 < float(small.mean()) < 0.55  # 4.5 standard deviations


def test_sizes_add_smaller_copies_and_small_ones_are_left_out() -> None:
    large = image(0, 60, 60)
    assert len(Patches([[large]], 1, {2: 20}, (), (1.0, 0.8, 0.6))._shapes) == 2
    with pytest.raises(UsageError, match="at least 62 × 62 samples"):
        Patches([[large]], 1, {2: 31})


def test_a_folder_of_which_nothing_is_drawn_is_named(caplog: pytest.LogCaptureFixture) -> None:
    large, small = (Image(str(side), np.zeros((side, side), np.uint8)) for side in (40, 12))
    Patches([[large], [small]], 1, {2: 8})
    assert [record.getMessage()[:35] for record in caplog.records] == ["12 and all else in its folder is sm"]
