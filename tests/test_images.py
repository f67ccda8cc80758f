"""Reading images; MATLAB's imresize and rgb2ycbcr."""

from __future__ import annotations

import csv
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import torch

from vsr_plugin.errors import InputError, UsageError
from vsr_plugin.images import Image, crop_to_multiple, imresize, list_images, read_image, rgb_to_luma, shrink

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


def samples(path: Path) -> NDArray[np.uint8]:
    """The file's samples, gray or RGB, without a conversion to luma."""
    with av.open(path) as container:
        frame = next(container.decode(video=0))
        image: NDArray[Any] = frame.to_ndarray(format="gray" if frame.format.name == "gray" else "rgb24")
        if frame.format.name == "pal8" and (image == image[..., :1]).all():
            image = image[..., 0]
        return image


@pytest.mark.parametrize("name", ["Set5", "Set14"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_low_resolution_files_of_the_benchmarks_are_reproduced_to_the_bit(shared: Path, name: str, scale: int) -> None:
    with (shared / name / "lr_hr_map.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["scale"]) == scale]
    assert len(rows) == {"Set5": 5, "Set14": 14}[name]
    for row in rows:
        large = samples(shared / row["hr_file(top-left crop)"])[: int(row["hr_h"]), : int(row["hr_w"])]
        np.testing.assert_array_equal(
            imresize(large, 1 / scale), samples(shared / name / f"LR_x{scale}" / row["lr_file"]), err_msg=row["lr_file"]
        )


def test_halving_takes_the_widened_cubic_in_exact_arithmetic() -> None:
    image = np.random.default_rng(0).random((9, 1))

    def cubic(x: Fraction) -> Fraction:
        x = abs(x)
        if x <= 1:
            return Fraction(3, 2) * x**3 - Fraction(5, 2) * x**2 + 1
        return -Fraction(1, 2) * x**3 + Fraction(5, 2) * x**2 - 4 * x + 2 if x <= 2 else Fraction(0)

    expected = []
    for out in range(5):
        centre = Fraction(2 * out) + Fraction(1, 2)  # of the output sample, in input samples
        taps = {tap: cubic((centre - tap) / 2) for tap in range(2 * out - 8, 2 * out + 9)}
        total = sum(taps.values())
        expected.append(sum(float(weight / total) * image[min(max(tap, 0), 8), 0] for tap, weight in taps.items()))
    np.testing.assert_allclose(imresize(image, 0.5)[:, 0], expected, rtol=0, atol=1e-14)


def test_each_pass_over_bytes_is_rounded_half_up() -> None:
    # Two equal samples average to k + ½ exactly: up, also where rounding to even would go down.
    column = np.array([[0], [0], [0], [1], [1], [1], [1]], np.uint8)
    halves = imresize(column.astype(np.float64), 0.5)
    np.testing.assert_array_equal(imresize(column, 0.5), np.clip(np.floor(halves + 0.5), 0, 255))
    image = np.random.default_rng(1).integers(0, 256, (20, 20), dtype=np.uint8)
    unrounded = np.clip(np.floor(imresize(image.astype(np.float64), 0.5) + 0.5), 0, 255)
    assert (imresize(image, 0.5) != unrounded).any()


def test_size_is_rounded_up_and_channels_are_independent() -> None:
    image = np.random.default_rng(2).integers(0, 256, (10, 7, 3), dtype=np.uint8)
    result = imresize(image, 1 / 3)
    assert result.shape == (4, 3, 3)
    np.testing.assert_array_equal(result[..., 1], imresize(image[..., 1], 1 / 3))


def test_a_flat_image_stays_flat() -> None:
    for value in (0, 17, 255):
        image = np.full((13, 11), value, np.uint8)
        assert (imresize(image, 1 / 3) == value).all()
        assert (imresize(image, 2.0) == value).all()


@pytest.mark.parametrize(
    ("rgb", "luma"), [((0, 0, 0), 16), ((255, 255, 255), 235), ((255, 0, 0), 81), ((0, 255, 0), 145), ((0, 0, 255), 41)]
)
def test_luma_is_bt601_studio_range(rgb: tuple[int, int, int], luma: int) -> None:
    assert rgb_to_luma(np.full((2, 2, 3), rgb, np.uint8)).tolist() == [[luma, luma], [luma, luma]]


def test_bad_arguments_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="Expected a positive scale, got 0"):
        imresize(np.zeros((4, 4)), 0)
    with pytest.raises(UsageError, match="got int64"):
        imresize(np.zeros((4, 4), np.int64), 0.5)


@pytest.mark.parametrize(("suffix", "codec", "layout"), [(".png", "png", "rgb24"), (".bmp", "bmp", "bgr24")])
def test_colour_becomes_studio_range_luma(tmp_path: Path, suffix: str, codec: str, layout: str) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    write_image(tmp_path / f"a{suffix}", samples, codec, layout)
    read = read_image(tmp_path / f"a{suffix}")
    assert read.name == f"a{suffix}"
    np.testing.assert_array_equal(read.luma, rgb_to_luma(samples))


@pytest.mark.parametrize(("suffix", "codec"), [(".png", "png"), (".bmp", "bmp")])
def test_gray_is_taken_as_it_is(tmp_path: Path, suffix: str, codec: str) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (9, 12), dtype=np.uint8)
    write_image(tmp_path / f"a{suffix}", samples, codec, "gray")
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}").luma, samples)


def test_jpeg_is_full_range_before_it_is_studio_range(tmp_path: Path) -> None:
    write_image(tmp_path / "white.jpg", np.full((16, 16, 3), 255, np.uint8), "mjpeg", "yuvj444p")
    assert (read_image(tmp_path / "white.jpg").luma == 235).all()


def test_folders_and_files_that_are_not_images_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        list_images(tmp_path / "absent")
    with pytest.raises(InputError, match="No images in"):
        list_images(tmp_path)
    (tmp_path / "a.png").write_text("not an image")
    with pytest.raises(InputError, match="Cannot read the image"):
        read_image(tmp_path / "a.png")


def test_crops_are_multiples_of_the_scale() -> None:
    luma = np.arange(11 * 14, dtype=np.uint8).reshape(11, 14)
    np.testing.assert_array_equal(crop_to_multiple(luma, 3), luma[:9, :12])
    np.testing.assert_array_equal(crop_to_multiple(luma, 3, 7), luma[2:8, 4:10])


def test_rgb_comes_along_where_it_is_wanted(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    write_image(tmp_path / "color.png", samples, "png", "rgb24")
    write_image(tmp_path / "gray.png", samples[..., 0], "png", "gray")
    color, gray = (read_image(tmp_path / f"{name}.png", 3) for name in ("color", "gray"))
    assert read_image(tmp_path / "color.png").rgb is None
    np.testing.assert_array_equal(color.samples(3), samples)
    np.testing.assert_array_equal(color.samples(1)[..., 0], rgb_to_luma(samples))
    np.testing.assert_array_equal(gray.samples(3), np.stack([samples[..., 0]] * 3, 2))
    assert (color.gray, gray.gray) == (False, True)


def test_small_luma_is_exact_and_small_rgb_is_of_8_bits() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (30, 36, 3), dtype=np.uint8)
    p = Image("0.png", rgb_to_luma(rgb), rgb)
    small_luma, small_rgb = (shrink(p.samples(channels), 2) * 255 for channels in (1, 3))
    assert small_luma.shape == (1, 15, 18)
    assert not torch.equal(small_luma, small_luma.round())
    torch.testing.assert_close(small_rgb, small_rgb.round(), rtol=0, atol=1e-4)
