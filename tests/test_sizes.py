"""The size people want: what comes of it for a geometry, and what the upscaler makes of it."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import UsageError, WeightsError
from vsr_plugin.execution import Execution
from vsr_plugin.frames import ChromaLocation, ColorSpec, Frame, Matrix, Range
from vsr_plugin.models import NetworkSpec, load_model
from vsr_plugin.sizes import Size, Target, Window

if TYPE_CHECKING:
    from pathlib import Path

PAL, NTSC, TV = Fraction(64, 45), Fraction(32, 27), (1, 1)
CPU = Execution(backend="eager", device="cpu")


@pytest.mark.parametrize(
    ("asked", "frames", "how", "size", "scales", "ratio"),
    [
        # One side: the other keeps the shape, in whole chroma samples; the least scale that reaches it.
        ({"height": 1080}, (960, 540), {}, (1920, 1080), (2,), None),
        ({"height": 900}, (960, 540), {}, (1600, 900), (2,), None),
        ({"width": 1920}, (640, 480), {}, (1920, 1440), (3,), None),
        ({"height": 1080}, (854, 480), {"subsampling": TV}, (1922, 1080), (3,), None),
        ({"height": 1080}, (853, 480), {}, (1919, 1080), (3,), None),
        ({"height": 1080}, (853, 480), {"subsampling": (2, 0)}, (1920, 1080), (3,), None),
        # What a scale makes exactly is left as it is: the encoder repeats the last column where it must.
        ({"height": 720}, (427, 240), {"subsampling": TV}, (1281, 720), (3,), None),
        # Two networks in turn, as few times as will do, the smaller one first.
        ({"height": 500}, (100, 100), {}, (500, 500), (2, 3), None),
        ({"height": 800}, (100, 100), {}, (800, 800), (2, 4), None),
        ({"height": 1600}, (100, 100), {}, (1600, 1600), (4, 4), None),
        ({"height": 500, "scale": 3}, (100, 100), {}, (500, 500), (3, 3), None),
        ({"height": 50, "scale": 2}, (100, 100), {}, (50, 50), (2,), None),
        # Both sides.
        ({"width": 1920, "height": 1080}, (640, 480), {}, (1440, 1080), (3,), None),
        ({"width": 1920, "height": 1080}, (720, 300), {}, (1920, 800), (3,), None),
        ({"width": 1920, "height": 1080, "fit": "cover"}, (640, 480), {}, (1920, 1080), (3,), None),
        ({"width": 1920, "height": 1080, "fit": "stretch"}, (640, 480), {}, (1920, 1080), (3,), None),
        ({"width": 1280, "height": 480, "fit": "stretch"}, (640, 480), {}, (1280, 480), (2,), None),
        # Pixels that are not square stay so, to the display aspect of before, or become square.
        ({"height": 1080}, (720, 576), {"ratio": PAL, "subsampling": TV}, (1350, 1080), (2,), PAL),
        ({"height": 900}, (720, 576), {"ratio": PAL, "subsampling": TV}, (1124, 900), (2,), Fraction(400, 281)),
        ({"height": 1080, "square_pixels": True}, (720, 576), {"ratio": PAL}, (1920, 1080), (3,), Fraction(1)),
        ({"height": 576, "square_pixels": True}, (720, 576), {"ratio": PAL}, (1024, 576), (2,), Fraction(1)),
        ({"height": 960, "square_pixels": True}, (960, 480), {"ratio": Fraction(1, 2)}, (960, 960), (2,), Fraction(1)),
        ({"width": 1920, "height": 1080, "fit": "cover"}, (720, 576), {"ratio": PAL}, (1920, 1080), (3,), Fraction(1)),
        ({"width": 1000, "height": 999, "fit": "stretch"}, (720, 480), {"ratio": NTSC}, (1000, 999), (3,), Fraction(1)),
        ({"height": 900, "square_pixels": True}, (960, 540), {"ratio": Fraction(1)}, (1600, 900), (2,), Fraction(1)),
        # A film that is turned by its display matrix: the sizes are those that are seen.
        ({"height": 3840}, (1920, 1080), {"transposed": True}, (3840, 2160), (2,), None),
        ({"width": 1620}, (1920, 1080), {"transposed": True}, (2880, 1620), (2,), None),
        ({"width": 1920, "height": 3000}, (1920, 1080), {"transposed": True}, (3000, 1688), (2,), None),
    ],
)  # fmt: skip
def test_a_size_is_what_it_means_for_frames(
    asked: dict[str, Any],
    frames: tuple[int, int],
    how: dict[str, Any],
    size: tuple[int, int],
    scales: tuple[int, ...],
    ratio: Fraction | None,
) -> None:
    target = Size(**asked).target(*frames, (2, 3, 4), **{"subsampling": (1, 1) if size[1] == 1688 else (0, 0), **how})
    assert (target.width, target.height, target.scales, target.ratio) == (*size, scales, ratio)
    exact = (frames[0] * target.scale, frames[1] * target.scale) == size
    assert (target.window is None) == exact
    if ratio not in (None, 1):
        before, after = (Fraction(w, h) * r for (w, h), r in ((frames, how["ratio"]), (size, ratio)))
        assert before == after


def test_what_does_not_fit_is_cut_off_alike_on_both_sides() -> None:
    cover = Size(width=1920, height=1080, fit="cover")
    assert cover.target(640, 480, (3,)).window == Window(Fraction(0), Fraction(60), Fraction(640), Fraction(360))
    assert cover.target(1000, 540, (3,)).window == Window(Fraction(20), Fraction(0), Fraction(960), Fraction(540))
    squared = cover.target(720, 480, (3,), ratio=NTSC).window  # 853.3 × 480 as it is shown
    assert squared == Window(Fraction(0), Fraction(0), Fraction(720), Fraction(480))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({}, "Expected a width or a height in pixels, got neither"),
        ({"height": 0}, "Expected a height of 1 or more pixels, got 0"),
        ({"width": 1.5}, "Expected width to be a whole number, got 1.5"),
        ({"height": 9, "width": 9, "fit": "fill"}, "Unknown fit 'fill'. Known fits: inside, cover, stretch"),
        ({"height": 9, "fit": "cover"}, "Expected a width and a height with the fit 'cover', got one of them"),
    ],
)
def test_a_size_that_says_nothing_is_refused(how: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        Size(**how)
    assert str(refused.value) == message


SMALL = "Expected a size above that of the frames, 160×100, got"


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"height": 100}, f"{SMALL} a height of 100"),
        ({"width": 200, "height": 80}, f"{SMALL} 200×80, inside which they would be 128×80: use fit='cover'"),
        ({"width": 150, "height": 80}, f"{SMALL} 150×80"),
        ({"width": 150, "height": 80, "fit": "cover"}, f"{SMALL} 150×80"),
        (
            {"width": 2561},
            "Expected a size of at most 16 times that of the frames, 160×100, which is ×4 twice, got a width of 2561",
        ),
    ],
)
def test_frames_that_have_the_size_already_or_are_far_from_it_are_refused(size: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        Size(**size).target(160, 100, (2, 4))
    assert str(refused.value) == message


# What the upscaler makes of it.


class Brighter(nn.Module):
    """Every sample repeated, and a little brighter: by ``step`` of 255."""

    def __init__(self, scale: int, step: float = 0.0) -> None:
        super().__init__()
        self.scale, self.step = scale, step / 255

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3) + self.step


class Linear(nn.Module):
    """Interpolates on a line: a ramp stays a ramp, with the centre of a frame where it was."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, scale_factor=self.scale, mode="bilinear")


def sized(size: Size, *scales: int, kind: Any = Linear, channels: int = 1, **how: Any) -> Upscaler:
    spec = NetworkSpec(name="linear", overlap=dict.fromkeys(scales, 2), channels=channels)
    execution = replace(CPU, **how)
    return Upscaler.from_module({scale: kind(scale) for scale in scales}, spec, size, execution)


def ramp(color: ColorSpec, height: int, width: int) -> Frame:
    """10000 + 40·x + 60·y at the luma position (x, y) of each sample."""
    (fx, fy), (left, top) = (1 << color.subsampling[0], 1 << color.subsampling[1]), color.chroma_location.value
    planes = []
    for index in range(3):
        rows, columns = color.chroma_shape(height, width) if index else (height, width)
        x = np.arange(columns) * (fx if index else 1.0)
        y = np.arange(rows) * (fy if index else 1.0)
        if index:
            x, y = x + (fx - 1) * (left + 1) / 2, y + (fy - 1) * (top + 1) / 2
        planes.append(np.rint(10_000 + 40 * x + 60 * y[:, None]).astype(np.uint16))
    return Frame(tuple(planes), 0, Fraction(1), color=color)


@pytest.mark.parametrize("location", ChromaLocation, ids=lambda location: location.name)
@pytest.mark.parametrize("subsampling", [(1, 1), (1, 0), (0, 0), (2, 0)])
@pytest.mark.parametrize(
    "size",
    [
        Size(height=70),
        Size(width=77, height=78),
        Size(width=90, height=80, fit="cover"),
        Size(width=60, height=99, fit="stretch"),
        Size(width=207),
    ],
    ids=str,
)
def test_a_ramp_stays_where_it_is(size: Size, subsampling: tuple[int, int], location: ChromaLocation) -> None:
    color = ColorSpec(Matrix.BT709, Range.FULL, 16, subsampling, location)
    frame = ramp(color, 41, 53)
    with sized(size, 2) as upscaler:
        (large,) = upscaler.upscale([frame])
        target = upscaler.target(frame)
    assert (large.width, large.height) == (target.width, target.height)
    window = target.window
    assert window is not None
    (fx, fy), (left, top) = (1 << subsampling[0], 1 << subsampling[1]), location.value
    for index, plane in enumerate(large.planes):
        rows, columns = (np.arange(side, dtype=np.float64) for side in plane.shape)
        if index:
            columns = columns * fx + (fx - 1) * (left + 1) / 2
            rows = rows * fy + (fy - 1) * (top + 1) / 2
        # The half-pixel centre rule: the edges of the window are the edges of the result.
        x = (columns + 0.5) * float(window.width / target.width) + float(window.left) - 0.5
        y = (rows + 0.5) * float(window.height / target.height) + float(window.top) - 0.5
        inner = ((y > 8) & (y < 32))[:, None] & (x > 16) & (x < 36)
        assert inner.sum() > 20
        error = (plane - (10_000 + 40 * x + 60 * y[:, None]))[inner]
        # A widened cubic bends lines by less than a tenth of a pixel, to one side as much as to the other.
        assert np.abs(error).max() <= 4
        assert abs(error.mean()) <= 0.5


def test_samples_are_rounded_once() -> None:
    frame = Frame((np.full((20, 20), 100, np.uint8),), 0, Fraction(1), color=ColorSpec())
    spec = NetworkSpec(name="brighter", overlap={2: 0})
    with Upscaler.from_module(Brighter(2, 0.4), spec, Size(height=70), CPU) as upscaler:
        (large,) = upscaler.upscale([frame])
        assert upscaler.scales == (2, 2)
    assert set(large.planes[0].flatten().tolist()) == {101}  # 100.4, and 100.8; rounded between, it would stay 100


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("color", [ColorSpec(subsampling=(1, 1)), ColorSpec(Matrix.RGB, Range.FULL, 10)], ids=str)
def test_tiles_and_batches_make_the_same_samples(color: ColorSpec, channels: int) -> None:
    frames = []
    for seed in range(3):
        generator = np.random.default_rng(seed)
        shapes = [(60, 71), *[color.chroma_shape(60, 71)] * 2, (60, 71)]  # with alpha
        planes = [generator.integers(0, color.peak, shape, color.dtype) for shape in shapes]
        frames.append(Frame(tuple(planes), seed, Fraction(1), color=color))
    size = Size(height=200)
    with sized(size, 2, channels=channels, kind=Brighter, batch=1) as upscaler:
        whole = list(upscaler.stage(iter(frames)))
    width = 236 if color.subsampling == (1, 1) else 237
    assert [(frame.width, frame.height, frame.pts) for frame in whole] == [(width, 200, n) for n in range(3)]
    for how in ({"batch": 3}, {"batch": 2, "tile": 32}):
        with sized(size, 2, channels=channels, kind=Brighter, **how) as upscaler:
            for one, other in zip(whole, upscaler.stage(iter(frames)), strict=True):
                assert all(np.array_equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))


def test_frames_of_several_geometries_pass_one_upscaler() -> None:
    def frame(height: int, width: int, **how: Any) -> Frame:
        return Frame((np.zeros((height, width), np.uint8),), 0, Fraction(1), color=ColorSpec(), **how)

    turned = {"DISPLAYMATRIX": struct.pack("=9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)}
    frames = [
        frame(20, 30),
        frame(25, 30, sample_aspect_ratio=Fraction(4, 3)),
        frame(30, 20, side_data=turned),
        frame(10, 30),
    ]
    with sized(Size(height=50), 2, 3) as upscaler:
        assert upscaler.scale == 1
        assert [(upscaler.target(each).scales) for each in frames] == [(3,), (2,), (3,), (2, 3)]
        large = list(upscaler.stage(iter(frames)))
        assert (upscaler.scales, upscaler.scale) == ((2, 3), 6)
    assert [(each.width, each.height) for each in large] == [(75, 50), (60, 50), (50, 75), (150, 50)]
    assert [each.sample_aspect_ratio for each in large] == [None, Fraction(4, 3), None, None]


def test_an_image_gets_the_size() -> None:
    image = np.zeros((30, 40, 3), np.uint8)
    with Upscaler("espcn", Size(width=100), CPU) as upscaler:
        assert upscaler(image).shape == (75, 100, 3)


def test_the_scales_are_those_that_have_weights() -> None:
    with Upscaler("lapsrn", Size(height=90), CPU) as upscaler:
        assert upscaler.size == Size(height=90)
        frame = Frame((np.zeros((32, 32), np.uint8),), 0, Fraction(1), color=ColorSpec())
        assert upscaler.target(frame).scales == (4,)
    with pytest.raises(WeightsError, match="No weights are shipped for drcn ×2"):
        Upscaler("drcn", Size(height=90), CPU)
    with pytest.raises(UsageError, match="Model 'espcn' has no scale 5"):
        Upscaler("espcn", Size(height=90, scale=5), CPU)


def test_weights_of_ones_own_say_their_scale(tmp_path: Path) -> None:
    for model in ("espcn", "fsrcnn"):
        torch.save(load_model(model, 3).state_dict(), tmp_path / f"{model}.pth")
    frame = Frame((np.zeros((32, 32), np.uint8),), 0, Fraction(1), color=ColorSpec())
    with Upscaler("espcn", Size(height=40), CPU, weights=tmp_path / "espcn.pth") as upscaler:
        assert upscaler.target(frame).scales == (3,)
    with pytest.raises(
        WeightsError, match=r"weights that say their scale, got .*fsrcnn.pth, which fit fsrcnn ×2 and ×3"
    ):
        Upscaler("fsrcnn", Size(height=40), CPU, weights=tmp_path / "fsrcnn.pth")
    with pytest.raises(WeightsError, match="does not fit"):
        Upscaler("fsrcnn", Size(height=40), CPU, weights=tmp_path / "espcn.pth")


def test_another_upscaler_is_made_of_what_one_is_made_of() -> None:
    with sized(Size(height=50), 2, 3) as upscaler:
        module, spec, scale, execution = upscaler.recipe
        frame = ramp(ColorSpec(Matrix.BT709, Range.FULL, 16), 20, 30)
        with Upscaler.from_module(module, spec, scale, execution) as other:
            assert other.target(frame) == upscaler.target(frame)
            assert other.checksum() == upscaler.checksum()
            assert np.array_equal(other.upscale([frame])[0].planes[0], upscaler.upscale([frame])[0].planes[0])
    with pytest.raises(UsageError, match="Expected a module for each of the scales 2, 3, got one"):
        Upscaler.from_module(Linear(2), NetworkSpec(overlap={2: 1, 3: 1}), Size(height=9), CPU)


def test_targets_tell_how_often_the_networks_enlarge() -> None:
    assert Target(9, 9, (2, 3)).scale == 6
