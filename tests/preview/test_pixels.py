from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tests import distance
from vsr_plugin.arrays import as_tensor
from vsr_plugin.color import Conversion
from vsr_plugin.engine import Upscaler
from vsr_plugin.execution import Execution
from vsr_plugin.frames import ChromaLocation, ColorSpec, Frame, Matrix, Range
from vsr_plugin.models import NetworkSpec
from vsr_plugin.models.layers import BicubicUpsample
from vsr_plugin.preview.pixels import images, interpolate
from vsr_plugin.sizes import Size

LIMITED = ColorSpec(Matrix.BT709, Range.LIMITED, 8, (1, 1))
COLORS = [
    LIMITED,
    ColorSpec(Matrix.SMPTE170M, Range.LIMITED, 8, (1, 0)),
    ColorSpec(Matrix.BT2020_NCL, Range.LIMITED, 10, (1, 1), ChromaLocation.TOPLEFT),
    ColorSpec(Matrix.BT709, Range.FULL, 12, (0, 0)),
    ColorSpec(Matrix.RGB, Range.FULL),
    ColorSpec(Matrix.RGB, Range.FULL, 16),
]


def smooth(color: ColorSpec, height: int = 36, width: int = 50, count: int = 3) -> Frame:
    """A ramp of luma and of chroma, which every interpolation gets right between its ends."""
    planes = []
    for index in range(count):
        chroma = count == 3 and index > 0
        rows, columns = color.chroma_shape(height, width) if chroma else (height, width)
        x, y = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows))
        ramp = 0.3 + 0.4 * (x if index != 1 else y)
        planes.append(np.rint(ramp * color.peak).astype(color.dtype))
    return Frame(tuple(planes), 7, Fraction(1, 25), 1, color)


@pytest.mark.parametrize("color", COLORS, ids=str)
def test_an_image_is_what_the_exact_conversion_gives(color: ColorSpec) -> None:
    frame = smooth(color)
    (image,) = images(frame)
    exact, _ = Conversion(color, 3, 3, 1).split([as_tensor(plane[None]) for plane in frame.planes])
    expected = (exact[0] * 255).round().permute(1, 2, 0).numpy()[..., ::-1]
    inside = (slice(4, -4), slice(4, -4))
    rounded_before = color.depth == 8 and color.subsampling != (0, 0)  # and then multiplied by up to 2.1
    assert np.abs(image.astype(int) - expected)[inside].max() <= (2 if rounded_before else 1)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("color_range", list(Range))
def test_gray_is_gray(color_range: Range) -> None:
    frame = smooth(ColorSpec(Matrix.BT709, color_range), count=1)
    (image,) = images(frame)
    assert (image[..., 0] == image[..., 1]).all()
    assert (image[..., 0] == image[..., 2]).all()
    black, gain = (16, 219) if color_range is Range.LIMITED else (0, 255)
    expected = np.rint(((frame.planes[0].astype(float) - black) / gain * 255).clip(0, 255))
    assert distance(image[..., 0], expected) <= 1


@pytest.mark.parametrize("color", [LIMITED, ColorSpec(Matrix.RGB, Range.FULL, 10)], ids=str)
def test_bicubic_is_that_of_the_engine(color: ColorSpec) -> None:
    generator = np.random.default_rng(0)
    frame = smooth(color)
    frame = Frame(
        tuple(generator.integers(0, color.peak, (len(p), len(p[0])), p.dtype) for p in frame.planes),
        0,
        frame.time_base,
        color=color,
    )
    large = interpolate(frame, 3)
    assert (large.height, large.width, large.pts) == (3 * frame.height, 3 * frame.width, frame.pts)
    if color.matrix is Matrix.RGB:
        return
    module = BicubicUpsample(3)
    with Upscaler.from_module(
        module, NetworkSpec(name="b", overlap={3: 3}), 3, Execution(backend="eager", device="cpu")
    ) as upscaler:
        (expected,) = upscaler.upscale([frame])
    inside = slice(9, -9)  # the engine's bicubic repeats edges, that of samples mirrors them
    for ours, theirs in zip(large.planes, expected.planes, strict=True):
        assert ours.shape == theirs.shape
        assert distance(ours[inside, inside], theirs[inside, inside]) <= 1
    again = interpolate(frame, 3, chroma_of=expected)
    assert np.array_equal(again.planes[0], large.planes[0])
    assert again.planes[1] is expected.planes[1]


@pytest.mark.parametrize("size", [Size(height=90), Size(width=100, height=100, fit="cover")], ids=str)
@pytest.mark.parametrize("baseline", ["bicubic", "Lanczos"])
def test_a_baseline_of_a_size_is_where_the_networks_frame_is(baseline: str, size: Size) -> None:
    frame = smooth(LIMITED)
    with Upscaler.from_module(
        BicubicUpsample(3), NetworkSpec(name="b", overlap={3: 3}), size, Execution(backend="eager", device="cpu")
    ) as upscaler:
        (network,) = upscaler.upscale([frame])
        plain = interpolate(frame, upscaler.target(frame), baseline)
    for ours, theirs in zip(plain.planes, network.planes, strict=True):
        assert ours.shape == theirs.shape
        assert distance(ours[8:-8, 8:-8], theirs[8:-8, 8:-8]) <= 1


def test_two_frames_that_share_chroma_come_out_as_each_alone() -> None:
    one = smooth(LIMITED)
    other = Frame((one.planes[0][:, ::-1], *one.planes[1:]), 0, one.time_base, color=LIMITED)
    for together, frame in zip(images(one, other), (one, other), strict=True):
        assert (together == images(frame)[0]).all()


@pytest.mark.parametrize("color", [LIMITED, ColorSpec(depth=10), ColorSpec(depth=16)], ids=str)
def test_lanczos_moves_nothing_and_stays_in_range(color: ColorSpec) -> None:
    samples = np.random.default_rng(0).integers(0, 2, (9, 12), color.dtype) * color.dtype.type(color.peak)
    frame, turned = (Frame((each,), 0, Fraction(1), color=color) for each in (samples, samples[::-1, ::-1]))
    large, other, cubic = (
        interpolate(each, 2, how).planes[0]
        for each, how in ((frame, "Lanczos"), (turned, "Lanczos"), (frame, "bicubic"))
    )
    assert 0 <= int(large.min()) < int(large.max()) <= color.peak
    assert distance(large, other[::-1, ::-1]) <= 1
    assert not np.array_equal(large, cubic)
