"""Planes of samples in NumPy: what a luma network reads, and bicubic enlargement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vsr_plugin.frames import ChromaLocation, ColorSpec, Matrix, Range
from vsr_plugin.kernels import enlarge
from vsr_plugin.luma import LumaConversion
from vsr_plugin.models.layers import BicubicUpsample
from vsr_plugin.samples import chroma_grid, enlarge_plane, enlarge_unit, luma_format, shifts, to_unit

YUV = ColorSpec(Matrix.BT709, Range.LIMITED, 10, (1, 1))


def test_a_luma_network_reads_stored_luma_of_integers() -> None:
    assert luma_format(YUV) == (1020, 10)
    assert luma_format(replace(YUV, range=Range.FULL)) == (1023, 10)
    assert luma_format(ColorSpec()) == (255, 8)
    assert LumaConversion(YUV, 3, 2).format == luma_format(YUV)
    assert LumaConversion(ColorSpec(Matrix.RGB), 3, 2).format is None
    assert LumaConversion(ColorSpec(depth=32, floating=True), 1, 2).format is None


def test_samples_above_white_are_white() -> None:
    x = to_unit(np.array([0, 255, 1020, 1023], np.uint16), 1020)
    assert x.dtype == np.float32
    assert x.tolist() == [0.0, 0.25, 1.0, 1.0]


@pytest.mark.parametrize("location", [ChromaLocation.LEFT, ChromaLocation.TOPLEFT, ChromaLocation.BOTTOM])
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 0), (0, 0)])
@pytest.mark.parametrize(("scale", "depth"), [(2, 8), (3, 8), (4, 10), (8, 16)])
def test_planes_grow_as_in_float64(
    location: ChromaLocation, subsampling: tuple[int, int], scale: int, depth: int
) -> None:
    color = ColorSpec(depth=depth, subsampling=subsampling, chroma_location=location)
    planes = np.random.default_rng(0).integers(0, color.peak + 1, (2, 70, 61)).astype(color.dtype)
    grid = chroma_grid(color)
    large = enlarge_plane(planes, scale, depth, (70 * scale - 1, 61 * scale), *grid)
    exact = enlarge(
        torch.from_numpy(planes.astype(np.float64))[:, None], scale, shift=shifts(scale, *grid), edges="symmetric"
    )[:, 0, :-1].numpy()
    assert large.dtype == planes.dtype
    assert np.abs(large - exact.clip(0, color.peak)).max() <= 0.5 + 1e-6 * color.peak


def test_strips_leave_no_trace() -> None:
    planes = np.random.default_rng(0).integers(0, 256, (1, 600, 300), np.uint8)
    whole = enlarge_plane(planes, 3, 8, (1800, 900))
    tail = enlarge_plane(planes[:, 300:], 3, 8, (900, 900))
    assert np.array_equal(whole[:, 920:], tail[:, 20:])


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_input_of_a_network_grows_as_in_torch(scale: int, channels: int) -> None:
    x = np.random.default_rng(0).random((2, channels, 9, 14), np.float32)
    expected = BicubicUpsample(scale)(torch.from_numpy(x)).numpy()
    assert np.abs(enlarge_unit(x, scale) - expected).max() < 1e-6
