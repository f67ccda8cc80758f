"""Floating-point samples are the same picture as integers, and keep what integers round away."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tests import distance
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import UsageError
from vsr_plugin.execution import Execution
from vsr_plugin.frames import ColorSpec, Frame, Matrix

from .test_color import nearest

# (matrix, planes): gray, YUV and RGB, without and with alpha.
KINDS = [(Matrix.BT709, 1), (Matrix.BT709, 2), (Matrix.SMPTE170M, 3), (Matrix.BT709, 4), (Matrix.RGB, 3)]
STEP = 256  # code values of 16 bits in one of 8 bits


def codes(kind: tuple[Matrix, int]) -> Frame:
    """16-bit noise in limited range, not too far outside of it."""
    matrix, count = kind
    planes = np.random.default_rng(count).integers(8 * STEP, 248 * STEP, (count, 20, 24), np.uint16)
    if matrix is Matrix.RGB:
        planes = planes.clip(16 * STEP, 235 * STEP)
    return Frame(tuple(planes), 0, Fraction(1, 25), color=ColorSpec(matrix, depth=16))


def places(frame: Frame) -> list[tuple[int, int]]:
    """(gain, offset) from floating values to 16-bit code values, per plane."""
    luma, chroma, alpha = (219 * STEP, 16 * STEP), (224 * STEP, 128 * STEP), (65535, 0)
    color = [luma] if frame.is_gray else [luma] * 3 if frame.color.matrix is Matrix.RGB else [luma, chroma, chroma]
    return color + [alpha] * frame.has_alpha


def floating(frame: Frame, depth: int = 32) -> Frame:
    """The same picture in floating point."""
    color = ColorSpec(frame.color.matrix, depth=depth, floating=True)
    planes = [
        ((plane.astype(np.float64) - offset) / gain).astype(color.dtype)
        for plane, (gain, offset) in zip(frame.planes, places(frame), strict=True)
    ]
    return Frame(tuple(planes), 0, Fraction(1, 25), color=color)


def distances(large: Frame, whole: Frame) -> list[float]:
    """The largest distance of floating planes from 16-bit ones, in code values; integers are clamped."""
    return [
        distance((plane.astype(np.float64) * gain + offset).clip(0, 65535), code)
        for plane, code, (gain, offset) in zip(large.planes, whole.planes, places(whole), strict=True)
    ]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [2, 3])
def test_floating_samples_are_the_same_picture(kind: tuple[Matrix, int], channels: int, scale: int) -> None:
    frame = codes(kind)
    with nearest(scale, channels) as upscaler:
        [whole], [large] = upscaler.upscale([frame]), upscaler.upscale([floating(frame)])
    assert [plane.dtype for plane in large.planes] == [np.float32] * len(frame.planes)
    assert max(distances(large, whole)) < 0.55  # half a code value is the integers' rounding, the rest float32's


def test_a_trained_network_sees_the_same_numbers() -> None:
    frame = codes((Matrix.BT709, 3))
    with Upscaler("espcn", 2, Execution(backend="eager", device="cpu", precision="float32")) as upscaler:
        [whole], [large] = upscaler.upscale([frame]), upscaler.upscale([floating(frame)])
    assert max(distances(large, whole)) < 1


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_half_samples_lose_only_their_own_precision(kind: tuple[Matrix, int], channels: int) -> None:
    half = floating(codes(kind), 16)
    color = ColorSpec(kind[0], depth=32, floating=True)
    single = Frame(tuple(plane.astype(np.float32) for plane in half.planes), 0, Fraction(1, 25), color=color)
    with nearest(2, channels) as upscaler:
        [small], [large] = upscaler.upscale([half]), upscaler.upscale([single])
    for plane, wanted in zip(small.planes, large.planes, strict=True):
        assert np.array_equal(plane, wanted.astype(np.float16))


def test_what_lies_outside_of_the_range_survives_as_far_as_the_network_goes() -> None:
    color = ColorSpec(depth=32, floating=True)
    below, above = -16 / 219, 239 / 219  # what 8-bit codes 0 and 255 are
    plane = np.array([[-1.0, below], [above, 2.0]], np.float32)
    with nearest(2, 1) as upscaler:
        [large] = upscaler.upscale([Frame((plane,), 0, Fraction(1, 25), color=color)])
    assert np.allclose(large.planes[0][::2, ::2], [[below, below], [above, above]], atol=1e-6)


@pytest.mark.parametrize(("depth", "subsampling"), [(8, (0, 0)), (24, (0, 0)), (32, (1, 1))])
def test_other_floating_formats_are_refused(depth: int, subsampling: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="Expected floating-point samples of 16 or 32 bits without subsampling"):
        ColorSpec(depth=depth, subsampling=subsampling, floating=True)


def test_a_floating_frame_says_so() -> None:
    assert "gray 16-bit float" in repr(floating(codes((Matrix.BT709, 1)), 16))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("depth", "sample"), [(32, float("nan")), (16, float("-inf")), (16, float("nan"))])
def test_samples_that_are_no_numbers_are_refused(kind: tuple[Matrix, int], depth: int, sample: float) -> None:
    frame = floating(codes(kind), depth)
    with nearest(2, 1) as upscaler:
        for index, plane in enumerate(frame.planes):
            kept = plane[3, 4].item()
            plane[3, 4] = sample
            with pytest.raises(UsageError, match=f"got NaN or infinity in plane {index} of Frame"):
                upscaler.upscale([frame])
            plane[3, 4] = kept
        upscaler.upscale([frame])


def test_very_large_samples_are_numbers() -> None:
    color = ColorSpec(Matrix.BT709, depth=32, floating=True)
    large = np.full((20, 24), 3e38, np.float32)  # whose sum is not finite
    Frame((large,), 0, Fraction(1, 25), color=color).check_numbers()
