"""Reading pictures, holding some out, drawing patches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
import torch

from vsr_plugin.errors import InputError, UsageError
from vsr_plugin.training.data import Patches, Picture, crop_to_multiple, list_images, read_picture, shrink, split
from vsr_plugin.training.degradation import rgb_to_luma

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def write_image(path: Path, samples: NDArray[np.uint8], codec: str, layout: str) -> None:
    frame = av.VideoFrame.from_ndarray(samples, format="gray" if samples.ndim == 2 else "rgb24").reformat(format=layout)
    with av.open(path, "w", format="image2") as container:
        stream = container.add_stream(codec, rate=1)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = samples.shape[:2]
        stream.pix_fmt = layout
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def picture(seed: int, height: int = 30, width: int = 36) -> Picture:
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Picture(f"{seed}.png", rgb_to_luma(rgb), rgb)


@pytest.mark.parametrize(("suffix", "codec", "layout"), [(".png", "png", "rgb24"), (".bmp", "bmp", "bgr24")])
def test_colour_becomes_studio_range_luma(tmp_path: Path, suffix: str, codec: str, layout: str) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    write_image(tmp_path / f"a{suffix}", samples, codec, layout)
    read = read_picture(tmp_path / f"a{suffix}")
    assert read.name == f"a{suffix}"
    np.testing.assert_array_equal(read.luma, rgb_to_luma(samples))


@pytest.mark.parametrize(("suffix", "codec"), [(".png", "png"), (".bmp", "bmp")])
def test_gray_is_taken_as_it_is(tmp_path: Path, suffix: str, codec: str) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (9, 12), dtype=np.uint8)
    write_image(tmp_path / f"a{suffix}", samples, codec, "gray")
    np.testing.assert_array_equal(read_picture(tmp_path / f"a{suffix}").luma, samples)


def test_jpeg_is_full_range_before_it_is_studio_range(tmp_path: Path) -> None:
    write_image(tmp_path / "white.jpg", np.full((16, 16, 3), 255, np.uint8), "mjpeg", "yuvj444p")
    assert (read_picture(tmp_path / "white.jpg").luma == 235).all()


def test_folders_and_files_that_are_not_pictures_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        list_images(tmp_path / "absent")
    with pytest.raises(InputError, match="No images in"):
        list_images(tmp_path)
    (tmp_path / "a.png").write_text("not a picture")
    with pytest.raises(InputError, match="Cannot read the image"):
        read_picture(tmp_path / "a.png")


def test_held_out_pictures_never_train() -> None:
    pictures = [picture(seed) for seed in range(40)]
    kept, held_out = split(pictures, 8)
    assert len(held_out) == 4  # a tenth at most
    assert sorted(p.name for p in kept + held_out) == sorted(p.name for p in pictures)
    assert [p.name for p in split(pictures, 2)[1]] == ["10.png", "30.png"]
    assert split(pictures[:9], 8) == (pictures[:9], [])


def test_crops_are_multiples_of_the_scale() -> None:
    luma = np.arange(11 * 14, dtype=np.uint8).reshape(11, 14)
    np.testing.assert_array_equal(crop_to_multiple(luma, 3), luma[:9, :12])
    np.testing.assert_array_equal(crop_to_multiple(luma, 3, 7), luma[2:8, 4:10])


def test_rgb_comes_along_where_it_is_wanted(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    write_image(tmp_path / "color.png", samples, "png", "rgb24")
    write_image(tmp_path / "gray.png", samples[..., 0], "png", "gray")
    color, gray = (read_picture(tmp_path / f"{name}.png", 3) for name in ("color", "gray"))
    assert read_picture(tmp_path / "color.png").rgb is None
    np.testing.assert_array_equal(color.samples(3), samples)
    np.testing.assert_array_equal(color.samples(1)[..., 0], rgb_to_luma(samples))
    np.testing.assert_array_equal(gray.samples(3), np.stack([samples[..., 0]] * 3, 2))
    assert (color.gray, gray.gray) == (False, True)


@pytest.mark.parametrize(("scales", "divisors"), [((2,), ()), ((3,), ()), ((4,), (2,)), ((2, 3), ())])
@pytest.mark.parametrize("channels", [1, 3])
def test_patches_are_corresponding_parts_of_whole_pictures(
    scales: tuple[int, ...], divisors: tuple[int, ...], channels: int
) -> None:
    pictures = [picture(seed) for seed in range(3)]
    patches = Patches([pictures[:1], pictures[1:]], channels, dict.fromkeys(scales, 3), divisors)
    for scale in scales:
        small, targets = patches.draw(40, scale, torch.Generator().manual_seed(0), (*divisors, 1))
        sides = [3, *(3 * scale // divisor for divisor in (*divisors, 1))]
        drawn = [part.permute(0, 2, 3, 1).numpy() for part in (small, *targets)]
        assert [part.shape for part in drawn] == [(40, side, side, channels) for side in sides]
        seen = set()
        for parts in zip(*drawn, strict=True):
            found = [
                (index, orientation)
                for index, p in enumerate(pictures)
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
    """Whether small, middle and large patches lie at one place of the picture."""
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


def test_small_luma_is_exact_and_small_rgb_is_of_8_bits() -> None:
    p = picture(0)
    luma, rgb = (shrink(p.samples(channels), 2) * 255 for channels in (1, 3))
    assert luma.shape == (1, 15, 18)
    assert not torch.equal(luma, luma.round())
    torch.testing.assert_close(rgb, rgb.round(), rtol=0, atol=1e-4)


def test_every_folder_is_drawn_from_equally_often() -> None:
    bright, dark = np.full((30, 30), 255, np.uint8), np.zeros((120, 120), np.uint8)
    patches = Patches([[Picture("a", bright)], [Picture("b", dark)] * 3], 1, {2: 4})
    small, _ = patches.draw(2000, 2, torch.Generator().manual_seed(0))
    assert 0.45 < float(small.mean()) < 0.55  # 4.5 standard deviations


def test_sizes_add_smaller_copies_and_small_ones_are_left_out() -> None:
    large = picture(0, 60, 60)
    assert len(Patches([[large]], 1, {2: 20}, (), (1.0, 0.8, 0.6))._shapes) == 2
    with pytest.raises(UsageError, match="at least 62 × 62 samples"):
        Patches([[large]], 1, {2: 31})


def test_a_folder_of_which_nothing_is_drawn_is_named(caplog: pytest.LogCaptureFixture) -> None:
    large, small = (Picture(str(side), np.zeros((side, side), np.uint8)) for side in (40, 12))
    Patches([[large], [small]], 1, {2: 8})
    assert [record.getMessage()[:35] for record in caplog.records] == ["12 and all else in its folder is sm"]
