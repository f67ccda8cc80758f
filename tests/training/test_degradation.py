"""MATLAB's imresize and rgb2ycbcr."""

from __future__ import annotations

import csv
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest

from vsr_plugin.errors import UsageError
from vsr_plugin.training.degradation import imresize, rgb_to_luma

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


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


def test_a_flat_picture_stays_flat() -> None:
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
